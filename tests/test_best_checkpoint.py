"The best checkpoint stays, whatever the run dies of."
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_nb import driving, Run
from gan_nb.cli import main
from gan_nb.storage import Store
from gan_nb.storage import checkpoint_name
from helpers import best_of, full, level, same_run, tiny


def test_the_best_checkpoint_stays(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    for _ in range(5): run.fit(6, progress=False, metric=level, every=3)
    kept = best_of(tmp_path/"a")
    assert run.best == kept.best == {"metric": "level", "is": "smallest", "value": 1., "round": 9} and kept.round == 9
    assert same_run(kept, Run("ring", **tiny).fit(9, progress=False))
    assert same_run(run, Run("ring", **tiny).fit(30, progress=False))
    assert [f.name for f in Store(tmp_path/"a").found()] == ["checkpoint.safetensors", "checkpoint-24.safetensors"]
    Store(tmp_path/"a").tidy()
    run.fit(1, progress=False)
    assert best_of(tmp_path/"a").round == 9 and Run.load(tmp_path/"a", device="cpu").best is None
    kept.folder = tmp_path/"a"
    with pytest.raises(ValueError, match="holds another run"): kept.fit(1, progress=False)  # later rounds are there
    kept.folder = tmp_path/"b"
    assert same_run(kept.fit(1, progress=False), Run("ring", **tiny).fit(10, progress=False))
    with pytest.raises(FileNotFoundError, match="there is no best checkpoint; Run.fit"): best_of(tmp_path/"b")


def test_the_largest_is_best_if_so_wanted(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(12, progress=False,
        metric=lambda run: torch.tensor(-float(level(run))), best="largest", every=3)
    assert run.best["value"] == -1 and best_of(tmp_path/"a").round == 9
    # without `every` at each save: here the end
    run = Run("ring", folder=tmp_path/"b", **tiny).fit(7, progress=False, metric=lambda run: -run.round)
    assert best_of(tmp_path/"b").round == 7
    run.fit(7, progress=False, metric=lambda run: -run.round, autosave=1e-9)
    assert best_of(tmp_path/"b").round == 14


def test_a_process_that_goes_on_knows_the_best(tmp_path, monkeypatch):
    "whatever it died of, and also if the best was saved after the last checkpoint"
    class Dead(BaseException): pass
    for at in (1, 2):
        folder = tmp_path/f"a{at}"
        run = Run("ring", folder=folder, **tiny).fit(8, progress=False, metric=level, every=3)
        def dies(of, to, replace=os.replace):
            if at == 1 or Path(to).name != "best.safetensors": replace(of, to)
            if Path(to).name == "best.safetensors": raise Dead
        with monkeypatch.context() as m, pytest.raises(Dead):
            m.setattr(os, "replace", dies)
            run.fit(10, progress=False, metric=level, every=3)
        assert best_of(folder).round == (9 if at == 1 else 6)
        again = Run.load(folder, device="cpu")
        assert again.round == 8
        again.folder = folder
        again.fit(12, progress=False, metric=level, every=3)
        assert again.best["round"] == 9 and same_run(best_of(folder), Run("ring", **tiny).fit(9, progress=False))


def test_a_stop_at_the_moment_of_the_best(tmp_path):
    "Ctrl-C in the metric: the process that goes on asks again"
    def stopping(run):
        if run.round == 9: raise KeyboardInterrupt
        return level(run)
    stopping.__name__ = "level"
    run = Run("ring", folder=tmp_path/"a", **tiny)
    with pytest.raises(KeyboardInterrupt): run.fit(30, progress=False, metric=stopping, every=3)
    again = Run.load(tmp_path/"a", device="cpu")
    assert again.round == 9 and best_of(tmp_path/"a").round == 6
    again.folder = tmp_path/"a"
    again.fit(20, progress=False, metric=level, every=3)
    assert best_of(tmp_path/"a").round == 9


def test_a_metric_that_fails_loses_nothing(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    with pytest.raises(ZeroDivisionError): run.fit(30, progress=False, metric=lambda run: 1 / (run.round - 6), every=3)
    assert Run.load(tmp_path/"a", device="cpu").round == 6
    with pytest.raises(ValueError, match="metric: 'good' came from it; allowed is a number"):
        Run("ring", folder=tmp_path/"b", **tiny).fit(3, progress=False, metric=lambda run: "good")
    with pytest.raises(ValueError, match="metric: 'frechet' came; allowed is a function"):
        Run("ring", folder=tmp_path/"c", **tiny).fit(3, metric="frechet")
    with pytest.raises(ValueError, match="needs a folder"): Run("ring", **tiny).fit(3, metric=level)
    with pytest.raises(ValueError, match="did you mean 'largest'"):
        Run("ring", folder=tmp_path/"c", **tiny).fit(3, metric=level, best="larger")
    assert not (tmp_path/"c").exists()


def test_the_best_of_something_else_is_not_written_over(tmp_path):
    folder = tmp_path/"a"
    run = Run("ring", folder=folder, **tiny).fit(6, progress=False, metric=level, every=3)
    before = (folder/"best.safetensors").read_bytes()
    with pytest.raises(ValueError, match="has the smallest level, not the largest level; move it away"):
        run.fit(3, progress=False, metric=level, best="largest")
    with pytest.raises(ValueError, match="not the smallest <lambda>"): run.fit(3, progress=False, metric=lambda run: 0)
    (folder/checkpoint_name).unlink()
    with pytest.raises(ValueError, match="best.safetensors: is of another run"):
        Run("ring", seed=1, folder=folder, **tiny).fit(3, progress=False, metric=level)
    with pytest.raises(ValueError, match="best.safetensors: is of another run"):
        Run("ring", lr=.5, folder=folder, **tiny).fit(3, progress=False, metric=level)
    assert (folder/"best.safetensors").read_bytes() == before
    (folder/"best.safetensors").write_bytes(before[:-1])
    with pytest.warns(UserWarning, match="not a whole checkpoint.*The next best"):
        Run("ring", folder=folder, **tiny).fit(3, progress=False, metric=level, every=3)
    assert best_of(folder).round == 3


def test_a_full_disk_leaves_the_best_before(tmp_path, monkeypatch):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(4, progress=False, metric=level, every=3)
    with run.claim(), monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        judge = driving.Best(run, level, "smallest", 3)
        judge.begin()
        for _ in range(2): run.step()
        with pytest.warns(UserWarning, match="best checkpoint was not saved at round 6, training goes on.*No space left on device.*best.safetensors"):
            judge.look()
    assert best_of(tmp_path/"a").round == 3
    run.fit(3, progress=False, metric=level, every=3)
    assert best_of(tmp_path/"a").round == 9


def test_samples_of_the_best(tmp_path, capsys):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(12, progress=False, metric=level, every=3)
    for out, more in (("last.npy", []), ("best.npy", ["--best"])):
        assert main(["sample", str(tmp_path/"a"), "--n", "5", "--out", str(tmp_path/out), *more]) == 0
    assert "after 9 rounds" in capsys.readouterr().out
    assert np.array_equal(np.load(tmp_path/"best.npy"), best_of(tmp_path/"a").samples(5))
    assert not np.array_equal(np.load(tmp_path/"last.npy"), np.load(tmp_path/"best.npy"))
    run.save(tmp_path/"b")
    assert main(["sample", str(tmp_path/"b"), "--n", "5", "--out", str(tmp_path/"x.npy"), "--best"]) == 2
    assert "there is no best checkpoint" in capsys.readouterr().err
