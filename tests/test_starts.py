"Starts: runs that ship with the package have learnt their data, and go on."
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import gan_nb
from gan_nb import Run
from gan_nb.evaluation import evaluate
from gan_nb.metrics import sliced_wasserstein
from gan_nb.recipes import recipe
from gan_nb.starts import open_start, starts
from gan_nb.storage import read_checkpoint

each = pytest.mark.parametrize("name", starts())


def test_there_is_one_for_each_set_within_the_window_and_all_are_small():
    assert set(starts()) == {"ring", "line", "two_gaussians", "blobs", "moons", "spiral", "two_scales"}
    files = list(Path(gan_nb.__file__).parent.glob("start_*.safetensors"))
    assert len(files) == len(starts()) and sum(f.stat().st_size for f in files) < 150_000


@each
def test_a_start_is_a_checkpoint_of_the_recipe_as_it_is_now(name):
    run = open_start(name)
    assert run.recipe.settings() == recipe("plane", data=name).settings()
    assert run.round == run.recipe.rounds and run.seed == 0 and run.edits == [] and run.folder is None
    assert len(run.records) < 10 and run.records.total == run.round and np.isfinite(run.records["grad_norm_gen"]).all()
    about, _ = read_checkpoint(Path(gan_nb.__file__).parent/f"start_{name}.safetensors")
    assert about["data"]["name"] == name


@each
def test_a_start_has_learnt_its_data(name):
    run = open_start(name)
    data, fake = run.game.data, run.samples(2500)
    real = data.all("held_out", 2500)
    distance = lambda x: float(sliced_wasserstein(real.double(), x.double(), n_boot=0))
    assert distance(fake) < .3 * distance(Run(run.start_recipe, run.seed).samples(2500))
    assert distance(fake) < .1
    if data.modes is None: return
    found = evaluate(run, 2500, n_boot=0).scores
    assert found["modes"] == len(data.modes) and found["reverse KL"] < .1


@each
@pytest.mark.filterwarnings("error")
def test_a_start_goes_on(name, tmp_path):
    run, before = open_start(name), open_start(name).samples(100)
    run.fit(15, progress=False)
    assert run.samples(100).isfinite().all() and not torch.equal(run.samples(100), before)
    assert all(math.isfinite(run.records[c][-1]) for c in run.records.columns if c != "augment") # nothing is altered
    half = open_start(name).fit(5, progress=False)
    half.save(tmp_path/"run")
    assert torch.equal(Run.load(tmp_path/"run").fit(10, progress=False).samples(100), run.samples(100))
    run.edit(lr=.1)
    fork = run.fork(loss="hinge")
    assert fork.fit(5, progress=False).samples(9).isfinite().all() and fork.round == run.round + 5
    run.reset()
    assert run.round == 0 and torch.equal(run.samples(9), Run("plane", data=name, device="cpu").samples(9))


def test_an_unknown_start_and_other_settings_are_refused():
    with pytest.raises(ValueError, match="start: 'blob' is unknown; did you mean 'blobs'"): open_start("blob")
    with pytest.raises(ValueError, match="start: 'grid' is unknown; .*llowed are ring, line"): open_start("grid")
    with pytest.raises(ValueError, match="start: 3 is unknown"): open_start(3)
    with pytest.raises(ValueError, match="trained with another recipe: lr_gen"): open_start("ring", lr=.5)
    assert open_start("ring", rounds=9000).recipe.rounds == 9000
