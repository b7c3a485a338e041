"What the doctor promises: each disease once, health, patience, remedies that are edits, evidence that can be written down."
import dataclasses
import json

import numpy as np
import pytest
import torch

from gan_nb import Run, checkup, doctor
from gan_nb.core import Diverged
from gan_nb.data import Data, load
from gan_nb.checkup import Aside, Evidence, Past, Ranking, examine, read_losses
from gan_nb.coverage import Coverage, cover
from gan_nb.doctor import Finding, apply, decide, diagnose, diagnosing, diseases, finding_names, line, steady
from gan_nb.gan import players
from gan_nb.patients import gallery, patient
from gan_nb.losses import losses
from gan_nb.recipes import Recipe


tiny = dict(hidden=(16, 16), batch_size=32)
images = dict(patience=1000, next_round_finite=True, kind="classes", reached=10, of=10, covered=.3, moves=2000, round=2000,
              rounds=3000, since_edit=None, told_apart=.98, flatness=1.5, logit_spread=1.,
              first_gen=1., gradient_gen=1., lately_gen=1., growth_gen=1., growth_disc=1., drift=.05, own_drift=.05)

def evidence(**plain):
    "Evidence from the names and numbers that JSON holds; what is left out was not measured."
    def take(kind, **absent):
        own = {f.name: plain.pop(f.name) for f in dataclasses.fields(kind) if f.name in plain}
        return kind(**{**absent, **own}) if own else None
    past = {p: Past(**{f.name: plain.pop(f"{f.name}_{p}", None) for f in dataclasses.fields(Past)}) for p in players}
    gradient = {p: plain.pop(f"gradient_{p}", None) for p in players}
    plain["alone"] = {p: plain.pop(f"alone_{p}") for p in players if f"alone_{p}" in plain}
    parts = dict(coverage=take(Coverage), ranking=take(Ranking), aside=take(Aside, ahead=50, own_drift=0., way=[]))
    absent = dict(round=0, rounds=0, moves=0, since_edit=None, last_edit=None, not_finite=[], divergence=None, lead_changes=0)
    return Evidence(**{**absent, **plain}, past=past, gradient=gradient, **parts)


def points(x):
    "A run that never trained, whose samples and whose present are put in by hand."
    run = Run(patient("healthy", rounds=600, **tiny))
    run.samples = lambda n=64, seed=0: x(n, seed)
    return run


def put(run, **changes):
    "Another past or present in the history of a run."
    run.history = dataclasses.replace(run.history, **changes)


def put_records(run, n=600, **columns):
    "Pretend that `n` rounds were recorded; unnamed columns are 1."
    table = np.ones((n, len(run.records.columns)))
    table[:, 0] = np.arange(1, n + 1)
    for name, values in columns.items(): table[:, run.records.columns.index(name)] = values
    state = dataclasses.replace(run.state, round=n, moves=n)
    put(run, records=type(run.records)(table), state=state)
    return run


def hold(run):
    "Keep the networks as they are from now on, as if it had always been so: no edit is on record."
    run.edit(lr=1e-9)
    moved = {name: 3 * w + .1 for name, w in run.state.params["gen"].items()}   # away from where it began
    put(run, edits=(), state=dataclasses.replace(run.state, params={**run.state.params, "gen": moved}))


def checked(findings):
    "Whatever is found: names that are known, evidence that JSON holds, words without nan, remedies that a run may take."
    for finding in findings:
        assert finding.name in finding_names
        assert json.loads(json.dumps(finding.evidence, allow_nan=False)) == finding.evidence
        assert "nan" not in finding.why.split() and "None" not in finding.why and "\n" not in line([finding])
        assert bool(finding.remedy or finding.advice) == finding.is_ill and bool(finding.remedy) == bool(finding.rounds)
        finding.figure().canvas.draw()
    return [finding.name for finding in findings]


def test_a_run_that_raised_diverged_and_its_fork_back():
    run = Run(patient("diverged", **tiny))
    with pytest.raises(Diverged): run.fit(400, progress=False)
    found = diagnose(run)
    assert checked(found) == ["diverged"] and found[0].back <= run.round and found[0].evidence["not_finite"]
    other = apply(run, found[0])
    assert other is not run and other.round == found[0].back and other.edits[-1].changes == found[0].remedy
    other.fit(80, progress=False)
    assert all(t.isfinite().all() for p in ("gen", "disc") for t in other.state.params[p].values())


def test_a_loaded_run_is_diagnosed_like_the_run_itself(tmp_path):
    run = Run(patient("diverged", **tiny))
    with pytest.raises(Diverged): run.fit(400, progress=False)
    run.save(tmp_path/"run")
    loaded = Run.load(tmp_path/"run", device="cpu", data=run.game.data)
    assert diagnose(loaded) == diagnose(run)
    assert apply(loaded, diagnose(loaded)[0]).round == diagnose(run)[0].back


def test_weights_that_are_not_finite():
    run = Run(patient("healthy", **tiny))
    weights = run.state.params["gen"]
    broken = {k: v * float("nan") for k, v in weights.items()}
    put(run, state=dataclasses.replace(run.state, params={**run.state.params, "gen": broken}))
    assert checked(diagnose(run)) == ["diverged"]


def test_collapse_names_the_modes_that_are_missing():
    run = put_records(points(lambda n, seed: torch.tensor([[1., 0.], [0., 1.]])[torch.arange(n) % 2]))
    hold(run)
    found = diagnose(run)
    assert checked(found) == ["mode_collapse"]
    assert found[0].evidence["reached"] == 2 and len(found[0].evidence["missing"]) == 6 and "(-1, 0)" in found[0].why
    assert found[0].evidence["duplicates"] > .99


def resting(samples, data="ring", rounds=600, **settings):
    "A run whose records are calm, whose networks stay as they are, and whose samples are `samples(run, n, rng)`."
    run = Run(patient("healthy", data=data, rounds=rounds, **{**tiny, **settings}))
    run = put_records(run, rounds)
    hold(run)
    run.samples = lambda n=64, seed=0: samples(run, n, torch.Generator().manual_seed(seed))
    return run


def at(run, which, sigmas=1., rng=None):
    "Samples at the modes `which`, `sigmas` times as wide as the data."
    data = run.game.data
    return data.centers[which] + sigmas * data.sigma * torch.randn(len(which), 2, generator=rng)


def few_of_some(run, n, rng):
    "Two of eight points get a seventh of their share."
    which = torch.arange(n) % 8
    return at(run, torch.where((which < 2) & (torch.rand(n, generator=rng) < .86), which + 2, which), rng=rng)


# name -> (data, samples, words of the reason)
partial = {
    "one of eight is never drawn": ("ring", lambda run, n, rng: at(run, torch.arange(n) % 7, rng=rng),
        ("partial", "7 of 8 modes", "without (0.71, -0.71)")),
    "three of twenty-five": ("grid", lambda run, n, rng: at(run, torch.arange(n) % 22, rng=rng),
        ("partial", "22 of 25", "(4, 0), (4, 2), (4, 4)")),
    "four samples in five at one": ("ring", lambda run, n,
        rng: at(run, torch.where(torch.arange(n) % 5 > 0, 0, torch.arange(n) // 5 % 8), rng=rng),
        ("partial", "unevenly")),
    "eight spots": ("ring", lambda run, n, rng: at(run, torch.arange(n) % 8, 0., rng=rng), ("partial", "copies")),
    "two are starved": ("ring", few_of_some, ("partial", "next to nothing at (1, 0), (0.71, 0.71)")),
}

@pytest.mark.parametrize("kind", partial)
def test_a_partial_collapse_is_one_and_names_what_is_missing(kind):
    data, samples, words = partial[kind]
    found = diagnose(resting(samples, data))
    assert checked(found) == ["mode_collapse"]
    for word in words: assert word in line(found), line(found)


def test_digits_without_a_class():
    held = {}
    def no_seven(run, n, rng):
        if not held: held["x"] = run.game.data.all("held_out")[run.game.data.labels_held_out != 7]      # training digits would be known by heart
        return held["x"][torch.randint(len(held["x"]), (n,), generator=rng)]
    run = resting(no_seven, "digits", 1200, halflife=0.)
    found = diagnose(run)
    assert checked(found) == ["mode_collapse"]
    assert found[0].evidence["missing"] == ["7"]
    assert "partial, the samples reach 9 of 10 classes, without 7" in line(found)


def test_even_shares_with_chance_are_no_collapse():
    for data in ("ring", "grid"):
        for seed in range(5):
            def share(run, n, rng):
                return at(run, torch.randint(len(run.game.data.centers), (n,), generator=rng), 1.3, rng)
            def half(run, n, rng):   # one mode gets half of its share, which is no disease either
                which = torch.randint(len(run.game.data.centers), (n,), generator=rng)
                return at(run, torch.where((which == 0) & (torch.rand(n, generator=rng) < .5), 1, which), 1.3, rng)
            for samples in (share, half):
                assert checked(diagnose(resting(lambda run, n,
                    rng: samples(run, n, rng.manual_seed(rng.initial_seed() + seed)), data))) == ["healthy"]


def test_too_wide_is_not_healthy():
    run = resting(lambda run, n, rng: at(run, torch.arange(n) % 8, 15., rng))
    found = diagnose(run)
    assert checked(found) == ["between_modes"]
    assert line(found).startswith("Between modes: the samples reach 8 of 8 modes, and 2.0% of them lie where data are")


def astray(run, n, rng):
    "Six samples in seven lie in the middle of the ring."
    return torch.where(torch.rand(n, 1, generator=rng) < .15, at(run, torch.arange(n) % 8, rng=rng), .3 * torch.randn(n, 2, generator=rng))


def test_past_its_plan_every_run_is_judged():
    found = diagnose(resting(astray, rounds=5000))
    assert checked(found) == ["between_modes"] and "too few" not in found[0].why
    few = resting(lambda run, n, rng: at(run, torch.arange(n) % 4, rng=rng))
    assert checked(diagnose(few, ahead=0)) == ["mode_collapse"]
    assert decide(evidence(**images | dict(patience=1000, moves=600, round=600, rounds=600, high_quality=0., covered=0., reached=4))) == ["not_converged"]


def test_before_its_end_a_run_that_is_not_sharp_yet_is_waited_for():
    run = resting(astray)
    run.edit(rounds=1200)
    put(run, edits=())
    found = diagnose(run)
    assert checked(found) == ["too_early"] and "The rest of the plan will decide" in found[0].why


def rotated_grid(turn=.3):
    "Sixteen modes, a few of which face each other along no axis."
    grid = torch.cartesian_prod(torch.arange(4.), torch.arange(4.)) - 1.5
    c, s = np.cos(turn), np.sin(turn)
    return Data("grid", (2,), centers=grid @ torch.tensor([[c, -s], [s, c]], dtype=torch.float32), sigma=.07)


@pytest.mark.parametrize("given", ["centres", "array"])
@pytest.mark.parametrize("share, name", [(.15, "between_modes"), (.95, "healthy"), (1., "mode_collapse")])
def test_mass_between_the_modes_is_no_collapse_however_the_data_came(given, share, name):
    grid = rotated_grid()
    def bridging(run, n, rng):
        k = 16 if share < 1 else 10
        which, other = torch.randint(k, (n,), generator=rng), torch.randint(k, (n,), generator=rng)
        on = torch.rand(n, 1, generator=rng) < share
        between = torch.lerp(grid.centers[which], grid.centers[other], torch.rand(n, 1, generator=rng))
        return torch.where(on, grid.centers[which], between) + grid.sigma * torch.randn(n, 2, generator=rng)
    found = diagnose(resting(bridging, grid if given == "centres" else grid.draw(2000, torch.Generator().manual_seed(0)).numpy()))
    assert checked(found) == [name], found


@pytest.mark.parametrize("rate", [1e-12, 1e-8])
def test_a_run_in_which_nothing_moves_has_not_collapsed(rate):
    for which in ({"lr": rate}, {"lr_gen": rate}):
        run = Run(patient("healthy", rounds=300, **tiny | which)).fit(300, progress=False)
        names = checked(diagnose(run))
        assert names[0] == "not_learning" and not {"mode_collapse", "healthy", "between_modes", "not_converged"} & set(names)


def test_what_nobody_could_learn_is_said_at_once():
    for x in (np.full((50, 2), 3.), np.full((50, 1, 8, 8), .25, "float32"), 7 + 1e-7 * np.random.default_rng(0).normal(size=(90, 2))):
        run = Run(patient("healthy", data=x.astype("float32"), **tiny)).fit(5, progress=False)
        found = diagnose(run)
        assert checked(found) == ["no_variety"] and not found[0].remedy and "data" in found[0].advice


def test_samples_off_the_data_are_never_healthy_whatever_the_discriminator_says():
    seen = images | dict(kind="points", round=3000, moves=3000, told_apart=1., high_quality=.3, covered=None, reached=1, of=1)
    assert "healthy" not in decide(evidence(**seen)) and "discriminator_saturated" in decide(evidence(**seen))


def test_a_saturated_discriminator_is_named_beside_what_it_does():
    run = Run(patient("healthy", loss="minimax", rule="adam", normalize=None, n_disc=20, lr_gen=1e-4, lr_disc=1e-2, r1=0., r2=0., rounds=120, **tiny)).fit(120, progress=False)
    assert {"discriminator_saturated", "generator_gradient_vanished"} & set(checked(diagnose(run)))


def test_too_few_units_get_no_remedy_that_cannot_help():
    run = Run(patient("low_capacity", rounds=200, hidden_gen=(2,))).fit(200, progress=False)
    found = diagnose(run)
    assert checked(found)[0] == "low_capacity" and not found[0].remedy and "hidden=" in found[0].advice
    with pytest.raises(ValueError, match="no remedy"): apply(run, found[0])


def test_a_run_at_rest_that_wandered_is_known_by_its_kept_states():
    run = Run(patient("healthy", rounds=1000, lr=1e-9, **tiny)).fit(1000, progress=False)
    bias = list(run.state.params["gen"])[-1]
    def thrown(point, i):
        gen = {**point.state.params["gen"], bias: point.state.params["gen"][bias] + (-1)**i}
        return dataclasses.replace(point, state=dataclasses.replace(point.state, params={**point.state.params, "gen": gen}))
    assert "oscillation" not in checked(diagnose(run)) and diagnose(run)[0].evidence["wander"] < .01
    put(run, kept=tuple(thrown(point, i) for i, point in enumerate(run.history.kept)))
    found = next(f for f in diagnose(run) if f.name == "oscillation")
    assert found.evidence["drift"] < .01 and found.evidence["wander"] > 1 and "lately they wander by" in found.why


def test_what_came_first_is_told_from_the_records():
    run = put_records(points(lambda n, seed: torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * .3 + 5),
        logit_real=np.where(np.arange(600) < 100, 1., 20.), grad_norm_gen=np.where(np.arange(600) < 300, 1., 1e-4))
    hold(run)
    why = diagnose(run)[0].why
    assert why.index("the discriminator has been certain") < why.index("gradient has been next to nothing")


def test_what_it_prescribes_it_can_judge():
    found = Finding("oscillation", {}, steady(run := Run(patient("oscillation", "fast adam", **tiny)).fit(30, progress=False)), rounds=50)
    apply(run, found).fit(50, progress=False)
    assert run.round == run.recipe.rounds and diagnose(run)[0].name != "too_early"


def test_what_is_still_coming_is_waited_for():
    seen = dict(images, missing=["1", "7"], reached=8, come=["7"])
    assert decide(evidence(**seen)) == ["too_early"] and decide(evidence(**{**seen, "come": []})) == ["mode_collapse"]


@pytest.mark.parametrize("level", [0., .3, 1., -254 / 255, -1.])
def test_a_generator_of_one_grey_is_diagnosed(level):
    run = resting(lambda run, n, rng: torch.full((n, 1, 28, 28), level), "digits", 1200, halflife=0.)
    found = diagnose(run)
    assert "mode_collapse" in checked(found)
    assert found[0].evidence["duplicates"] > .99
    assert found[0].evidence["covered"] == 0


def test_a_file_called_digits_is_not_judged_as_digits(tmp_path):
    for shape in ((500, 5), (300, 1, 8, 8), (300, 1, 28, 28)):
        np.save(tmp_path/"digits.npy", np.random.default_rng(0).uniform(-1, 1, shape).astype("float32"))
        run = Run(patient("healthy", data=load(tmp_path/"digits.npy"), **tiny))
        assert run.game.data.name == "digits"
        found = cover(run)
        assert found.kind == "points" and bool(found.is_raw) == (len(shape) > 2)
        assert checked(diagnose(run)) == ["too_early"]


@pytest.mark.parametrize("is_raw", [True, None])
def test_what_no_judge_knows_is_healthy_with_a_word_about_it(is_raw):
    seen = evidence(**images | dict(kind="points", reached=1, of=1, covered=None, high_quality=.9, is_raw=is_raw))
    assert [found.name for found in doctor.explained(seen)] == ["healthy"] and ("a blur passes" in doctor.explained(seen)[0].why) == bool(is_raw)


def test_oscillation():
    run = Run(patient("oscillation", "fast adam", batch_size=64)).fit(201, progress=False)
    found = diagnose(run)
    assert checked(found)[0] == "oscillation" and found[0].evidence["drift"] > .25
    assert checked(diagnose(run, ahead=0)) == ["too_early"], "without looking ahead it does not guess"


def test_a_saturated_discriminator():
    run = Run(patient("discriminator_saturated", lr_disc=1e-2, **tiny)).fit(120, progress=False)
    assert checked(diagnose(run))[0] == "discriminator_saturated"


def test_a_vanished_gradient():
    run = Run(patient("generator_gradient_vanished", lr_disc=2e-2, **tiny)).fit(120, progress=False)
    found = diagnose(run)
    assert checked(found)[0] == "generator_gradient_vanished" and found[0].evidence["flatness"] < .05
    assert "minimax" in read_losses(run)["gen"]


def test_exploding_gradients_only_where_the_samples_are_ill():
    grown = dict(grad_norm_disc=np.geomspace(1e-2, 1e4, 600))
    run = put_records(points(lambda n, seed: torch.tensor([[1., 0.], [-1., 0.]])[torch.arange(n) % 2]), **grown)
    hold(run)
    found = diagnose(run)
    assert checked(found)[0] == "exploding_gradient" and "mode_collapse" in checked(found) and found[0].back < 400
    well = put_records(Run(patient("healthy", **tiny)), **grown)
    well.samples = lambda n=64, seed=0: well.real(n, seed + 9)
    assert checked(diagnose(well)) == ["healthy"] and "grown" in diagnose(well)[0].why


def test_too_early():
    run = Run(patient("healthy", **tiny))
    assert checked(diagnose(run)) == ["too_early"]              # no round yet
    assert checked(diagnose(run.fit(40, progress=False))) == ["too_early"]
    put_records(run).edit(lr=1e-4)
    assert checked(diagnose(run)) == ["too_early"] and "after the last edit" in line(diagnose(run))


def test_nothing_is_touched():
    run = Run(patient("healthy", **tiny)).fit(101, progress=False)
    before, same = run.state, Run(run.recipe).fit(101, progress=False)
    examine(run); diagnose(run)
    assert run.state is before and run.edits == [] and len(run.records) == 101
    torch.manual_seed(3); a = torch.rand(3); torch.manual_seed(3); diagnose(run)
    assert torch.rand(3).equal(a), "the global random state is left alone"
    run.fit(5, progress=False); same.fit(5, progress=False)
    assert all(run.state.params[p][k].equal(v) for p in ("gen", "disc") for k, v in same.state.params[p].items())


@pytest.mark.parametrize("loss", losses)
def test_who_is_ahead_is_what_the_ranking_says(loss):
    # levels that mislead
    run = put_records(Run(patient("healthy", loss=loss, wgan_gp=10., r1=0., r2=0., **tiny)), loss_disc=900.,
        loss_gen=-50.)
    for gap, offset, words in ((1.9, 0., ": it is ahead"), (0., 40., "neither"),
            (-1.9, -40., "the generator is ahead")):
        answers = offset + torch.tensor([[gap], [0.]]) + torch.randn(2, 500, generator=torch.Generator().manual_seed(0))
        share = (answers[0][:, None] > answers[1]).double().mean()
        run.real, run.samples, run.score = (lambda n, seed=0: 0), (lambda n,
            seed=0: 1), lambda which, packed: answers[which]
        said = read_losses(run)
        assert words in said["ahead"] and f"{share:.0%} of all pairs" in said["ahead"], said["ahead"]
        assert "wgan_gp" in said["disc"]
        assert not any(word in said[p] for p in ("gen", "disc") for word in ("ahead", "coin", "wrong more"))
    assert "level means nothing" in said["gen"] if loss in ("hinge",
        "wasserstein") else "level means nothing" not in said["gen"]
    if loss == "least_squares": assert "no direction" in said["gen"]


def test_a_wasserstein_critic_is_a_distance_only_with_slopes_of_one():
    says = lambda **settings: read_losses(Run(patient("healthy", loss="wasserstein", r1=0., r2=0.,
        **{**tiny, **settings})))["disc"]
    assert "is an estimate" in says(wgan_gp=10.)
    assert "is an estimate" in says(spectral=True)
    assert "only the sign" in says()
    assert "only the sign" in says(project_disc=("box", .1))


def test_losses_of_a_run_that_is_not_finite_are_read():
    run = Run(patient("healthy", **tiny))
    run.score = lambda x, packed: x[:, 0] * float("nan")
    assert "not measured" in read_losses(run)["ahead"]


vanished = dict(next_round_finite=True, kind="modes", reached=0, of=8, missing=list("abcdefgh"), near=0.,
    told_apart=.9, gradient_gen=11.8, first_gen=.155, lately_gen=11.8, growth_gen=76., growth_disc=1., drift=0.,
    ahead=50, lead_changes=0, flatness=1., logit_spread=7.5)

@pytest.mark.parametrize("changes, there, absent", [
    (dict(flatness=.01), "0.01 of the strength", "shrunk"),
    (dict(gradient_gen=1e-3, lately_gen=1e-3), "shrunk to 0.0065 of what it was", "strength")], ids=str)
def test_a_vanished_gradient_is_told_by_the_sign_that_fired(changes, there, absent):
    why = diseases["generator_gradient_vanished"].why(evidence(**{**vanished, **changes}))
    assert there in why and absent not in why


def test_saturation_claims_no_flat_slope():
    why = diseases["discriminator_saturated"].why(evidence(**{**vanished, "told_apart": .999}))
    assert "99.9%" in why
    assert "11.8" not in why.split(".")[0]
    assert "12, and was 0.15" in why.replace("0.155", "0.15")
    assert "no longer changes" not in why


@pytest.mark.parametrize("loss", losses)
def test_every_loss_is_read_and_every_run_of_it_can_be_tamed(loss):
    run = Run(patient("healthy", loss=loss, method="simultaneous", rule="rmsprop", clip=("value", .1),
        nesterov=False, **tiny)).fit(3, progress=False)
    said = read_losses(run)
    for player in ("gen", "disc"):
        assert loss in said[player] and f"{losses[loss].equilibrium[player]:.3g}" in said[player]
    found = diagnose(run)
    assert checked(found) and said["ahead"] in found[0].numbers.values() and "r1, r2" in said["disc"]
    apply(run, Finding("oscillation", {}, steady(run)))
    assert run.recipe.loss == "r3" and run.edits[-1].changes and steady(run) == {}
    run.fit(2, progress=False)


def test_the_remedy_begins_with_a_full_step_however_old_the_run_is():
    run = Run(patient("healthy", n_gen=3, schedule="linear", **tiny)).fit(30, progress=False)
    run.edit(**steady(run)); run.step()
    begun = int(run.state.rules["gen"]["step"]) - 1
    assert begun == 30 and run.recipe.rounds == 3030
    assert np.isclose(run.recipe.lr_gen * (1 - begun / run.recipe.rounds), .02, rtol=.01)


@pytest.mark.parametrize("data", ["digits", "own"])
def test_other_data(data):
    own = np.random.default_rng(0).normal(size=(500, 5)).astype("float32")
    run = put_records(Run(Recipe(name="other").replace(data="digits" if data == "digits" else own, device="cpu",
        threads=1, halflife=0., rounds=1200, **tiny)), 1200)
    hold(run)
    run.samples = lambda n=64, seed=0: run.real(1).expand(n, *run.game.data.shape) + 0.
    found = diagnose(run)
    assert "mode_collapse" in checked(found) and found[0].evidence["reached"] <= 1
    if data == "digits": assert len(found[0].evidence["missing"]) == 9
    fresh = run.game.data.all("held_out") if data == "digits" else torch.from_numpy(np.random.default_rng(1).normal(size=(3000, 5)).astype("float32"))
    run.samples = lambda n=64, seed=0: fresh[torch.randperm(len(fresh), generator=torch.Generator().manual_seed(seed))[:n]]
    assert checked(diagnose(run)) == ["healthy"]
    run.samples = lambda n=64, seed=0: run.real(n, seed + 50)
    assert checked(diagnose(run)) == ["memorisation"], "they are the training data themselves"


def test_every_patient_can_be_built():
    for name in gallery:
        for kind in gallery[name]: assert patient(name, kind).name == f"{name}: {kind}"
    with pytest.raises(ValueError, match="did you mean"): patient("oscilation")
    with pytest.raises(ValueError, match="no remedy"): apply(None, Finding("healthy", {}))


@pytest.mark.parametrize("settings",
    [dict(pack=3, batch_size=30), dict(spectral=True), dict(gn=True), dict(method="extragradient"),
        dict(halflife=20.), dict(noise=.1, wgan_gp=1.)], ids=str)
def test_other_networks_and_methods(settings):
    run = Run(patient("healthy", **{**tiny, **settings})).fit(5, progress=False)
    run = put_records(run)
    checked(diagnose(run))
    apply(run, Finding("oscillation", {}, steady(run))).fit(2, progress=False)


def test_four_points_of_your_own():
    own = np.array([[0., 0.], [1., 0.], [0., 1.], [1., 1.]], dtype="float32")
    run = Run(patient("healthy", data=own, **tiny))
    assert cover(run, run.real(200)).reached == 1 and cover(run, run.real(1).expand(200, 2)).reached == .25


def test_the_same_in_parts():
    run = Run(patient("oscillation", "fast adam", batch_size=64)).fit(201, progress=False)
    *parts, found = diagnosing(run)
    assert found == diagnose(run) and len(parts) > 50 and not any(parts), "a round aside is a part of its own"
    assert len(list(diagnosing(Run(patient("healthy",
        **tiny))))) < 12, "nothing is played aside where nothing can be named"


def test_training_goes_on_between_the_parts():
    run, same = (Run(patient("oscillation", "fast adam", **tiny)).fit(201, progress=False) for _ in range(2))
    for found in diagnosing(run): run.step(); same.step()
    assert found[0].evidence["round"] == 201 < run.round and checked(found)
    assert all(run.state.params[p][k].equal(v) for p in ("gen", "disc") for k, v in same.state.params[p].items())


def test_what_a_run_plays_itself_is_not_played_aside(monkeypatch):
    "a run that goes on between the parts is its own future: the evidence is that of the run at rest, and one round is played aside"
    run, rest = (Run(patient("oscillation", "fast adam", batch_size=64)).fit(201, progress=False) for _ in range(2))
    expected, aside, play = diagnose(rest), [], checkup._play
    monkeypatch.setattr(checkup, "_play", lambda *given: aside.append(1) or play(*given))
    for found in diagnosing(run): run.step()
    assert run.round > 251 and len(aside) == 1
    assert [f.evidence for f in found] == [f.evidence for f in expected] and found[0].evidence["drift"] > .25


@pytest.mark.parametrize("change", [lambda run: None, lambda run: run.edit(lr=.5), lambda run: run.reset(), lambda run: run.step("gen")])
def test_a_run_that_rests_or_is_changed_is_followed_no_longer(change):
    "what was examined is the run as it was"
    run, rest = (Run(patient("oscillation", "fast adam", batch_size=64)).fit(201, progress=False) for _ in range(2))
    parts = diagnosing(run)
    for _ in range(22): next(parts); run.step()
    change(run)
    for found in parts: pass
    assert run.round < 251 and found[0].evidence == diagnose(rest)[0].evidence


def test_parts_that_come_seldom_still_need_no_rounds_aside(monkeypatch):
    run, aside, play = Run(patient("oscillation", "fast adam", batch_size=64)).fit(200, progress=False), [], checkup._play
    monkeypatch.setattr(checkup, "_play", lambda *given: aside.append(1) or play(*given))
    for found in diagnosing(run): run.fit(9, progress=False)
    assert len(aside) == 1 and [f.name for f in found] == ["oscillation"] and len(found[0].evidence["way"]) == 7


def test_compiled_rounds_are_played_aside_compiled(monkeypatch):
    run = Run(patient("oscillation", "fast adam", batch_size=64), compile=True).fit(201, progress=False)
    expected, aside, play = diagnose(run.fork(), 50), [], checkup._play
    monkeypatch.setattr(checkup, "_play", lambda *given: aside.append(1) or play(*given))
    found = diagnose(run)
    assert len(aside) == 1 and len(found[0].evidence["way"]) == 11
    assert [f.name for f in found] == [f.name for f in expected]
    assert np.allclose(found[0].evidence["way"], expected[0].evidence["way"], atol=.02)


def test_the_calm_before_is_found_by_running_medians():
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(size=400))
    assert [m for _, m in doctor._medians(norms)] == [np.median(norms[:i]) for i in range(1, 400)]


def test_an_old_finding_is_applied_as_of_now():
    run = Run(patient("oscillation", "fast adam", batch_size=64)).fit(201, progress=False)
    found = diagnose(run)[0]
    apply(run.fit(500, progress=False), found)
    assert run.recipe.rounds == 701 + found.rounds > found.remedy["rounds"]
    assert np.isclose(run.recipe.lr_gen * found.rounds / run.recipe.rounds, .02,
        rtol=.01), "its rate has not run down meanwhile"


@pytest.mark.parametrize("halflife", [0., 100.])
def test_what_wanders_below_an_average_is_no_collapse(halflife):
    run = Run(patient("oscillation", "fast adam", batch_size=64, halflife=halflife)).fit(250, progress=False)
    run = put_records(run, 400)
    found = diagnose(run)
    seen = found[0].evidence
    assert seen["own_drift"] > .25 and (seen["own_drift"] == seen["drift"]) == (halflife == 0)
    assert "mode_collapse" not in checked(found)


@pytest.mark.parametrize("changes, names", [
    # a discriminator that leads is no disease of images
    ({}, ["healthy"]), (dict(told_apart=1.), ["healthy"]),
    (dict(covered=.05, high_quality=.05), ["too_early"]),                  # a judge finds all classes in noise
    (dict(covered=.05, high_quality=.05, round=3000), ["between_modes"]),
    (dict(reached=7), ["mode_collapse"]), (dict(reached=7, own_drift=.5), ["too_early"]),
    (dict(reached=7, rounds=9000), ["too_early"]),
    (dict(reached=7, covered=.05, high_quality=.2, drift=.5, own_drift=.5), ["oscillation"]),
    (dict(reached=7, drift=.5, rounds=9000), ["too_early"]), (dict(reached=7, moves=900), ["too_early"]),
    (dict(reached=1, told_apart=.999, covered=.01), ["discriminator_saturated", "mode_collapse"])], ids=str)
def test_rules_for_images(changes, names): assert decide(evidence(**{**images, **changes})) == names


def test_noise_is_not_well_though_the_judge_names_digits_in_it():
    run = Run(Recipe(name="noise").replace(data="digits", device="cpu", threads=1, rounds=1200, **tiny))
    run = put_records(run, 1200)
    real = run.game.data.all("train", 400)
    run.samples = lambda n=64, seed=0: (real[torch.arange(n) % 400] + .8 * torch.randn(n, 1, 28, 28,
        generator=torch.Generator().manual_seed(seed))).clamp(-1, 1)
    found = cover(run)
    assert found.covered < .1 and found.judge.startswith("digits ")
    assert "healthy" not in checked(diagnose(run, ahead=0))


def test_a_softened_label_is_read_as_such():
    says = lambda loss: read_losses(Run(patient("healthy", loss=loss, smoothing=.2, r1=0., r2=0., **tiny)))["disc"]
    assert "with probability 0.8, so it is least, 0.5," in says("non_saturating")
    assert "right everywhere" not in says("minimax")
    assert "0.8 for real" in says("least_squares")


def test_what_was_not_measured_supports_no_finding():
    unmeasured = {k: v for k, v in vanished.items() if k not in ("told_apart", "flatness", "logit_spread")}
    assert decide(evidence(**unmeasured | dict(moves=2000, round=2000, rounds=3000, since_edit=None, gradient_gen=1.,
        first_gen=1., lately_gen=1., growth_gen=1.)))


def test_the_edit_before_a_disease_is_named():
    run = Run(patient("healthy", **tiny)).fit(150, progress=False)
    run.edit(lr=1e30, clip=None)
    with pytest.raises(Diverged): run.fit(50, progress=False)
    found = diagnose(run)[0]
    assert found.name == "diverged", found.why
    assert f"{run.round - 150} rounds after the last edit, lr=1e+30, clip=None:" in found.why, found.why
    with pytest.raises(ValueError, match="run: 'runs/mine' came; allowed is a Run, such as Run.load"):
        diagnose("runs/mine")


def test_a_remedy_leaves_what_a_translation_is_asked_for():
    x = np.random.default_rng(0).uniform(-1, 1, (40, 1, 8, 8)).astype("float32")
    run = Run("adam", data=(x, x), hidden=(8,), z_dim=4, batch_size=8, l1=100., threads=1, device="cpu")
    assert "l1" not in steady(run) and steady(run)["loss"] == "r3"
    assert "augment" not in steady(Run("adam", data=x, hidden=(8,), z_dim=4, batch_size=8, augment=("fixed", .2), threads=1, device="cpu"))
