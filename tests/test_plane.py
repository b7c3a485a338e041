"Points in the plane: their densities, whose centres are modes, and what a pen may and may not draw."
import math

import numpy as np
import pytest
import torch

from gan_nb import Run
from gan_nb.core import stream
from gan_nb.coverage import cover
from gan_nb.data import Data, drawn, load, names
from gan_nb.evaluation import evaluate
from gan_nb.plane import mixtures, trace
from gan_nb.recipes import Recipe, recipe

new = ["line", "two_gaussians", "blobs", "moons", "spiral", "two_scales"]
with_modes = {"ring": 8, "grid": 25, "two_gaussians": 2, "blobs": 3, "two_scales": 2}
curves = ["line", "moons", "spiral"]
tiny = dict(z_dim=2, hidden=(8,), batch_size=16, rounds=40, halflife=5., device="cpu", threads=1)
hand = [[[-1, -.5], [0, .5], [1, -.5]], [[0, 1]]]


def reference(data, x):
    "The density as torch.distributions has it, in float64."
    sigma = torch.as_tensor(data.sigma, dtype=torch.float64).expand(len(data.centers))[:, None].expand(-1, 2)
    parts = torch.distributions.Independent(torch.distributions.Normal(data.centers.double(), sigma), 1)
    weights = torch.distributions.Categorical(torch.ones(len(data.centers), dtype=torch.float64))
    return torch.distributions.MixtureSameFamily(weights, parts).log_prob(x)


def test_the_old_sets_are_what_they_were():
    assert (load("ring").fingerprint, load("grid").fingerprint) == ("b4f4dc0b52ce", "5fa853cb667f")
    ring = load("ring")
    index = torch.randint(8, (6,), generator=(rng := stream(5)))
    assert torch.equal(ring.draw(6, stream(5)), ring.centers[index] + .01 * torch.randn(6, 2, generator=rng))
    assert torch.equal(ring.labels_held_out, torch.cdist(ring.held_out, ring.centers).argmin(1))


def test_the_new_sets_are_known_by_name():
    assert set(new) < set(names()) and set(mixtures) == {*new, "ring", "grid"}
    assert len({load(name).fingerprint for name in mixtures}) == 8
    for name in new: assert recipe("ring", data=name).data == name
    with pytest.raises(ValueError, match="did you mean 'moons'"): recipe("ring", data="moon")


@pytest.mark.parametrize("name", mixtures)
def test_a_set_is_drawn_anew_each_time_and_has_samples_held_out(name):
    data = load(name)
    assert data.shape == (2,) and data.train is None and data.held_out.shape == (10_000, 2)
    assert torch.equal(data.draw(5, stream(3)), data.draw(5, stream(3)))
    assert not torch.equal(data.draw(5, stream(3)), data.draw(5, stream(4)))
    if name in new: assert data.held_out.abs().max() < 1.8
    assert data.to("meta").device.type == "meta"


@pytest.mark.parametrize("name", mixtures)
def test_a_density_is_that_of_the_reference(name):
    data = load(name)
    x = torch.cat([data.draw(300, stream(1)), 2 * torch.randn(200, 2, generator=stream(2))]).double()
    torch.testing.assert_close(data.log_density(x), reference(data, x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(data.log_density(x.float()), reference(data, x).float(), rtol=2e-5, atol=2e-3)


@pytest.mark.parametrize("name", mixtures)
def test_samples_follow_the_density(name):
    "As many below each height of the density as its own integral says."
    data = load(name)
    drawn_ones = data.log_density(data.draw(20_000, stream(8)).double())
    span, sharp = (4.6, .0125) if name == "grid" else (1.8, .0025 if name == "ring" else .005)
    axis = torch.arange(-span, span, sharp, dtype=torch.float64)
    where = torch.cartesian_prod(axis, axis)
    logs = torch.cat([data.log_density(part) for part in where.split(200_000)])
    mass = logs.exp() * sharp**2
    assert abs(mass.sum() - 1) < 2e-3
    for level in drawn_ones.quantile(torch.tensor([.1, .5, .9], dtype=torch.float64)):
        assert abs(mass[logs < level].sum() - (drawn_ones < level).double().mean()) < .015


def test_only_modes_are_called_modes():
    for name, k in with_modes.items():
        data = load(name)
        assert torch.equal(data.modes, data.centers) and len(data.modes) == k
        assert data.labels_held_out.bincount(minlength=k).min() > .8 * 10_000 / k
    for data in (*map(load, curves), drawn(hand)): assert data.modes is None and data.labels_held_out is None
    assert Data("mine", (2,), centers=torch.eye(2), sigma=.1).modes is not None # a contract
    assert load(np.zeros((3, 2))).modes is None


@pytest.mark.parametrize("name", curves)
def test_nothing_counts_the_points_of_a_curve(name):
    run = Run(Recipe(name="curve").replace(data=name, **tiny))
    perfect = lambda n=64, seed=0: run.real(n, seed + 9)
    kind = "clusters" if name == "moons" else "points"                      # two moons fall apart by themselves
    assert cover(run).kind == kind
    run.samples = perfect
    found, scores = cover(run), evaluate(run, n_boot=0)
    assert found.kind == kind and found.reach > .9 and found.is_well
    assert "modes" not in scores.scores and scores.scores["Fréchet distance"] < .01


def test_each_mode_has_its_own_width():
    data = load("two_scales")
    x = data.draw(20_000, stream(1))
    near = torch.cdist(x, data.centers[1:]).flatten() < .2
    assert x[near].std(0).max() < .1 and x[~near].std(0).min() > .25
    assert "sigma 0.03 to 0.3" in repr(data) and data.fingerprint != Data("", (2,), centers=data.centers, sigma=.3).fingerprint
    run = Run(Recipe(name="scales").replace(data="two_scales", **tiny))
    run.samples = lambda n=64, seed=0: run.real(n, seed + 9)
    found, scores = cover(run), evaluate(run, n_boot=0).scores
    assert (found.kind, found.reached, found.lacking) == ("modes", 2, []) and found.high_quality > .97
    assert scores["modes"] == 2 and scores["high quality"] > .97 and scores["reverse KL"] < .01


def test_samples_alone_have_no_density():
    with pytest.raises(ValueError, match="own points: the density of given samples is not known; allowed are mixtures"):
        load(np.zeros((3, 2))).log_density(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"x: shape \(4, 3\) came; allowed is \(n, 2\)"):
        load("ring").log_density(torch.zeros(4, 3))


# A pen

def test_samples_are_uniform_along_the_strokes():
    data = drawn([[[-1, 0], [-.9, 0], [1, 0]], [[0, 1], [0, 1.5]]], sigma=.02) # 2 long, and half a unit
    x = data.draw(40_000, stream(3))
    assert abs((x[:, 1] > .5).double().mean() - .2) < .01
    along = x[x[:, 1] < .5, 0]
    share = torch.histc(along[along.abs() < .9], 9, -.9, .9) / len(along)
    assert (share - .1).abs().max() < .01
    assert abs(x[x[:, 1] < .5, 1].std() - .02) < 1e-3


def test_a_click_is_a_blob_and_as_dark_as_a_line():
    for strokes in ([[[.5, -.5]]], [np.array([[.5, -.5], [.5, -.5]])], torch.tensor([[[.5, -.5]]])):
        assert trace(strokes).centers == [[.5, -.5]]
    x = torch.tensor([[0., 1.], [-.5, 0.]])
    blob, line = drawn(hand).log_density(x).exp()
    assert abs(blob / line - 1) < .05


def test_numbers_come_in_any_kind_of_list_and_many_points_change_nothing():
    arrays = [np.array(s, dtype=np.float64) for s in hand]
    prints = {drawn(kind).fingerprint for kind in (hand, tuple(map(tuple, hand)), arrays, [a.astype(np.float32) for a in arrays],
                                                  [torch.from_numpy(a) for a in arrays])}
    assert len(prints) == 1 and prints != {drawn(hand, sigma=.06).fingerprint}
    slow = np.stack([np.linspace(-1, 1, 50_000), np.zeros(50_000)], 1) # a slow pen, and one that stands still
    slow[20_000:20_100] = slow[20_000]
    np.testing.assert_allclose(trace([slow]).centers, trace([[[-1, 0], [1, 0]]]).centers, atol=2e-6)


@pytest.mark.parametrize("strokes, message", [
    ([], "strokes: none came"), (np.zeros((0, 4, 2)), "strokes: none came"), (None, "strokes: NoneType came"),
    (3., "strokes: float came"), (np.array(3.), "strokes: ndarray came"), (torch.tensor(3.), "strokes: Tensor came"), ("0 0", "strokes: str came"), ({}, "strokes: dict came"),
    ([[]], r"stroke 0: shape \(0,\) came"), ([np.zeros((0, 2))], r"stroke 0: shape \(0, 2\) came"),
    ([[0, 0]], r"stroke 0: shape \(2,\) came; allowed are numbers \(m, 2\)"), ([3], r"stroke 0: shape \(\) came"),
    ([[[0, 0], [1]]], r"stroke 0: \[\[0, 0\], \[1\]\] came"), ([[["a", "b"]]], "stroke 0: "), ([None], "stroke 0: None came"),
    ([[[0, 0, 0]]], r"stroke 0: shape \(1, 3\) came"), ([[[None, 0]]], "stroke 0: "), ([[[1j, 0]]], "stroke 0: "),
    ([[[True, False]]], "stroke 0: "), ([[[10**400, 0]]], "stroke 0: "),
    ([[[0, 0]], [[math.nan, 0]]], "stroke 1: a coordinate of nan came; allowed are numbers from -3 to 3"),
    ([[[0, math.inf]]], "stroke 0: a coordinate of inf came"), ([[[0, 0], [0, -3.1]]], "stroke 0: a coordinate of -3.1 came"),
    ([np.zeros((10**6, 2))], "strokes: 1,000,000 points came; allowed are at most 100,000"),
    ([[[0, 0]]] * 100_001, "strokes: 100,001 points came"), ([[]] * 100_001, "strokes: 100,001 points came"),
    ([[[-3, 0], [3, 0]] * 100], "strokes: a way of 1,194.0, .* came; with a sigma of 0.05 allowed is at most 125"),
    ([[[0, 0]]] * 1001, "strokes: a way of 125.1, where a click counts as 2.5 sigma, came"),
])
def test_what_no_pen_draws_is_refused_in_one_line(strokes, message):
    with pytest.raises(ValueError, match=message) as e: drawn(strokes)
    assert "\n" not in str(e.value) and len(str(e.value)) < 250


@pytest.mark.parametrize("sigma", [0, .001, 1.5, -1, math.nan, "wide", None, True])
def test_a_pen_of_no_width_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma: .* came; allowed is"): drawn(hand, sigma)


def test_a_run_on_a_drawing_goes_on_with_the_same_bits(tmp_path):
    run = lambda: Run(Recipe(name="hand").replace(data=drawn(hand), **tiny), seed=3)
    through = run().fit(40, progress=False)
    run().fit(20, progress=False).save(tmp_path/"run")
    again = Run.load(tmp_path/"run", data=drawn([np.array(s, dtype=np.float32) for s in hand])).fit(20, progress=False)
    assert torch.equal(again.samples(50), through.samples(50))
    assert list(again.records["loss_gen"]) == list(through.records["loss_gen"])
    assert torch.equal(again.fork(round=10).real(5), through.real(5))
    with pytest.raises(ValueError, match="trained on other data"): Run.load(tmp_path/"run", data=drawn(hand, sigma=.1))
    alone = Run.load(tmp_path/"run")
    assert torch.equal(alone.samples(5), through.samples(5))
    with pytest.raises(ValueError, match="give the data again, as data="): alone.fit(1, progress=False)
