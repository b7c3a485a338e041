"Layers for each network, how latents are distributed, builders of one's own, and how often a side is halved."
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gan_nb import models, Run
from gan_nb.checkpoints import as_ini
from gan_nb.checkup import _latents
from gan_nb.core import listed
from gan_nb.engines import as_function, Captured, Eager
from gan_nb.landscape import latents
from gan_nb.population import Population
from gan_nb.recipes import recipe, Recipe, structure, written
from gan_nb.round import tensors
from helpers import at_length, assert_same, needs_compiler, same_run, small

here = Path(__file__).parent
odd = dict(hidden_gen=(5,), hidden_disc=(7, 6), latent="uniform")
settings = small | odd | dict(rule="adam", lr=1e-3, r1=.1)
settings.pop("hidden")


def widths(run): return [[m.out_features for m in net.modules() if isinstance(m, nn.Linear)] for net in run.game.nets.values()]


def close(a, b):
    for x, y in zip(listed(tensors(a.state)), listed(tensors(b.state)), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=2e-4)


def test_each_network_has_layers_of_its_own():
    assert widths(Run("ring", **settings)) == [[5, 2], [7, 6, 1]]
    assert widths(Run("ring", **small | dict(hidden=(3,)))) == [[3, 2], [3, 1]]
    assert widths(Run("ring", **settings | dict(hidden_gen=(), pack=2))) == [[2], [7, 6, 1]]


def test_layers_are_written_as_they_were_given(tmp_path):
    both, each = recipe("plane", hidden=(9, 9)), recipe("plane", hidden_gen=(9,), hidden_disc=(4,))
    assert "hidden=(9, 9)" in written(both.settings()) and "hidden_gen" not in written(both.settings())
    assert "hidden_gen=(9,), hidden_disc=(4,)" in written(each.settings())
    for made in (both, each, recipe("plane", hidden_gen=(), latent="uniform")): # as a run's folder has it
        (tmp_path/"settings.ini").write_bytes(as_ini(made, 0))
        assert recipe("plane", tmp_path) == made
    (tmp_path/"settings.ini").write_text("[one]\nbase = plane\nhidden = 8 7\n[two]\nbase = plane\nhidden_disc = 6\nlatent = uniform\n")
    one, two = (recipe(name, tmp_path) for name in ("one", "two"))
    assert (one.hidden_gen, one.hidden_disc, one.latent) == ((8, 7), (8, 7), "normal")
    assert (two.hidden_gen, two.hidden_disc, two.latent) == ((32, 32), (6,), "uniform")


def test_on_the_command_line(tmp_path):
    from gan_nb.cli import main
    words = ["--set", "hidden=6", "--set", "hidden_disc=5 4", "--set", "latent=uniform", "--set", "device=cpu"]
    assert main(["train", "ring", "--rounds", "3", "--out", str(tmp_path/"a"), *words]) == 0
    assert main(["resume", str(tmp_path/"a"), "--rounds", "2"]) == 0
    run = Run.load(tmp_path/"a", device="cpu")
    assert (run.round, widths(run), run.recipe.latent) == (5, [[6, 2], [5, 4, 1]], "uniform")


def test_what_is_fixed_cannot_be_edited_and_decides_the_structure():
    run = Run("ring", **settings)
    for change in (dict(latent="normal"), dict(hidden_gen=(4,)), dict(hidden_disc=(4,)), dict(hidden=(4,))):
        with pytest.raises(ValueError, match=next(iter(change))): run.edit(**change)
        assert structure(run.recipe.replace(**change)) != structure(run.recipe), change
    with pytest.raises(ValueError, match="latent: 'gauss'"): Recipe(latent="gauss")


def test_all_who_draw_latents_draw_uniform_ones():
    run, many = Run("ring", **settings), Population("ring", seeds=2, **settings)
    found = [latents(run.experiment, 1000), _latents(run, 1000), run.experiment.game.draw(torch.Generator(), ("gen",))["z"]]
    for z in found: assert z.abs().max() <= 1 and z.abs().max() > .9
    run.fit(2, progress=False); many.fit(2)
    z = latents(run.experiment, 6)
    made = run.experiment.generate(run.state, z)
    torch.testing.assert_close(run.samples(6), made)
    for samples in (many.samples(0, 6), many.all_samples(6)[0], many.all_samples(6, together=True)[0]): # member 0 has the run's seed
        torch.testing.assert_close(samples, made, rtol=1e-4, atol=1e-5)
    normal = latents(Run("ring", **settings | dict(latent="normal")).experiment, 1000)
    assert normal.abs().max() > 2.5


def test_a_member_of_a_population_is_the_single_run():
    many = Population("ring", seeds=[4, 9], **settings).fit(4)
    for i, seed in enumerate((4, 9)): close(many.run(i), Run("ring", seed=seed, **settings).fit(4, progress=False))


def test_it_goes_on_with_the_same_bits(tmp_path):
    whole, half = Run("ring", **settings).fit(6, progress=False), Run("ring", **settings).fit(3, progress=False)
    half.save(tmp_path/"a")
    assert same_run(whole, Run.load(tmp_path/"a", device="cpu").fit(3, progress=False))
    assert_same(whole, whole.fork())


def test_captured_rounds_have_the_bits_of_eager_ones():
    "without a GPU: a replay calls the function again"
    experiment, state = Run("ring", **settings).experiment, Run("ring", **settings).state
    def again(fn, generators): return fn
    after, _, finite = Captured(experiment, state, capture=again, round=as_function(experiment, state)).play(state, 4)
    plain = Eager(experiment).play(state, 4)[0]
    assert finite.all() and all(map(torch.equal, listed(tensors(after)), listed(tensors(plain))))


@at_length
@needs_compiler
def test_compiled_rounds_agree_and_are_replayed(tmp_path):
    run = Run("ring", compile=True, **settings).fit(6, progress=False)
    close(run, Run("ring", **settings).fit(6, progress=False))
    assert_same(run, run.fork())


# Builders of one's own

@pytest.fixture
def named():
    "Builders by name, for one test."
    before = dict(models.builders)
    yield models.builders
    models.builders.clear(); models.builders.update(before)


def test_a_run_calls_a_builder_with_what_it_names_and_leaves_no_trace(named, tmp_path):
    got = []
    def mine(shape, hidden_disc, z_dim, seed, pack=7, other=3):
        got.append((shape, hidden_disc, z_dim, seed, pack, other))
        return nn.Sequential(nn.Linear(z_dim, *shape), nn.BatchNorm1d(*shape)), nn.Linear(shape[0], 1)
    named["mine"] = mine
    rng = torch.get_rng_state()
    run = Run("ring", seed=5, model="mine", **settings | dict(pack=2))
    assert set(got) == {((2,), (7, 6), 2, 5, 2, 3), ((4,), (7, 6), 2, 5, 2, 3)} and rng.equal(torch.get_rng_state())
    assert int(run.state.buffers["gen"]["1.num_batches_tracked"]) == 0 and run.state.buffers["gen"]["1.running_var"].eq(1).all()
    torch.manual_seed(5) # the same bits as without being tried
    assert nn.Linear(2, 2).weight.equal(run.state.params["gen"]["0.weight"])
    run.fit(3, progress=False).save(tmp_path/"a")
    assert same_run(run.fit(2, progress=False), Run.load(tmp_path/"a", device="cpu").fit(2, progress=False))


def test_a_builder_that_looks_at_numbers_is_saved_and_loaded(named, tmp_path):
    named["looks"] = lambda shape, z_dim: (nn.Linear(z_dim, *shape), nn.Linear(*shape, 1 + int(torch.rand(1).item() > 1)))
    run = Run("ring", model="looks", **settings).fit(2, progress=False)
    run.save(tmp_path/"a")
    assert same_run(run, Run.load(tmp_path/"a", device="cpu"))


@pytest.mark.parametrize("build, says", [
    (lambda shape: (nn.Linear(2, 3), nn.Linear(2, 1)), r"generator of 'mine' makes \(2, 3\) of \(2, 2\); allowed is \(2, 2\)"),
    (lambda shape: (nn.Linear(2, 2), nn.Linear(3, 1)), "discriminator of 'mine' has to make"),
    (lambda shape, hidden: None, "names hidden.*allowed are equal ones"), (lambda shape, widht: None, "did you mean 'width'"),
    (lambda shape: None, "made 'NoneType'; allowed is a Pair"), (7, "is 7; allowed is a function")])
def test_a_run_says_in_one_line_what_does_not_fit(named, build, says):
    named["mine"] = build
    with pytest.raises(ValueError, match=says) as caught: Run("ring", model="mine", **settings)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


# Halving

def test_a_convolutional_checkpoint_from_before_goes_on_in_its_form(tmp_path):
    "12 was halved twice, and is halved once now"
    x = np.random.default_rng(0).uniform(-1, 1, (20, 1, 12, 12)).astype("float32")
    run = Run.load(here/"checkpoint_v4_conv.safetensors", device="cpu", data=x)
    def seen(): return run.samples(2).flatten(1)[:, [0, 70, 143]]
    def expect(rows): torch.testing.assert_close(seen(), torch.tensor(rows), atol=2e-5, rtol=0)
    assert run.recipe.model == run.start_recipe.model == "conv_twice"
    expect([[.191029, .104355, .190729], [.191029, .174192, .187164]]) # what the version that wrote it gives
    run.step()
    expect([[.191220, .098966, .190739], [.191220, .175064, .186923]])
    run.save(tmp_path/"five")
    assert same_run(run, Run.load(tmp_path/"five", device="cpu", data=x))
    assert same_run(run, run.fork())
    new = Run("dcgan", data=x, width=2, z_dim=2, batch_size=4, device="cpu")
    assert run.state.params["gen"]["0.weight"].shape == (4 * 9, 2) and new.state.params["gen"]["0.weight"].shape == (2 * 36, 2)
