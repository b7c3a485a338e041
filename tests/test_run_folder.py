"Whose folder it is: no run writes over another, each goes on where it was read, and so many checkpoints stay as were wanted."
import os

import numpy as np
import pytest

from gan_nb import Run
from gan_nb.cli import main
from gan_nb.storage import read_checkpoint, Store
from gan_nb.storage import checkpoint_name
from helpers import csv_of, tiny


def test_saving_does_not_write_over_another_run(tmp_path):
    other, run = (Run("ring", seed=seed, **tiny).fit(3, progress=False) for seed in (1, 2))
    other.save(tmp_path/"a")
    before = {p.name: p.read_bytes() for p in (tmp_path/"a").iterdir()}
    with pytest.raises(ValueError, match=r"a: holds another run; .* goes on with it, overwrite=True puts"):
        run.save(tmp_path/"a")
    assert {p.name: p.read_bytes() for p in (tmp_path/"a").iterdir()} == before
    run.save(tmp_path/"a", overwrite=True)
    assert Run.load(tmp_path/"a", device="cpu").seed == 2
    for folder in ("b", "a", "b", "a"):
        run.fit(2, progress=False).save(tmp_path/folder)     # its own folders are no other run's
    assert [len((tmp_path/f/"records.csv").read_text().splitlines()) for f in "ab"] == [12, 10]
    assert [Run.load(tmp_path/f, device="cpu").round for f in "ab"] == [11, 9]


def test_a_folder_that_holds_another_run_is_not_written_over(tmp_path):
    first = Run("ring", folder=tmp_path/"a", **tiny).fit(3, progress=False)
    with pytest.raises(ValueError, match="holds another run"): Run("ring", seed=1, folder=tmp_path/"a", **tiny).fit(1)
    again = Run.load(tmp_path/"a", device="cpu")
    again.folder = tmp_path/"a"
    again.fit(2, progress=False)
    with pytest.raises(ValueError, match="holds another run"):
        first.fit(1)  # it was continued elsewhere in the meantime
    assert Run.load(tmp_path/"a", device="cpu").round == 5


def test_a_loaded_run_saves_where_it_was_read(tmp_path):
    "its forks, and what was read from a file, do not"
    run = Run("ring", **tiny).fit(5, progress=False)
    run.save(tmp_path/"a"); run.save(tmp_path/"b.safetensors")
    again = Run.load(tmp_path/"a", device="cpu").fit(5, progress=False, autosave=1e-9)
    assert again.folder == tmp_path/"a"
    assert Run.load(tmp_path/"a", device="cpu").round == 10
    assert len(csv_of(tmp_path/"a")) == 11
    before = {p.name: p.read_bytes() for p in (tmp_path/"a").iterdir()}
    for other in (again.fork(round=7, lr=.01), Run.load(tmp_path/"b.safetensors", device="cpu"),
            Run.load(tmp_path/"a", device="cpu").fork()):
        assert other.folder is None
        other.fit(3, progress=False)
    assert {p.name: p.read_bytes() for p in (tmp_path/"a").iterdir()} == before


def test_a_run_that_begins_anew_forgets_what_it_wrote(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(20, progress=False)
    run.reset()
    run.fit(5, progress=False)
    assert len((tmp_path/"a/records.csv").read_text().splitlines()) == 6
    again = Run.load(tmp_path/"a", device="cpu")
    assert (again.round, len(again.records)) == (5, 5)


def test_as_many_checkpoints_stay_as_wanted(tmp_path):
    run = Run("ring", folder=tmp_path/"a", keep=4, **tiny)
    for _ in range(6): run.fit(1, progress=False)
    rounds = lambda: [read_checkpoint(f)[0]["round"] for f in Store(tmp_path/"a").found()]
    assert rounds() == [6, 5, 4, 3]
    again = Run.load(tmp_path/"a", device="cpu")
    again.folder = tmp_path/"a"
    again.fit(1, progress=False)
    assert rounds() == [7, 6, 5, 4], "going on keeps as many"
    again.keep = 1
    again.fit(1, progress=False)
    assert rounds() == [8] and os.listdir(tmp_path/"a").count(checkpoint_name) == 1
    with pytest.raises(ValueError, match="keep: 0 came; allowed is a whole number of at least 1"):
        Run("ring", keep=0, **tiny)
    assert main(["train", "ring", "--out", str(tmp_path/"b"), "--rounds", "2", "--keep", "3", "--set", "hidden=8"]) == 0
    assert read_checkpoint(tmp_path/"b"/checkpoint_name)[0]["keep"] == 3


def test_autosave_by_seconds(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    saved = []
    run.autosave = lambda: saved.append(run.round)
    run.fit(60, progress=False, autosave=1e-6)
    assert len(saved) > 3 and Run.load(tmp_path/"a", device="cpu").round == 60
    with pytest.raises(ValueError, match="seconds above 0"): run.fit(1, autosave=0)
    assert main(["train", "ring", "--out", str(tmp_path/"b"), "--autosave", "-1"]) == 2 and not (tmp_path/"b").exists()


def test_other_data_and_other_recipes_are_named(tmp_path):
    Run("ring", data=np.ones((9, 2), "float32"), **tiny).save(tmp_path/"a")
    with pytest.raises(ValueError, match="samples 9 then, 8 now; fingerprint .* then, .* now"):
        Run.load(tmp_path/"a", data=np.ones((8, 2), "float32"))
    with pytest.raises(ValueError, match=r"shape \[2\] then, \[3\] now"):
        Run.load(tmp_path/"a", data=np.ones((9, 3), "float32"))
    run = Run("ring", **tiny).fit(2, progress=False)
    run.save(tmp_path/"b")
    with pytest.raises(ValueError, match=r"another recipe: lr_gen 0.001 then, 0.5 now; batch_size 16 then, 32 now$"):
        Run.load(tmp_path/"b", lr_gen=.5, batch_size=32)
    with pytest.raises(ValueError, match="hidden"): Run.load(tmp_path/"b", of="ring")
    with pytest.raises(ValueError, match="did you mean 'rounds'"): Run.load(tmp_path/"b", round=3)
    with pytest.raises(ValueError, match="may only grow"): Run.load(tmp_path/"b", rounds=5)
    assert Run.load(tmp_path/"b", of=run.recipe, lr=0.001).edits == []
    more = Run.load(tmp_path/"b", rounds=12_000, device="cpu")
    assert more.recipe.rounds == 12_000 and more.edits[-1].changes == {"rounds": 12_000} and more.edits[-1].moves == 2


def test_data_for_a_run_that_has_its_own(tmp_path):
    Run("ring", hidden=(4,), batch_size=8, device="cpu").save(tmp_path/"a")
    with pytest.raises(ValueError, match="trained on the data set 'ring'; allowed is data= for a run on your own array alone"):
        Run.load(tmp_path/"a", data=np.ones((3, 2)))
