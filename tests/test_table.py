"""Every method with every rule, every transform and every loss: it trains, survives saving, and goes on with the same bits."""
import itertools

import pytest
import torch

from gan_nb import Recipe, Run
from gan_nb.losses import losses
from gan_nb.recipes import methods
from gan_nb.rules import rules
from gan_nb.training import _flatten
from gan_nb.transforms import clips, normalizers

BOUNDS = {"value": 0.1, "global_norm": 0.5, "block_norm": 0.3, "adaptive": 0.01, "quantile": 0.5}
TRANSFORMS = {
    "none": {},
    **{f"clip {kind}": {"clip": (kind, BOUNDS[kind])} for kind in clips},
    **{f"normalize {kind}": {"normalize": (kind, 1.0), "lr": 0.001} for kind in normalizers},
    "all at once": {"skip_not_finite": True, "centralize": True, "clip": ("quantile", 0.5), "early_momentum": 0.5, "normalize": ("block_rms", 1.0), "lr": 0.001},
}
METHODS = {**{name: {"method": name} for name in methods}, "lookahead(alternating)": {"lookahead": 3}, "lookahead(optimistic)": {"method": "optimistic", "lookahead": 3}}
RULES = {name: {"rule": name} for name in rules} | {"sgd": {"momentum": 0.5, "nesterov": True, "weight_decay": 1e-3}}
BASE = Recipe(data="ring", z_dim=2, hidden=(8,), batch_size=8, device="cpu", threads=1, unroll=2, rounds=50, halflife=5).replace(lr=0.01)


def state_of(run):
    s = run.state
    return _flatten({"params": s.params, "buffers": s.buffers, "rules": s.rules, "method": s.method, "average": s.average})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_trains_and_survives(method, rule, tmp_path):
    for transform, loss in itertools.product(TRANSFORMS, losses):
        recipe = BASE.replace(loss=loss, **{**METHODS[method], **RULES[rule], **TRANSFORMS[transform]})
        run = Run(recipe)
        for _ in range(20): run.step()
        file = run.save(tmp_path/"run.safetensors")
        other = Run.load(file, device="cpu")
        before, after = state_of(run), state_of(other)
        assert before.keys() == after.keys(), (transform, loss)
        for name, value in before.items(): assert value.dtype == after[name].dtype and torch.equal(value.nan_to_num(-1.), after[name].nan_to_num(-1.)), (transform, loss, name)
        run.step(), other.step()
        for name, value in state_of(run).items(): assert torch.equal(value.nan_to_num(-1.), state_of(other)[name].nan_to_num(-1.)), (transform, loss, name)
        assert all(v.isfinite().all() for p in run.state.params.values() for v in p.values()), (transform, loss)
