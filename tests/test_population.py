"Many runs as one: each member is the single run, and none disturbs another."
import threading

import numpy as np
import pytest
import torch

from gan_nb import Run
from gan_nb.core import listed
from gan_nb.crews import Job, play_job
from gan_nb.evaluation import one_score
from gan_nb.population import Population
from gan_nb.recipes import recipe
from gan_nb.studies import heat_map
from gan_nb.round import tensors
from helpers import at_length, assert_same, each_method, needs_compiler, small, variants


@pytest.mark.parametrize("variant", ["sgd, clipped", "adam, r1 and r2"])
@each_method
def test_each_member_is_the_single_run(method, variant):
    settings = small | variants[variant] | method
    lr = settings.pop("lr")
    many = Population("ring", seeds=[4, 9], grid={"lr": [lr, lr / 3]}, **settings).fit(4)
    for i, about in enumerate(many.members):
        alone, out = Run("ring", seed=about["seed"], lr=about["lr"], **settings).fit(4, progress=False), many.run(i)
        for name in ("loss_gen", "loss_disc", "grad_norm_gen", "update_norm_disc"):
            np.testing.assert_allclose(out.records[name], alone.records[name], rtol=2e-4, atol=1e-6, equal_nan=True)
        close = dict(rtol=1e-3, atol=2e-4) # orthogonalising magnifies the rounding of directions that hardly occur
        for x, y in zip(listed(tensors(out.state)), listed(tensors(alone.state)), strict=True):
            torch.testing.assert_close(x, y, **close)
        out.fit(2, progress=False)
        alone.fit(2, progress=False)
        np.testing.assert_allclose(out.records["loss_disc"], alone.records["loss_disc"], rtol=1e-3, atol=1e-5)


def test_populations_refuse_with_a_reason():
    for settings, word in ((dict(grid={"loss": ["hinge", "r3"]}), "loss: 'hinge' and 'r3' came"),
                           (dict(grid={"lr": []}), "empty"), (dict(seeds=0), "seeds"), (dict(seeds=[-1]), "seeds"),
                           (dict(grid={"colour": [1]}), "colour"), (dict(skip_not_finite=True), "skip_not_finite"),
                           (dict(grid={"n_disc": [1, 2]}), "n_disc")):
        with pytest.raises(ValueError, match=word): Population("ring", **small | settings)


def test_a_member_that_diverges_leaves_the_others_alone():
    settings = small | dict(rule="sgd", clip=None, momentum=0.)
    many = Population("ring", grid={"lr": [.1, 1e25]}, **settings).fit(12)
    assert many.diverged[0] == -1 and many.diverged[1] >= 0
    gone = many.run(1)
    assert gone.round == many.diverged[1] == len(gone.records)
    assert all(t.isfinite().all() for t in listed(gone.state.params))
    alone = Run("ring", lr=.1, **settings).fit(12, progress=False)
    np.testing.assert_allclose(many.records(0)["loss_disc"], alone.records["loss_disc"], rtol=1e-4)


@at_length
@needs_compiler
def test_a_compiled_population_agrees():
    settings = small | dict(rule="sgd", clip=("global_norm", .5), halflife=0.)
    a, b = (Population("ring", seeds=3, grid={"lr": [.01, .1]}, compile=compile, **settings).fit(5)
        for compile in (True, False))
    for i in range(len(a)): np.testing.assert_allclose(a.records(i)["loss_gen"], b.records(i)["loss_gen"], rtol=1e-4)


def test_a_member_remembers_what_its_schedule_does():
    settings = small | dict(rule="sgd", lr=1., clip=("global_norm", .5), momentum=0., schedule="polyak")
    out = Population("ring", seeds=2, **settings).fit(20).run(1)
    alone = Run("ring", seed=1, **settings).fit(20, progress=False)
    for run in (out, alone): run.fit(10, progress=False)
    np.testing.assert_allclose(out.records["loss_gen"], alone.records["loss_gen"], rtol=1e-4)


def test_a_population_may_be_looked_at_and_played_while_a_panel_plays_it():
    many, over = Population("ring", seeds=3, **small), threading.Event()
    def panel():
        while not over.is_set(): many.fit(1)
    thread = threading.Thread(target=panel)
    thread.start()
    try:
        for _ in range(30):
            out = many.run(2)
            assert out.round == len(out.records) == int(out.state.rules["gen"]["step"])
            many.fit(3)
    finally: over.set(); thread.join()
    assert many.round == len(many.records(0)) == int(many.run(0).state.rules["disc"]["step"])


def test_a_population_plays_up_to_the_longest_plan():
    many = Population("ring", grid={"rounds": [3, 7]}, schedule="linear",
        **{k: v for k, v in small.items() if k != "rounds"}).fit()
    assert many.round == 7


@pytest.mark.parametrize("wrong",
    [dict(grid={"data": ["ring", "grid"]}), dict(grid={"threads": [1, 2]}), dict(seeds=[2**63]), dict(seeds=2.5),
                                   dict(grid="lr"), dict(grid={"lr": .1}),
                                   dict(compile="maybe"), dict(nesterov=True, rule="sgd",
                                       grid={"momentum": [0., .5]})], ids=str)
def test_populations_refuse_what_single_runs_would(wrong):
    with pytest.raises(ValueError): Population("ring", **small | wrong)


def test_members_are_asked_for_by_number():
    many = Population("ring", grid={"clip": ["global_norm .5", "global_norm 1"], "lr": [0, .1]}, seeds=2,
        **{**small, "rule": "sgd", "momentum": 0.}).fit(3)
    for wrong in (1.5, "x", True, 8, None):
        for ask in (many.run, many.records):
            with pytest.raises(ValueError, match="member: "): ask(wrong)
    assert many.members[0]["clip"] == ("global_norm", .5) and many.records(-1)["loss_gen"].size == 3
    heat_map(many.table(), "clip", "lr", "loss_gen")
    heat_map(many.table(), "clip", "lr", "diverged")


def test_who_diverged_stays_as_it_was():
    settings = small | dict(rule="sgd", momentum=0., normalize=None, schedule="constant", clip=("global_norm", 1.),
        loss="wasserstein", lr=1e4)
    many = Population("ring", **settings).fit(30)
    before = many.run(0)
    after = many.fit(20).run(0)
    assert many.diverged[0] >= 0 and before.round == after.round
    for x, y in zip(listed(before.state.params), listed(after.state.params)): assert torch.equal(x, y)


@pytest.mark.parametrize("penalty", ["wgan_gp", "dragan", "r1"])
def test_a_member_without_a_penalty_draws_as_if_nobody_had_one(penalty):
    settings = small | dict(noise=.1, rule="sgd", lr=.05, momentum=0., r1=0., r2=0.)
    many = Population("ring", grid={penalty: [0., .5]}, **settings).fit(6)
    for i, weight in enumerate((0., .5)):
        alone = Run("ring", **settings | {penalty: weight}).fit(6, progress=False)
        np.testing.assert_allclose(many.records(i)["loss_disc"], alone.records["loss_disc"], rtol=1e-4)


def test_a_member_that_was_taken_out_is_its_own_fork():
    out = Population("ring", seeds=2, **small | dict(rule="adam", lr=1e-2, momentum=.5)).fit(60).run(1)
    assert_same(out, out.fork())
    out.fit(5, progress=False)
    assert_same(out, out.fork(63).fit(2, progress=False))
    assert (np.diff(out.records["seconds"]) >= 0).all()


def test_a_population_that_is_stopped_in_a_round_plays_it_again(monkeypatch):
    import gan_nb.population
    settings = small | dict(rule="adam", lr=1e-3, momentum=.5)
    stopped, whole, calls = Population("ring", seeds=2, **settings), Population("ring", seeds=2, **settings).fit(8), []
    cat = torch.cat
    def stop(*args, **kwargs):
        calls.append(None)
        if len(calls) == 3: raise KeyboardInterrupt
        return cat(*args, **kwargs)
    monkeypatch.setattr(gan_nb.population.torch, "cat", stop)
    with pytest.raises(KeyboardInterrupt): stopped.fit(8)
    monkeypatch.undo()
    stopped.fit(8 - stopped.round)
    for i in range(2):
        for a, b in zip(listed(tensors(stopped.run(i).state)), listed(tensors(whole.run(i).state)), strict=True):
            assert torch.equal(a, b)
    np.testing.assert_array_equal(stopped.records(0)["loss_gen"], whole.records(0)["loss_gen"])
    assert stopped.trace("loss_gen")[1].shape == (8, 2)


# The panel

def test_the_panel_shows_what_the_population_is():
    pytest.importorskip("anywidget")
    from gan_nb.population_lab import PopulationLab
    many = Population("ring", seeds=2, grid={"lr": [.1, 1e25]}, **small | dict(rule="sgd", clip=None, momentum=0.)).fit(12)
    panel = PopulationLab(many, n=20)
    try:
        seen = panel.data()
        np.testing.assert_allclose(seen["members"], many.all_samples(20).numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(seen["measures"][:, 1], many.records(0)["loss_disc"], rtol=1e-6)
        assert seen["crossed"] == [2, 3] and seen["hues"][2:] == ["bad", "bad"] and "2 diverged" in seen["words"]["runs"]
        assert seen["members"] is panel.data()["members"], "what did not change is not made or sent again"
        panel.step()
        panel.wait()
        assert panel.data()["members"] is not seen["members"] and many.round == 13
    finally: panel.close()


def test_the_doctors_visits_take_their_share_and_end():
    pytest.importorskip("anywidget")
    from gan_nb.population_lab import PopulationLab
    many = Population("ring", seeds=3, **small)
    panel = PopulationLab(many)
    try:
        assert not panel.ward.is_wanted, "nothing has been played"
        panel.play()
        panel.wait(rounds=20)
        panel.pause()
        panel.diagnoses()
        assert panel.ward.seen_at.tolist() == [many.round] * 3 and not panel.ward.is_wanted
        assert all(isinstance(found, list) for found in panel.ward.findings)
        assert not panel.playing and panel.result() is panel
    finally: panel.close()


def test_a_closed_panel_leaves_no_thread_and_no_visit():
    pytest.importorskip("anywidget")
    from gan_nb.population_lab import PopulationLab
    many = Population("ring", seeds=4, **small).fit(150)
    panel = PopulationLab(many)
    panel.play()
    panel.wait(rounds=1)
    panel.open_member()
    panel.wait()
    panel.close()
    wait = lambda thread: thread is None or (thread.join(20), not thread.is_alive())[1]
    assert wait(panel._thread) and wait(panel.opened._thread)
    at = many.round
    assert many.fit(2).round == at + 2, "the population goes on without its panel"


def test_seeds_of_a_trial_are_one_population(tmp_path):
    "each is a run of its own afterwards, and a second time nothing is played; one that diverges gives the point up"
    base = recipe("ring", hidden=(8,), batch_size=16, rounds=8, device="cpu", threads=1)
    job = Job((str(tmp_path/"a"), str(tmp_path/"b")), (3, 4), {"lr": .002}, 8, "sliced_wasserstein")
    found, again = play_job(base, job), play_job(base, job)
    assert found.values == again.values and again.error == "" and len(found.values) == 2
    for folder, seed, value in zip(job.folders, job.seeds, found.values):
        run = Run.load(folder, device="cpu")
        assert (run.round, run.seed) == (8, seed) and one_score(run) == value
        assert value == pytest.approx(one_score(Run(base, seed, lr=.002).fit(progress=False)), abs=1e-3)
        assert run.fit(2, progress=False).round == 10
    wild = Job((str(tmp_path/"c"), str(tmp_path/"d")), (3, 4), {"lr": 1e30, "rule": "sgd"}, 8, "sliced_wasserstein")
    assert play_job(base, wild).ill.startswith("diverged in round")
