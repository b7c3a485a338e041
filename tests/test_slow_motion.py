"A round that is overheard is the round that is played: state, record and numbers, to the bit, by every method and with what its steps are made of."
import math

import pytest
import torch

from gan_nb import Run
from gan_nb.core import listed
from gan_nb.gan import players
from gan_nb.layers import by_layer
from gan_nb.listening import Judged
from gan_nb.round import tensors
from gan_nb.slow_motion import explain
from helpers import each_method, row_of, small, variants

kinds = { # what the parts of a round may be besides a method
    "five steps of the discriminator": dict(n_disc=5, lr=.01, rule="sgd", momentum=.5, clip=("value", .01), loss="non_saturating", r1=.1),
    "every kind of link": dict(rule="rmsprop", centralize=True, clip=("adaptive", .01), early_momentum=.5, normalize=("trust_ratio", 1.), skip_not_finite=True, project=("box", .3)),
    "classes, noise and shards": dict(classes=True, shards=2, noise=.1, dragan=1., loss="least_squares", smoothing=.1, clip=("quantile", .5), schedule="linear"),
    "minimax and hinge's graft": dict(rule="graft", loss="hinge", r2=.2, clip=("block_norm", .1), average="tail", normalize=("global_norm", 1.)),
}


def same_state(a, b):
    known = lambda x: x.nan_to_num(-1) # what has not come yet is NaN in some memories
    return all(torch.equal(known(x), known(y)) for x, y in zip(listed(tensors(a)), listed(tensors(b)), strict=True))


def assert_tells_what_happens(run):
    "The lines of the next round, beside the round."
    before, shown = run.state, explain(run)
    assert run.state is before
    record = run.step()
    assert same_state(shown.heard.after, run.state) and (shown.heard.after.moves, shown.heard.after.round) == (run.state.moves, run.round)
    assert torch.equal(shown.heard.row.nan_to_num(-1), row_of(record).nan_to_num(-1))
    for player in players:
        steps = shown.heard.steps(player)
        links = [[e.values for e in step.entries if e.what == "link"] for step in shown.steps if step.who == player and step.number]
        norms = [e.values["norm"] for step in shown.steps if step.who == player and step.number for e in step.entries if e.what in ("gradient", "handed")]
        assert sum(norms) / len(norms) == pytest.approx(getattr(record, f"grad_norm_{player}"), rel=1e-4) and len(norms) == len(steps)
        if links[0]: assert sum(own[-1]["after"] for own in links) / len(links) == pytest.approx(getattr(record, f"update_norm_{player}"), rel=1e-4)
    for judged in (e for e in shown.heard.events if isinstance(e, Judged)):
        whole = judged.plain + sum(weight * size for weight, size in judged.terms.values())
        assert whole.item() == pytest.approx(judged.value.item(), rel=1e-4, abs=1e-5)
    assert all(entry.where and entry.title() and entry.why("zh") for entry in shown.entries), "each line leads to a cell"
    assert all(math.isfinite(float(v)) for e in shown.entries for v in e.values.values() if isinstance(v, float))
    return shown


@each_method
def test_every_method_is_told_as_it_is_played(method):
    for about in variants.values():
        run = Run("ring", seed=2, **{**small, **about, **method})
        run.step() # so that there is something to remember
        assert_tells_what_happens(run)


@pytest.mark.parametrize("about", kinds.values(), ids=kinds)
def test_what_a_round_is_made_of(about):
    run = Run("ring", seed=3, **{**small, **about})
    run.step()
    shown = assert_tells_what_happens(run)
    made = {step.who: max(s.number for s in shown.steps if s.who == step.who) for step in shown.steps}
    assert made["disc"] == about.get("n_disc", run.recipe.n_disc)
    assert [row.player for row in by_layer(run).rows if not row.name] == ["", "gen", "disc"]


def test_a_transform_of_ones_own_has_a_line_without_a_link(monkeypatch):
    from gan_nb import transforms
    half = lambda size: transforms.Transform("half", lambda grads, state, params: ({k: g / 2 for k, g in grads.items()}, state))
    monkeypatch.setitem(transforms.clips, "half", half)
    shown = explain(Run("ring", **small, clip_disc=("half", 1.)))
    line, = shown.of("link", "disc")
    assert line.values["factor"] == pytest.approx(.5) and line.where is None and line.link() == "" and line.formula
    assert "half" in shown._repr_html_()
