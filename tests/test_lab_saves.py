"The lab saves a run that has a folder: while it plays, at a pause, where it diverged and when the kernel ends."
import json
import subprocess
import sys

import pytest

import seams
from gan_nb import Run
from gan_nb.core import Diverged
from helpers import csv_of, same_run, tiny


def test_the_lab_saves_a_run_that_has_a_folder(tmp_path):
    from gan_nb.lab import Lab
    run = Run("ring", folder=tmp_path/"a", **tiny)
    lab = Lab(run)
    seams.save_often(lab, .01)
    lab.play(); lab.wait(rounds=200)
    assert Run.load(tmp_path/"a", device="cpu").round > 0 and (tmp_path/"a/.lock").exists(), "while it plays"
    lab.pause(); lab.wait()
    assert Run.load(tmp_path/"a", device="cpu").round == run.round and not (tmp_path/"a/.lock").exists()
    lab.step(); lab.wait(); lab.close()
    again = Run.load(tmp_path/"a", device="cpu")
    assert same_run(again, run) and len(csv_of(tmp_path/"a")) == run.round + 1
    other = Lab(Run("ring", seed=1, folder=tmp_path/"a", **tiny))
    other.play()
    with pytest.raises(ValueError, match="holds another run"): other.wait(rounds=3)
    assert not other.playing and other.run.round == 0
    other.close()


def test_reset_in_the_lab_leaves_what_was_saved(tmp_path):
    from gan_nb.lab import Lab
    run = Run("ring", folder=tmp_path/"a", **tiny)
    lab = Lab(run)
    for _ in range(2):
        lab.play(); lab.wait(rounds=30); lab.pause(); lab.wait()
        saved, round = run.folder, run.round
        lab.reset(); lab.wait()
        assert run.round == 0 and str(run.folder) in lab.data()['words']['log'] and run.folder != saved
    lab.step(); lab.wait(); lab.close()
    assert Run.load(tmp_path/"a-2", device="cpu").round == round >= 30
    assert Run.load(tmp_path/"a", device="cpu").round >= 30
    assert Run.load(tmp_path/"a-3", device="cpu").round == 1 and len(csv_of(tmp_path/"a-2")) == round + 1


def test_the_lab_saves_where_it_diverged(tmp_path, spoil):
    from gan_nb.lab import Lab
    run = Run("ring", folder=tmp_path/"a", **tiny)
    spoil(run, 20)
    lab = Lab(run)
    lab.play()
    with pytest.raises(Diverged): lab.wait(rounds=100)
    lab.close()
    assert json.loads((tmp_path/"a/diverged.json").read_text())["round"] == 20 == Run.load(tmp_path/"a",
        device="cpu").round


def test_the_lab_saves_when_the_kernel_ends(tmp_path):
    code = ("import sys; from gan_nb import Run; from gan_nb.lab import Lab\n"
            "run = Run('ring', hidden=(8,), batch_size=16, device='cpu', folder=sys.argv[1]); lab = Lab(run); lab.play(); lab.wait(rounds=30)\n"
            "paused = Lab(Run('ring', hidden=(8,), batch_size=16, device='cpu', folder=sys.argv[2])); paused.step(); paused.wait()")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path/"a"), str(tmp_path/"b")], capture_output=True,
        text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert Run.load(tmp_path/"a", device="cpu").round >= 30 and Run.load(tmp_path/"b", device="cpu").round == 1
