import os

os.environ.setdefault("OMP_NUM_THREADS", "1")    # before torch is imported: the machine is shared, and the nets are small
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    import torch
    torch.set_num_threads(1)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    "An empty data folder, for the tests that write into it."
    monkeypatch.setenv("GAN_NB_CACHE", str(tmp_path/"cache"))
    return tmp_path/"cache"
