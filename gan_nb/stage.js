// The stage: draws a panel in the browser from what its kernel says, and tells the kernel what a person does.
//
// A Frame arrives as the parts of it that changed: arrays as binary buffers, the rest as JSON. A page holds the newest
// of each part, draws at its own rate, and grants the kernel credit for more: about once a second, never frame by frame.
// Nothing is loaded from a network, and nothing is built: this file is the module that runs.

// ---------------------------------------------------------------- pure functions, tested without a browser

const types = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array };

/** The bytes of a buffer as the array that it was, without copying where its place allows. */
export function asArray({ dtype, shape }, buffer) {
  const Type = types[dtype];
  const bytes = buffer instanceof ArrayBuffer ? new Uint8Array(buffer) : new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const aligned = bytes.byteOffset % Type.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  const data = new Type(aligned.buffer, aligned.byteOffset, aligned.byteLength / Type.BYTES_PER_ELEMENT);
  return { data, shape };
}

/** What a page holds after a message; false if messages before it are missing. */
export function merge(held, message, buffers) {
  if (!message.whole && held.seq !== message.seq - 1) return false;
  if (message.whole) for (const name of Object.keys(held)) delete held[name];
  held.seq = message.seq;
  Object.assign(held, message.plain);
  message.arrays.forEach((about, i) => {
    const array = asArray(about, buffers[i]);
    if (about.name === "table") held.table = grown(about.anew ? null : held.table, array);
    else held[about.name] = array;
  });
  return true;
}

/** A table of rows with some more behind; a long one keeps its older half thinly. */
export function grown(table, { data, shape: [n, columns] }, most = 6000) {
  const old = table ?? { rows: 0, columns, data: new Float32Array(64 * columns), shrunk: 0 };
  if (old.rows + n > most) thinned(old);
  if ((old.rows + n) * columns > old.data.length) {
    const larger = new Float32Array(2 * (old.rows + n) * columns);
    larger.set(old.data.subarray(0, old.rows * columns));
    old.data = larger;
  }
  old.data.set(data, old.rows * columns);
  old.rows += n;
  return old;
}

function thinned(table) {
  const { columns, data } = table, half = table.rows >> 1;
  let to = 0;
  for (let row = 0; row < table.rows; row += row < half ? 2 : 1, to++) {
    data.copyWithin(to * columns, row * columns, (row + 1) * columns);
  }
  table.rows = to;
}

/** Round numbers between two bounds, about `n` of them. */
export function ticks(low, high, n = 4) {
  if (!(high > low)) return [];
  const step = niceStep((high - low) / n), found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-30)));
  return power * [1, 2, 5, 10].find((m) => m * power >= rough * (1 - 1e-9));
}

/** Powers of ten between two bounds, and 2 and 5 times them where there are few. */
export function logTicks(low, high) {
  if (!(high > low && low > 0)) return [];
  const decades = Math.log10(high / low), found = [];
  const every = Math.max(1, Math.ceil(decades / 4));
  for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++) {
    if (k % every) continue;
    for (const m of decades < 2 ? [1, 2, 5] : [1]) {
      const value = +(m * 10 ** k).toPrecision(6);
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  return found;
}

/** A number for a person: few digits, no long tails. */
export function short(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "\u2013";
  if (!Number.isFinite(x)) return x > 0 ? "\u221e" : "\u2212\u221e";
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size >= 1e5 || size < 1e-4) return x.toExponential(1).replace("-", "\u2212").replace("e+", "e");
  const text = size >= 1000 ? Math.round(x).toLocaleString("en") : size >= 100 ? x.toFixed(0) : String(+x.toPrecision(3));
  return text.replace("-", "\u2212");
}

/** A column of a table in `bins` parts of equal width in x: mean, least and greatest of each. */
export function binned(table, x, y, bins, log = false) {
  const { data, columns, rows } = table;
  if (!rows) return [];
  const first = data[x], last = data[(rows - 1) * columns + x], width = Math.max(last - first, 1e-9) / bins, found = [];
  let bin = null;
  for (let row = 0; row < rows; row++) {
    const raw = data[row * columns + y], at = data[row * columns + x];
    if (!Number.isFinite(raw) || (log && raw <= 0)) continue;
    const value = log ? Math.log10(raw) : raw, k = Math.min(bins - 1, Math.floor((at - first) / width));
    if (!bin || bin.k !== k) found.push((bin = { k, x: at, low: value, high: value, sum: 0, n: 0 }));
    bin.low = Math.min(bin.low, value);
    bin.high = Math.max(bin.high, value);
    bin.sum += value;
    bin.x += (at - bin.x) / ++bin.n;
  }
  return found.map(({ x: at, low, high, sum, n }) => ({ x: at, low, high, mean: sum / n }));
}

/** A line that has its band in two columns of its own. */
export function banded({ data, columns, rows }, x, y, low, high, log = false) {
  const put = (v) => (log ? Math.log10(v) : v), found = [];
  for (let row = 0; row < rows; row++) {
    const [at, mean, least, most] = [x, y, low, high].map((column) => data[row * columns + column]), middle = put(mean);
    if (!Number.isFinite(middle)) continue;
    const or = (v) => (Number.isFinite(v) ? v : middle); // without a band, or with one below any logarithm: the line alone
    found.push({ x: at, low: or(put(least)), high: or(put(most)), mean: middle });
  }
  return found;
}

/** Bounds that hold all values, rounded so that they seldom move. */
export function range(values, log = false) {
  const found = values.filter(Number.isFinite);
  if (!found.length) return log ? [-1, 0] : [0, 1];
  const high = Math.max(...found);
  let low = Math.min(...found);
  if (log) return [Math.floor(low * 2) / 2, Math.max(Math.ceil(high * 2) / 2, Math.floor(low * 2) / 2 + 1)];
  if (low >= 0 && low < 0.5 * high) low = 0;
  const step = niceStep(Math.max(high - low, 0.02 * Math.abs(high), 1e-6) / 4); // one level alone has room around it
  return [Math.floor(low / step) * step, Math.max(Math.ceil(high / step) * step, Math.floor(low / step) * step + step)];
}

/** The values without those far from most: one line that explodes must not hide the others. */
export function usual(values, reach = 8) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b), at = (part) => sorted[Math.floor(part * (sorted.length - 1))];
  const [low, high] = [at(0.25), at(0.75)], far = reach * Math.max(high - low, 1e-3 * Math.abs(high));
  return sorted.filter((v) => v >= low - far && v <= high + far);
}

/** Part of the way from one set of points to another; the new ones where there are none to begin with. */
export function between(before, after, t) {
  if (!before || before.data.length !== after.data.length || t >= 1) return after;
  const data = new Float32Array(after.data.length);
  for (let i = 0; i < data.length; i++) data[i] = before.data[i] + t * (after.data[i] - before.data[i]);
  return { data, shape: after.shape };
}

/** How n pictures of one shape lie in a room, in rows of so many (0: as they fit), as large as they can be. */
export function laid(n, room, { w, h }, perRow = 0) {
  const columns = perRow || Math.max(1, Math.ceil(Math.sqrt((n * room.w * h) / (Math.max(room.h, 1) * w)))), rows = Math.ceil(n / columns);
  const scale = Math.min(room.w / (columns * w), room.h / (rows * h)), wide = scale * w, high = scale * h;
  return { columns, rows, wide, high, left: (room.w - columns * wide) / 2, top: (room.h - rows * high) / 2 };
}

/** The line on which a grid of numbers has some level: pieces [x, y, x, y] in units of its cells, from corner (0, 0). */
export function contour({ data, shape: [rows, columns] }, level) {
  const found = [], at = (i, j) => data[i * columns + j] - level;
  for (let i = 0; i + 1 < rows; i++) for (let j = 0; j + 1 < columns; j++) {
    const corners = [[i, j], [i, j + 1], [i + 1, j + 1], [i + 1, j]], crossed = [];
    corners.forEach(([a, b], k) => {
      const [c, d] = corners[(k + 1) % 4], here = at(a, b), there = at(c, d);
      if (here < 0 === there < 0 || !Number.isFinite(here - there)) return;
      const t = here / (here - there);
      crossed.push(b + t * (d - b), a + t * (c - a));
    });
    for (let k = 0; k + 3 < crossed.length; k += 4) found.push(crossed.slice(k, k + 4));
  }
  return found;
}

/** A grid of numbers between its places. */
export function amid({ data, shape: [rows, columns] }, row, column) {
  const i = Math.min(rows - 2, Math.floor(row)), j = Math.min(columns - 2, Math.floor(column)), s = row - i, t = column - j, at = i * columns + j;
  return (1 - s) * ((1 - t) * data[at] + t * data[at + 1]) + s * ((1 - t) * data[at + columns] + t * data[at + columns + 1]);
}

/** Where in [0, 1] a slider stands for a value, and back. */
export function toPart(value, { least, most, log }) {
  if (log) return value > 0 ? Math.min(1, Math.max(0, Math.log(value / least) / Math.log(most / least))) : 0;
  return (value - least) / (most - least);
}

export function fromPart(part, { least, most, log, whole }) {
  if (log) return +(least * (most / least) ** part).toPrecision(3);
  const value = least + part * (most - least);
  return whole ? Math.round(value) : +value.toPrecision(4);
}

/** Which part of the way through kept rounds another round lies, 0 to 1. */
export function placeOf(round, rounds) {
  const last = rounds.length - 1, next = rounds.findIndex((kept) => kept >= round);
  if (last < 1 || next === 0) return 0;
  if (next < 0) return 1;
  return (next - (rounds[next] - round) / (rounds[next] - rounds[next - 1])) / last;
}

const padded = (n) => n + (-n & 3);

/** A message that was kept: the length of its head, the head as JSON, and its arrays, each from a multiple of four bytes. */
export function unpacked(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const message = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  let at = padded(4 + length);
  const buffers = message.arrays.map(({ dtype, shape }) => {
    const size = shape.reduce((product, n) => product * n, types[dtype].BYTES_PER_ELEMENT), from = at;
    at = padded(at + size);
    return bytes.subarray(from, from + size);
  });
  return { message, buffers };
}

/** How many frames a page has room for: what it draws in a second and a half, so that a slow page slows the picture. */
export class Credit {
  constructor(now = 0) { this.upto = 0; this.last = now; this.drawn = 0; this.rate = 10; }

  /** A frame was drawn; says up to which message the kernel may go on, or null if there is nothing to tell yet. */
  spend(seq, now) {
    this.drawn++;
    const passed = now - this.last, left = this.upto - seq;
    if (passed < 1000 && left > this.rate * 0.4) return null;
    if (passed < 150 && left > 0) return null;
    this.rate = 0.5 * this.rate + 0.5 * (1000 * this.drawn) / Math.max(passed, 50);
    this.drawn = 0;
    this.last = now;
    return (this.upto = seq + Math.max(2, Math.ceil(1.6 * this.rate)));
  }
}

// ---------------------------------------------------------------- one page of one panel

const pages = new Map();

/** What a browser page holds of a panel, however many views of it there are. */
class Page {
  constructor(model) {
    this.model = model;
    this.id = Math.random().toString(36).slice(2);
    this.held = { seq: -1 };
    this.views = new Set();
    this.credit = new Credit(performance.now());
    this.drawn = 0;
    this.asked = 0;
    this.isAwake = false;
    this.before = {};
    this.acted = new Map();
    model.on("msg:custom", (message, buffers) => this.receive(message, buffers));
    this.onVisible = () => this.wake();
    document.addEventListener("visibilitychange", this.onVisible);
    this.onUnload = () => this.views.size && this.leave();
    window.addEventListener("pagehide", this.onUnload);
  }

  tell(kind, more = {}) {
    if (kind === "act") this.acted.set(more.act, performance.now());
    this.model.send({ kind, page: this.id, ...more });
  }

  /** Was it here that somebody pressed the button? A panel may be seen in several browsers. */
  wasAsked(act) {
    const isSo = performance.now() - (this.acted.get(act) ?? -Infinity) < 60000;
    this.acted.delete(act);
    return isSo;
  }

  /** Put a text on the clipboard, and show it; where the browser refuses (over plain http it does), it is selected. */
  async copy({ act, text }) {
    if (!this.wasAsked(act)) return;
    let isDone = true;
    try { await navigator.clipboard.writeText(text); } catch { isDone = false; }
    for (const view of this.views) view.handed?.offer(text, isDone);
  }

  /** Hand a file to the browser, which keeps it where it keeps what it loads. */
  save({ act, name, type }, [content]) {
    if (!this.wasAsked(act)) return;
    const href = URL.createObjectURL(new Blob([content], { type }));
    element("a", "", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60000);
  }

  /** Ask for frames if somebody can see them, and for none if nobody can. */
  wake() {
    const isSeen = !document.hidden && [...this.views].some((view) => view.isSeen);
    if (isSeen === this.isAwake) return;
    this.isAwake = isSeen;
    isSeen ? this.greet() : this.tell("sleep");
  }

  /** Nothing here shows it any more. */
  leave() { this.isAwake = false; this.tell("gone"); }

  greet() {
    this.credit = new Credit(performance.now());
    this.credit.upto = this.held.seq + 9;
    this.asked = performance.now();
    this.tell("hello", { seq: this.held.seq, more: 8 });
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.views.forEach((view) => view.complain(this.word("no_answer"))), 20000);
  }

  word(key) { return this.model.get("spec").words[key] ?? key; }

  receive(message, buffers) {
    if (message.kind === "copy") return this.copy(message);
    if (message.kind === "file") return this.save(message, buffers);
    if (message.kind !== "frame") return;
    clearTimeout(this.silence);
    const now = performance.now(), before = { fake: this.held.fake, members: this.held.members };
    let isNext;
    try { isNext = merge(this.held, message, buffers); } catch (error) { return this.views.forEach((v) => v.complain(error)); }
    if (!isNext) {
      if (now - this.asked > 500) this.greet();
      return;
    }
    this.gap = Math.min(now - (this.came ?? now), 400);
    this.came = now;
    this.before = before;
    this.isNew = true;
    this.draw();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame((now) => {
      this.waiting = 0;
      if (this.isNew) {
        this.drawn++;
        const upto = this.credit.spend(this.held.seq, now);
        if (upto !== null && this.isAwake) this.tell("grant", { upto, drawn: this.drawn });
      }
      this.isNew = false;
      for (const view of this.views) view.show(now);
      const isMoving = this.gap > 70 && now - this.came < this.gap && !calm.matches;
      if (isMoving || this.morphed(now) < 1) this.draw();
    });
  }

  /** Let the sheet grow out of its latents once more. */
  replay() { this.morphing = performance.now(); this.draw(); }

  morphed(now) { return this.morphing && !calm.matches ? Math.min(1, (now - this.morphing) / morphTime) : 1; }

  /** How far the points have come from the frame before: all the way, unless frames are slow. */
  progress(now) { return this.gap > 70 && !calm.matches ? Math.min(1, (now - this.came) / Math.min(this.gap, 300)) : 1; }

  close() {
    document.removeEventListener("visibilitychange", this.onVisible);
    window.removeEventListener("pagehide", this.onUnload);
    clearTimeout(this.silence);
    cancelAnimationFrame(this.waiting);
    this.held = { seq: -1 };
    this.before = {};
  }
}

const morphTime = 2000; // ms
const calm = typeof matchMedia === "function" ? matchMedia("(prefers-reduced-motion: reduce)") : { matches: false };

// ---------------------------------------------------------------- small tools of the page

function element(tag, classes = "", more = {}) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  for (const [name, value] of Object.entries(more)) {
    if (name === "text") made.textContent = value;
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  return made;
}

function setText(node, text) {
  if (node.textContent === text) return;
  node.textContent = text;
  node.title = text;
}

/** The theme's colours, read from the style sheet that the kernel sent. */
function coloursOf(root) {
  const style = getComputedStyle(root), read = (name) => style.getPropertyValue(`--gnb-${name}`).trim();
  const names = ["ink", "soft", "line", "paper", "panel", "gen", "disc", "good", "bad", ...Array.from({ length: 8 }, (_, i) => `arm_${i}`)];
  return Object.fromEntries(names.map((name) => [name, read(name)]));
}

function rgb(hex) { return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)); }

/** A canvas as sharp as the screen, told when its size changes. */
class Canvas {
  constructor(place, onSize) {
    this.node = element("canvas", "gnb-canvas");
    place.append(this.node);
    this.ctx = this.node.getContext("2d");
    this.observer = new ResizeObserver(() => { this.fit(); onSize(); });
    this.observer.observe(place);
    this.place = place;
  }

  fit() {
    const { clientWidth: w, clientHeight: h } = this.place, scale = Math.min(window.devicePixelRatio || 1, 3);
    [this.w, this.h] = [w, h];
    const [pw, ph] = [Math.round(w * scale), Math.round(h * scale)];
    if (this.node.width !== pw || this.node.height !== ph) [this.node.width, this.node.height] = [pw, ph];
    this.ctx.setTransform(scale, 0, 0, scale, 0, 0);
  }

  close() {
    this.observer.disconnect();
    this.node.width = this.node.height = 0;
  }

  begin() {
    if (!this.w) this.fit();
    this.ctx.clearRect(0, 0, this.w, this.h);
    return this.ctx;
  }
}

const scratch = typeof document === "undefined" ? null : document.createElement("canvas");

/** Pixels on a canvas of their own, to be drawn larger. */
function pixels(w, h, paint) {
  [scratch.width, scratch.height] = [w, h];
  const ctx = scratch.getContext("2d"), image = ctx.createImageData(w, h);
  paint(image.data);
  ctx.putImageData(image, 0, 0);
  return scratch;
}

// ---------------------------------------------------------------- parts that draw

/** What all drawn parts share: a place, a canvas, a tip at the pointer, a label for those who cannot see it. */
class Drawn {
  constructor(view, spec) {
    Object.assign(this, { view, spec, page: view.page });
    this.node = element("div", `gnb-part gnb-${spec.part} ${spec.class ?? ""}`);
    this.place = element("div", "gnb-place", { tabIndex: 0, role: "img" });
    this.place.setAttribute("aria-label", this.page.word(spec.label ?? spec.part));
    this.head(spec);
    this.node.append(this.place);
    this.canvas = new Canvas(this.place, () => this.page.draw());
    this.tip = element("div", "gnb-tip", { hidden: true });
    this.place.append(this.tip);
    this.place.addEventListener("pointermove", (event) => this.hover(event));
    this.place.addEventListener("pointerleave", () => { this.pointer = null; this.tip.hidden = true; });
  }

  head({ title, hint, key, keys }) {
    if (!title) return;
    const head = element("div", `gnb-head ${keys ? "gnb-keys" : ""}`, { title: this.page.word(`${title}_tip`).replace(/^\w+_tip$/, "") });
    head.append((this.heading = element("b", "", { text: this.page.word(title) })));
    if (!keys) head.append((this.hint = element("span", "gnb-soft gnb-hint", { text: hint ? this.page.word(hint) : "" })));
    for (const hue of key ?? []) head.append(element("span", `gnb-key gnb-${hue}`, { text: this.page.word(hue === "gen" ? "generator" : "discriminator") }));
    this.keys = (keys ?? []).map(({ column, hue, look }) => {
      const name = element("span", `gnb-key gnb-${hue} gnb-${look}`, { text: this.page.word(column) });
      head.append(name);
      return { column, name };
    });
    this.node.append(head);
  }

  get held() { return this.page.held; }

  hover(event) {
    const box = this.place.getBoundingClientRect();
    this.pointer = [event.clientX - box.left, event.clientY - box.top];
    const text = this.told(...this.pointer);
    this.tip.hidden = !text;
    if (!text) return;
    this.tip.textContent = text;
    const x = Math.min(this.pointer[0] + 12, box.width - this.tip.offsetWidth - 4);
    this.tip.style.transform = `translate(${Math.max(x, 2)}px, ${Math.max(this.pointer[1] - this.tip.offsetHeight - 8, 2)}px)`;
  }

  told() { return ""; }

  /** One of the runs or trials that are shown. */
  choose(i) { if (i !== null) this.page.tell("choose", { member: i }); }

  say() {
    const said = this.held.words?.[`alt_${this.spec.part}`];
    if (said) this.place.setAttribute("aria-label", said);
  }
}

/** Samples in the plane, over what the discriminator says. */
class Plane extends Drawn {
  constructor(view, spec) {
    super(view, spec);
    this.place.addEventListener("pointerdown", (event) => this.begin(event));
    this.place.addEventListener("pointermove", (event) => this.stroke && this.extend(event));
    this.place.addEventListener("pointerup", () => this.finish());
    this.place.addEventListener("pointercancel", () => this.finish());
  }

  scales() {
    const [left, right, bottom, top] = this.held.limits, { w, h } = this.canvas;
    const k = Math.min(w / (right - left), h / (top - bottom));
    const [cx, cy] = [(left + right) / 2, (bottom + top) / 2];
    return {
      x: (v) => w / 2 + (v - cx) * k, y: (v) => h / 2 - (v - cy) * k, k,
      back: (px, py) => [cx + (px - w / 2) / k, cy - (py - h / 2) / k],
    };
  }

  draw(now) {
    const { held } = this, ctx = this.canvas.begin();
    if (!held.limits || !this.canvas.w) return;
    const to = this.scales(), colours = this.view.colours, shown = (layer) => (held.layers ?? []).includes(layer);
    this.fake = held.fake ? between(this.page.before.fake, held.fake, this.page.progress(now)) : null;
    if (held.surface && shown("surface")) this.surface(ctx, to, colours);
    this.axes(ctx, to, colours);
    if (held.mesh && shown("mesh")) this.mesh(ctx, to, colours, now);
    if (held.real && shown("real")) dots(ctx, held.real, to, colours.disc, 0.55, 1.7);
    if (this.fake && shown("fake")) dots(ctx, this.fake, to, colours.gen, 0.8, 2);
    if (held.arrows && this.fake && shown("arrows")) this.arrows(ctx, to, held.arrows, colours.gen, "arrows");
    if (held.moves && this.fake && shown("moves")) this.arrows(ctx, to, held.moves, colours.ink, "moves");
    this.strokes(ctx, to, colours);
    this.say();
  }

  surface(ctx, to, colours) {
    const { data, shape: [rows, columns] } = this.held.surface, [left, right, bottom, top] = this.held.limits;
    const hues = [rgb(colours.gen), rgb(colours.disc)];
    const image = pixels(columns, rows, (out) => {
      for (let i = 0; i < rows * columns; i++) {
        const t = data[i] / 255, hue = hues[t > 0.5 ? 1 : 0], at = 4 * ((rows - 1 - Math.floor(i / columns)) * columns + (i % columns));
        out[at] = hue[0]; out[at + 1] = hue[1]; out[at + 2] = hue[2];
        out[at + 3] = 170 * Math.min(1, 2 * Math.abs(t - 0.5)) ** 1.2;
      }
    });
    ctx.imageSmoothingEnabled = true;
    ctx.globalAlpha = 0.5;
    ctx.drawImage(image, to.x(left), to.y(top), to.x(right) - to.x(left), to.y(bottom) - to.y(top));
    ctx.globalAlpha = 1;
  }

  axes(ctx, to, colours) {
    const [left, right, bottom, top] = this.held.limits, { h } = this.canvas;
    ctx.font = "10px sans-serif";
    ctx.fillStyle = colours.soft;
    ctx.textAlign = "center";
    for (const v of ticks(left, right, 5).slice(1, -1)) ctx.fillText(short(v), to.x(v), 11);
    ctx.textAlign = "left";
    for (const v of ticks(bottom, top, 5)) if (to.y(v) > 20 && to.y(v) < h - 44) ctx.fillText(short(v), 4, to.y(v) + 3);
  }

  /** The sheet, or on its way to it from the latents, which fill the plane. */
  sheet(now) {
    const { mesh, mesh_from: from, limits: [left, right, bottom, top] } = this.held, t = this.page.morphed(now);
    if (t >= 1 || !from) return mesh;
    const most = Math.max(...from.data.map(Math.abs)), half = [(right - left) * 0.45, (top - bottom) * 0.45];
    const spread = from.data.map((v, i) => (i % 2 ? bottom + top : left + right) / 2 + (v / most) * half[i % 2]);
    return between({ data: spread }, mesh, t * t * (3 - 2 * t));
  }

  mesh(ctx, to, colours, now) {
    const { data, shape: [rows, columns] } = this.sheet(now), { density, folded } = this.held;
    const at = (i, j) => [to.x(data[2 * (i * columns + j)]), to.y(data[2 * (i * columns + j) + 1])];
    if (density && rows > 1) for (let i = 0; i + 1 < rows; i++) for (let j = 0; j + 1 < columns; j++) {
      const cell = i * (columns - 1) + j;
      ctx.globalAlpha = (0.5 * density.data[cell]) / 255;
      ctx.fillStyle = folded?.data[cell] ? colours.ink : colours.gen;
      ctx.beginPath();
      for (const [a, b] of [[i, j], [i, j + 1], [i + 1, j + 1], [i + 1, j]]) ctx.lineTo(...at(a, b));
      ctx.fill();
    }
    ctx.globalAlpha = 0.5;
    ctx.strokeStyle = colours.gen;
    ctx.lineWidth = rows > 1 ? 0.6 : 2;
    lattice(ctx, at, rows, columns);
    ctx.globalAlpha = 1;
  }

  arrows(ctx, to, { data, shape: [n] }, colour, which) {
    const sizes = [];
    for (let i = 0; i < n; i++) sizes.push(Math.hypot(data[2 * i], data[2 * i + 1]));
    const usual = [...sizes].sort((a, b) => a - b)[Math.floor(0.9 * n)] || 1;
    this.reach = this.reach ?? {};
    this.reach[which] = this.reach[which] ? this.reach[which] ** 0.9 * usual ** 0.1 : usual; // no jumps of the scale
    const scale = (0.09 * this.canvas.w) / this.reach[which];
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.1;
    ctx.beginPath();
    for (let i = 0; i < n; i++) {
      const long = Math.min(sizes[i] * scale, 0.2 * this.canvas.w);
      if (!(long > 1.5)) continue;
      const [ux, uy] = [data[2 * i] / sizes[i], -data[2 * i + 1] / sizes[i]];
      const [x, y] = [to.x(this.fake.data[2 * i]), to.y(this.fake.data[2 * i + 1])], [ex, ey] = [x + ux * long, y + uy * long];
      const head = Math.min(5, long / 2);
      ctx.moveTo(x, y); ctx.lineTo(ex, ey);
      ctx.moveTo(ex - head * (ux + 0.5 * uy), ey - head * (uy - 0.5 * ux));
      ctx.lineTo(ex, ey);
      ctx.lineTo(ex - head * (ux - 0.5 * uy), ey - head * (uy + 0.5 * ux));
    }
    ctx.stroke();
  }

  // -- drawing one's own data: mouse, pen or finger
  begin(event) {
    if (!this.held.drawing) return;
    event.preventDefault();
    this.place.setPointerCapture(event.pointerId);
    this.stroke = [];
    this.extend(event);
  }

  extend(event) {
    const box = this.place.getBoundingClientRect();
    this.stroke.push(this.scales().back(event.clientX - box.left, event.clientY - box.top));
    this.page.draw();
  }

  finish() {
    if (!this.stroke) return;
    this.page.tell("stroke", { points: this.stroke.map((p) => p.map((v) => +v.toFixed(4))) });
    this.last = this.stroke;
    this.stroke = null;
  }

  strokes(ctx, to, colours) {
    this.place.classList.toggle("gnb-drawing", !!this.held.drawing);
    const drawn = [...(this.held.strokes ?? []), ...(this.stroke ? [this.stroke] : [])];
    if (!this.held.drawing) return;
    ctx.strokeStyle = colours.disc;
    ctx.lineWidth = 6;
    ctx.lineCap = ctx.lineJoin = "round";
    ctx.globalAlpha = 0.6;
    ctx.beginPath();
    for (const stroke of drawn) stroke.forEach(([x, y], i) => (i ? ctx.lineTo(to.x(x), to.y(y)) : (ctx.moveTo(to.x(x), to.y(y)), ctx.lineTo(to.x(x) + 0.1, to.y(y)))));
    ctx.stroke();
    ctx.globalAlpha = 1;
  }

  told(px, py) {
    const { held } = this;
    if (!held.limits) return "";
    const to = this.scales(), [x, y] = to.back(px, py), said = [`(${short(x)}, ${short(y)})`];
    const near = (points, name) => {
      if (!points) return;
      for (let i = 0; i < points.shape[0]; i++) {
        const [a, b] = [points.data[2 * i], points.data[2 * i + 1]];
        if (Math.hypot(to.x(a) - px, to.y(b) - py) > 5) continue;
        const arrow = name === "fake" && held.arrows && i < held.arrows.shape[0] ? `, ${this.page.word("push")} ${short(Math.hypot(held.arrows.data[2 * i], held.arrows.data[2 * i + 1]))}` : "";
        return said.push(`${this.page.word(name)} (${short(a)}, ${short(b)})${arrow}`);
      }
    };
    near(this.fake, "fake");
    near(held.real, "real");
    const cell = this.cell(x, y);
    if (cell !== null) said.push(`${this.page.word("tendency")} ${short(cell)}`);
    return said.join("\n");
  }

  cell(x, y) {
    if (!this.held.surface) return null;
    const { data, shape: [rows, columns] } = this.held.surface, [left, right, bottom, top] = this.held.limits;
    const j = Math.floor(((x - left) / (right - left)) * columns), i = Math.floor(((y - bottom) / (top - bottom)) * rows);
    return i >= 0 && i < rows && j >= 0 && j < columns ? data[i * columns + j] / 255 : null;
  }
}

function dots(ctx, { data, shape: [n] }, to, colour, alpha, size) {
  ctx.globalAlpha = alpha;
  ctx.fillStyle = colour;
  ctx.beginPath();
  for (let i = 0; i < n; i++) {
    const [x, y] = [to.x(data[2 * i]), to.y(data[2 * i + 1])];
    ctx.moveTo(x + size, y);
    ctx.arc(x, y, size, 0, 6.2832);
  }
  ctx.fill();
  ctx.globalAlpha = 1;
}

/** The plane of two numbers, one of each player: the way from a start that can be dragged. */
class Phase extends Plane {
  constructor(view, spec) {
    super(view, spec);
    this.place.classList.add("gnb-phase-place");
    this.place.removeAttribute("tabindex");
    this.place.setAttribute("role", "group"); // the start in it can be moved
    this.start = element("div", "gnb-start", { tabIndex: 0, role: "slider", title: this.page.word("start_point_tip") });
    this.start.setAttribute("aria-label", this.page.word("start_point"));
    this.start.addEventListener("keydown", (event) => this.key(event));
    this.place.append(this.start);
  }

  draw() {
    const { held } = this, ctx = this.canvas.begin();
    if (!held.limits || !this.canvas.w) return;
    const to = this.scales(), { colours } = this.view, shown = (layer) => (held.layers ?? []).includes(layer);
    this.axes(ctx, to, colours);
    this.cross(ctx, to, colours);
    this.fake = held.places ?? null;
    this.reach = {};
    if (held.arrows && shown("pushes")) this.arrows(ctx, to, held.arrows, colours.soft, "arrows");
    if (held.moves && shown("steps")) this.arrows(ctx, to, held.moves, colours.disc, "moves");
    if (shown("exact")) for (const [name, dash] of [["circle", [6, 4]], ["spiral", [1.5, 3]]]) if (held[name]) curve(ctx, held[name], to, colours.soft, 1.3, dash);
    if (held.path && shown("path")) this.way(ctx, to, colours);
    if (held.mean && shown("mean")) curve(ctx, held.mean, to, colours.good, 1.8);
    this.name(ctx, to, colours);
    this.mark();
    this.say();
  }

  cross(ctx, to, colours) {
    const [x, y] = this.held.saddle ?? [0, 0], { w, h } = this.canvas;
    ctx.strokeStyle = colours.line;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(0, to.y(y)); ctx.lineTo(w, to.y(y));
    ctx.moveTo(to.x(x), 0); ctx.lineTo(to.x(x), h);
    ctx.stroke();
    ctx.strokeStyle = colours.ink;
    ctx.lineWidth = 1.6;
    ctx.beginPath();
    for (const k of [-1, 1]) { ctx.moveTo(to.x(x) - 4, to.y(y) - 4 * k); ctx.lineTo(to.x(x) + 4, to.y(y) + 4 * k); }
    ctx.stroke();
  }

  /** Whose number is across and whose upwards, over all that is drawn. */
  name(ctx, to, colours) {
    const [x, y] = this.held.saddle ?? [0, 0];
    ctx.font = "11px sans-serif";
    for (const [player, hue, align, px, py] of [["generator", "gen", "right", this.canvas.w - 5, to.y(y) - 5], ["discriminator", "disc", "left", to.x(x) + 6, 24]]) {
      ctx.textAlign = align;
      ctx.lineWidth = 3;
      ctx.strokeStyle = colours.paper;
      ctx.strokeText(this.page.word(player), px, py);
      ctx.fillStyle = colours[hue];
      ctx.fillText(this.page.word(player), px, py);
    }
  }

  way(ctx, to, colours) {
    const { path } = this.held, n = path.shape[0];
    curve(ctx, path, to, colours.gen, 1.2);
    if (n < 400) dots(ctx, path, to, colours.gen, 0.9, 1.7);
    dots(ctx, { data: path.data.subarray(2 * (n - 1)), shape: [1] }, to, colours.gen, 1, 4);
  }

  /** Where the start is shown: at the pointer while it is dragged. */
  mark() {
    const [x, y] = this.dragged ?? this.held.start ?? [0, 0], to = this.scales();
    this.start.style.transform = `translate(${to.x(x) - 8}px, ${to.y(y) - 8}px)`;
    this.start.setAttribute("aria-valuetext", `(${short(x)}, ${short(y)})`);
    this.start.setAttribute("aria-valuenow", x);
  }

  move(at, dragging) { this.page.tell("set", { control: "start", value: at.map((v) => +v.toPrecision(4)), dragging }); }

  key(event) {
    const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    event.stopPropagation();
    const [left, right, bottom, top] = this.held.limits, by = (right - left) / (event.shiftKey ? 20 : 80), [x, y] = this.aim ?? this.held.start;
    this.aim = [Math.min(right, Math.max(left, x + dx * by)), Math.min(top, Math.max(bottom, y + dy * by))];
    clearTimeout(this.later);
    this.later = setTimeout(() => { this.aim = null; }, 600); // until its echo has come
    this.move(this.aim, false);
  }

  begin(event) {
    event.preventDefault();
    this.place.setPointerCapture(event.pointerId);
    this.start.focus({ preventScroll: true });
    this.stroke = true;
    this.extend(event);
  }

  extend(event) {
    const box = this.place.getBoundingClientRect(), [left, right, bottom, top] = this.held.limits;
    const [x, y] = this.scales().back(event.clientX - box.left, event.clientY - box.top);
    this.dragged = [Math.min(right, Math.max(left, x)), Math.min(top, Math.max(bottom, y))];
    this.mark();
    this.soon ??= requestAnimationFrame(() => { this.soon = undefined; if (this.dragged) this.move(this.dragged, true); });
  }

  finish() {
    if (!this.stroke) return;
    const at = this.dragged;
    this.stroke = null;
    this.move(at, false);
    setTimeout(() => { if (!this.stroke) { this.dragged = null; this.page.draw(); } }, 400); // until its own echo has come
  }

  told(px, py) {
    if (!this.held.limits || this.stroke) return "";
    const [x, y] = this.scales().back(px, py);
    return `(${short(x)}, ${short(y)})`;
  }
}

function curve(ctx, { data, shape: [n] }, to, colour, width, dash = []) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.lineJoin = "round";
  ctx.setLineDash(dash);
  ctx.beginPath();
  for (let i = 0; i < n; i++) ctx.lineTo(to.x(data[2 * i]), to.y(data[2 * i + 1]));
  ctx.stroke();
  ctx.setLineDash([]);
}

/** Lines through points in rows and columns; `at(i, j)` is the place of one. */
function lattice(ctx, at, rows, columns) {
  ctx.beginPath();
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) j ? ctx.lineTo(...at(i, j)) : ctx.moveTo(...at(i, j));
  for (let j = 0; j < columns && rows > 1; j++) for (let i = 0; i < rows; i++) i ? ctx.lineTo(...at(i, j)) : ctx.moveTo(...at(i, j));
  ctx.stroke();
}

/** The complex plane: eigenvalues of a game, and where a method comes in. */
class Spectrum extends Drawn {
  scales() {
    const [left, right, bottom, top] = this.held.extent, { w, h } = this.canvas, k = Math.min(w / (right - left), h / (top - bottom));
    const [cx, cy] = [(left + right) / 2, (bottom + top) / 2];
    return { x: (v) => w / 2 + (v - cx) * k, y: (v) => h / 2 - (v - cy) * k, back: (px, py) => [cx + (px - w / 2) / k, cy - (py - h / 2) / k] };
  }

  draw() {
    const { held } = this, ctx = this.canvas.begin(), { colours } = this.view;
    if (!held.extent || !this.canvas.w) return;
    const to = this.scales();
    if (held.region) this.region(ctx, to, colours);
    this.axes(ctx, to, colours);
    for (let i = 0; i < (held.eigenvalues?.shape[0] ?? 0); i++) {
      ctx.fillStyle = colours.ink;
      ctx.strokeStyle = colours.paper;
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      ctx.arc(to.x(held.eigenvalues.data[2 * i]), to.y(held.eigenvalues.data[2 * i + 1]), 5, 0, 6.2832);
      ctx.fill();
      ctx.stroke();
    }
    this.say();
  }

  region(ctx, to, colours) {
    const { region, extent: [left, right, bottom, top] } = this.held, [rows, columns] = region.shape, hue = rgb(colours.good);
    const wide = 4 * (columns - 1), high = 4 * (rows - 1);
    const image = pixels(wide, high, (out) => {
      for (let i = 0; i < high; i++) for (let j = 0; j < wide; j++) {
        if (!(amid(region, (i + 0.5) / 4, (j + 0.5) / 4) < 1)) continue;
        out.set([...hue, 46], 4 * ((high - 1 - i) * wide + j));
      }
    });
    const x = (j) => to.x(left + (j * (right - left)) / (columns - 1)), y = (i) => to.y(bottom + (i * (top - bottom)) / (rows - 1));
    ctx.imageSmoothingEnabled = true;
    ctx.drawImage(image, to.x(left), to.y(top), to.x(right) - to.x(left), to.y(bottom) - to.y(top));
    ctx.strokeStyle = colours.good;
    ctx.lineWidth = 1.6;
    ctx.beginPath();
    for (const [a, b, c, d] of contour(region, 1)) { ctx.moveTo(x(a), y(b)); ctx.lineTo(x(c), y(d)); }
    ctx.stroke();
  }

  axes(ctx, to, colours) {
    const [left, right, bottom, top] = this.held.extent, { w, h } = this.canvas;
    ctx.strokeStyle = colours.line;
    ctx.fillStyle = colours.soft;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(0, to.y(0)); ctx.lineTo(w, to.y(0));
    ctx.moveTo(to.x(0), 0); ctx.lineTo(to.x(0), h);
    ctx.stroke();
    ctx.font = "10px sans-serif";
    ctx.textAlign = "center";
    for (const v of ticks(left, right, 6)) if (v && to.x(v) > 12 && to.x(v) < w - 12) ctx.fillText(short(v), to.x(v), to.y(0) + 11);
    ctx.textAlign = "right";
    for (const v of ticks(bottom, top, 4)) if (v && to.y(v) > 8 && to.y(v) < h - 4) ctx.fillText(`${short(v)}i`, to.x(0) - 9, to.y(v) + 3);
  }

  told(px, py) {
    if (!this.held.extent) return "";
    const [left, right, bottom, top] = this.held.extent, [x, y] = this.scales().back(px, py), { region } = this.held;
    const place = `${short(+x.toPrecision(3))} ${y < 0 ? "\u2212" : "+"} ${short(Math.abs(+y.toPrecision(3)))}i`;
    if (!region) return place;
    const [rows, columns] = region.shape, i = Math.round(((y - bottom) / (top - bottom)) * (rows - 1)), j = Math.round(((x - left) / (right - left)) * (columns - 1));
    return i >= 0 && i < rows && j >= 0 && j < columns ? `${place}\n${this.page.word("factor")} ${short(region.data[i * columns + j])}` : place;
  }
}

/** Pictures of one array of the frame, each with a line below it; a click says which one. */
class Tiles extends Drawn {
  constructor(view, spec) {
    super(view, spec);
    this.cursor = 0;
    this.place.setAttribute("aria-label", this.page.word(spec.title));
    spec.chosen ? this.listen() : this.place.removeAttribute("tabindex");
  }

  listen() {
    this.place.classList.add("gnb-tiles-place");
    this.place.addEventListener("click", (event) => this.choose(this.under(event.offsetX, event.offsetY)));
    this.place.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) this.place.addEventListener(name, () => this.page.draw());
  }

  get shown() { return this.held[this.spec.of]; }
  get lines() { return this.held[`${this.spec.of}_said`]; }

  choose(i) { if (i !== null) this.page.tell("choose", { of: this.spec.of, i }); }

  key(event) {
    if (!this.shown) return;
    const n = this.shown.shape[0], { columns } = this.grid(), step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (event.key === "Enter") this.choose(this.cursor);
    else if (step) this.cursor = Math.min(n - 1, Math.max(0, this.cursor + step));
    else return;
    event.preventDefault();
    this.page.draw();
  }

  grid() {
    const [n, h, w] = this.shown.shape, columns = this.spec.columns || n, rows = Math.ceil(n / columns), gap = 4, line = this.lines ? 14 : 0;
    const scale = Math.max(0, Math.min((this.canvas.w - 20) / columns - gap, ((this.canvas.h - 4) / rows - gap - line) * w / h)) / w;
    const wide = scale * w + gap, high = scale * h + gap + line;
    return { columns, wide, high, w: scale * w, h: scale * h, left: this.spec.columns ? (this.canvas.w - columns * wide + gap) / 2 : 12, top: 3 };
  }

  under(px, py) {
    if (!this.shown) return null;
    const { columns, wide, high, left, top } = this.grid(), column = Math.floor((px - left) / wide), i = column + columns * Math.floor((py - top) / high);
    return column >= 0 && column < columns && i >= 0 && i < this.shown.shape[0] ? i : null;
  }

  draw() {
    const ctx = this.canvas.begin(), { shown, lines, view: { colours } } = this;
    if (!shown || !this.canvas.w) return;
    const [n, h, w] = shown.shape, at = this.grid(), mark = this.held[`${this.spec.of}_mark`];
    ctx.imageSmoothingEnabled = at.w < w;
    ctx.font = "11px sans-serif";
    ctx.textAlign = "center";
    for (let i = 0; i < n; i++) {
      const x = at.left + (i % at.columns) * at.wide, y = at.top + Math.floor(i / at.columns) * at.high;
      ctx.drawImage(pixels(w, h, (out) => paint(out, shown, i, 0, 0, w)), x, y, at.w, at.h);
      ctx.fillStyle = colours.soft;
      if (lines) ctx.fillText(lines[i], x + at.w / 2, y + at.h + 11);
      const isAt = this.spec.chosen && document.activeElement === this.place && i === this.cursor;
      if (i !== mark && !isAt) continue;
      ctx.strokeStyle = isAt ? colours.disc : colours.gen;
      ctx.lineWidth = 2;
      ctx.strokeRect(x - 1, y - 1, at.w + 2, at.h + 2);
    }
  }

  told(px, py) {
    const i = this.under(px, py);
    return i === null ? "" : this.lines?.[i] || `${this.page.word("sample")} ${i + 1}`;
  }
}

/** A sample in the plane, with its neighbours, a way to another one, and the data next to it. */
class Spot extends Plane {
  draw(now) {
    const { held } = this, ctx = this.canvas.begin();
    if (!held.limits || !this.canvas.w) return;
    const to = this.scales(), { colours } = this.view;
    this.axes(ctx, to, colours);
    if (held.real) dots(ctx, held.real, to, colours.disc, 0.25, 1.5);
    if (held.mesh_beside) this.beside(ctx, to, colours);
    if (held.mesh) this.mesh(ctx, to, colours, now);
    if (held.path) curve(ctx, held.path, to, colours.ink, 1.3, [4, 3]);
    const { data, shape: [n] } = held.spots, at = (i) => [to.x(data[2 * i]), to.y(data[2 * i + 1])];
    for (let i = n - 1; i >= 0; i--) {
      ctx.strokeStyle = i ? colours.disc : colours.gen;
      ctx.lineWidth = i ? 1.5 : 3;
      ctx.beginPath();
      if (i) { ctx.moveTo(...at(0)); ctx.lineTo(...at(i)); }
      ctx.moveTo(at(i)[0] + (i ? 4 : 7), at(i)[1]);
      ctx.arc(...at(i), i ? 4 : 7, 0, 6.2832);
      ctx.stroke();
    }
    this.say();
  }

  /** What another run makes of the same latents. */
  beside(ctx, to, colours) {
    const { mesh_beside: { data, shape: [rows, columns] }, spot_beside: spot } = this.held;
    ctx.strokeStyle = colours.soft;
    ctx.lineWidth = 0.8;
    lattice(ctx, (i, j) => [to.x(data[2 * (i * columns + j)]), to.y(data[2 * (i * columns + j) + 1])], rows, columns);
    ctx.lineWidth = 3;
    ctx.beginPath();
    ctx.arc(to.x(spot.data[0]), to.y(spot.data[1]), 7, 0, 6.2832);
    ctx.stroke();
  }
}

/** Pictures in a grid; one of them is enlarged when it is chosen. */
class Pictures extends Drawn {
  constructor(view, spec) {
    super(view, spec);
    this.chosen = null;
    this.place.addEventListener("click", (event) => this.choose(this.chosen === null ? this.under(event.offsetX, event.offsetY) : null));
    this.place.addEventListener("keydown", (event) => this.key(event));
  }

  choose(i) { this.chosen = i; this.page.draw(); }

  key(event) {
    if (!this.held.pictures) return;
    const n = this.held.pictures.shape[0], { columns } = this.grid();
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (event.key === "Escape") this.choose(null);
    else if (event.key === "Enter") this.choose(this.chosen === null ? 0 : null);
    else if (step && this.chosen !== null) this.choose((this.chosen + step + n) % n);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  grid() {
    const [n, h, w] = this.held.pictures.shape;
    return laid(n, this.canvas, { w, h }, this.held.per_row);
  }

  under(px, py) {
    if (!this.held.pictures) return null;
    const n = this.held.pictures.shape[0], { columns, wide, high, left, top } = this.grid();
    const i = Math.floor((px - left) / wide) + columns * Math.floor((py - top) / high);
    return i >= 0 && i < n && px >= left && px < left + columns * wide ? i : null;
  }

  draw() {
    const ctx = this.canvas.begin(), { pictures } = this.held;
    if (!pictures || !this.canvas.w) return;
    const [n, h, w] = pictures.shape;
    const one = this.chosen !== null && this.chosen < n;
    ctx.imageSmoothingEnabled = false;
    if (one) {
      const { wide, high, left, top } = laid(1, this.canvas, { w, h }), part = 0.94;
      ctx.drawImage(pixels(w, h, (out) => paint(out, pictures, this.chosen, 0, 0, w)), left + (wide * (1 - part)) / 2, top + (high * (1 - part)) / 2, wide * part, high * part);
    } else {
      const { columns, rows, wide, high, left, top } = this.grid(), across = columns * (w + 1), down = rows * (h + 1);
      const image = pixels(across, down, (out) => { for (let i = 0; i < n; i++) paint(out, pictures, i, (i % columns) * (w + 1), Math.floor(i / columns) * (h + 1), across); });
      ctx.imageSmoothingEnabled = wide < w;
      ctx.drawImage(image, left, top, columns * wide, rows * high);
    }
    this.say();
  }

  told(px, py) {
    const i = this.chosen ?? this.under(px, py);
    return i === null ? "" : `${this.page.word("sample")} ${i + 1}`;
  }
}

function paint(out, { data, shape: [, h, w, c] }, i, x, y, wide) {
  for (let row = 0; row < h; row++) for (let column = 0; column < w; column++) {
    const from = ((i * h + row) * w + column) * c, to = 4 * ((y + row) * wide + x + column);
    out[to] = data[from];
    out[to + 1] = data[from + (c > 1 ? 1 : 0)];
    out[to + 2] = data[from + (c > 2 ? 2 : 0)];
    out[to + 3] = 255;
  }
}

/** Lines over rounds: what was measured, levels to compare with, and what was edited. */
class Chart extends Drawn {
  constructor(view, spec) {
    super(view, spec);
    this.handles = new Map();
    this.drawnAt = 0;
    if (spec.each) this.place.addEventListener("click", (event) => this.choose(this.nearest(event.offsetX, event.offsetY)));
    if (spec.now) this.place.addEventListener("click", (event) => this.page.tell("seek", { round: this.roundAt(event.offsetX) }));
  }

  /** The table that this chart reads: the records, or one of its own. */
  table() {
    if (!this.spec.of) return this.held.table ? { names: this.held.columns, table: this.held.table } : null;
    const own = this.held[this.spec.of];
    return own ? { names: this.held[`${this.spec.of}_columns`], table: { data: own.data, rows: own.shape[0], columns: own.shape[1] } } : null;
  }

  get log() { return this.held.logs?.[this.spec.id] ?? this.spec.log; }

  draw(now) {
    if (now - this.drawnAt < 45 && this.page.progress(now) < 1) return;
    this.drawnAt = now;
    const ctx = this.canvas.begin(), { w, h } = this.canvas, found = this.table(), { colours } = this.view, { log } = this;
    if (!w) return;
    ctx.font = "10.5px sans-serif";
    this.name(found);
    const lines = found ? this.lines(found, Math.max(20, Math.floor((w - 54) / 3)), log) : [];
    const levels = this.held.levels?.[this.spec.id] ?? [];
    const put = (y) => (log ? Math.log10(Math.max(y, 1e-30)) : y);
    const { each, bands } = this.spec, of = (points, ...ends) => points.flatMap((p) => ends.map((end) => p[end]));
    const ofLine = ({ points }) => (bands ? [...usual(of(points, "mean")), ...usual(of(points, "low", "high"))] : of(points, "mean"));
    const seen = [...(this.spec.holds ?? []).map(put), ...lines.flatMap(ofLine), ...levels.map(({ y }) => put(y))];
    const bounds = this.spec.range ?? range(each ? usual(seen) : seen, log), [low, high] = (this.range = bounds);
    const wide = Math.max(...this.values(low, high, log).map((v) => ctx.measureText(short(v)).width), ctx.measureText(this.across).width, 0);
    this.area = { left: Math.max(44, Math.ceil(wide) + 10), right: w - 10, top: 10, bottom: h - 16 }; // long numbers take more room
    const { left, right, top, bottom } = this.area;
    const last = found?.table.rows ? found.table.data[(found.table.rows - 1) * found.table.columns] : 0;
    const first = found?.table.rows ? found.table.data[0] : 0;
    this.x = (v) => left + ((v - first) / (last > first ? last - first : 1)) * (right - left);
    this.y = (v) => bottom - ((v - low) / (high - low)) * (bottom - top);
    this.rounds = [first, last];
    this.axes(ctx, colours, low, high, log);
    this.marks(ctx, colours);
    if (this.spec.now || (this.spec.past && this.held.is_past)) this.now(ctx, colours);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top - 2, right - left, bottom - top + 4);
    ctx.clip();
    for (const line of lines) this.line(ctx, line, colours);
    this.drawnLines = lines;
    ctx.restore();
    for (const level of levels) this.level(ctx, level, put(level.y), colours);
    for (const [id, handle] of this.handles) if (!levels.some((level) => level.drag === id)) handle.node.hidden = true;
    if (!lines.some(({ points }) => points.length)) {
      ctx.fillStyle = colours.soft;
      ctx.textAlign = "center";
      ctx.fillText(this.page.word("nothing_yet"), (left + right) / 2, (top + bottom) / 2);
    }
    this.say();
  }

  /** The key says the last value of each line, and nothing of lines that are not there. */
  name(found) {
    const { named, says } = this.spec, { words = {} } = this.held;
    for (const [key, node] of [[named, this.heading], [says, this.hint]]) if (key) setText(node, words[key] ?? "");
    const names = found?.names ?? this.held[`${this.spec.of}_columns`] ?? [];
    for (const { column, name } of this.keys) {
      const at = names.indexOf(column), last = found?.table.data[(found.table.rows - 1) * found.table.columns + at];
      name.hidden = at < 0;
      setText(name, `${this.page.word(column)} ${last === undefined ? "" : short(+last.toPrecision(2))}`);
    }
  }

  lines({ names, table }, bins, log) {
    const specs = this.spec.each ? this.ofEach(names) : this.spec.lines;
    return specs.map((line) => {
      const [y, low, high] = [line.column, line.low, line.high].map((name) => names.indexOf(name));
      return { ...line, points: y < 0 ? [] : low < 0 ? binned(table, 0, y, bins, log) : banded(table, 0, y, low, high, log) };
    });
  }

  /** A faint line for each member, and the chosen one in ink on top of them. */
  ofEach(names) {
    const { hues = [], chosen } = this.held, hue = (i) => (hues[i] && hues[i] !== "line" ? hues[i] : "soft");
    const lines = names.slice(1).map((column, i) => ({ column, member: i, hue: i === chosen ? "ink" : hue(i), look: i === chosen ? "strong" : "faint" }));
    return [...lines.filter(({ member }) => member !== chosen), ...lines.filter(({ member }) => member === chosen)];
  }

  /** The member whose line is nearest to a point, if one is near. */
  nearest(px, py) {
    let found = null, least = 12;
    for (const { member, points } of this.drawnLines ?? []) for (const p of points) {
      const away = Math.abs(this.x(p.x) - px) > 8 ? Infinity : Math.abs(this.y(p.mean) - py);
      if (away < least) [found, least] = [member, away];
    }
    return found;
  }

  /** What is written at the left. */
  values(low, high, log) { return log ? logTicks(10 ** low, 10 ** high) : ticks(low, high, 3); }

  axes(ctx, colours, low, high, log) {
    const { left, right, bottom } = this.area;
    ctx.fillStyle = colours.soft;
    ctx.strokeStyle = colours.line;
    ctx.lineWidth = 1;
    ctx.textAlign = "right";
    ctx.beginPath();
    for (const v of this.values(low, high, log)) {
      const y = Math.round(this.y(log ? Math.log10(v) : v)) + 0.5;
      ctx.moveTo(left, y);
      ctx.lineTo(right, y);
      ctx.fillText(short(v), left - 6, y + 3.5);
    }
    ctx.stroke();
    ctx.textAlign = "center";
    const [first, last] = this.rounds;
    for (const v of ticks(first, last, 4)) if (last > first && this.x(v) > left + 8 && this.x(v) < right - 14) ctx.fillText(short(v), this.x(v), bottom + 13);
    ctx.textAlign = "right";
    ctx.fillText(this.across, left - 6, bottom + 13);
  }

  /** What the axis across counts. */
  get across() { return this.page.word(this.held.across ?? "round"); }

  marks(ctx, colours) {
    const { top, bottom, left, right } = this.area;
    let taken = Infinity; // where the words of later marks begin
    for (const { round, text, hue } of [...(this.held.marks ?? [])].reverse()) {
      const x = this.x(round);
      if (!(x >= left && x <= right)) continue;
      ctx.strokeStyle = colours[hue] ?? colours.soft;
      ctx.setLineDash([2, 3]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, bottom);
      ctx.stroke();
      ctx.setLineDash([]);
      if (!text || this.spec.quiet) continue;
      const wide = ctx.measureText(text).width + 8, start = x + wide < Math.min(taken, right) ? x : x - wide;
      if (start < left || start + wide > taken) continue; // no room: the line alone
      taken = start;
      ctx.fillStyle = colours.soft;
      ctx.textAlign = "left";
      ctx.fillText(text, start + 4, bottom - 4);
    }
  }

  /** Where the round is that the pictures show. */
  now(ctx, colours) {
    const { top, bottom, left, right } = this.area, x = Math.min(right, Math.max(left, this.x(this.held.across_at ?? this.held.round ?? 0)));
    ctx.strokeStyle = colours.ink;
    ctx.lineWidth = 1.2;
    ctx.beginPath();
    ctx.moveTo(x, top - 2);
    ctx.lineTo(x, bottom + 2);
    ctx.stroke();
  }

  roundAt(px) {
    const [first, last] = this.rounds, { left, right } = this.area;
    return first + ((px - left) / (right - left)) * (last - first);
  }

  line(ctx, { points, hue, look }, colours) {
    if (!points.length) return;
    ctx.strokeStyle = ctx.fillStyle = colours[hue] ?? hue;
    if (look === "solid") {
      ctx.globalAlpha = 0.16;
      ctx.beginPath();
      points.forEach((p, i) => (i ? ctx.lineTo(this.x(p.x), this.y(p.high)) : ctx.moveTo(this.x(p.x), this.y(p.high))));
      for (let i = points.length - 1; i >= 0; i--) ctx.lineTo(this.x(points[i].x), this.y(points[i].low));
      ctx.fill();
    }
    ctx.globalAlpha = look === "faint" ? 0.4 : 1;
    ctx.lineWidth = look === "faint" ? 1.1 : look === "strong" ? 2.2 : 1.5;
    ctx.lineJoin = "round";
    ctx.beginPath();
    points.forEach((p, i) => (i ? ctx.lineTo(this.x(p.x), this.y(p.mean)) : ctx.moveTo(this.x(p.x), this.y(p.mean))));
    ctx.stroke();
    ctx.globalAlpha = 1;
    if (points.length === 1) { ctx.beginPath(); ctx.arc(this.x(points[0].x), this.y(points[0].mean), 2, 0, 7); ctx.fill(); }
  }

  level(ctx, { hue, text, drag, value }, y, colours) {
    const { left, right } = this.area, at = this.y(y);
    ctx.strokeStyle = colours[hue] ?? colours.soft;
    ctx.lineWidth = 1.2;
    if (!drag) ctx.setLineDash([6, 4]);
    ctx.beginPath();
    ctx.moveTo(left, at);
    ctx.lineTo(right, at);
    ctx.stroke();
    ctx.setLineDash([]);
    if (drag) return this.handle(drag, hue, text, value, at);
    if (!text) return;
    ctx.fillStyle = colours[hue] ?? colours.soft;
    ctx.textAlign = "right";
    ctx.fillText(text, right, at - 4);
  }

  /** The bound of a clip, which can be dragged, or moved by the arrow keys. */
  handle(id, hue, text, value, at) {
    let handle = this.handles.get(id);
    if (!handle) this.handles.set(id, (handle = new Handle(this, id, hue)));
    handle.put(text, value, at);
  }

  valueAt(py) {
    const [low, high] = this.range, { top, bottom } = this.area;
    const y = low + ((bottom - py) / (bottom - top)) * (high - low);
    return +(this.log ? 10 ** y : y).toPrecision(3);
  }

  told(px, py) {
    const found = this.table();
    if (!found?.table.rows || !this.rounds) return "";
    if (this.spec.each) return (this.held.members_said ?? [])[this.nearest(px, py)] ?? "";
    const { names, table } = found, round = this.roundAt(px);
    let row = 0;
    for (let step = 1 << 20; step; step >>= 1) if (row + step < table.rows && table.data[(row + step) * table.columns] <= round) row += step;
    const value = (column) => short(table.data[row * table.columns + names.indexOf(column)]);
    const shown = this.spec.lines.map(({ column, name }) => `${name ?? this.page.word(column)} ${value(column)}`);
    return [`${this.across} ${short(table.data[row * table.columns])}`, ...shown].join("\n");
  }
}

/** A value that is dragged along an axis: upwards in a chart, across in a histogram. */
class Handle {
  constructor(part, id, hue, across = false) {
    Object.assign(this, { part, id, across });
    this.node = element("div", `gnb-handle gnb-${hue}`, { tabIndex: 0, role: "slider" });
    this.node.setAttribute("aria-label", part.page.word(id));
    part.place.append(this.node);
    this.node.addEventListener("pointerdown", (event) => { this.isHeld = true; this.node.setPointerCapture(event.pointerId); event.preventDefault(); event.stopPropagation(); });
    this.node.addEventListener("pointermove", (event) => this.isHeld && this.move(event));
    const end = () => { if (this.isHeld) { this.isHeld = false; if (this.value) this.tell(this.value, false); } };
    this.node.addEventListener("pointerup", end);
    this.node.addEventListener("pointercancel", end);
    this.node.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 1.1, ArrowRight: 1.1, ArrowDown: 1 / 1.1, ArrowLeft: 1 / 1.1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      this.tell(+(this.shown * by).toPrecision(3), false);
    });
  }

  move(event) {
    const box = this.part.place.getBoundingClientRect(), { area } = this.part;
    const [at, first, last] = this.across ? [event.clientX - box.left, area.left, area.right] : [event.clientY - box.top, area.top, area.bottom];
    this.value = this.part.valueAt(Math.min(Math.max(at, first), last));
    this.node.textContent = `\u2264 ${short(this.value)}`;
    this.stand(at);
    this.later ??= requestAnimationFrame(() => { this.later = undefined; if (this.isHeld) this.tell(this.value, true); });
  }

  tell(value, dragging) { this.part.page.tell("set", { control: this.id, number: value, dragging }); }

  put(text, value, at) {
    this.node.hidden = false;
    this.shown = value;
    if (this.isHeld) return;
    setText(this.node, text);
    this.stand(at);
    this.node.setAttribute("aria-valuenow", value);
  }

  /** Where it is on its axis; one that moves across stays whole at both ends. */
  stand(at) {
    if (!this.across) { this.node.style.top = `${at}px`; return; }
    const half = this.node.offsetWidth / 2, wide = this.part.canvas.w;
    this.node.style.left = `${Math.max(half + 2, Math.min(at, wide - half - 2))}px`;
  }
}

/** How often each value came, with a bound in it that can be dragged; one that is not set waits at the right. */
class Histogram extends Drawn {
  constructor(view, spec) { super(view, spec); this.handles = new Map(); }

  head(spec) {
    if (!spec.says) return super.head(spec);
    const head = element("div", "gnb-head");
    head.append((this.line = element("span", "gnb-soft gnb-hint")));
    this.node.append(head);
  }

  hover(event) {
    if (!event.target.classList.contains("gnb-handle")) return super.hover(event);
    this.tip.hidden = true; // it would cover the bound
  }

  /** Its values: of several rows, the one that it is for. */
  values() {
    const held = this.held[this.spec.of];
    if (!held || this.spec.row === undefined) return held?.data;
    const n = held.shape[1];
    return held.data.subarray(this.spec.row * n, (this.spec.row + 1) * n);
  }

  draw() {
    const ctx = this.canvas.begin(), { w, h } = this.canvas, { colours } = this.view, values = this.values();
    if (this.line) this.say();
    if (!w || !values) return;
    const levels = this.held.levels?.[this.spec.id] ?? [], isHeld = [...this.handles.values()].some((handle) => handle.isHeld), n = 40;
    const logs = [...values].filter((v) => v > 0).map(Math.log10), bounds = levels.filter(({ y }) => y > 0).map(({ y }) => Math.log10(y));
    if (!isHeld || !this.range) this.range = range([...logs, ...bounds], true); // an axis that moves could not be aimed at
    const [low, high] = this.range;
    this.area = { left: 10, right: w - 10 };
    this.x = (log) => Math.min(w - 10, Math.max(10, 10 + ((log - low) / (high - low)) * (w - 20)));
    const counts = new Array(n).fill(0);
    for (const v of logs) counts[Math.max(0, Math.min(n - 1, Math.floor(((v - low) / (high - low)) * n)))]++;
    const most = Math.max(1, ...counts), wide = (w - 20) / n, least = Math.min(...bounds, Infinity);
    this.counts = counts;
    ctx.fillStyle = colours[this.spec.hue] ?? colours.ink;
    counts.forEach((count, i) => {
      ctx.globalAlpha = low + ((i + 0.5) / n) * (high - low) < least && levels.length ? 0.4 : 0.8; // what is above a bound stands out
      ctx.fillRect(10 + i * wide, h - 16 - (count / most) * (h - 24), wide - 1, (count / most) * (h - 24));
    });
    ctx.globalAlpha = 1;
    ctx.fillStyle = colours.soft;
    ctx.textAlign = "center";
    ctx.font = "10.5px sans-serif";
    for (const v of logTicks(10 ** low, 10 ** high)) ctx.fillText(short(v), this.x(Math.log10(v)), h - 3);
    for (const level of levels) {
      const x = level.y > 0 ? this.x(Math.log10(level.y)) : w - 10;
      ctx.strokeStyle = colours.ink;
      if (!(level.y > 0)) ctx.setLineDash([3, 3]);
      ctx.beginPath();
      ctx.moveTo(x, 0);
      ctx.lineTo(x, h - 16);
      ctx.stroke();
      ctx.setLineDash([]);
      this.handle(level, x);
    }
    for (const [id, handle] of this.handles) if (!levels.some((level) => level.drag === id)) handle.node.hidden = true;
  }

  handle(level, x) {
    if (!level.drag) return;
    if (!this.handles.has(level.drag)) this.handles.set(level.drag, new Handle(this, level.drag, level.hue ?? "ink", true));
    this.handles.get(level.drag).put(level.text, level.value ?? this.valueAt(this.area.right), x);
  }

  valueAt(px) {
    const [low, high] = this.range, { left, right } = this.area;
    return +(10 ** (low + ((px - left) / (right - left)) * (high - low))).toPrecision(3);
  }

  say() {
    const said = this.held.words?.[this.spec.says] ?? "";
    setText(this.line, said);
    this.line.title = [said, this.held.words?.[`${this.spec.says}_tip`]].filter(Boolean).join("\n");
  }

  told(px) {
    if (!this.range || !this.counts) return "";
    const [low, high] = this.range, part = (px - 10) / (this.canvas.w - 20), i = Math.floor(part * this.counts.length);
    return i >= 0 && i < this.counts.length ? `${short(10 ** (low + part * (high - low)))}: ${this.counts[i]}` : "";
  }
}

/** Many runs side by side, each in a place of its own; one of them can be chosen. */
class Multiples extends Drawn {
  constructor(view, spec) {
    super(view, spec);
    this.place.addEventListener("click", (event) => this.choose(this.under(event.offsetX, event.offsetY)));
    if (!spec.closed) this.place.addEventListener("dblclick", () => this.page.tell("act", { act: "open" }));
    if (spec.ratio) this.node.style.aspectRatio = spec.ratio;
    this.place.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const { columns, n } = this.grid(), now = this.held.chosen ?? 0;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (event.key === "Enter" && !this.spec.closed) this.page.tell("act", { act: "open" });
    else if (step) this.choose(Math.min(n - 1, Math.max(0, now + step)));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  grid() {
    const { w, h } = this.canvas, about = this.held.grid ?? { columns: 1, rows: [], heads: [] }, n = this.held.members?.shape[0] ?? 0;
    const columns = about.columns, rows = Math.ceil(n / columns) || 1;
    const margin = Math.min(150, Math.max(4, ...about.rows.map((text) => 6 * text.length + 8))), above = about.heads.some(Boolean) ? 16 : 2;
    const side = Math.max(4, Math.min((w - margin - 4) / columns, (h - above - 2) / rows));
    const left = margin + Math.max(0, (w - margin - 4 - columns * side) / 2); // in the middle of its place
    return { n, columns, rows, side, margin: left, above: above + Math.max(0, (h - above - 2 - rows * side) / 2), about };
  }

  under(px, py) {
    const { n, columns, side, margin, above } = this.grid(), column = Math.floor((px - margin) / side);
    const i = column + columns * Math.floor((py - above) / side);
    return column >= 0 && column < columns && i >= 0 && i < n ? i : null;
  }

  draw(now) {
    const ctx = this.canvas.begin(), { members, limits, real, hues, chosen } = this.held, { colours } = this.view;
    if (!members || !this.canvas.w) return;
    const { n, columns, side, margin, above, about } = this.grid();
    ctx.font = "10px sans-serif";
    ctx.fillStyle = colours.soft;
    about.heads.forEach((text, j) => { ctx.textAlign = "center"; this.headed(ctx, text, about, j, margin + (j + 0.5) * side, above - 5, side - 2); });
    ctx.fillStyle = colours.soft;
    about.rows.forEach((text, i) => { ctx.textAlign = "right"; ctx.fillText(text, margin - 5, above + (i + 0.5) * side + 3); });
    const moved = between(this.page.before.members, members, this.page.progress(now));
    for (let i = 0; i < n; i++) {
      const [x, y] = [margin + (i % columns) * side, above + Math.floor(i / columns) * side], inner = side - 3;
      const hue = colours[(hues ?? [])[i]] ?? colours.line;
      ctx.lineWidth = i === chosen ? 2.5 : 1.2;
      ctx.strokeStyle = i === chosen ? colours.ink : hue;
      ctx.globalAlpha = 0.1;
      ctx.fillStyle = hue;
      if ((hues ?? [])[i] !== "line") ctx.fillRect(x + 1, y + 1, inner, inner);
      ctx.globalAlpha = 1;
      ctx.strokeRect(x + 1, y + 1, inner, inner);
      if (members.shape.length === 5) this.images(ctx, members, i, x + 2, y + 2, inner - 2);
      else this.points(ctx, moved, real, limits, i, x + 1, y + 1, inner, colours);
      this.verdict(ctx, i, x + 1, y + 1, inner, hue, colours);
    }
    this.say();
  }

  /** The name of a column, of one that has a colour in this colour and bold; the short name where the whole one has no room. */
  headed(ctx, text, { hues, short }, j, x, y, width) {
    const { colours } = this.view;
    ctx.font = hues ? "bold 11.5px sans-serif" : "10px sans-serif";
    ctx.fillStyle = colours[hues?.[j]] ?? colours.soft;
    ctx.fillText(clipped(ctx, short && ctx.measureText(text).width > width ? short[j] : text, width), x, y);
    ctx.font = "10px sans-serif";
  }

  /** A word where there is room for it, a sign where there is not: colour alone tells some people nothing. */
  verdict(ctx, i, x, y, side, hue, colours) {
    const word = (this.held.verdicts ?? [])[i], isWell = (this.held.hues ?? [])[i] === "good";
    const isCrossed = (this.held.crossed ?? []).includes(i), isLarge = side > 84;
    if (isCrossed) {
      const [cx, cy, reach] = [x + side / 2, y + side / 2, side * 0.22];
      ctx.strokeStyle = hue;
      ctx.lineWidth = 2;
      ctx.beginPath();
      for (const k of [-1, 1]) { ctx.moveTo(cx - reach, cy - k * reach); ctx.lineTo(cx + reach, cy + k * reach); }
      ctx.stroke();
    }
    if (!word || side < 24 || (isCrossed && !isLarge)) return;
    ctx.font = isLarge ? "10px sans-serif" : "bold 11px sans-serif";
    const text = isLarge ? clipped(ctx, word, side - 12) : isWell ? "\u2713" : "!", wide = ctx.measureText(text).width;
    ctx.fillStyle = colours.paper;
    ctx.globalAlpha = 0.8;
    ctx.fillRect(x + 2, y + 2, wide + 6, 13);
    ctx.globalAlpha = 1;
    ctx.fillStyle = hue;
    ctx.textAlign = "left";
    ctx.fillText(text, x + 5, y + 12);
  }

  points(ctx, members, real, [left, right, bottom, top], i, x, y, side, colours) {
    const [, n] = members.shape, size = side > 90 ? 1.8 : 1.2;
    const px = (v) => x + side * Math.min(1, Math.max(0, (v - left) / (right - left)));
    const py = (v) => y + side * (1 - Math.min(1, Math.max(0, (v - bottom) / (top - bottom))));
    const lay = (data, from, count, colour, alpha) => {
      ctx.fillStyle = colour;
      ctx.globalAlpha = alpha;
      for (let k = from; k < from + count; k++) ctx.fillRect(px(data[2 * k]) - size / 2, py(data[2 * k + 1]) - size / 2, size, size);
    };
    if (real) lay(real.data, 0, real.shape[0], colours.disc, 0.5);
    lay(members.data, i * n, n, colours.gen, 0.8);
    ctx.globalAlpha = 1;
  }

  images(ctx, { data, shape: [, n, h, w, c] }, i, x, y, side) {
    const across = Math.ceil(Math.sqrt(n)), down = Math.ceil(n / across);
    const image = pixels(across * w, down * h, (out) => { for (let k = 0; k < n; k++) paint(out, { data, shape: [0, h, w, c] }, i * n + k, (k % across) * w, Math.floor(k / across) * h, across * w); });
    ctx.imageSmoothingEnabled = side < across * w;
    const { wide, high, left, top } = laid(1, { w: side, h: side }, { w: across * w, h: down * h });
    ctx.drawImage(image, x + left, y + top, wide, high);
  }

  told(px, py) {
    const i = this.under(px, py);
    return i === null ? "" : (this.held.members_said ?? [])[i] ?? String(i);
  }
}

function clipped(ctx, text, width) {
  if (ctx.measureText(text).width <= width) return text;
  let n = text.length;
  while (n > 1 && ctx.measureText(`${text.slice(0, n)}\u2026`).width > width) n--;
  return `${text.slice(0, n)}\u2026`;
}

/** The trials of a sweep, each at its place by two of its numbers. What has no value yet, or never will, lies along the edge. */
class Trials extends Drawn {
  constructor(view, spec) {
    super(view, spec);
    this.place.addEventListener("click", (event) => this.choose(this.nearest(event.offsetX, event.offsetY)));
    this.place.addEventListener("dblclick", () => this.page.tell("act", { act: "open" }));
    this.place.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const n = this.held.measures?.shape[0] ?? 0, now = this.held.chosen ?? -1, step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter") this.page.tell("act", { act: "open" });
    else if (step && n) this.choose(Math.min(n - 1, Math.max(0, now + step)));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  column(name) {
    const { data, shape: [n, columns] } = this.held.measures, at = this.held.measures_columns.indexOf(name);
    return Array.from({ length: n }, (_, i) => (at < 0 ? NaN : data[i * columns + at]));
  }

  draw() {
    const ctx = this.canvas.begin(), { w, h } = this.canvas, about = this.held.axes?.[this.spec.id], { colours } = this.view;
    if (!w || !about || !this.held.measures) return;
    ctx.font = "10.5px sans-serif";
    const x = this.scale(about.x), y = this.scale(about.y), wide = Math.max(...y.ticks.map(([, text]) => ctx.measureText(text).width), 20);
    this.area = { left: Math.min(120, Math.ceil(wide) + 12), right: w - 14, top: 16, bottom: h - 20 };
    const { left, right, top, bottom } = this.area;
    x.at = (v) => left + ((v - x.low) / (x.high - x.low)) * (right - left);
    y.at = (v) => bottom - ((v - y.low) / (y.high - y.low)) * (bottom - top);
    this.axes(ctx, colours, about, x, y);
    if (this.spec.course) this.soFar(ctx, colours, x, y);
    this.dots = x.values.map((v, i) => ({ i, x: x.at(v), y: Number.isFinite(y.values[i]) || about.y.column !== "value" ? y.at(y.values[i]) : top - 6 }));
    this.dots = this.dots.filter((dot) => Number.isFinite(dot.x) && Number.isFinite(dot.y));
    const share = this.column("share");
    for (const dot of this.dots) this.dot(ctx, colours, dot, share[dot.i]);
    this.say();
  }

  /** Bounds, values and what is written at an axis; in logarithms where it is logarithmic. */
  scale({ column, log, names, ends }) {
    const put = (v) => (log ? Math.log10(v) : v), values = this.column(column).map(put);
    if (names) return { values, low: -0.5, high: names.length - 0.5, ticks: names.map((text, i) => [i, text]) };
    const { fresh } = this.held, more = fresh && column === "value" && this.spec.course ? [fresh.low, fresh.mean, fresh.high].map(put) : [];
    const [low, high] = ends ? ends.map(put) : range([...values, ...more], log), found = log ? logTicks(10 ** low, 10 ** high) : ticks(low, high, 4);
    const rim = ends ? 0.03 * (high - low) : 0; // a dot at an end is a whole one
    return { values, low: low - rim, high: high + rim, ticks: found.map((v) => [put(v), short(v)]) };
  }

  axes(ctx, colours, about, x, y) {
    const { left, right, top, bottom } = this.area;
    ctx.strokeStyle = colours.line;
    ctx.fillStyle = colours.soft;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.textAlign = "right";
    for (const [v, text] of y.ticks) {
      const at = Math.round(y.at(v)) + 0.5;
      ctx.moveTo(left, at);
      ctx.lineTo(right, at);
      ctx.fillText(clipped(ctx, text, left - 8), left - 6, at + 3.5);
    }
    ctx.stroke();
    ctx.textAlign = "center";
    let taken = -Infinity; // up to where numbers stand
    const name = ctx.measureText(about.x.label).width, room = (right - left) / Math.max(1, x.ticks.length) - 6;
    for (const [v, text] of x.ticks) {
      const fits = about.x.names ? clipped(ctx, text, room) : text, half = ctx.measureText(fits).width / 2, at = x.at(v);
      if (at - half < taken + 6 || (!about.x.names && at + half > right - name - 8)) continue;
      ctx.fillText(fits, at, bottom + 14);
      taken = at + half;
    }
    ctx.textAlign = "right";
    if (!about.x.names) ctx.fillText(about.x.label, right, bottom + 14);
    ctx.textAlign = "left";
    if (!this.spec.course) ctx.fillText(about.y.label, left + 4, top + 8);
  }

  /** The best so far, and what the best is worth with fresh seeds. */
  soFar(ctx, colours, x, y) {
    const best = this.column("so far"), { fresh } = this.held, put = (v) => (this.held.axes[this.spec.id].y.log ? Math.log10(v) : v);
    ctx.strokeStyle = colours.soft;
    ctx.lineWidth = 1.2;
    ctx.beginPath();
    let before = null;
    best.forEach((v, i) => {
      if (!Number.isFinite(v)) return;
      const [px, py] = [x.at(x.values[i]), y.at(put(v))];
      if (before === null) ctx.moveTo(px, py);
      else { ctx.lineTo(px, before); ctx.lineTo(px, py); }
      before = py;
    });
    ctx.stroke();
    if (!fresh) return;
    const at = x.at(fresh.at), [low, middle, high] = [fresh.low, fresh.mean, fresh.high].map((v) => y.at(put(v)));
    ctx.strokeStyle = ctx.fillStyle = colours.good;
    ctx.beginPath();
    ctx.moveTo(at, low);
    ctx.lineTo(at, high);
    ctx.stroke();
    ctx.fillRect(at - 3, middle - 3, 6, 6);
  }

  dot(ctx, colours, { i, x, y }, share) {
    const state = this.held.states[i];
    ctx.lineWidth = 1.3;
    ctx.beginPath();
    if (state === "complete") {
      if (i === this.held.best) star(ctx, x, y, 8); else ctx.arc(x, y, 4, 0, 7);
      ctx.fillStyle = ctx.strokeStyle = colours.gen;
      ctx.globalAlpha = Number.isFinite(share) ? 0.12 + 0.88 * share : 1;
      ctx.fill();
      ctx.globalAlpha = 1;
    } else if (state === "running" || state === "waiting") {
      ctx.arc(x, y, 4, 0, 7);
      ctx.strokeStyle = colours.soft;
      ctx.setLineDash([2, 2]);
    } else {
      for (const k of [-1, 1]) { ctx.moveTo(x - 3.5, y - 3.5 * k); ctx.lineTo(x + 3.5, y + 3.5 * k); }
      ctx.strokeStyle = colours.bad;
    }
    ctx.stroke();
    ctx.setLineDash([]);
    if (i !== this.held.chosen) return;
    ctx.beginPath();
    ctx.arc(x, y, 10, 0, 7);
    ctx.strokeStyle = colours.ink;
    ctx.lineWidth = 1.6;
    ctx.stroke();
  }

  nearest(px, py) {
    let found = null, least = 14;
    for (const { i, x, y } of this.dots ?? []) {
      const away = Math.hypot(x - px, y - py);
      if (away < least) [found, least] = [i, away];
    }
    return found;
  }

  told(px, py) { return (this.held.members_said ?? [])[this.nearest(px, py)] ?? ""; }
}

function star(ctx, x, y, size) {
  for (let k = 0; k < 10; k++) {
    const turn = (Math.PI * k) / 5, reach = k % 2 ? 0.42 * size : size;
    ctx[k ? "lineTo" : "moveTo"](x + reach * Math.sin(turn), y - reach * Math.cos(turn));
  }
  ctx.closePath();
}

// ---------------------------------------------------------------- parts that are text and controls

/** A part of HTML. `show` is called when a frame came. */
class Part {
  constructor(view, spec) { Object.assign(this, { view, spec, page: view.page }); }
  get held() { return this.page.held; }
  word(key) { return this.page.word(key); }
  show() {}
}

class Box extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element(spec.part === "section" ? "section" : "div", `gnb-${spec.part} ${spec.class ?? ""}`);
    if (spec.label) this.node.setAttribute("aria-label", this.word(spec.label));
    for (const child of spec.children ?? []) this.node.append(view.make(child).node);
  }
}

class Button extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("button", `gnb-button ${spec.class ?? ""}`, { type: "button", text: this.word(spec.act), title: this.word(`${spec.act}_tip`) });
    this.node.addEventListener("click", () => { view.page.tell("act", { act: spec.act }); });
  }

  show() {
    const { off = [], gone = [] } = this.held.acts ?? {}, said = this.held.words?.[`act_${this.spec.act}`];
    if (said) setText(this.node, said);
    this.node.disabled = off.includes(this.spec.act);
    this.node.classList.toggle("gnb-gone", gone.includes(this.spec.act));
  }
}

class Text extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("span", `gnb-text ${spec.class ?? ""}`);
    if (spec.live) this.node.setAttribute("aria-live", "polite");
    if (spec.text) this.node.textContent = this.word(spec.text);
  }

  show() {
    if (!this.spec.says) return;
    setText(this.node, this.held.words?.[this.spec.says] ?? "");
    const hue = this.held.hue?.[this.spec.says] ?? "";
    if (this.hue !== hue) this.node.className = `gnb-text ${this.spec.class ?? ""} ${hue ? `gnb-${hue}` : ""}`;
    this.hue = hue;
  }
}

/** One setting: its name, its kind, a slider and its value. */
class Row extends Part {
  constructor(view, spec) {
    super(view, spec);
    const about = view.spec.controls[spec.control];
    this.about = about;
    this.node = element("div", `gnb-row gnb-${about.hue ?? "plain"}`, { title: about.tip ?? "" });
    this.node.append(element("span", "gnb-label", { text: about.label }));
    if (about.options) this.addMenu(about);
    if (about.slider) this.addSlider(about);
    if (about.check) this.addCheck(about);
    if (about.text) this.addText(about);
    if (!about.options && spec.note) this.node.append(element("span", "gnb-soft gnb-note", { text: this.word(spec.note) }));
  }

  addMenu(about) {
    this.menu = element("select", "gnb-menu");
    this.menu.setAttribute("aria-label", about.label);
    for (const [value, text] of about.options) this.menu.append(element("option", "", { value, text }));
    this.menu.addEventListener("change", () => this.tell({ value: this.menu.value }));
    this.node.append(this.menu);
  }

  addSlider(about) {
    this.slider = element("input", "gnb-slider", { type: "range", min: 0, max: 1000, step: about.whole ? 1 : 2 });
    this.slider.setAttribute("aria-label", about.menu_label ?? about.label);
    this.value = element("input", "gnb-value", { type: "text", inputMode: "decimal", spellcheck: false });
    this.value.setAttribute("aria-label", `${about.label}: ${this.word("value")}`);
    this.slider.addEventListener("input", () => this.drag());
    this.slider.addEventListener("change", () => this.drop());
    this.value.addEventListener("change", () => {
      const came = Number(this.value.value.replace(",", ".").replace("\u2212", "-"));
      if (this.value.value.trim() === "" || Number.isNaN(came)) { this.value.value = this.shown; return; }
      this.tell({ number: came });
    });
    this.node.append(this.slider, this.value);
  }

  addCheck(about) {
    this.check = element("input", "gnb-check", { type: "checkbox" });
    this.check.setAttribute("aria-label", about.label);
    this.check.addEventListener("change", () => this.tell({ value: this.check.checked }));
    this.node.append(this.check);
  }

  addText(about) {
    this.text = element("input", "gnb-value gnb-wide", { type: "text", spellcheck: false });
    this.text.setAttribute("aria-label", about.label);
    this.text.addEventListener("change", () => this.tell({ value: this.text.value }));
    this.node.append(this.text);
  }

  limits() { return { ...this.about.slider, ...(this.now?.slider ?? {}) }; }

  drag() {
    this.isHeld = true;
    const number = fromPart(this.slider.value / 1000, this.limits());
    this.value.value = short(number);
    this.pending = number;
    this.fill();
    this.later ??= requestAnimationFrame(() => { this.later = undefined; if (this.isHeld) this.tell({ number: this.pending, dragging: true }); });
  }

  drop() {
    if (!this.isHeld) return;
    this.isHeld = false;
    this.tell({ number: this.pending, dragging: false });
    this.deaf = performance.now() + 400; // until its own echo has come
  }

  tell(more) { this.page.tell("set", { control: this.spec.control, ...more }); }

  fill() { this.slider.style.setProperty("--part", `${this.slider.value / 10}%`); }

  show() {
    const now = this.held.controls?.[this.spec.control];
    if (!now || now === this.now) return;
    this.now = now;
    this.node.classList.toggle("gnb-off", !!now.off);
    if (this.menu) {
      this.menu.value = now.value ?? "none";
      this.menu.disabled = !!now.off && now.off !== "number";
    }
    if (this.check) this.check.checked = !!now.value;
    if (this.text && document.activeElement !== this.text) this.text.value = now.value;
    if (!this.slider) return;
    this.slider.disabled = this.value.disabled = !!now.off;
    if (this.isHeld || performance.now() < (this.deaf ?? 0) && !now.off) return void setTimeout(() => { this.now = null; this.show(); }, 450);
    if (now.number !== null && now.number !== undefined) this.slider.value = Math.round(1000 * toPart(now.number, this.limits()));
    this.shown = now.off ? "\u2013" : now.said ?? short(now.number);
    if (document.activeElement !== this.value) this.value.value = this.shown;
    this.slider.setAttribute("aria-valuetext", this.shown);
    this.fill();
  }
}

/** Which layers are drawn; also the legend. */
class Chips extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("div", `gnb-chips ${spec.class ?? ""}`, { role: "group" });
    this.node.setAttribute("aria-label", this.word("layers"));
    this.chips = new Map(spec.layers.map((layer) => {
      const chip = element("button", `gnb-chip gnb-layer-${layer}`, { type: "button", text: this.word(`layer_${layer}`), title: this.word(`layer_${layer}_tip`) });
      chip.addEventListener("click", () => this.page.tell("layer", { layer, shown: chip.getAttribute("aria-pressed") !== "true" }));
      this.node.append(chip);
      return [layer, chip];
    }));
  }

  show() {
    const { layers = [], layers_off = [] } = this.held;
    for (const [layer, chip] of this.chips) {
      chip.setAttribute("aria-pressed", layers.includes(layer));
      chip.hidden = layers_off.includes(layer);
    }
  }
}

/** What lies over the charts until it is closed; the pictures go on moving beside it. */
class Sheet extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("div", `gnb-sheet ${spec.class ?? ""}`, { hidden: true, role: "dialog" });
    this.node.setAttribute("aria-label", this.word(spec.title));
    const head = element("div", "gnb-head");
    head.append(element("b", "", { text: this.word(spec.title) }));
    const close = element("button", "gnb-button gnb-close", { type: "button", text: "\u00d7", title: this.word("close_tip") });
    close.setAttribute("aria-label", this.word("close_tip"));
    close.addEventListener("click", () => this.toggle(false));
    head.append(close);
    this.node.append(head);
    const body = element("div", "gnb-sheet-body");
    for (const child of spec.children) body.append(view.make(child).node);
    this.node.append(body);
    this.node.addEventListener("keydown", (event) => { if (event.key === "Escape") { this.toggle(false); event.stopPropagation(); } });
    view.sheets.set(spec.id, this);
  }

  /** Open or not; what is measured only while somebody looks has to be told. */
  lay(open) {
    if (this.node.hidden === !open) return;
    this.node.hidden = !open;
    if (this.spec.asks) this.page.tell("sheet", { sheet: this.spec.id, open });
  }

  toggle(open = this.node.hidden) {
    for (const other of this.view.sheets.values()) if (other !== this) other.lay(false);
    this.lay(open);
    if (open) { this.from = document.activeElement; this.node.querySelector("button, select, input")?.focus({ preventScroll: true }); }
    else this.from?.focus?.({ preventScroll: true });
  }
}

class Opener extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("button", `gnb-button gnb-link ${spec.class ?? ""}`, { type: "button", text: this.word(spec.text ?? spec.opens), title: this.word(`${spec.opens}_tip`) });
    this.node.addEventListener("click", () => view.sheets.get(spec.opens)?.toggle());
  }
}

/** Rows of words and numbers. */
class Facts extends Part {
  constructor(view, spec) { super(view, spec); this.node = element("dl", "gnb-facts"); }

  show() {
    const rows = this.held[this.spec.says] ?? [];
    if (rows === this.rows) return;
    this.rows = rows;
    this.node.replaceChildren(...rows.flatMap(([name, value, hue]) => {
      const named = element("dt", hue ? `gnb-dot gnb-${hue}` : value === undefined ? "gnb-heading" : "", { text: name, title: name });
      return value === undefined ? [named] : [named, element("dd", "", { text: value, title: value })];
    }));
  }
}

/** Numbers under heads: a row with its player's colour, and the rows that belong to it below, a little further in. */
class Table extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("table", "gnb-table");
    this.head = element("tr");
    this.body = element("tbody");
    const top = element("thead");
    top.append(this.head);
    this.node.append(top, this.body);
  }

  show() {
    const now = this.held[this.spec.says];
    if (!now || now === this.now) return;
    this.now = now;
    this.head.replaceChildren(...now.head.map((text, i) => element("th", "", { text, title: now.tips[i], scope: "col" })));
    this.body.replaceChildren(...now.rows.map(([hue, isPart, cells]) => {
      const row = element("tr", isPart ? "gnb-of-one" : ""), [name, ...numbers] = cells, first = element("th", "", { scope: "row" });
      first.append(element("span", !isPart && hue ? `gnb-dot gnb-${hue}` : "", { text: name }));
      row.append(first, ...numbers.map((text) => element("td", "", { text })));
      return row;
    }));
  }
}

/** Data that can be chosen, each as a small picture of it. */
class Choices extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("div", "gnb-choices", { role: "group" });
    this.node.setAttribute("aria-label", this.word(spec.label));
    this.buttons = new Map(spec.options.map(({ value, points }) => {
      const button = element("button", "gnb-choice", { type: "button", title: this.word(`${spec.control}_${value}`) });
      button.setAttribute("aria-label", this.word(`${spec.control}_${value}`));
      button.append(points ? thumbnail(points) : element("span", "gnb-choice-name", { text: this.word(`${spec.control}_${value}`) }));
      button.addEventListener("click", () => this.page.tell("set", { control: spec.control, value }));
      this.node.append(button);
      return [value, button];
    }));
  }

  show() {
    const now = this.held.controls?.[this.spec.control]?.value;
    for (const [value, button] of this.buttons) button.setAttribute("aria-pressed", value === now);
  }
}

function thumbnail(points) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 48 48");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", points.map(([x, y]) => `M${(24 + 20 * x).toFixed(1)} ${(24 - 20 * y).toFixed(1)}h.01`).join(""));
  path.setAttribute("class", "gnb-thumb");
  svg.append(path);
  return svg;
}

/** How data flow through the networks and back: each part with its numbers, the one that computes lit up. */
class Flow extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("ol", "gnb-flow");
    this.node.setAttribute("aria-label", this.word("overview"));
    this.boxes = spec.boxes.map((id) => {
      const box = element("li", `gnb-flow-box gnb-flow-${id}`, { tabIndex: 0, title: this.word(`flow_${id}_tip`) });
      const lines = ["a", "b", "c", "d"].map((k) => element("span", `gnb-flow-${k}`));
      lines[0].textContent = this.word(`flow_${id}`);
      box.append(...lines);
      this.node.append(box);
      if (id === "generator") for (const event of ["pointerenter", "focus"]) box.addEventListener(event, () => this.page.replay());
      return { id, box, lines };
    });
    this.back = element("li", "gnb-flow-back", { role: "presentation" });
    this.node.append(this.back);
  }

  show() {
    const said = this.held.flow ?? {}, lit = this.held.lit ?? "";
    for (const { id, box, lines } of this.boxes) {
      lines.slice(1).forEach((line, i) => setText(line, said[id]?.[i] ?? ""));
      box.classList.toggle("gnb-lit", lit.split(" ").includes(id));
    }
    this.node.classList.toggle("gnb-of-gen", lit.includes("of_gen"));
    this.back.className = `gnb-flow-back ${lit.includes("back_gen") ? "gnb-gen" : ""} ${lit.includes("back_disc") ? "gnb-disc" : ""}`;
  }
}

/** The rounds that were kept, on a slider, with what was done on the way as ticks over it. A page without a kernel knows
    these rounds, and the slider counts them; a kernel knows them itself, and the slider says a round up to the newest. */
class Time extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("div", `gnb-time ${spec.class ?? ""}`);
    this.ticks = element("div", "gnb-ticks");
    this.slider = element("input", "gnb-slider", { type: "range", min: 0, step: 1, title: this.word("time_tip") });
    this.slider.setAttribute("aria-label", this.word("round"));
    this.slider.addEventListener("input", () => this.move(+this.slider.value));
    this.slider.addEventListener("keydown", (event) => this.press(event));
    this.node.append(this.ticks, this.slider);
    [this.asked, this.nth] = [-Infinity, 0];
  }

  get isKept() { return !!this.held.time?.rounds; }

  move(to) {
    if (this.isKept) return this.page.tell("seek", { at: to });
    this.paint(to);
    this.seek({ round: to >= this.held.newest ? null : to });
  }

  /** From one kept round to the next, however far they are apart. */
  press(event) {
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!by || this.isKept) return;
    event.preventDefault();
    this.seek({ by });
  }

  /** One question at a time: of many places that the hand passes while the kernel answers, the newest counts. */
  seek(where) {
    this.wanted = where;
    if (this.pending && performance.now() - this.asked < 500) return;
    [this.pending, this.asked, this.wanted] = [`${this.page.id}-${++this.nth}`, performance.now(), null];
    this.page.tell("seek", { ...where, nth: this.pending });
  }

  lay(done, place) {
    this.ticks.replaceChildren(...done.map(({ round, text, hue }) => {
      const tick = element("button", `gnb-tick gnb-${hue}`, { type: "button", title: text });
      tick.setAttribute("aria-label", text);
      tick.style.left = `${100 * place(round)}%`;
      tick.addEventListener("click", () => (this.isKept ? this.page.tell("seek", { round }) : this.seek({ round })));
      return tick;
    }));
  }

  show() {
    const { time, at = 0, words, newest = 0, round = 0, sought } = this.held;
    if (!time) return;
    this.slider.setAttribute("aria-valuetext", words?.round ?? "");
    this.hush(!!this.held.is_deaf);
    if (this.isKept) {
      if (time !== this.time) this.lay((this.time = time).ticks, (there) => placeOf(there, time.rounds));
      this.slider.max = Math.max(time.rounds.length - 1, 0);
      return this.paint(at);
    }
    if (time !== this.time || Math.abs(newest - this.laidTo) > 0.004 * newest) {
      [this.time, this.laidTo] = [time, newest];
      this.lay(time.ticks.filter((tick) => tick.round <= newest), (there) => there / Math.max(newest, 1));
    }
    if (sought === this.pending) {
      this.pending = null;
      if (this.wanted) this.seek(this.wanted);
    }
    this.slider.max = Math.max(newest, 1);
    this.node.classList.toggle("gnb-past", !!this.held.is_past);
    if (!this.slider.matches(":active")) this.paint(round);
  }

  /** While the kernel hears nothing, as in a cell that trains, nothing is asked that it would answer much later. */
  hush(isDeaf) {
    if (this.slider.disabled === isDeaf) return;
    this.slider.disabled = isDeaf;
    this.slider.title = this.word(isDeaf ? "time_later" : "time_tip");
    if (isDeaf) this.pending = this.wanted = null;
  }

  paint(value) {
    this.slider.value = value;
    this.slider.style.setProperty("--part", `${(100 * value) / Math.max(+this.slider.max, 1)}%`);
  }
}

/** A text that was copied, to be seen, and to be copied by hand where the browser refuses. */
class Handed extends Part {
  constructor(view, spec) {
    super(view, spec);
    this.node = element("div", "gnb-handed", { hidden: true });
    this.said = element("p", "gnb-soft", { role: "status" });
    this.text = element("textarea", "gnb-handed-text", { readOnly: true, spellcheck: false });
    this.text.setAttribute("aria-label", this.word("handed"));
    this.node.append(this.said, this.text);
    view.handed = this;
  }

  offer(text, isDone) {
    this.node.hidden = false;
    this.said.textContent = this.word(isDone ? "copied" : "copy_refused");
    this.text.value = text;
    if (isDone) return;
    this.text.focus({ preventScroll: true });
    this.text.select();
  }
}

const kinds = {
  bar: Box, section: Box, grid: Box, columns: Box, button: Button, text: Text, row: Row, chips: Chips, sheet: Sheet,
  opener: Opener, facts: Facts, choices: Choices, flow: Flow, plane: Plane, pictures: Pictures, chart: Chart,
  histogram: Histogram, multiples: Multiples, time: Time, handed: Handed, phase: Phase, spectrum: Spectrum,
  tiles: Tiles, spot: Spot, table: Table, trials: Trials,
};

// ---------------------------------------------------------------- one view

class View {
  constructor(page, el) {
    Object.assign(this, { page, sheets: new Map(), parts: [], isSeen: false });
    this.spec = page.model.get("spec");
    this.root = element("div", `gnb ${this.spec.class ?? ""}`, { role: "region" });
    this.root.setAttribute("aria-label", page.word(this.spec.label ?? "panel"));
    this.root.append(element("style", "", { text: this.spec.palette }));
    this.root.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation(); // the notebook's shortcuts stay out
    });
    this.root.gnb = page; // for who looks with the browser's tools
    el.append(this.root);
    for (const part of this.spec.parts) this.root.append(this.make(part).node);
    this.error = element("div", "gnb-error", { hidden: true, role: "alert" });
    this.root.append(this.error);
    this.root.dataset.frame = this.root.dataset.round = 0;
    this.follow();
  }

  make(spec) {
    const part = new kinds[spec.part](this, spec);
    this.parts.push(part);
    return part;
  }

  /** The theme, and whether a person can see it. */
  follow() {
    const read = () => { this.colours = coloursOf(this.root); this.page.draw(); };
    this.themes = new MutationObserver(read);
    for (const node of [document.body, document.documentElement]) this.themes.observe(node, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-theme", "class"] });
    this.prefers = matchMedia("(prefers-color-scheme: dark)");
    this.prefers.addEventListener("change", read);
    this.reread = read;
    this.eyes = new IntersectionObserver(([{ isIntersecting }]) => { this.isSeen = isIntersecting; read(); this.page.wake(); });
    this.eyes.observe(this.root);
    read();
  }

  show(now) {
    try {
      for (const part of this.parts) part instanceof Drawn ? this.isSeen && part.draw(now) : part.show();
      this.root.dataset.frame = this.page.drawn;
      this.root.dataset.round = this.page.held.round ?? 0;
      this.root.dataset.doing = this.page.held.doing ?? "";
      if (this.page.held.seq >= 0) this.error.hidden = true;
    } catch (error) { this.complain(error); }
  }

  complain(error) {
    if (this.page.held.seq >= 0 && typeof error === "string") return;
    this.error.hidden = false;
    this.error.textContent = typeof error === "string" ? error : `${this.page.word("cannot_draw")}: ${error?.message ?? error}`;
    if (typeof error !== "string" && !this.told) { this.told = true; this.page.tell("broken", { error: String(error?.stack ?? error).slice(0, 600) }); }
  }

  close() {
    this.eyes.disconnect();
    this.themes.disconnect();
    this.prefers.removeEventListener("change", this.reread);
    for (const part of this.parts) part.canvas?.close();
    this.page.views.delete(this);
    this.root.replaceChildren(); // the notebook may hold on to the element for good: let it be an empty one
    this.root.gnb = null;
    this.parts = [];
    this.sheets.clear();
    this.page.views.size ? this.page.wake() : this.page.leave();
  }
}

function pageOf(model) {
  const key = model.get("key");
  if (!pages.has(key)) pages.set(key, new Page(model));
  return pages.get(key);
}

export default {
  initialize({ model }) {
    const page = pageOf(model);
    return () => {
      page.close();
      pages.delete(model.get("key"));
      // the notebook holds on to a model that was closed, and a model to what it had before its last change
      for (const [name, nothing] of [["spec", {}], ["source", ""], ["styles", ""], ["key", ""]]) model.set(name, nothing);
    };
  },

  render({ model, el }) {
    const page = pageOf(model), view = new View(page, el);
    page.views.add(view);
    page.draw();
    return () => view.close();
  },
};

// ---------------------------------------------------------------- a run that was kept: a page without a kernel

/** What was deflated and written in letters, as bytes. */
async function inflated(letters) {
  const packed = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Has the face of a widget's model, and answers from what was kept: a first message, and what each round changes of it. */
class Kept {
  constructor({ message, buffers }, rounds) {
    Object.assign(this, { first: message, buffers, rounds, spec: message.spec, key: "kept", at: rounds.length - 1, seq: 0, doing: "paused" });
    this.layers = message.plain.layers ?? [];
    this.pace = Math.min(400, Math.max(40, 12000 / rounds.length)); // ms
  }

  get(name) { return this[name]; }
  on(_, receive) { this.receive = receive; }

  send({ kind, act, at, round, layer, shown }) {
    if (kind === "hello") this.show();
    else if (kind === "seek") this.show(at ?? this.nearest(round), "paused");
    else if (kind === "layer") { this.layers = [...this.layers.filter((name) => name !== layer), ...(shown ? [layer] : [])]; this.show(); }
    else if (act === "play") this.play();
    else if (act === "pause") this.show(this.at, "paused");
    else if (act === "copy_code") this.receive({ kind: "copy", act, text: this.first.code });
  }

  nearest(round) {
    const next = this.first.plain.time.rounds.findIndex((kept) => kept >= round);
    return next < 0 ? this.rounds.length - 1 : next;
  }

  async show(at = this.at, doing = this.doing) {
    [this.at, this.doing] = [at, doing];
    const { message, buffers } = unpacked(await inflated(this.rounds[at]));
    if (at !== this.at) return; // somebody has moved on
    const gone = [this.doing === "playing" ? "play" : "pause"];
    const plain = { ...this.first.plain, ...message.plain, layers: this.layers, doing: this.doing, at, acts: { gone } };
    const arrays = [...this.first.arrays, ...message.arrays];
    this.receive({ kind: "frame", seq: this.seq++, whole: true, plain, arrays }, [...this.buffers, ...buffers]);
  }

  async play() {
    if (this.doing === "playing") return;
    await this.show(this.at < this.rounds.length - 1 ? this.at : 0, "playing");
    const last = this.rounds.length - 1;
    while (this.doing === "playing" && this.at < last) {
      await new Promise((go) => setTimeout(go, this.pace));
      if (this.doing === "playing") await this.show(this.at + 1, this.at + 1 < last ? "playing" : "paused");
    }
  }
}

/** Show in `el` what was kept: [the first message, one for each round], each deflated and written in letters. */
export async function showKept(el, [first, ...rounds]) {
  const page = new Page(new Kept(unpacked(await inflated(first)), rounds));
  page.views.add(new View(page, el));
  page.draw();
}
