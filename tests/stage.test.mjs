// The pure functions of the stage, in node's own test runner: node --test tests/stage.test.mjs
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const text = readFileSync(new URL("../gan_nb/stage.js", import.meta.url), "utf8");
const stage = await import(`data:text/javascript,${encodeURIComponent(text)}`);
const { amid, asArray, banded, between, binned, contour, Credit, fromPart, grown, laid, logTicks, merge, placeOf, range, short, ticks, toPart, unpacked, usual } = stage;

const table = (...rows) => grown(null, { data: Float32Array.from(rows.flat()), shape: [rows.length, rows[0]?.length ?? 2] });

test("an array comes as it was sent, wherever its bytes lie", () => {
  const bytes = new Uint8Array(13);
  new DataView(bytes.buffer).setFloat32(1, 1.5, true);
  const { data, shape } = asArray({ dtype: "float32", shape: [1] }, new DataView(bytes.buffer, 1, 4));
  assert.deepEqual([...data], [1.5]);
  assert.deepEqual(shape, [1]);
  assert.deepEqual([...asArray({ dtype: "uint8", shape: [2] }, Uint8Array.of(3, 4).buffer).data], [3, 4]);
});

test("parts that did not change stay; a missing message is noticed, and a whole one begins anew", () => {
  const held = { seq: -1 }, about = [{ name: "fake", dtype: "uint8", shape: [1] }];
  assert(merge(held, { seq: 0, whole: true, plain: { round: 1, words: 2 }, arrays: about }, [Uint8Array.of(7)]));
  assert(merge(held, { seq: 1, plain: { round: 2 }, arrays: [] }, []));
  assert.deepEqual([held.round, held.words, held.fake.data[0]], [2, 2, 7]);
  assert(!merge(held, { seq: 3, plain: { round: 9 }, arrays: [] }, []));
  assert.equal(held.round, 2);
  assert(merge(held, { seq: 8, whole: true, plain: { round: 5 }, arrays: [] }, []));
  assert.deepEqual([held.round, held.words], [5, undefined]);
});

test("a table grows by rows, keeps its newest, and thins its older half", () => {
  let held = table([0, 0]);
  for (let i = 1; i < 20000; i++) held = grown(held, { data: Float32Array.of(i, i * i), shape: [1, 2] }, 1000);
  assert(held.rows <= 1000 && held.rows > 500);
  const rounds = Array.from({ length: held.rows }, (_, i) => held.data[2 * i]);
  assert.deepEqual([rounds[0], rounds.at(-1), rounds.at(-2)], [0, 19999, 19998]);
  assert(rounds.every((r, i) => i === 0 || r > rounds[i - 1]));
  const anew = merge(Object.assign({ seq: 0 }, { table: held }), { seq: 1, plain: {}, arrays: [{ name: "table", dtype: "float32", shape: [1, 2], anew: true }] }, [Float32Array.of(3, 4)]);
  assert(anew);
});

test("ticks are round, lie inside, and there are few of them, for whatever bounds", () => {
  assert.deepEqual(ticks(0, 1, 4), [0, 0.5, 1]);
  assert.deepEqual(ticks(-1.2, 1.2, 4), [-1, 0, 1]);
  for (const [low, high] of [[1, 1], [2, 1], [NaN, 1], [0, Infinity]]) assert(ticks(low, high).length < 20);
  assert.deepEqual(logTicks(0.01, 10), [0.01, 0.1, 1, 10]);
  assert.deepEqual(logTicks(0.5, 3), [0.5, 1, 2]);
  for (const [low, high] of [[1, 1], [0, 1], [-1, 1], [1e-300, 1e300], [NaN, 2]]) assert(logTicks(low, high).length < 20);
});

test("a line has its band from two columns, none where a mean is missing, and itself where a band is", () => {
  const points = banded(table([1, 10, 1, 100], [2, NaN, 1, 1], [3, 10, NaN, 100], [4, 10, -5, 100]), 0, 1, 2, 3, true);
  assert.deepEqual(points, [{ x: 1, low: 0, high: 2, mean: 1 }, { x: 3, low: 1, high: 2, mean: 1 }, { x: 4, low: 1, high: 2, mean: 1 }]);
  assert.deepEqual(banded(table([1, 10, -5, 100]), 0, 1, 2, 3), [{ x: 1, low: -5, high: 100, mean: 10 }]);
});

test("bounds hold the values, are seldom moved, and exist where there is nothing", () => {
  assert.deepEqual(range([0.2, 1.3]), [0, 1.5]);
  assert.deepEqual(range([0.21, 1.31]), range([0.2, 1.3]));
  assert.deepEqual(range([]), [0, 1]);
  assert.deepEqual(range([NaN, Infinity, 2, 2]).length, 2);
  const [low, high] = range([5, 5]);
  assert(low <= 5 && high > 5 && high > low);
  const [a, b] = range([-1.2, -1.1], true);
  assert(a <= -1.2 && b >= a + 1);
});

test("numbers are short", () => {
  const said = [0, 1, 0.5, 0.00021, 12345, 123456, -2.5, 1e-9, NaN, Infinity, null].map(short);
  assert.deepEqual(said, ["0", "1", "0.5", "0.00021", "12,345", "1.2e5", "−2.5", "1.0e−9", "–", "∞", "–"]);
});

test("a column in parts: their mean, least and greatest, without what is no number", () => {
  const held = table([0, 1], [1, 3], [2, NaN], [3, 10], [4, 20]);
  const found = binned(held, 0, 1, 2);
  assert.deepEqual(found.map(({ mean, low, high }) => [mean, low, high]), [[2, 1, 3], [15, 10, 20]]);
  assert.deepEqual(binned(table([0, -1], [1, 100]), 0, 1, 5, true).map(({ mean }) => mean), [2]);
  assert.deepEqual(binned({ rows: 0, columns: 2, data: new Float32Array(0) }, 0, 1, 5), []);
});

test("one line that explodes does not hide the others", () => {
  const calm = [1.2, 1.3, 1.4, 1.5, 1.6];
  assert.deepEqual(usual([...calm, 1e9, -1e9, NaN, Infinity]), calm);
  assert.deepEqual(usual([2, 2, 2]), [2, 2, 2]);
  assert.deepEqual(usual([0, 0, 0]), [0, 0, 0]);
  assert.deepEqual(usual([NaN]), []);
});

test("points move from one frame to the next, and jump where there are others", () => {
  const points = (...data) => ({ data: Float32Array.from(data), shape: [1, 2] });
  assert.deepEqual([...between(points(0, 0), points(2, 4), 0.5).data], [1, 2]);
  assert.equal(between(null, points(1, 1), 0.5).data[0], 1);
  assert.equal(between({ data: new Float32Array(4), shape: [2, 2] }, points(1, 1), 0.5).data[0], 1);
});

test("a slider finds the value that it shows", () => {
  for (const limits of [{ least: 1e-5, most: 10, log: true }, { least: 0, most: 10, whole: true }, { least: 0, most: 1 }]) {
    for (const value of [limits.log ? 0.001 : 1, limits.log ? 10 : limits.most]) {
      const found = fromPart(toPart(value, limits), limits);
      assert(Math.abs(found - value) <= 1e-3 * value, `${value} ${found}`);
    }
  }
  assert.equal(toPart(0, { least: 1e-5, most: 10, log: true }), 0);
});

test("credit is told seldom, and follows the rate at which a page draws", () => {
  const quick = new Credit(0), slow = new Credit(0);
  let told = 0, upto = 8, sent = 0;
  for (let ms = 16; ms < 10000; ms += 16) {
    if (sent >= upto) continue;
    const more = quick.spend(++sent, ms);
    if (more !== null) { told++; upto = more; }
  }
  assert(sent > 400, `${sent} frames of 625 in ten seconds`);
  assert(told < 40, `told ${told} times`);
  upto = 8; sent = 0;
  for (let ms = 500; ms < 20000; ms += 500) if (sent < upto) { const more = slow.spend(++sent, ms); if (more !== null) upto = more; }
  assert(upto - sent <= 8, `${upto - sent} frames on their way to a page that draws two a second`);
});

test("pictures keep their shape: squares lie as squares, a film as the strip that it is, words as they are written", () => {
  const room = { w: 400, h: 300 };
  for (const [n, picture, perRow] of [[64, { w: 28, h: 28 }, 0], [48, { w: 32, h: 32 }, 6], [12, { w: 256, h: 32 }, 1], [64, { w: 46, h: 15 }, 0], [1, { w: 10, h: 40 }, 0]]) {
    const { columns, rows, wide, high, left, top } = laid(n, room, picture, perRow);
    assert(Math.abs(wide / high - picture.w / picture.h) < 1e-9);
    assert(perRow === 0 || columns === perRow);
    assert(columns * rows >= n && columns * (rows - 1) < n);
    assert(left > -1e-9 && top > -1e-9 && Math.abs(2 * left + columns * wide - room.w) < 1e-9 && Math.abs(2 * top + rows * high - room.h) < 1e-9);
    assert(Math.min(left, top) < 1e-9); // as large as they can be
  }
});

test("a kept message comes apart as it was put together, and its arrays begin at multiples of four", () => {
  const head = new TextEncoder().encode(JSON.stringify({ plain: { round: 3 }, arrays: [{ name: "a", dtype: "uint8", shape: [3] }, { name: "b", dtype: "float32", shape: [1, 2] }, { name: "c", dtype: "float32", shape: [0, 2] }] }));
  const from = 4 + head.length + (-head.length & 3), bytes = new Uint8Array(from + 4 + 8), view = new DataView(bytes.buffer);
  view.setUint32(0, head.length, true);
  bytes.set(head, 4);
  bytes.set([7, 8, 9], from);
  view.setFloat32(from + 4, 1.5, true);
  view.setFloat32(from + 8, -2, true);
  const { message, buffers } = unpacked(bytes);
  assert.equal(message.plain.round, 3);
  assert.deepEqual(message.arrays.map((about, i) => [...asArray(about, buffers[i]).data]), [[7, 8, 9], [1.5, -2], []]);
});

test("a round has its place among those that were kept, also between two of them and beyond", () => {
  assert.deepEqual([0, 5, 10, 12, 14, 99].map((round) => placeOf(round, [0, 10, 14])), [0, 0.25, 0.5, 0.75, 1, 1]);
  assert.equal(placeOf(3, [7]), 0);
});

test("a contour lies where the grid has its level, and none is drawn where it has not, or knows nothing", () => {
  const n = 41, data = Float32Array.from({ length: n * n }, (_, i) => Math.hypot((i % n) - 20, Math.floor(i / n) - 20) / 10);
  const pieces = contour({ data, shape: [n, n] }, 1);
  assert(pieces.length > 40);
  for (const [a, b, c, d] of pieces) for (const [x, y] of [[a, b], [c, d]]) assert(Math.abs(Math.hypot(x - 20, y - 20) - 10) < 0.05);
  const length = pieces.reduce((sum, [a, b, c, d]) => sum + Math.hypot(a - c, b - d), 0);
  assert(Math.abs(length - 20 * Math.PI) < 0.3); // the whole circle, once
  assert.equal(contour({ data, shape: [n, n] }, 9).length, 0);
  assert.equal(contour({ data: Float32Array.of(0, NaN, 2, NaN), shape: [2, 2] }, 1).length, 0);
});

test("between its places a grid is as between its corners", () => {
  const grid = { data: Float32Array.of(0, 1, 2, 10, 11, 12), shape: [2, 3] };
  assert.deepEqual([amid(grid, 0, 0), amid(grid, 1, 2), amid(grid, 0.5, 1.5), amid(grid, 0.25, 0)], [0, 12, 6.5, 2.5]);
});
