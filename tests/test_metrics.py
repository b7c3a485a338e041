"Metrics against torchmetrics, scipy, prdc and brute force; perfect generators."
import json
import math
import pickle
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from torch import nn

import seams
from gan_nb import metrics as m
from gan_nb.core import stream
from gan_nb.data import load
from gan_nb.scores import modes_captured, stacked_modes
from helpers import pair


SIZES = [(150, 150, 2), (300, 200, 5), (1200, 2300, 16)]    # the last is more than a block

@pytest.fixture(autouse=True)
def no_torchmetrics_noise():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchmetrics")
        warnings.filterwarnings("ignore", message=".*(buffer|memory footprint).*")
        yield


class Features(nn.Module):
    "A feature extractor for torchmetrics; what comes are features already."
    def __init__(self, d):
        super().__init__()
        self.num_features = d
    def forward(self, x): return x


# Against libraries

@pytest.mark.parametrize("n, k, d", SIZES)
def test_frechet_equals_torchmetrics(n, k, d):
    from torchmetrics.image.fid import FrechetInceptionDistance
    a, b = pair(n, k, d)
    theirs = FrechetInceptionDistance(feature=Features(d), normalize=True).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(a), real=True)
    theirs.update(torch.from_numpy(b), real=False)
    assert m.frechet_distance(a, b) == pytest.approx(theirs.compute().item(), rel=1e-5)


@pytest.mark.parametrize("n, k, d", SIZES)
def test_kernel_equals_torchmetrics(n, k, d):
    "torchmetrics takes subsets of one size from both"
    from torchmetrics.image.kid import KernelInceptionDistance
    a, b = (x[:min(n, k)] for x in pair(n, k, d))
    theirs = KernelInceptionDistance(feature=Features(d), subsets=1, subset_size=len(a),
        normalize=True).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(a), real=True)
    theirs.update(torch.from_numpy(b), real=False)
    assert m.kernel_distance(a, b) == pytest.approx(theirs.compute()[0].item(), rel=1e-5)


@pytest.mark.parametrize("splits", [1, 10])
def test_inception_equals_torchmetrics(splits):
    "torchmetrics shuffles with torch's global generator"
    from torchmetrics.image.inception import InceptionScore
    logits = 3 * torch.randn(1000, 10, generator=stream(splits), dtype=torch.float64)
    theirs = InceptionScore(feature=Features(10), splits=splits)
    theirs.update(logits)
    torch.manual_seed(5)
    expected = theirs.compute()[0].item()
    torch.manual_seed(5)
    shuffled = logits[torch.randperm(1000)]
    assert m.inception_score(shuffled, splits=splits) == pytest.approx(expected, rel=1e-5)
    assert m.inception_score(shuffled.softmax(1), splits=splits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n, k", [(100, 100), (333, 200), (150, 1501)])
def test_wasserstein_equals_scipy(n, k):
    a, b = pair(n, k, 1)
    assert m.sliced_wasserstein(a, b) == pytest.approx(scipy.stats.wasserstein_distance(a[:, 0], b[:, 0]), rel=1e-9)
    a, b = pair(n, k, 4)
    along = nn.functional.normalize(torch.randn(4, 30, generator=stream(2), dtype=torch.float64), dim=0).numpy()
    expected = np.mean([scipy.stats.wasserstein_distance(a @ v, b @ v) for v in along.T])
    assert m.sliced_wasserstein(a, b, directions=30, seed=2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n, k, d", SIZES)
@pytest.mark.parametrize("nearest", [1, 3, 5])
def test_neighbours_equal_brute_force(n, k, d, nearest):
    "The definitions of Naeem et al. (2020), as their package prdc computes them: the rim is outside."
    real, fake = pair(n, k, d)
    between = cdist(real, fake)
    radius = lambda x: np.sort(cdist(x, x), axis=1)[:, nearest]
    inside = between < radius(real)[:, None]
    precision, recall = m.precision_recall(real, fake, nearest)
    density, coverage = m.density_coverage(real, fake, nearest)
    assert precision == pytest.approx(inside.any(0).mean(), rel=1e-12)
    assert recall == pytest.approx((between < radius(fake)[None]).any(1).mean(), rel=1e-12)
    assert density == pytest.approx(inside.sum(0).mean() / nearest, rel=1e-12)
    assert coverage == pytest.approx((between.min(1) < radius(real)).mean(), rel=1e-12)


@pytest.mark.parametrize("n, k, d", SIZES)
def test_neighbours_equal_prdc(n, k, d, capsys):
    "The package of Naeem et al. itself; scikit-learn's distances round differently in the last digits"
    from prdc import compute_prdc
    real, fake = pair(n, k, d)
    theirs = compute_prdc(real, fake, 5)
    ours = {**m.precision_recall(real, fake, 5)._asdict(), **m.density_coverage(real, fake, 5)._asdict()}
    for name in theirs: assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name


def test_bins():
    "The z-test bin by bin, and bins about as tight as those of scikit-learn"
    real, fake = pair(1500, 1200, 3)
    centers = seams.kmeans(torch.from_numpy(real), 20, stream(0)).numpy()
    owner = lambda x: ((x[:, None] - centers[None])**2).sum(2).argmin(1)
    differ = []
    for i in range(20):
        x, y = (owner(real) == i).sum(), (owner(fake) == i).sum()
        p = (x + y) / (1500 + 1200)
        z = (x / 1500 - y / 1200) / math.sqrt(p * (1 - p) * (1 / 1500 + 1 / 1200))
        differ.append(2 * scipy.stats.norm.sf(abs(z)) < 0.05)
    assert m.ndb(real, fake, 20) == pytest.approx(np.mean(differ)) and 0 < np.mean(differ) < 1
    theirs = KMeans(20, n_init=1, random_state=0).fit(real).inertia_
    assert ((real - centers[owner(real)])**2).sum() < 1.05 * theirs


def test_modes_equal_brute_force():
    "Strictly less than 3 sigma, shares of the good samples only, empty modes add nothing"
    rng = np.random.default_rng(0)
    centers, sigma = rng.normal(size=(7, 3)) * 3, rng.uniform(0.1, 0.4, 7)
    x = centers[rng.integers(6, size=900)] + 0.3 * rng.normal(size=(900, 3))
    distance = np.linalg.norm(x[:, None] - centers[None], axis=2) / sigma
    mode = distance.argmin(1)[distance.min(1) < 3]
    p = np.bincount(mode, minlength=7) / len(mode)
    found = modes_captured(x, centers, sigma)
    assert found.modes == (p > 0).sum()
    assert found.high_quality == len(mode) / 900
    assert found.counts == tuple(np.bincount(mode, minlength=7))
    assert found.reverse_kl == pytest.approx(sum(q * math.log(7 * q) for q in p if q), rel=1e-12)
    edge = modes_captured(np.array([[3., 0], [10, 0], [2.999, 0]] * 20), np.array([[0., 0], [10, 0]]), 1.0, n_boot=0)
    assert edge.counts == (20, 20) and edge.modes == 2 and edge.reverse_kl == 0


# Perfect generators

@pytest.mark.parametrize("name", ["ring", "grid"])
def test_data_scores_as_a_perfect_generator(name):
    data = load(name)
    drawn = [modes_captured(data.draw(2500, stream(seed, 11 + len(name))), data.centers, data.sigma)
        for seed in range(100)]
    k = len(data.centers)
    perfect = dict(modes=k, high_quality=1 - math.exp(-4.5), reverse_kl=(k - 1) / 5000)
    for what, expected in perfect.items():
        scores = [getattr(found, what) for found in drawn]
        assert scores[0].perfect == pytest.approx(expected, rel=3e-3)
        assert np.mean([s.interval[0] <= s.perfect <= s.interval[1] for s in scores]) >= 0.9
        assert abs(np.mean(scores) - scores[0].perfect) <= 4 * np.std(scores) / 10
        assert all(s.interval[0] <= s <= s.interval[1] for s in scores)


@pytest.mark.parametrize("n", [10_000, 26_000])
def test_fair_triples_score_as_a_perfect_generator(n):
    scores = stacked_modes(torch.randint(10, (n, 3), generator=stream(n)))
    for score in scores[:2]: assert score.interval[0] <= score.perfect <= score.interval[1]
    assert scores.reverse_kl.perfect == pytest.approx(999 / (2 * n), rel=0.02)


@pytest.mark.parametrize("metric",
    ["frechet_distance", "kernel_distance", "sliced_wasserstein", "ndb", "precision", "recall", "density", "coverage"])
def test_intervals_hold_what_is_perfect(metric):
    "Two sets of one distribution, 30 times"
    def score(i):
        a, b = np.random.default_rng([i, 7]).normal(size=(1000, 4)), np.random.default_rng([i, 8]).normal(size=(600, 4))
        if metric in ("precision", "recall"): return getattr(m.precision_recall(a, b), metric)
        if metric in ("density", "coverage"): return getattr(m.density_coverage(a, b), metric)
        if metric in ("ndb", "sliced_wasserstein"): return getattr(m, metric)(a, b, 20)
        return getattr(m, metric)(a, b)
    scores = [score(i) for i in range(30)]
    assert np.mean([s.interval[0] <= s.perfect <= s.interval[1] for s in scores]) >= 0.85
    assert abs(np.mean(scores) - np.mean([s.perfect for s in scores])) < 5 * np.std(scores) / 30**0.5
    a, b = pair(1000, 600, 4)    # and not what is far from perfect
    worse = {"precision": lambda: m.precision_recall(a, 3 * b).precision,
             "recall": lambda: m.precision_recall(a, b / 3).recall,
             "density": lambda: m.density_coverage(a, 3 * b).density,
             "coverage": lambda: m.density_coverage(a, b / 3).coverage,
             "ndb": lambda: m.ndb(a, b, 20)}.get(metric, lambda: getattr(m, metric)(a, b))()
    assert not worse.interval[0] <= worse.perfect <= worse.interval[1]


def two_sets(i, n, k, d, *address):
    "The i-th pair of sets of one distribution."
    return [np.random.default_rng([i, j, n, k, *address]).normal(size=(size, d)) for j, size in enumerate((n, k))]


@pytest.mark.parametrize("n, k, bins", [(400, 2000, 50), (2000, 400, 50), (500, 500, 50), (1000, 600, 20)])
def test_perfect_bins(n, k, bins):
    "The average over repeated draws; the bins fit the real samples, so fewer of them differ than of random counts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = [m.ndb(*two_sets(i, n, k, 4), bins, n_boot=0) for i in range(80)]
    perfect = [s.perfect for s in drawn[:10]]
    assert abs(np.mean(drawn) - np.mean(perfect)) < 4 * math.hypot(np.std(drawn) / 80**0.5, np.std(perfect) / 10**0.5)
    if k == 2000:
        assert np.mean(perfect) < 0.04    # the 5 % of random counts, or what is left of them in small bins, is 0.047


@pytest.mark.parametrize("n, k", [(400, 2000), (300, 1500), (1000, 250), (600, 600)])
@pytest.mark.parametrize("d", [4, 8])
def test_perfect_recall(n, k, d):
    "With more generated samples than real ones as well; with (400, 2000) that is 2 points above the recall among 400"
    drawn = [m.precision_recall(*two_sets(i, n, k, d, d), n_boot=0) for i in range(40)]
    for score, allowed in (("recall", 0.008), ("precision", 0.003)):
        found, perfect = [getattr(s, score) for s in drawn], [getattr(s, score).perfect for s in drawn]
        noise = math.hypot(np.std(found), np.std(perfect)) / 40**0.5
        assert abs(np.mean(found) - np.mean(perfect)) < allowed + 3 * noise


def test_a_score_is_a_float():
    a, b = pair(200, 100, 2)
    score = m.frechet_distance(a, b)
    assert isinstance(score, float) and type(score * 2) is float and type(score.value) is float
    assert json.loads(json.dumps([score])) == [score.value] == np.array([score]).tolist() == torch.tensor([score],
        dtype=torch.float64).tolist()
    assert f"{score}" == str(score.value) == f"{score.value}" and "95 %" in repr(score)
    copy = pickle.loads(pickle.dumps(score))
    assert (copy, copy.interval, copy.perfect, copy.n) == (score, score.interval, score.perfect, 100)
    assert m.frechet_distance(a, b, n_boot=0).interval is None
