"What the spectra say of a method is what it does when it is really played: convergence, for many methods and step sizes."
import numpy as np
import pytest
import torch

from gan_nb.games import (alternating, consensus, extragradient, lookahead, optimistic, past_extragradient, simultaneous,
                          symplectic, unrolled)
from gan_nb.portrait import ground_of
from gan_nb.round import trajectory
from gan_nb.rules import sgd
from gan_nb.spectra import Region, Update, family_of, jacobian, near_saddle, standing
from gan_nb.toys import dirac, line_gan, quadratic
from gan_nb.transforms import chain, clip_by_global_norm

margin, rounds = .05, 40                        # nearer to 1 than this, so many rounds do not tell

makers = {
    "simultaneous": lambda lr: simultaneous(sgd(lr)),
    "a rate of each": lambda lr: alternating((sgd(lr), sgd(.4*lr)), n_disc=2),
    "negative momentum": lambda lr: alternating(sgd(lr, momentum=-.3)),
    "extragradient": lambda lr: extragradient(sgd(lr)),
    "past extragradient": lambda lr: past_extragradient(sgd(lr)),
    "optimistic": lambda lr: optimistic(sgd(lr)),
    "consensus, clipped": lambda lr: consensus(sgd(lr, transform=chain(clip_by_global_norm(1.))), .5),
    "symplectic": lambda lr: symplectic(sgd(lr), .5),
    "unrolled": lambda lr: unrolled(sgd(lr), 1),
    "lookahead": lambda lr: lookahead(alternating(sgd(lr, momentum=.2)), k=3)}


def came_in(game, method):
    "Played from a thousandth beside the saddle."
    start = torch.tensor(game.saddle, dtype=torch.float64) + torch.tensor([7e-4, -6e-4], dtype=torch.float64)
    way = trajectory(game, method, start, rounds) - torch.tensor(game.saddle, dtype=torch.float64)
    first, last = (way[at].norm(dim=1).amax() for at in (slice(0, 3), slice(-3, None)))     # a lookahead jumps
    return bool(last < first)


@pytest.mark.parametrize("name", makers)
def test_the_region_is_right_at_random_step_sizes(name):
    "200 of them, 20 for each of ten methods, and each on a game of random eigenvalues"
    make, rng, told = makers[name], np.random.default_rng(list(makers).index(name)), []
    region = Region(make(1.))
    for _ in range(20):
        lr, a, b = np.exp(rng.uniform(np.log(.03), np.log(1.5))), rng.uniform(-1, 3), rng.uniform(0, 2)
        method = make(float(lr))
        radius = region.radius([a], [b], method=method)[0, 0]
        if abs(radius - 1) < margin: continue
        assert came_in(quadratic([[a, b], [-b, a]]), method) == (radius < 1), (lr, a, b, radius)
        told.append(radius < 1)
    assert len(told) >= 10 and 0 < sum(told) < len(told)        # both answers came


@pytest.mark.parametrize("game", [dirac("minimax", "r1", .5), line_gan("least_squares")], ids=["dirac", "line_gan"])
def test_the_factor_is_right_for_games_that_are_not_linear(game):
    update, answers = Update(*standing(game, alternating(sgd(1.)))), set()
    for lr in np.exp(np.random.default_rng(1).uniform(np.log(.5), np.log(20), 6)).tolist():
        radius = near_saddle(game, alternating(sgd(lr)), update=update).radius
        if abs(radius - 1) < margin: continue
        assert came_in(game, alternating(sgd(lr))) == (radius < 1), lr
        answers.add(radius < 1)
    assert answers == {True, False}


def test_what_is_drawn_is_the_region_of_the_game_at_hand():
    game, method = line_gan(), alternating((sgd(.9), sgd(.5)))
    ground = ground_of(game, method, (-1., 3., -2., 2.))
    turn = family_of(jacobian(*standing(game, method)))
    sides = [np.linspace(*side, n) for side, n in zip((ground.extent[:2], ground.extent[2:]), ground.region.shape[::-1])]
    assert np.allclose(ground.region, Region(method).radius(*sides, turn), atol=1e-6)
    own = ground.eigenvalues[0]
    assert abs(Region(method).radius([own.real], [own.imag], turn)[0, 0] - ground.nearby.radius) < 1e-9


def test_a_lie_about_the_step_size_would_be_seen():
    region = Region(simultaneous(sgd(1.)))
    radius = region.radius([.5], [1.], method=simultaneous(sgd(.1)))[0, 0]
    assert radius < 1 and came_in(quadratic([[.5, 1.], [-1., .5]]), simultaneous(sgd(.1)))
    assert not came_in(quadratic([[.5, 1.], [-1., .5]]), simultaneous(sgd(1.)))


def test_with_equal_rates_the_round_is_a_function_of_the_jacobian():
    "extragradient is I - lr J + lr^2 J^2 on any of the games, by numpy"
    for game in (dirac("non_saturating", "r1", .7), line_gan(), line_gan("r3", r1=.2)):
        J, eye = jacobian(*standing(game, simultaneous(sgd(.1)))), np.eye(2)
        assert np.allclose(near_saddle(game, simultaneous(sgd(.3))).matrix.numpy(), eye - .3*J, atol=1e-10)
        assert np.allclose(near_saddle(game, extragradient(sgd(.3))).matrix.numpy(), eye - .3*J + .09*J@J, atol=1e-10)
        lam = np.linalg.eigvals(J)
        factors = np.concatenate([np.roots([1, -(1 - .6*x), -.3*x]) for x in lam])          # mu^2 = (1 - 2 lr x) mu + lr x
        found = near_saddle(game, optimistic(sgd(.3))).radius
        assert abs(found - np.abs(factors).max()) < 1e-8
