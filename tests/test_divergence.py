"What is not finite is seen at once or at the next look, named, saved, skipped or rolled back."
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import seams
from gan_nb import Run
from gan_nb.cli import main
from gan_nb.core import Diverged
from gan_nb.doctor import diagnose
from gan_nb.gan import players
from helpers import BASE, csv_of, params, same_run, tiny


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_seen_at_once(tmp_path, spoil, value):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    spoil(run, 70, "disc", "2.bias", value)
    with pytest.raises(Diverged, match=r"round 70: disc/2.bias is not finite \(in the discriminator, first in 2.bias\)") as raised:
        run.fit(100, progress=False)
    error = raised.value
    assert (error.player, error.layer, error.round) == ("disc", "2.bias", 70)
    assert [len(error.norms[p]) for p in players] == [50, 50]
    assert error.norms["gen"][:-1] == run.records["grad_norm_gen"][-49:].tolist()
    assert run.round == 70 == len(run.records) and all(v.isfinite().all() for v in params(run).values())
    note = json.loads((tmp_path/"a/diverged.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (note["player"], note["layer"], note["round"], len(note["norms"]["gen"])) == ("disc", "2.bias", 70, 50)
    again = Run.load(tmp_path/"a", device="cpu").fit(5, progress=False)
    assert same_run(again, Run("ring", **tiny).fit(75, progress=False)), "it has passed that round"
    assert not (tmp_path/"a/diverged.json").exists(), "it has passed that round"


def test_a_loss_that_is_not_finite(tmp_path):
    run = Run("ring", rule="sgd", lr=1e38, **tiny)
    with pytest.raises(Diverged) as raised: run.fit(100, progress=False)
    assert raised.value.player in players and raised.value.layer and raised.value.seen.keys() >= {"loss_gen"}


def test_large_finite_weights_are_no_divergence(spoil):
    "their squares overflow, they themselves do not"
    run = Run("ring", **tiny)
    spoil(run, 1, "gen", "0.bias", 3e20)
    for _ in range(2): run.step()
    assert run.round == 2 and run.state.params["gen"]["0.bias"].max() > 1e20


def test_the_doctor_reads_where_it_diverged(tmp_path, spoil):
    "in the process itself and in the next one, though nothing is wrong with the round that it would play now"
    run = Run("ring", folder=tmp_path/"a", **tiny)
    spoil(run, 70, "disc", "2.bias")
    with pytest.raises(Diverged): run.fit(100, progress=False)
    spoil.on = False
    for at in (run, Run.load(tmp_path/"a", device="cpu")):
        found, = diagnose(at)
        assert found.name == "diverged"
        assert found.evidence["divergence"] == {"player": "disc", "layer": "2.bias", "round": 70}
        assert found.evidence["next_round_finite"]
        assert found.why.startswith("Round 70 was not finite, in the discriminator, first in 2.bias. ")
    other = Run.load(tmp_path/"a", device="cpu")
    other.edit(lr=1e-4)
    assert diagnose(other, ahead=0)[0].name != "diverged", "it was changed since"
    at.fit(5, progress=False)
    assert at.divergence is None and diagnose(at, ahead=0)[0].name != "diverged", "it has passed that round"


def test_skipping_goes_on_and_then_gives_up():
    run = Run(BASE.replace(skip_not_finite=True))
    run.step()
    good = run.state
    loss = run.game.loss
    run.game.loss = lambda *args: (lambda value, *rest: (value * float("nan"), *rest))(*loss(*args))
    for _ in range(3): run.step()
    assert run.skipped == {"gen": 3, "disc": 3}
    for p, tree in good.params.items():
        for name, value in tree.items(): assert run.state.params[p][name].equal(value)
    with pytest.raises(Diverged, match="in a row"):
        for _ in range(100): run.step()
    assert run.skipped["gen"] < 50
    run.game.loss = loss
    run.step()
    assert not run.state.params["gen"]["0.weight"].equal(good.params["gen"]["0.weight"])


# Rolling back

def test_rolling_back(tmp_path):
    run = Run("ring", rule="sgd", lr=2., momentum=0., hidden=(32, 32), batch_size=64, device="cpu",
        on_divergence="roll back", folder=tmp_path/"a").fit(200, progress=False)
    back = run.rollbacks
    assert 1 <= len(back) <= 3 and run.round == 200 and run.recipe.lr_gen == 2. / 2**len(back)
    assert [e.changes for e in run.edits] == [{"lr_gen": 2. / 2**(k + 1), "lr_disc": 2. / 2**(k + 1)}
        for k in range(len(back))]
    assert [e.round for e in run.edits] == [b["to"] for b in back] and all(b["round"] - b["to"] <= 100 for b in back)
    assert run.records["round"].tolist() == list(range(1, 201)) and len(csv_of(tmp_path/"a")) == 201
    assert [r[0] for r in csv_of(tmp_path/"a")[1:]] == [str(n) for n in range(1, 201)]
    assert same_run(run.fork(), run)
    again = Run.load(tmp_path/"a", device="cpu")
    assert again.rollbacks == back and again.recipe.on_divergence == "roll back" and same_run(again, run)


def test_what_to_do_at_a_divergence_is_a_setting(tmp_path, monkeypatch, capsys):
    "in settings.ini, on the command line, as an override, and as an edit; a fork and a resumed run know it too"
    (tmp_path/"settings.ini").write_text("[wild]\nbase = ring\nrule = sgd\nmomentum = 0\nlr = 2\nhidden = 32 32\nbatch_size = 64\non_divergence = roll back\n[DEFAULT]\ndevice = cpu\n")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "wild", "--rounds", "200", "--out", "a"]) == 0
    run = Run.load("a")
    assert run.rollbacks and run.round == 200 and "on_divergence = roll back" in Path("a/recipe.ini").read_text()
    assert run.fork(round=10).recipe.on_divergence == "roll back"
    assert main(["train", "wild", "--rounds", "200", "--out", "b", "--set", "on_divergence=stop"]) == 3
    assert main(["train", "ring", "--out", "c", "--set", "on_divergence=roll  back"]) == 2
    assert "did you mean 'roll back'" in capsys.readouterr().err
    stopped = Run("wild", on_divergence="stop", rounds=200)
    assert stopped.recipe.on_divergence == "stop"
    stopped.edit(on_divergence="roll back")
    assert stopped.fit(200, progress=False).rollbacks == run.rollbacks


def test_rolling_back_ends(spoil):
    run = Run("ring", on_divergence="roll back", **tiny)
    spoil(run, 60, always=True)
    with pytest.raises(Diverged, match="gen/0.weight is not finite"): run.fit(100, progress=False)
    rates = [run.start_recipe.lr_gen, *(e.changes["lr_gen"] for e in run.edits)]
    assert len(rates) == 4 and rates[-1] == rates[0] / 8 and len(run.rollbacks) == 3 and run.round == 60
    assert [back["round"] for back in run.rollbacks] == [60] * 3


def test_an_edit_is_never_rolled_back_over(spoil):
    run = Run("ring", on_divergence="roll back", **tiny).fit(60, progress=False)
    run.edit(n_disc=2)
    spoil(run, 70)
    run.fit(20, progress=False)
    assert run.rollbacks[0]["to"] == 60 and run.recipe.n_disc == 2
    with pytest.raises(ValueError, match="allowed are stop, roll back"): Run("ring", on_divergence="ignore")


# Looking only now and then

def test_looking_only_now_and_then_as_on_a_gpu(tmp_path, spoil):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    seams.look_every(run, 50)
    spoil(run, 70, "gen", "2.weight")
    with pytest.raises(Diverged, match=r"round 70: gen/2.weight is not finite \(in the generator, first in 2.weight\)"):
        run.fit(200, progress=False)
    assert run.round == 70 == len(run.records)
    assert seams.looks_every(run) == 50
    assert all(v.isfinite().all() for v in params(run).values())
    spoil.on = False
    run.fit(25, progress=False)
    run = Run.load(tmp_path/"a", device="cpu")
    seams.look_every(run, 50)
    spoil(run, 95); run.step()  # nobody has looked yet, but nothing that is not finite is ever saved
    with pytest.raises(Diverged): run.save(tmp_path/"a")
    assert run.round == Run.load(tmp_path/"a", device="cpu").round == 95


@pytest.mark.parametrize("command", [False, True])
def test_a_divergence_between_two_looks(tmp_path, spoil, command):
    "as on a GPU, where it is found when the run is saved: the end of `fit` or of the command, an autosave, the best checkpoint"
    def play(run, folder, n):
        seams.look_every(run, 50)
        if command:
            from gan_nb import cli
            return cli.train_until(run, n, folder, [], 60.)
        run.folder = folder
        return run.fit(n, progress=False)
    run = Run("ring", **tiny)
    spoil(run, 70, "gen", "2.weight")
    if command: assert play(run, tmp_path/"a", 75) == 3
    else:
        with pytest.raises(Diverged, match="round 70: gen/2.weight"): play(run, tmp_path/"a", 75)
    assert json.loads((tmp_path/"a/diverged.json").read_text())["layer"] == "2.weight"
    assert Run.load(tmp_path/"a", device="cpu").round == 70
    run = Run("ring", on_divergence="roll back", **tiny)
    spoil(run, 70, "gen", "2.weight")
    play(run, tmp_path/"b", 75)
    assert run.round == 75
    assert len(run.rollbacks) == 1
    assert len(csv_of(tmp_path/"b")) == 76
    assert not (tmp_path/"b/diverged.json").exists()
    if not command:
        for settings in (dict(autosave=1e-9), dict(metric=lambda run: -run.round, every=1)):
            shutil.rmtree(tmp_path/"c", ignore_errors=True)
            run = Run("ring", on_divergence="roll back", folder=tmp_path/"c", **tiny)
            seams.look_every(run, 50)
            spoil(run, 70, "gen", "2.weight")
            run.fit(90, progress=False, **settings)
            assert run.round == 90 and [r["round"] for r in run.rollbacks] == [70] and len(csv_of(tmp_path/"c")) == 91


def test_looking_at_the_weights_costs_little():
    run = Run("article", device="cpu", n_gen=1, n_disc=1, r1=0, r2=0)
    run.fit(3, progress=False)
    begun = time.perf_counter(); run.fit(10, progress=False); round = (time.perf_counter() - begun) / 10
    looks = []
    for _ in range(30):
        begun = time.perf_counter(); seams.first_not_finite(run.state); looks.append(time.perf_counter() - begun)
    assert np.median(looks) < .06 * round, f"{np.median(looks) / round:.1%} of a round"  # measured: 1 to 2 %
