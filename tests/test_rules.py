"Transforms and rules against optax, numpy and torch."
import math

import numpy as np
import optax
import pytest
import torch

from gan_nb import rules, Run, transforms as t
from gan_nb.core import global_norm
from gan_nb.rules import inverse_sqrt, sgd


SHAPES = {"1.weight": (5, 3), "1.bias": (5,), "conv.weight": (4, 2, 3, 3), "conv.bias": (4,), "last.weight": (2, 5),
    "last.bias": (2,)}

def random_tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=s).astype(np.float32) * np.float32(scale) for k, s in SHAPES.items()}


def ours(transform, grads, params):
    "The outputs of several updates in a row."
    tensors = lambda tree: {k: torch.from_numpy(v) for k, v in tree.items()}
    state, outs = transform.init(tensors(params)), []
    for g in grads:
        out, state = transform.update(tensors(g), state, tensors(params))
        outs.append({k: v.numpy() for k, v in out.items()})
    return outs


def theirs(transform, grads, params):
    state, outs = transform.init(params), []
    for g in grads:
        out, state = transform.update(g, state, params)
        outs.append({k: np.asarray(v) for k, v in out.items()})
    return outs


def apart(name):
    "optax's adaptive clip for the layout of torch: unit i is what stands at index i of the first dimension."
    return optax.masked(optax.adaptive_grad_clip(0.3,
        axis=None if SHAPES[name][1:] == () else tuple(range(1, len(SHAPES[name])))), {k: k == name for k in SHAPES})


def adaptive():
    return optax.chain(*(apart(name) for name in SHAPES if not name.startswith("last")))


PAIRS = {
    "clip_by_value": (lambda: t.clip_by_value(0.4), lambda: optax.clip(0.4)),
    "clip_by_global_norm": (lambda: t.clip_by_global_norm(2.0), lambda: optax.clip_by_global_norm(2.0)),
    "clip_by_global_norm, wide": (lambda: t.clip_by_global_norm(1e4), lambda: optax.clip_by_global_norm(1e4)),
    "adaptive_clip": (lambda: t.adaptive_clip(0.3), adaptive),
    "normalize_by_global_norm": (lambda: t.normalize_by_global_norm(0.7),
        lambda: optax.normalize_by_update_norm(0.7, eps=0.0)),
    "scale_by_trust_ratio": (lambda: t.scale_by_trust_ratio(0.2),
        lambda: optax.scale_by_trust_ratio(trust_coefficient=0.2)),
    "scale_by_sign": (lambda: t.scale_by_sign(), lambda: optax.scale_by_sign()),
    "momentum": (lambda: t.momentum(0.8), lambda: optax.trace(0.8)),
    "chain": (lambda: t.chain(t.clip_by_value(0.5), t.momentum(0.5), t.clip_by_global_norm(1.0)),
        lambda: optax.chain(optax.clip(0.5), optax.trace(0.5), optax.clip_by_global_norm(1.0))),
}

@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", range(5))
def test_transforms_equal_optax(name, seed):
    make, make_theirs = PAIRS[name]
    grads, params = [random_tree(10 * seed + i, 10.0**(i - 1)) for i in range(3)], random_tree(seed + 100)
    for a, b in zip(ours(make(), grads, params), theirs(make_theirs(), grads, params)):
        for key in SHAPES: np.testing.assert_allclose(a[key], b[key], rtol=2e-6, atol=1e-6, err_msg=f"{name} {key}")


def test_centralize_equals_optax_up_to_vectors():
    "optax takes the mean over all dimensions but the first, and so do we"
    grads, params = [random_tree(0)], random_tree(1)
    a, b = ours(t.centralize(), grads, params)[0], theirs(optax.centralize(), grads, params)[0]
    for key in SHAPES: np.testing.assert_allclose(a[key], b[key], atol=1e-6, err_msg=key)


def test_orthogonalize_equals_optax():
    from optax.contrib import muon
    coefficients, steps = (3.4445, -4.7750, 2.0315), 5
    for rows, columns in ((7, 11), (9, 9), (12, 5)):
        g = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
        tx = muon(1.0, beta=0.0, nesterov=False, ns_coeffs=coefficients, ns_steps=steps, weight_decay=0.0)
        out, _ = tx.update({"w": g}, tx.init({"w": g}), {"w": g})
        mine = ours(t.orthogonalize(), [{"w": g}], {"w": g})[0]["w"]
        factor = max(1, columns / rows)**0.5     # optax multiplies by it, since its matrices are (inputs, outputs)
        np.testing.assert_allclose(-np.asarray(out["w"]) / factor, mine, atol=2e-3)


def test_skipping_follows_optax():
    "parameters after finite and broken gradients, against apply_if_finite"
    rng = np.random.default_rng(0)
    grads = [{"w": rng.normal(size=3).astype(np.float32)} for _ in range(6)]
    for i in (1, 4): grads[i]["w"][0] = np.nan if i == 1 else np.inf
    rule = sgd(0.1, momentum=0.9, transform=t.skip_not_finite())
    w = {"w": torch.ones(3)}; state = rule.init(w)
    tx = optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 10)
    theirs_w = {"w": np.ones(3, np.float32)}; theirs_state = tx.init(theirs_w)
    for g in grads:
        w, state = rule.step(w, {"w": torch.from_numpy(g["w"])}, state)
        updates, theirs_state = tx.update(g, theirs_state, theirs_w)
        theirs_w = optax.apply_updates(theirs_w, updates)
        np.testing.assert_allclose(w["w"].numpy(), np.asarray(theirs_w["w"]), atol=1e-6)
    assert t.skips(state["transform"])["skipped"] == int(theirs_state.total_notfinite) == 2


RULES = {
    "sgd": (sgd(0.1), optax.sgd(0.1)),
    "nesterov": (sgd(0.1, momentum=0.9, nesterov=True), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    "adam": (rules.adam(0.01, betas=(0.5, 0.9)), optax.adam(0.01, b1=0.5, b2=0.9)),
    "optimistic_adam": (rules.optimistic_adam(0.01, betas=(0.5, 0.9)),
        optax.optimistic_adam_v2(0.01, b1=0.5, b2=0.9, nesterov=False)),
    "warm-up": (sgd(rules.warmup(0.1, 10)), optax.sgd(lambda count: 0.1 * (count + 1) / 10)),
    "cosine": (sgd(rules.cosine(0.1, 10)), optax.sgd(optax.cosine_decay_schedule(0.1, 10))),
    "linear": (sgd(rules.linear(0.1, 8)), optax.sgd(optax.linear_schedule(0.1, 0.0, 8))),
    "inverse": (sgd(rules.inverse(0.1)), optax.sgd(lambda count: 0.1 / (count + 1))),
    "inverse_sqrt": (sgd(inverse_sqrt(0.1)), optax.sgd(lambda count: 0.1 / (count + 1)**0.5)),
}

@pytest.mark.parametrize("name", RULES)
def test_rules_equal_optax(name):
    rule, tx = RULES[name]
    start = random_tree(0)
    w = {k: torch.from_numpy(v) for k, v in start.items()}; state = rule.init(w)
    other, other_state = dict(start), tx.init(start)
    for i in range(10):
        g = random_tree(i + 1)
        w, state = rule.step(w, {k: torch.from_numpy(v) for k, v in g.items()}, state)
        updates, other_state = tx.update(g, other_state, other)
        other = optax.apply_updates(other, updates)
    for key in SHAPES: np.testing.assert_allclose(w[key].numpy(), np.asarray(other[key]), atol=3e-6, err_msg=key)


def test_gradients_go_to_the_tensor_of_their_name():
    "whatever the order of the names, for every rule and transform"
    start, order = {k: torch.from_numpy(v) for k, v in random_tree(0).items()}, list(SHAPES)[::-1]
    transforms = [None, *(make() for make, _ in PAIRS.values())]
    for transform in transforms:
        for rule in (sgd(0.1, momentum=0.5, weight_decay=0.1, transform=transform),
                rules.adam(0.1, transform=transform), rules.graft(sgd(1.0, momentum=0.5), rules.adam(0.1), transform)):
            straight = turned = start; states = [rule.init(start), rule.init({k: start[k] for k in order})]
            for i in range(3):
                g = {k: torch.from_numpy(v) for k, v in random_tree(i + 1).items()}
                straight, states[0] = rule.step(straight, g, states[0])
                turned, states[1] = rule.step(turned, {k: g[k] for k in order}, states[1])
            for key in SHAPES:
                # sums of norms may be taken in another order
                torch.testing.assert_close(turned[key], straight[key], rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="grads: the names .* came; allowed are those of params"):
        sgd(0.1).step(start, {k: g[k] for k in order[1:]}, sgd(0.1).init(start))


def test_a_grafted_step_is_no_longer_than_the_other_rules():
    "also where the direction is zero, fades, or is so small that its norm is zero in float32"
    w, loop = {"w": torch.zeros(2)}, [[1.0, 2.0], *80 * [[0.0, 0.0]], [3e-23, 4e-23], [1e-40, 0.0], *300 * [[0.0, 0.0]]]
    mixed, alone = rules.graft(sgd(1.0, momentum=0.5), rules.adam(0.001)), rules.adam(0.001)
    state, other = mixed.init(w), alone.init(w)
    for g in loop:
        after, state = mixed.step({"w": torch.zeros(2)}, {"w": torch.tensor(g)}, state)
        adams, other = alone.step({"w": torch.zeros(2)}, {"w": torch.tensor(g)}, other)
        assert after["w"].norm() <= 1.001 * adams["w"].norm()
    run = Run("adam", rule="graft", lr_disc=3e-3, lr_gen=1e-5, momentum=0.5, loss="hinge", hidden=(32,),
        batch_size=32, seed=0, device="cpu")
    run.fit(120, progress=False)        # from round 80 on the hinge is satisfied and the gradient exactly zero
    assert run.records["loss_disc"][-1] == 0 and max(p.abs().max() for p in run.state.params["disc"].values()) < 10


def test_autoclip_is_the_percentile_of_all_norms():
    "Seetharaman (2020): numpy.percentile of the history, the newest included"
    rng = np.random.default_rng(0)
    lengths, clip = rng.lognormal(size=200), t.clip_by_quantile(0.1)
    state = clip.init({"w": torch.ones(3)})
    for i, length in enumerate(lengths):
        out, state = clip.update({"w": torch.tensor([length, 0, 0], dtype=torch.float64)}, state)
        assert math.isclose(global_norm(out), min(length, np.percentile(lengths[:i + 1], 10)), rel_tol=1e-9)
