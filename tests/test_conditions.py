"""Runs that are told a condition: every way of training in combinations, where they are used, and what is refused.

The combinations cover all pairs of choices; `make pairs` (STRENGTH=3) covers all triples."""
import io
import itertools
import json
import os

import numpy as np
import onnxruntime
import pytest
import torch

from gan_nb import Run
from gan_nb.cli import main
from gan_nb.conditions import Arrays, Classes
from gan_nb.core import stream
from gan_nb.data import Data, load
from gan_nb.doctor import diagnose
from gan_nb.evaluation import evaluate
from gan_nb.export import load_generator
from gan_nb.lab import Lab
from gan_nb.losses import losses
from gan_nb.models import draw_latents
from gan_nb.population import Population
from gan_nb.recipes import methods
from gan_nb.rules import rules
from gan_nb.sources import spelt
from gan_nb.transforms import clips, normalizers
from helpers import can_compile, covering, same_run

strength = int(os.environ.get("STRENGTH", 2))
rng = np.random.default_rng(0)
bytes_of = lambda *shape: rng.integers(0, 256, shape, dtype="uint8")
words = ["".join(word) for word in rng.choice(list("abcd"), (40, 5))]
points, numbers = rng.normal(size=(60, 2)), rng.normal(size=(60, 3)) * 50 + 1000
kinds = {
    "class of points": dict(data="ring", classes=True, model="mlp", hidden=(8,)),
    "class of pictures": dict(data=(bytes_of(40, 1, 8, 8), np.arange(40) % 3), classes=True, model="conv", width=2),
    "numbers of points": dict(data=(points, numbers), model="mlp", hidden=(8,)),
    "numbers of pictures": dict(data=(bytes_of(60, 1, 8, 8), numbers), model="mlp", hidden=(8,)),
    "picture of pictures": dict(data=(bytes_of(40, 3, 8, 8), bytes_of(40, 1, 8, 8)), model="conv", width=2),
    "picture of pictures, flat": dict(data=(bytes_of(40, 1, 8, 8), bytes_of(40, 3, 8, 8)), model="mlp", hidden=(8,)),
    "class of pictures, residual": dict(data=(bytes_of(40, 3, 8, 8), np.arange(40) % 3), classes=True, model="residual", width=2),
    "picture of pictures, U-Net": dict(data=(bytes_of(40, 3, 8, 8), bytes_of(40, 1, 8, 8)), model="unet", width=2),
    "film of films": dict(data=Data("films", (1, 4, 8, 8), train=bytes_of(40, 1, 4, 8, 8), conditions=bytes_of(40, 1, 2, 8, 8)), model="unet", width=2),
    "class of words": dict(data=Data("words", (5, 6), train=spelt(words, "abcd ", 6), labels=torch.arange(40) % 3, alphabet="abcd "), classes=True, model="text", width=4)}
small = dict(z_dim=3, batch_size=12, rounds=20, threads=1, device="cpu", lr=.003)

factors = {
    "kind": kinds,
    "method": {**{m: dict(method=m) for m in methods}, "lookahead": dict(lookahead=2)},
    "rule": {r: dict(rule=r) for r in rules},
    "clip": {"no clip": {}, **{c: dict(clip=(c, .9)) for c in clips}},
    "normaliser": {"no normaliser": {}, **{n: dict(normalize=(n, 1.)) for n in normalizers}},
    "loss": {name: dict(loss=name) for name in losses},
    "penalty": {"no penalty": {}, "r1": dict(r1=.1), "r1 and r2": dict(r1=.1, r2=.2), "wgan_gp": dict(wgan_gp=1.), "dragan": dict(dragan=1.)},
    "network": {"plain": {}, "spectral": dict(spectral=True), "gn": dict(gn=True), "pack": dict(pack=3), "gn of a pack": dict(gn=True, pack=2)},
    "more": {"nothing more": {}, "noise": dict(noise=.1), "average": dict(halflife=5.), "bf16": dict(precision="bf16"), "uniform": dict(latent="uniform")}}


rows = covering(factors, strength)


def settings(row, without=()):
    given = {name: value for factor, choice in row.items() if factor not in without for name, value in factors[factor][choice].items()}
    return {**small, **given}


def unconditional(row):
    "The same recipe without what tells the networks anything."
    kind = {name: value for name, value in kinds[row["kind"]].items() if name != "classes"}
    if isinstance(kind["data"], tuple): kind["data"] = kind["data"][0]
    return {**settings(row, without=("kind",)), **kind}


def refusal(**settings):
    try: Run("ring", **settings).step()
    except ValueError as error: return str(error)


@pytest.mark.parametrize("row", rows, ids=lambda row: "-".join(row.values()).replace(" ", "_"))
def test_every_combination_goes_on_exactly(row, tmp_path):
    "What a recipe can do without a condition it can do with one, and a saved run goes on with the same bits."
    said = refusal(**settings(row))
    if said:
        assert refusal(**unconditional(row)), f"refused with a condition alone: {said}"
        return
    run = Run("ring", **settings(row))
    for _ in run.rounds(2): pass
    run.save(tmp_path/"run")
    again = Run.load(tmp_path/"run", data=None if isinstance(run.recipe.data, str) else kinds[row["kind"]]["data"])
    for one in (run, again):
        for _ in one.rounds(2): pass
    assert same_run(run, again)
    assert torch.equal(run.samples(4), again.samples(4)) and run.samples(4).isfinite().all()


def test_the_covering_covers():
    want = {frozenset(zip(some, values)) for some in itertools.combinations(factors, strength)
        for values in itertools.product(*(factors[n] for n in some))}
    assert all(any(part <= set(row.items()) for row in rows) for part in want) and len(rows) < 400 * strength**2


ways = {"alternating": dict(rule="sgd", loss="r3", r1=.1, normalize=("orthogonal", 1.)),
        "extragradient": dict(rule="adam", method="extragradient", clip=("global_norm", .5), pack=2)}
# each takes twenty seconds: here the ways take turns with the kinds, in `make pairs` all meet
played = [(kind, way) for i, kind in enumerate(kinds) for j, way in enumerate(ways) if strength > 2 or i < 2 and i == j]


@pytest.mark.parametrize("kind, more", [(kind, ways[way]) for kind, way in played], ids=[f"{way}-{kind}" for kind, way in played])
def test_populations_play_what_runs_play(kind, more):
    both = Population("ring", seeds=2, grid={"lr": [.001, .003]}, **{**small, **kinds[kind], **more, "lr": .1})
    both.fit(3)
    for i, about in enumerate(both.members):
        run = Run("ring", seed=about["seed"], **{**small, **kinds[kind], **more, "lr": about["lr"]})
        for _ in run.rounds(3): pass
        torch.testing.assert_close(both.run(i).samples(4), run.samples(4), rtol=1e-3, atol=1e-4 * float(run.samples(4).abs().max()))
    assert both.all_samples(5).shape == both.all_samples(5, together=True).shape == (4, 5, *both.data.shape)


@pytest.mark.skipif(strength < 3 or not can_compile("cpu"), reason="takes half a minute; `make pairs`, and needs a C++ compiler")
@pytest.mark.parametrize("kind", ["class of points", "picture of pictures"])
def test_compiled_rounds_are_the_same_rounds(kind):
    eager, fast = (Run("ring", compile=compile, **{**small, **kinds[kind], "loss": "r3", "r1": .1}) for compile in (False, True))
    eager.fit(4, progress=False)
    fast.fit(4, progress=False)
    assert fast.history.was_compiled
    torch.testing.assert_close(fast.samples(8), eager.samples(8), rtol=1e-3, atol=1e-3 * float(eager.samples(8).abs().max()))


@pytest.fixture(scope="module")
def told(): return Run("ring", seed=1, loss="r3", r1=.02, r2=.02, **{**small, **kinds["class of points"], "hidden": (32, 32), "lr": .01,
    "normalize": ("orthogonal", 1.), "batch_size": 128, "rounds": 1500}).fit(1500, progress=False)


def test_the_class_that_is_asked_for_comes(told):
    "After 1,500 rounds on the ring nearly every sample is at the mode of its class; without the condition an eighth would be."
    centers = load("ring").centers
    for k in range(8):
        near = torch.cdist(told.samples(100, condition=k), centers).argmin(1)
        assert (near == k).float().mean() > .8, k
    rows = evaluate(told, 2000, n_boot=0)
    assert rows.scores["class as asked"] > .8 and len(rows.by_class) == 8 and rows.floors["class as asked"] > .99
    assert all(row.as_asked > .5 for row in rows.by_class) and "as asked" in repr(rows)
    json.dumps(rows.plain())


def test_a_condition_is_asked_for_in_many_words(told):
    one = told.samples(3, condition=5)
    for same_thing in ([5, 5, 5], np.full(3, 5), torch.tensor([5, 5, 5]), "5", iter([5, 5, 5])):
        assert torch.equal(told.samples(3, condition=same_thing), one)
    assert not torch.equal(told.samples(3, condition=4), one)
    for bad, says in ((8, "0 to 7"), (-1, "0 to 7"), ([1, 2], "2 came for 3"), ("five", "five"), (1.5, "1.5"), ([[1], [2], [3]], "came"), (True, "True")):
        with pytest.raises(ValueError, match=says) as error: told.samples(3, condition=bad)
        assert "\n" not in str(error.value) and len(str(error.value)) < 200
    plain = Run("ring", **{**small, "hidden": (8,)})
    with pytest.raises(ValueError, match="told none"): plain.samples(3, condition=1)


def test_what_data_do_not_have_is_one_clear_line():
    for wrong, says in ((dict(data=points, classes=True), "classes: True came, and own points have none"),
            (dict(data="spiral", classes=True), "spiral"), (dict(data=(points, numbers), classes=True), "come with an array 3"),
            (dict(data="ring", l1=1.), "l1: 1 came"), (dict(data=(points, numbers[:9])), "9 came for 60"),
            (dict(data=(bytes_of(8, 8, 8), bytes_of(8, 4, 4)), model="conv", width=2), "use 'mlp'")):
        with pytest.raises((ValueError, TypeError), match=says) as error: Run("ring", **{**small, "hidden": (8,), **wrong})
        assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_without_the_data_conditions_are_asked_for(tmp_path):
    run = Run("ring", **{**small, **kinds["numbers of points"]}).fit(3, progress=False)
    run.save(tmp_path/"run")
    alone = Run.load(tmp_path/"run")
    assert torch.equal(alone.samples(4, condition=numbers[:4]), run.samples(4, condition=numbers[:4]))
    with pytest.raises(ValueError, match="give the data again"): alone.samples(4)
    by_class = Run("adam", **{**small, **kinds["class of pictures"]}).fit(2, progress=False)
    by_class.save(tmp_path/"classes")
    alone = Run.load(tmp_path/"classes")
    assert alone.game.condition == Classes(3, ("0", "1", "2"))
    assert torch.equal(alone.samples(6), by_class.samples(6, condition=[0, 0, 1, 1, 2, 2])) # all alike, in order


def test_conditions_in_other_units_are_the_same_conditions():
    "Numbers beside points are standardised as points are: scaled and shifted ones tell the networks the same."
    here = dict(small, hidden=(8,), rounds=10)
    a = Run("ring", data=(points, numbers), **here).fit(5, progress=False)
    b = Run("ring", data=(points, numbers * 300 - 1e5), **here).fit(5, progress=False)
    torch.testing.assert_close(a.samples(5, condition=numbers[:5]), b.samples(5, condition=numbers[:5] * 300 - 1e5), rtol=1e-2, atol=1e-2)


def test_the_l1_term_pulls_towards_the_real_one():
    "Of a generator that is only pulled, the distance to the real pictures falls; it is part of its loss alone."
    kind = {**small, **kinds["picture of pictures, flat"], "batch_size": 40, "lr": .002, "rule": "adam", "momentum": .5, "hidden": (64,)}
    run = Run("adam", l1=100., **kind)
    real, given = run.real_pairs(40, seed=3)
    far = lambda: (run.samples(40, condition=given) - real).abs().mean()
    before = far()
    run.fit(300, progress=False)
    assert far() < .8 * before
    with pytest.raises(ValueError, match="l1: 1 came"): Run("ring", **{**small, "hidden": (8,)}).edit(l1=1.)
    batch = run.game.draw(stream(1), ("gen", "disc"))
    other = run.game.changed(l1=0.)
    of = lambda game, player: game.loss(player, run.state.params, run.state.buffers, batch)[0]
    assert torch.equal(of(run.game, "disc"), of(other, "disc"))
    fake = run.game.call("gen", run.state.params["gen"], run.state.buffers["gen"], batch["z"], batch["condition"])[0]
    torch.testing.assert_close(of(run.game, "gen") - of(other, "gen"), 100 * (fake - batch["real"]).abs().mean())


def test_real_and_generated_samples_share_their_conditions():
    "The condition of a batch is that of its real samples, also where only the generator moves."
    run = Run("ring", **{**small, **kinds["class of points"]})
    batch = run.game.draw(stream(3), ("gen", "disc"))
    assert torch.equal(torch.cdist(batch["real"], run.game.data.centers).argmin(1), batch["condition"])
    alone = run.game.draw(stream(3), ("gen",))
    assert "real" not in alone and torch.equal(alone["condition"], batch["condition"])


def test_panels_doctor_and_metrics_take_them(told):
    for kind in kinds:
        run = Run("ring", **{**small, **kinds[kind]}).fit(5, progress=False)
        lab = Lab(run)
        frame = lab.frame()
        lab.step(); lab.wait(); lab.figure(); lab.close()
        assert diagnose(run)[0].name
        if kind == "class of pictures": assert (frame.pictures.shape, frame.per_row) == ((24, 8, 8, 1), 8) # a row a class
        if kind == "numbers of pictures":
            assert (frame.pictures.shape, frame.per_row) == ((16, 8, 8, 1), 0)
            assert run.game.conditions(60, numbers).std() < 1.1 # as the networks see them
        if kind == "picture of pictures":
            assert (frame.pictures.shape, frame.per_row) == ((48, 8, 8, 3), 6) # what came, what is made of it, the real one
            real, given = run.real_pairs(16)
            assert np.abs(frame.pictures[2].astype(int) - ((real[0] + 1) * 127.5).movedim(0, -1).round().numpy()).max() <= 1
            assert np.abs(frame.pictures[0][..., 0].astype(int) - ((given[0, 0] + 1) * 127.5).round().numpy()).max() <= 1


def test_the_command_line_asks_for_classes(told, tmp_path, capsys):
    told.save(tmp_path/"run")
    for said, given in (("3", [3] * 8), ("all", range(8)), ("7,6,5,4,3,2,1,0", range(7, -1, -1))):
        assert main(["sample", str(tmp_path/"run"), "--n", "8", "--out", str(tmp_path/"x.npy"), "--condition", said]) == 0
        assert np.array_equal(np.load(tmp_path/"x.npy"), told.samples(8, condition=given).numpy())
    assert main(["sample", str(tmp_path/"run"), "--n", "8", "--out", str(tmp_path/"x.png"), "--condition", "3"]) == 0
    assert main(["sample", str(tmp_path/"run"), "--n", "8", "--out", str(tmp_path/"x.npy"), "--condition", "9"]) == 2
    assert "allowed are the classes 0 to 7" in capsys.readouterr().err
    run = Run("ring", **{**small, **kinds["numbers of points"]}).fit(3, progress=False)
    run.save(tmp_path/"numbers")
    np.save(tmp_path/"c.npy", numbers[:5])
    assert main(["sample", str(tmp_path/"numbers"), "--n", "5", "--out", str(tmp_path/"x.npy"), "--condition", str(tmp_path/"c.npy")]) == 0
    assert np.array_equal(np.load(tmp_path/"x.npy"), run.samples(5, condition=numbers[:5]).numpy())


@pytest.mark.parametrize("kind", kinds)
def test_an_export_takes_the_condition(kind, tmp_path):
    run = Run("ring", **{**small, **kinds[kind]}).fit(3, progress=False)
    weights = load_generator(run.export(tmp_path/"a.safetensors", measure=False))
    program = torch.export.load(run.export(tmp_path/"a.pt2", measure=False)).module()
    session = onnxruntime.InferenceSession(run.export(tmp_path/"a.onnx", measure=False), providers=["CPUExecutionProvider"])
    assert "- in: `condition`" in (tmp_path/"a.md").read_text()
    for n in (1, 2, 7):
        z = draw_latents(run.game.pair, n, stream(3, 1 << 40))
        c = run.real_pairs(n, seed=5)[1] if isinstance(run.game.condition, Arrays) else torch.arange(n) % 3
        x = run.samples(n, seed=3, condition=c)
        assert torch.equal(weights(z, c), x)
        torch.testing.assert_close(program(z, c), x, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(session.run(None, {"z": z.numpy(), "condition": c.numpy()})[0], x.numpy(), rtol=1e-4, atol=1e-4 * float(x.abs().max()))


def test_archives_bring_conditions(tmp_path):
    x, y = bytes_of(6, 1, 8, 8), bytes_of(6, 3, 8, 8)
    np.savez(tmp_path/"pairs.npz", x=x, y=y)
    data = load(tmp_path/"pairs.npz")
    assert data.condition == Arrays((3, 8, 8)) and np.array_equal(data.conditions.numpy(), y)
    held = io.BytesIO()
    np.savez(held, x=x, y=y[:5])
    (tmp_path/"odd.npz").write_bytes(held.getvalue())
    with pytest.raises(ValueError, match="odd.npz: conditions: 5 came for 6 samples"): load(tmp_path/"odd.npz")
