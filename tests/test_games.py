"Methods of play against closed forms, published figures and proved bounds."
import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from gan_nb import rules, transforms as t
from gan_nb.games import alternating, consensus, extragradient, lookahead, optimistic, past_extragradient, proximal_point, simultaneous, symplectic, unrolled
from gan_nb.round import trajectory
from gan_nb.toys import bilinear, dirac, largest_residual, matrix_game
from gan_nb.rules import box, inverse_sqrt, sgd, simplex


# The bilinear game, any step size, start and matrix

def rotating(A, z):
    "The squared length of z in the plane of each singular value, and in what no player can move."
    u, s, v = np.linalg.svd(A)
    a, b, k = u.T @ z[:len(A)], v @ z[len(A):], len(s)
    return s, a[:k]**2 + b[:k]**2, (a[k:]**2).sum() + (b[k:]**2).sum()


LAWS = {
    "simultaneous": (lambda rule: simultaneous(rule), lambda h: 1 + h**2),
    "extragradient": (lambda rule: extragradient(rule), lambda h: 1 - h**2 + h**4),
    "proximal point": (lambda rule: proximal_point(rule), lambda h: 1 / (1 + h**2)),
}

@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("seed", range(4))
def test_bilinear_laws(name, seed):
    rng = np.random.default_rng(seed)
    n, m = [(1, 1), (2, 2), (3, 2), (2, 4)][seed]
    A, z, eta, T = rng.normal(size=(n, m)), rng.normal(size=n + m), rng.uniform(0.02, 0.3), 60
    method, law = LAWS[name]
    path = trajectory(bilinear(torch.tensor(A)), method(sgd(eta)), torch.tensor(z), T)
    s, plane, still = rotating(A, z)
    for rounds in (1, 7, T):
        expected = math.sqrt((plane * law(eta * s)**rounds).sum() + still)
        assert math.isclose(path[rounds].norm(), expected, rel_tol=1e-12), rounds


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", [consensus, symplectic])
def test_bilinear_consensus(method, seed):
    "weight g: the factor is (1 - eta g s^2)^2 + (eta s)^2; the game is all rotation, so symplectic play is the same"
    rng = np.random.default_rng(seed)
    A, z, eta, weight, T = rng.normal(size=(2, 2)), rng.normal(size=4), rng.uniform(0.02, 0.1), rng.uniform(0.2,
        1.0), 50
    path = trajectory(bilinear(torch.tensor(A)), method(sgd(eta), weight), torch.tensor(z), T)
    s, plane, _ = rotating(A, z)
    expected = math.sqrt((plane * ((1 - eta * weight * s**2)**2 + (eta * s)**2)**T).sum())
    assert math.isclose(path[-1].norm(), expected, rel_tol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_bilinear_normalised_and_clipped(seed):
    "every step is at right angles to the position, so the squared distance grows by the squared length of the step"
    rng = np.random.default_rng(seed)
    A, z, eta, T = torch.tensor(rng.normal(size=(3, 2))), torch.tensor(rng.normal(size=5)), rng.uniform(0.02, 0.3), 300
    unit = t.normalize_by_global_norm()
    path = trajectory(bilinear(A), simultaneous(sgd(eta, transform=unit)), z, T)
    assert math.isclose(path[-1].norm(), math.sqrt(z @ z + eta**2 * T), rel_tol=1e-12)
    path = trajectory(bilinear(A), simultaneous(sgd(inverse_sqrt(eta), transform=unit)), z, T)
    assert math.isclose(path[-1].norm(), math.sqrt(z @ z + eta**2 * sum(1 / k for k in range(1, T + 1))), rel_tol=1e-12)
    square, bound = float(z @ z), 0.4
    path = trajectory(bilinear(A), simultaneous(sgd(eta, transform=t.clip_by_global_norm(bound))), z, T)
    for at in path[:-1]: square += eta**2 * min(bound, torch.cat([A @ at[3:], A.T @ at[:3]]).norm().item())**2
    assert math.isclose(path[-1].norm(), math.sqrt(square), rel_tol=1e-12)


def test_bilinear_unrolled():
    "k steps ahead: the generator's gradient is A y + 2 eta k A A^T x after the discriminator's step"
    A, eta, k = torch.tensor([[1., 2.], [0., 1.]], dtype=torch.float64), 0.05, 4
    x, y = torch.tensor([1., -1.], dtype=torch.float64), torch.tensor([0.5, 2.], dtype=torch.float64)
    path = trajectory(bilinear(A), unrolled(sgd(eta), k), torch.cat([x, y]), 20)
    for at in path[1:]:
        y = y + eta * A.T @ x
        x = x - eta * (A @ y + 2 * eta * k * A @ A.T @ x)
        torch.testing.assert_close(at, torch.cat([x, y]), rtol=1e-12, atol=1e-12)


def agrees(value, text):
    "Is `value` what `text` says, to the digits given?"
    unit = 10.0**Decimal(text).as_tuple().exponent
    return abs(float(value) - float(text)) <= 0.51 * unit


unit = t.normalize_by_global_norm
# the table's figures at T = 100, 1,000 and 10,000: last iterate, average; eta 0.1, start ("1", "1"); averages are uniform, at 1/sqrt t by the size of the steps
PUBLISHED = {
    "simultaneous": (simultaneous(sgd(0.1)), ("2.326", "204.7", "5.7e21"), ("0.363", "2.05")),
    "alternating": (alternating(sgd(0.1), order="gen_first"), ("1.394", "1.399", "1.347"),
        ("0.259", "6.8e-3", "1.8e-3")),
    "extragradient": (extragradient(sgd(0.1)), ("0.8599", "9.773e-3", "3.5e-22"), ("0.214", "1.39e-2", "1.4e-3")),
    "past extragradient": (past_extragradient(sgd(0.1)), ("0.8600", "8.916e-3", "1.3e-22"),
        ("0.216", "1.41e-2", "1.4e-3")),
    "optimistic": (optimistic(sgd(0.1)), ("0.8600", "8.916e-3", "1.3e-22"), ("0.216", "1.41e-2", "1.4e-3")),
    # slow; its law is tested above
    "proximal point": (proximal_point(sgd(0.1)), ("0.8599", "9.769e-3"), ("0.220", "1.41e-2")),
    "consensus": (consensus(sgd(0.1), 1.0), ("6.94e-5", "1.1e-43", "0.0e-300"), ("0.0906", "9.1e-3", "9.1e-4")),
    "negative momentum": (alternating(sgd(0.1, momentum=-0.5), order="gen_first"), ("1.213", "0.316", "5.1e-7"),
        ("0.080", "2.4e-2", "2.1e-3")),
    "lookahead": (lookahead(simultaneous(sgd(0.1)), k=6, alpha=0.5), ("0.888", "9.38e-3", "1.6e-22"),
        ("0.276", "2.8e-2", "2.8e-3")),
    "1/sqrt t": (simultaneous(sgd(inverse_sqrt(0.1))), ("1.451", "1.468", "1.485"), ("1.249", "0.029", "0.070")),
    "normalised": (simultaneous(sgd(0.1, transform=unit())), ("1.732", "3.464", "10.10"), ("0.101", "0.140", "0.103")),
    "normalised per player": (simultaneous((sgd(0.1, transform=unit()),) * 2), ("2.04", "4.42", "10.2"),
        ("0.088", "0.074", "0.130")),
    "normalised, 1/sqrt t": (simultaneous(sgd(inverse_sqrt(0.1), transform=unit())), ("1.432", "1.440", "1.448"),
        ("1.33", "0.56", "0.117")),
    "clipped": (simultaneous(sgd(0.1, transform=t.clip_by_global_norm(0.5))), ("1.5", "2.121", "5.196"),
        ("0.842", "0.130", "0.050")),
}

@pytest.mark.parametrize("name", PUBLISHED)
def test_bilinear_table(name):
    method, last, average = PUBLISHED[name]
    rounds = 10**(len(last) + 1)
    path = trajectory(bilinear([[1.0]]), method, torch.ones(2, dtype=torch.float64), rounds)
    weight = torch.arange(1, rounds + 1, dtype=torch.float64)[:, None]**(-0.5 if "1/sqrt" in name else 0.0)
    means = (weight * path[1:]).cumsum(0) / weight.cumsum(0)
    for T, expected in zip((100, 1000, 10_000), last): assert agrees(path[T].norm(), expected), (T, path[T].norm())
    for T, expected in zip((100, 1000, 10_000), average):
        assert agrees(means[T - 1].norm(), expected), (T, means[T - 1].norm())


# The Dirac-GAN, start (1, 1), h = 0.2, the distance after 500 steps (Mescheder 2018's own settings and code)

H, START = 0.2, torch.ones(2, dtype=torch.float64)
WAYS = {"simultaneous": lambda r: simultaneous(r), "alternating 1": lambda r: alternating(r),
    "alternating 5": lambda r: alternating(r, n_disc=5)}
def far(game, method, rounds=500): return trajectory(game, method, START, rounds)[-1].norm().item()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loss,penalty,weight",
    [("minimax", "r1", 0.3), ("minimax", "r1", 1.0), ("non_saturating", "r1", 0.3)])
def test_dirac_zero_centred_penalties_converge(way, loss, penalty, weight):
    assert far(dirac(loss, penalty, weight), WAYS[way](sgd(H))) < 1e-5


@pytest.mark.parametrize("way", WAYS)
def test_dirac_without_a_cure(way):
    assert far(dirac("minimax"), WAYS[way](sgd(H))) > 0.5
    clipped = (sgd(H), sgd(H, projection=box(1.0)))
    assert far(dirac("wasserstein"), WAYS[way](clipped)) > 0.5
    assert far(dirac("wasserstein", "wgan_gp", 0.7), WAYS[way](sgd(H))) > 0.5


# |x_500| for simultaneous play, alternating with one and with five steps of the discriminator, the generator first
DIRAC = {
    "minimax": (dirac("minimax"), None, ("3.10", "1.42", "1.85")),
    "non-saturating": (dirac("non_saturating"), None, ("0.64", "0.284", "0.139")),
    "WGAN, clip 1": (dirac("wasserstein"), box(1.0), ("1.00", "1.02", "0.92")),
    "WGAN-GP 0.7": (dirac("wasserstein", "wgan_gp", 0.7), None, ("1.80", "1.22", "0.72")),
    "R1 0.3": (dirac("minimax", "r1", 0.3), None, ("2.6e-6", "2.3e-7", "9e-34")),
    "R1 1.0": (dirac("minimax", "r1", 1.0), None, ("9.5e-22", "7.5e-17", "5.1e-12")),
    "non-saturating, R1 0.3": (dirac("non_saturating", "r1", 0.3), None, ("2.2e-6", "1.5e-7", "4e-34")),
}

@pytest.mark.parametrize("name", DIRAC)
def test_dirac_table(name):
    game, projection, expected = DIRAC[name]
    rule = (sgd(H), sgd(H, projection=projection))
    methods = simultaneous(rule), alternating(rule, order="gen_first"), alternating(rule, n_disc=5, order="gen_first")
    for method, text in zip(methods, expected):
        assert agrees(far(game, method), text), (method, far(game, method), text)


def test_dirac_long_runs():
    assert agrees(far(dirac("minimax"), simultaneous(sgd(H)), 5000), "4.24")
    assert agrees(far(dirac("non_saturating"), simultaneous(sgd(H)), 5000), "0.624")     # a limit cycle
    assert agrees(far(dirac("non_saturating"), alternating(sgd(H), order="gen_first"), 5000), "0.088")


def test_dirac_instance_noise_ends_at_the_noise_of_its_samples():
    "The published 0.019, 0.012 and 0.0045 are single draws from this noise of 1,000 samples: here is its size."
    methods = simultaneous(sgd(H)), alternating(sgd(H), order="gen_first"), alternating(sgd(H), n_disc=5,
        order="gen_first")
    for method, published in zip(methods, (0.019, 0.012, 0.0045)):
        path = trajectory(dirac("minimax", "instance_noise", 0.7), method, START, 700)[300:]
        size = path.square().sum(1).mean().sqrt()
        assert 0.008 < size < 0.018 and published < 2 * size and path.norm(dim=1).max() < 0.06


def consensus_by_hand(share, n_disc=None, theta=1.0, psi=1.0):
    "500 rounds, at once or (`n_disc`) in turns, the generator first; `share` of the second term of the gradient of |g|^2 / 2."
    def push(theta, psi):
        first = 1 / (1 + math.exp(theta * psi)); second = -first * (1 - first); square = theta**2 + psi**2
        return -psi * first - theta * first**2 - share * psi * square * first * second, theta * first - psi * first**2 - share * theta * square * first * second
    for _ in range(500):
        if n_disc is None: theta, psi = (at + H * move for at, move in zip((theta, psi), push(theta, psi)))
        else:
            theta += H * push(theta, psi)[0]
            for _ in range(n_disc): psi += H * push(theta, psi)[1]
    return math.hypot(theta, psi)


def test_dirac_consensus():
    """The published row, 2.1e-10, 1.3e-11 and 4.6e-33, is from code that halves the second term of the gradient of |g|^2 / 2.
    With the whole term it is 2.6e-10 at once, 1.7e-11 in turns, and five steps of the discriminator throw the players out to 11, where both gradients vanish.
    The method moves both players at once; for turns the adjustment is put into the losses."""
    for n_disc, published, whole in ((None, "2.1e-10", "2.6e-10"), (1, "1.3e-11", "1.7e-11"), (5, "4.6e-33", "11.0")):
        assert agrees(consensus_by_hand(0.5, n_disc), published) and agrees(consensus_by_hand(1.0, n_disc), whole)
        method = simultaneous(sgd(H)) if n_disc is None else alternating(sgd(H), n_disc=n_disc, order="gen_first")
        assert math.isclose(far(dirac("minimax", "consensus", 1.0), method), consensus_by_hand(1.0, n_disc),
            rel_tol=1e-6)
    at_once = far(dirac("minimax"), consensus(sgd(H), 1.0))
    assert math.isclose(at_once, consensus_by_hand(1.0), rel_tol=1e-6) and at_once < 1e-5


@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "least_squares", "wasserstein"])
def test_consensus_is_its_penalty(loss):
    path = trajectory(dirac(loss), consensus(sgd(H), 0.3), START, 50)
    torch.testing.assert_close(trajectory(dirac(loss, "consensus", 0.3), simultaneous(sgd(H)), START, 50), path,
        rtol=1e-10, atol=1e-12)


# Proved bounds, at N = 100, 1,000 and 10,000 (the notebook on rules has the one for normalised steps)

@pytest.mark.parametrize("N", [100, 1000, 10_000])
def test_the_average_of_a_matrix_game_keeps_its_bound(N):
    "Nedić and Ozdaglar (2009): projected subgradient steps on a random 10 x 10 game"
    M = torch.tensor(np.random.default_rng(0).normal(size=(10, 10)))
    game, size = matrix_game(M), torch.linalg.matrix_norm(M, 2).item()
    alpha, begin = math.sqrt(2) / (size * math.sqrt(N)), game.uniform()
    path = trajectory(game, simultaneous((sgd(alpha, projection=simplex()),) * 2), begin, N)
    mean = path[:-1].mean(0)
    best = torch.zeros(20, dtype=torch.float64)
    best[(M @ mean[10:]).argmin()] = 1; best[10 + (mean[:10] @ M).argmax()] = 1
    bound = (begin - best).square().sum() / (2 * alpha * N) + alpha * size**2
    assert 0 <= game.gap(mean) <= bound
    if N >= 1000: assert game.gap(mean) < game.gap(path[-1])


def test_a_player_alone_keeps_the_bound_of_normalised_steps():
    "the kinked function as a game: the generator plays, the discriminator has nothing to move"
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(20, 5)), rng.normal(size=20)
    found = linprog([0] * 5 + [1], np.block([[A, -np.ones((20, 1))], [-A, -np.ones((20, 1))]]), np.r_[b, -b],
        bounds=(None, None))
    game, start = largest_residual(torch.tensor(A), torch.tensor(b)), torch.full((5,), 3.0, dtype=torch.float64)
    R, L = np.linalg.norm(3 - found.x[:5]), np.linalg.norm(A, axis=1).max()
    for N in (100, 1000):
        path = trajectory(game, alternating(sgd(R / N**0.5, transform=unit()), n_disc=0), start, N)
        assert torch.allclose((path[1:] - path[:-1]).norm(dim=1), torch.full((N,), R / N**0.5, dtype=torch.float64))
        assert -1e-12 < game.value(path).min() - found.fun <= L * R / N**0.5
    # told the loss by the game
    path = trajectory(game, alternating(sgd(rules.polyak(1e3, optimum=found.fun)), n_disc=0), start, 1000)
    assert game.value(path).min() - found.fun < 1e-6


@pytest.mark.parametrize("method",
    [simultaneous, extragradient, past_extragradient, optimistic, consensus, symplectic, unrolled, proximal_point,
        lambda rule: lookahead(simultaneous(rule)), alternating])
def test_a_player_with_nothing_to_move_is_said(method):
    with pytest.raises(ValueError, match="disc has no parameters in this game; allowed is alternating with n_disc=0"):
        trajectory(largest_residual([[1.0]], [0.0]), method(sgd(0.1)), [1.0], 1)
