"Every method with every rule, every transform and every loss: it trains, survives saving, is edited, and goes on with the same bits."
import itertools

import numpy as np
import pytest
import torch

from gan_nb import Run
from gan_nb.losses import losses
from gan_nb.recipes import live, methods
from gan_nb.rules import rules, schedules
from gan_nb.transforms import clips, normalizers
from helpers import BASE, BOUNDS, same_run, state_of

TRANSFORMS = {
    "none": {},
    **{f"clip {kind}": {"clip": (kind, BOUNDS[kind])} for kind in clips},
    **{f"normalize {kind}": {"normalize": (kind, 1.0), "lr": 0.001} for kind in normalizers},
    "all at once": {"skip_not_finite": True, "centralize": True, "clip": ("quantile", 0.5), "early_momentum": 0.5,
        "normalize": ("block_rms", 1.0), "lr": 0.001},
}
METHODS = {**{name: {"method": name} for name in methods}, "lookahead(alternating)": {"lookahead": 3},
    "lookahead(optimistic)": {"method": "optimistic", "lookahead": 3}}
RULES = {name: {"rule": name} for name in rules} | {"sgd": {"momentum": 0.5, "nesterov": True, "weight_decay": 1e-3}}

@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_trains_and_survives(method, rule, tmp_path):
    for transform, loss in itertools.product(TRANSFORMS, losses):
        recipe = BASE.replace(loss=loss, **{**METHODS[method], **RULES[rule], **TRANSFORMS[transform]})
        run = Run(recipe)
        for _ in range(8): run.step() # twice around lookahead, with every memory filled
        file = run.save(tmp_path/"run.safetensors")
        other = Run.load(file, device="cpu")
        before, after = state_of(run), state_of(other)
        assert before.keys() == after.keys(), (transform, loss)
        for name, value in before.items():
            assert value.dtype == after[name].dtype, (transform, loss, name)
            assert torch.equal(value.nan_to_num(-1.), after[name].nan_to_num(-1.)), (transform, loss, name)
        run.step(), other.step()
        after = state_of(other)
        for name, value in state_of(run).items():
            assert torch.equal(value.nan_to_num(-1.), after[name].nan_to_num(-1.)), (transform, loss, name)
        for column in run.records.columns:
            if column != "seconds":
                np.testing.assert_array_equal(run.records[column], other.records[column],
                    str((transform, loss, column)))
        assert all(v.isfinite().all() for p in run.state.params.values() for v in p.values()), (transform, loss)


SWITCHES = [*METHODS.values(),
            *({**v, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, **v} for v in RULES.values()),
            *({"clip": None, "normalize": None, "early_momentum": 0.0, **v} for v in TRANSFORMS.values()),
            *({"loss": name} for name in losses),
            {"r1": 0.1, "r2": 0.2}, {"wgan_gp": 1.0, "dragan": 1.0}, {"noise": 0.1},
            {"loss": "non_saturating", "smoothing": 0.1}, {"project": ("box", 0.5)}, {"project_disc": ("ball", 2.0)},
            *({"schedule": name} for name in schedules), {"warmup": 5}, {"batch_size": 12}, {"rounds": 77},
            {"order": "gen_first", "method": "alternating", "n_disc": 2}, {"lookahead": 0}]

def test_every_switch_is_an_edit_and_replays():
    "all settings that may change, one after the other, in one run; replayed from round 0"
    run = Run(BASE)
    for switch in SWITCHES:
        run.edit(**switch)
        for _ in range(2): run.step()
    assert {name for edit in run.edits for name in edit.changes} >= set(live) - {"n_gen", "l1", "augment", "method_weight", "unroll",
        "lookahead_alpha", "on_divergence"}
    other = Run(BASE)
    script = list(run.edits)
    while other.round < run.round:
        while script and script[0].moves == other.state.moves: other.edit(**script.pop(0).changes)
        other.step()
    assert other.recipe == run.recipe
    ends = state_of(other)
    for name, value in state_of(run).items():
        assert torch.equal(value.nan_to_num(-1.), ends[name].nan_to_num(-1.)), name
    assert same_run(run.fork(), run)


@pytest.mark.parametrize("change",
    [{"lr": 0.02}, {"clip": ("global_norm", 0.3)}, {"method": "optimistic"}, {"loss": "hinge"}])
def test_an_edit_keeps_what_the_rules_remember(change):
    run = Run(BASE.replace(rule="adam", momentum=0.5))
    for _ in range(5): run.step()
    before = run.state
    run.edit(**change)
    for p in ("gen", "disc"):
        assert run.state.rules[p]["step"] == 5 and run.state.rules[p]["count"] == 5
        for name, value in before.rules[p]["mean"].items(): assert run.state.rules[p]["mean"][name].equal(value)
        assert run.state.params[p] is before.params[p]


def test_a_new_rule_starts_its_own_averages():
    "Adam after many plain steps: its first step is no longer than its rate"
    run = Run(BASE)
    for _ in range(30): run.step()
    run.edit(rule="adam", lr=0.001, momentum=0.5, method="simultaneous")
    before = run.state.params["gen"]
    run.step()
    assert max((run.state.params["gen"][k] - v).abs().max().item() for k, v in before.items()) < 0.0011


def test_an_edit_inside_lookahead_takes_effect():
    run = Run(BASE.replace(method="consensus", lookahead=3, method_weight=0.1))
    for _ in range(4): run.step()
    slow = run.state.method["slow"]
    run.edit(method_weight=0.7, lookahead_alpha=0.25)
    memory = run.state.method
    assert (memory["inner"]["weight"], memory["alpha"], memory["fast_rounds"]) == (0.7, 0.25, 4)
    assert memory["slow"]["gen"]["0.weight"].equal(slow["gen"]["0.weight"])


def test_a_schedule_keeps_its_place_when_a_player_makes_more_or_fewer_steps():
    run = Run(BASE.replace(schedule="linear", rounds=100, lr=1.0, n_gen=5, n_disc=5, clip=("global_norm", 1e-6)))
    for _ in range(50): run.step()
    def rate(p):
        return float(run.state.rules[p]["lr"] * run.method.rules[p].schedule.shape(run.state.rules[p]["step"].double(), run.state.rules[p]))
    for change in ({"n_gen": 1}, {"method": "extragradient"}, {"method": "alternating", "n_gen": 3, "n_disc": 2}):
        run.edit(**change)
        assert rate("gen") == pytest.approx(0.5, abs=0.02) and rate("disc") == pytest.approx(0.5, abs=0.02), change


@pytest.mark.parametrize("first,then",
    [("rmsprop", "adam"), ("adagrad", "adam"), ("adagrad", "rmsprop"), ("adam", "optimistic_adam"), ("sgd", "rmsprop")])
def test_what_means_something_else_is_not_carried(first, then):
    "the first step after the switch is as long as the new rule's own first step (Adam's own averages may go on)"
    run = Run(BASE.replace(rule=first, momentum=0.5 if first == "sgd" else 0.0))
    for _ in range(5): run.step()
    run.edit(rule=then, momentum=0.0, method="simultaneous", lr=0.001)
    before = run.state.params["gen"]
    run.step()
    moved = max((run.state.params["gen"][k] - v).abs().max().item() for k, v in before.items())
    assert moved < 0.0105 if then == "rmsprop" else 0.0002 < moved < 0.0015, moved


def test_leaving_lookahead_keeps_what_the_method_remembers():
    run = Run(BASE.replace(method="optimistic", lookahead=3))
    for _ in range(5): run.step()
    last = run.state.method["inner"]["last"]
    run.edit(lookahead=0)
    assert run.state.method["last"]["count"] == 5
    assert run.state.method["last"]["gen"]["0.weight"].equal(last["gen"]["0.weight"])
    run.edit(method="simultaneous"); run.step(); run.edit(method="optimistic")
    assert run.state.method["last"]["count"] == 0
