"What metrics are given: forms of an array that make no difference, and all that cannot be measured."
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from gan_nb import metrics as m
from gan_nb.core import stream
from gan_nb.data import load
from gan_nb.judges import judge, to_bytes
from gan_nb.scores import modes_captured, stacked_modes
from helpers import pair


def test_perfect_is_known_or_the_reason_given():
    "Without draws for the interval too, and at the smallest size"
    a, b = pair(10, 10, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, metric in EVERY.items():
            for score in metric(a, b, n_boot=0):
                assert score.interval is None, name
                assert score.perfect is not None and math.isfinite(score.perfect) or score.why, name
        alone = m.inception_score(a, splits=2)
        assert alone.perfect is None and "perfect is unknown: pass those of real samples" in repr(alone)
        assert pickle.loads(pickle.dumps(alone)).why == alone.why
        assert m.ndb(a, b, 3, n_boot=0).perfect == m.ndb(a, b, 3, n_boot=10).perfect


EVERY = {
    "frechet_distance": lambda a, b, **kw: [m.frechet_distance(a, b, **kw)],
    "kernel_distance": lambda a, b, **kw: [m.kernel_distance(a, b, **kw)],
    "sliced_wasserstein": lambda a, b, **kw: [m.sliced_wasserstein(a, b, 20, **kw)],
    "precision_recall": lambda a, b, **kw: [*m.precision_recall(a, b, **kw)],
    "density_coverage": lambda a, b, **kw: [*m.density_coverage(a, b, **kw)],
    "ndb": lambda a, b, **kw: [m.ndb(a, b, 10, **kw)],
    "inception_score": lambda a, b, **kw: [m.inception_score(a, b, 2, **kw)],
    "modes_captured": lambda a, b, **kw: [*modes_captured(a, b[:5], 1.0, **kw)[:3]],
}
each = pytest.mark.parametrize("metric", EVERY.values(), ids=EVERY)

@each
def test_the_same_each_time_and_nothing_touched(metric):
    "Intervals are seeded; global random numbers, the input and its kind make no difference"
    a, b = (x.astype(np.float32) for x in pair(200, 150, 3))
    states, kept = (torch.get_rng_state(), np.random.get_state()[1].copy()), a.copy()
    first = metric(a, b)
    looked = [(s, s.interval, s.perfect) for s in first]
    assert [(s, s.interval, s.perfect)
        for s in metric(torch.from_numpy(a), torch.from_numpy(b).double().requires_grad_())] == looked
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert (a == kept).all()
    late = metric(a, b)
    a[:] = 0    # what is looked at later was kept
    assert [(s, s.interval, s.perfect) for s in late] == looked
    other = metric(kept, b, seed=1)
    assert any(s.interval != t.interval for s, t in zip(other, first)) or metric is EVERY["modes_captured"]


@each
def test_what_cannot_be_measured_is_an_error(metric):
    a, b = pair(200, 150, 3)
    hole, far = a.copy(), a.copy()
    hole[7, 1], far[7, 1] = np.nan, np.inf
    for bad in (a[:0], a[:1], a[:9], a[:, :0], a[0], a[None], hole, far, 0 * a + 2, a > 0, a.astype(complex),
            1e200 * a, a.astype(str), a.astype(object), np.ma.masked_less(a, 0)):
        with pytest.raises(ValueError, match=r"^[\w, ]+: [^\n]*; allowed (is|are) [^\n]*$"): metric(bad, b)
        if metric is not EVERY["modes_captured"] or len(bad) < 2:
            with pytest.raises(ValueError, match=r"^[\w, ]+: [^\n]*; allowed (is|are) [^\n]*$"): metric(b, bad)
    with pytest.raises(ValueError, match="width"): metric(a, b[:, :2])
    with pytest.raises(TypeError, match="list"): metric(a.tolist(), b)
    for n_boot in (-1, None, 2.0, True, "a"):
        with pytest.raises(ValueError, match=f"n_boot: {n_boot!r} came; allowed is a whole number"):
            metric(a, b, n_boot=n_boot)
    for seed in (-1, None, 0.5):
        with pytest.raises(ValueError, match=f"seed: {seed!r} came; allowed is a whole number"): metric(a, b, seed=seed)


@pytest.mark.parametrize("bad, says", [
    (np.zeros((0, 3), int), "shape"), (np.arange(27).reshape(9, 3) % 10, "shape"),
    (np.full((20, 3), np.nan), "allowed are integers"),
    (np.arange(20), "shape"), (np.zeros((20, 3, 1), int), "shape"), (np.zeros((20, 0), int), "shape"),
    (np.arange(60).reshape(20, 3), "0 to 59 came"), (-np.arange(60).reshape(20, 3) % -10, "came; allowed are 0 to 9"),
    (np.arange(60).reshape(20, 3) % 10 > 4, "dtype bool"), (np.arange(60).reshape(20, 3).astype(str), "dtype"),
    (np.ma.masked_less(np.arange(60).reshape(20, 3) % 10, 3), "masked"),
    (np.arange(240).reshape(20, 12) % 10, "12 channels of 10 classes came; allowed are 100,000"),
    (torch.zeros(20, 1000, dtype=torch.long), "1000 channels"),
])
def test_labels_that_cannot_be_counted_are_an_error(bad, says):
    with pytest.raises(ValueError, match=rf"^labels: [^\n]*{says}"): stacked_modes(bad)


def test_labels_that_are_all_the_same_are_a_warning():
    "One mode is what a collapsed generator has; it is also what labels look like that nobody filled in."
    with pytest.warns(UserWarning, match=r"labels: all 20,000 are \[4, 4, 4\], which is one mode") as caught:
        found = stacked_modes(np.zeros((20_000, 3), int) + 4)
    assert caught[0].filename == __file__ and found.modes == 1 and found.reverse_kl == pytest.approx(math.log(1000))


def test_forms_of_an_array():
    "Views that run backwards, the other order of bytes, other widths of numbers"
    a, b = pair(200, 150, 3)
    for metric in EVERY.values():
        assert metric(a[::-1][::-1].astype(">f8"), b.astype("<f8")) == metric(a, b) == metric(np.asfortranarray(a),
            np.repeat(b, 2, 0)[::2])
    labels = np.arange(300).reshape(100, 3) * 7 % 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(stacked_modes(labels.astype(kind)).counts == stacked_modes(labels[::-1]).counts
            for kind in ("u1", ">i4", "u2", "i8"))


@each
def test_too_few_samples_are_a_warning(metric):
    a, b = pair(10, 10, 10)
    with pytest.warns(UserWarning, match="too few") as caught: metric(a, b)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("call, says", [
    (lambda a, b: modes_captured(a, b[:5], 0.0), "sigma: 0.0 came"),
    (lambda a, b: modes_captured(a, b[:5], [1.0, 1.0]), "sigma"),
    (lambda a, b: modes_captured(a, b[:5], math.nan), "sigma"),
    (lambda a, b: m.precision_recall(a, b, 0), "k: 0 came"),
    (lambda a, b: m.density_coverage(a, b, 150), "k: 150 came"),
    (lambda a, b: m.ndb(a, b, 1), "bins: 1 came"),
    (lambda a, b: m.ndb(a, b, 201), "bins: 201 came"),
    (lambda a, b: m.inception_score(a, splits=101), "splits: 101 came"),
    (lambda a, b: m.inception_score(a[:, :1]), "2 classes at least"),
    (lambda a, b: m.sliced_wasserstein(a, b, 0), "directions: 0 came"),
    (lambda a, b: m.kernel_distance(1e70 * a, b), "a, b: features up to"),
    (lambda a, b: stacked_modes(a), "allowed are integers"),
    (lambda a, b: stacked_modes(np.array([[0, 1, 10], [1, 2, 3]] * 5)), "labels: 0 to 10 came; allowed are 0 to 9"),
    (lambda a, b: stacked_modes(np.zeros((1, 3), int)), "labels: shape"),
    (lambda a, b: stacked_modes(np.arange(30).reshape(10, 3) % 2, 1),
        "classes: 1 came; allowed is a whole number, 2 or more"),
    (lambda a, b: stacked_modes(np.arange(30).reshape(10, 3) % 2, 2.0), "classes: 2.0 came"),
    (lambda a, b: modes_captured(a, b[:5], "a"), "sigma: 'a' came; allowed are a positive number and one for each"),
    (lambda a, b: modes_captured(a, b[:5], None), "sigma: None came"),
    (lambda a, b: modes_captured(a, b[:5], [[1], [1, 2]]), "sigma: "),
    (lambda a, b: m.precision_recall(a, b, 3.0),
        "k: 3.0 came; allowed is a whole number, 1 to 149 for 200 and 150 samples"),
    (lambda a, b: m.density_coverage(a, b, None), "k: None came"),
    (lambda a, b: m.ndb(a, b, 10.0), "bins: 10.0 came; allowed is a whole number, 2 to 200 for 200 real samples"),
    (lambda a, b: m.inception_score(a, splits=2.0), "splits: 2.0 came"),
    (lambda a, b: m.inception_score(a, splits=2, logits="yes"), "logits: 'yes' came"),
    (lambda a, b: m.sliced_wasserstein(a, b, 1.5), "directions: 1.5 came"),
    (lambda a, b: m.features(nn.Identity(), a, batch=0.5), "batch: 0.5 came"),
])
def test_settings_that_do_not_fit(call, says):
    with pytest.raises(ValueError, match=says): call(*pair(200, 150, 3))


def test_a_network_comes_back_as_it_was():
    "Also if it fails, and if only part of it was in evaluation mode"
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    net[1].eval()
    m.features(net, np.ones((5, 3)))
    with pytest.raises(RuntimeError): m.features(net, torch.ones(5, 2))
    with pytest.raises(ValueError, match="finite: False"): m.features(net, torch.full((5, 3), math.nan))
    with pytest.raises(ValueError, match="one row"): m.features(nn.Flatten(0), torch.ones(5, 3))
    with pytest.raises(ValueError, match="torch.int64 came, which the module does not take"):
        m.features(net, torch.ones(5, 3).long())
    # and one that takes integers is given them
    assert m.features(nn.Embedding(4, 2), torch.arange(4)).shape == (4, 2)
    assert [part.training for part in net.modules()] == [True, True, False, True]


@pytest.mark.parametrize("returned, says", [
    (lambda x: (x, x), "gave tuple"), (lambda x: {"a": x}, "gave dict"), (lambda x: None, "gave NoneType"),
    (lambda x: x.mean(), r"gave \(\)"), (lambda x: x[:2], r"gave \(2, 3\)"),
    (lambda x: x.flatten(), r"gave \(15,\)"), (lambda x: x * math.nan, "finite: False"),
    (lambda x: x[:, :0], r"gave \(5, 0\)"), (lambda x: x.cfloat(), "complex")])
def test_what_is_not_features(returned, says):
    class Net(nn.Module):
        def forward(self, x): return returned(x)
    with pytest.raises(ValueError, match=f"module: {says}|module: .*{says}"): m.features(Net(), torch.ones(5, 3))


def test_one_number_a_sample_is_a_feature():
    class Mean(nn.Module):
        def forward(self, x): return x.mean(1)
    assert m.features(Mean(), np.ones((5, 3))[::-1].astype(">f4"), batch=2).shape == (5, 1)
    for wrong in (judge(), Mean().forward, "net", None, Mean):
        with pytest.raises(TypeError, match="^module: .* came; allowed is an nn.Module"):
            m.features(wrong, torch.ones(5, 3))


def test_probabilities_or_logits():
    "Rounded probabilities are probabilities; what could be either is an error"
    z = 3 * torch.randn(1000, 10, generator=stream(1), dtype=torch.float64)
    p = z.softmax(1)
    exact = m.inception_score(p)
    assert exact == m.inception_score(p.numpy(), logits=False)
    assert exact == pytest.approx(m.inception_score(z), rel=1e-12) == m.inception_score(z, logits=True)
    assert m.inception_score(p.bfloat16()) == pytest.approx(exact, rel=2e-3)
    assert m.inception_score(p.half()) == pytest.approx(exact, rel=1e-3)
    with pytest.warns(UserWarning, match="they were rounded") as caught:
        assert m.inception_score(p.round(decimals=2)) == pytest.approx(exact, rel=0.05)
    assert caught[0].filename == __file__
    for unclear in (z.sigmoid(), 100 * p, 0.9 * p, p - 1e-5, p.round()):
        with pytest.raises(ValueError, match="^outputs: .*; allowed are probabilities, .* logits=True"):
            m.inception_score(unclear)
        assert math.isfinite(m.inception_score(unclear, logits=True))
    with pytest.raises(ValueError, match="^outputs: "): m.inception_score(z, logits=False)
    with pytest.raises(ValueError, match="^real: "): m.inception_score(p, z.sigmoid())


# The judge

def wrong_ranges():
    "Digits in every range but the right one."
    x = (load("digits").all("held_out", 200) + 1) / 2
    odd = x.clone()
    odd[0, 0, 0, 0] = -0.001
    noisy = (x + 0.1 * torch.randn(x.shape, generator=stream(0)))
    return {"[0, 1]": x, "an odd pixel": odd, "with noise": noisy.clamp(0, 1),
            "with noise below 0": noisy.clamp(-1, 1), "[-.5, .5]": x - 0.5, "[.5, 1]": x / 2 + 0.5,
            "minus the mean": x - x.mean(),
            "minus the mean of each pixel": x - x.mean(0), "[-1, 0]": x - 1, "twice": x / 127.5 - 1,
            "twice 2x - 1": 4 * x - 3, "0 to 255": 255 * x, "standardised": (x - 0.1307) / 0.3081,
            "half": x.half(), "cast [-1, 1]": (2 * x - 1).byte(), "cast x + 1": (2 * x).byte(),
            "cast [0, 1]": x.byte(), "mask": (x > 0.5).byte(), "bool": x > 0.5}


@pytest.mark.parametrize("name, x", wrong_ranges().items(), ids=wrong_ranges())
def test_a_wrong_range_is_never_judged(name, x):
    "Neither of many pictures nor of one"
    # one of these may be black and white
    for part in (x, x[:20], x.numpy(), *(x[i:i + 1] for i in (1, 50, 199) if name != "cast [-1, 1]")):
        with pytest.raises(ValueError, match=r"^x: [^\n]*; allowed (is|are) [^\n]*$"): judge().classify(part)


@pytest.mark.parametrize("paint",
    [lambda x: -torch.ones_like(x), lambda x: 0 * x, torch.ones_like,
                                   lambda x: 2 * torch.rand(x.shape, generator=stream(1)) - 1,
                                   lambda x: -1 + 0.01 * torch.rand(x.shape, generator=stream(1)),
                                   lambda x: 0.01 * x, lambda x: x.sign(),
                                   lambda x: torch.where(x > 0, x.sign(), -0.9921875 * torch.ones(1)), lambda x: x])
def test_whatever_a_generator_paints_is_judged_once_its_range_is_stated(paint):
    x = paint(load("digits").all("held_out", 50)).double()
    stated = to_bytes(x)
    assert stated.dtype == torch.uint8
    assert torch.equal(stated, ((x + 1) * 127.5).round().byte())
    assert torch.equal(stated, to_bytes((x.numpy() + 1) * 127.5, 0, 255))
    assert judge().classify(stated).shape == (50,) and judge().features(stated).isfinite().all()
