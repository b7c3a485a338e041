import os

# before torch is imported: the machine is shared, and the nets are small
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import math
import shutil
import tempfile
from pathlib import Path

import pytest

enough = 2**28 # bytes free: what two processes that test need at most, many times over


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch
    torch.set_num_threads(1)


@pytest.fixture
def tmp_path(tmp_path):
    "In memory where that can be: tests that save wait for the disk hundreds of times. Gone after the test."
    from helpers import memory
    if memory and shutil.disk_usage(memory).free > enough:
        with tempfile.TemporaryDirectory(dir=memory) as folder: yield Path(folder)
    else: yield tmp_path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    "An empty folder for data, and no files or mirrors of this machine."
    import seams
    monkeypatch.setenv("GAN_NB_CACHE", str(tmp_path/"cache"))
    monkeypatch.delenv("GAN_NB_MIRRORS", raising=False)
    seams.no_usual_places(monkeypatch)
    return tmp_path/"cache"


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    "A copy of the working tree in which notebooks may write."
    import notebooks
    return notebooks.copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def content():
    "A checkpoint's bytes, after three rounds."
    from gan_nb import Run
    from helpers import bytes_of, tiny
    return bytes_of(Run("ring", **tiny).fit(3, progress=False))


@pytest.fixture
def spoil(monkeypatch):
    """`spoil(run, at)` lets a weight of that run become not finite in round `at`, whatever its loss is.

    Not if the run was rolled back before, unless `always`. `spoil.on = False` ends it, until the next."""
    harms, kinds = [], set()
    def harmed(plain):
        def step(method, game, state, batches):
            after, seen = plain(method, game, state, batches)
            for run, at, player, name, value, always in harms if spoil.on else ():
                its_own = game.nets[player] is run.game.nets[player]
                if its_own and state.round == at and (always or not run.rollbacks):
                    after.params[player][name] = after.params[player][name].clone().fill_(value)
            return after, seen
        return step
    def spoil(run, at, player="gen", name="0.weight", value=math.nan, always=False):
        harms.append((run, at, player, name, value, always))
        spoil.on = True
        kind = type(run.method)
        if kind not in kinds: monkeypatch.setattr(kind, "step", harmed(kind.step))
        kinds.add(kind)
    return spoil


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    "A JupyterLab: (address, token, folder). Each test has a notebook of its own in it."
    from browser import jupyter
    with jupyter(tmp_path_factory.mktemp("lab")) as server: yield server


@pytest.fixture(scope="module")
def browser():
    from browser import chromium, flags
    from playwright import sync_api
    with sync_api.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()
