"A panel shows any kept round again, and the run as it was there is had to the bit: with edits, undone ones, roll backs and a folder on the way."
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import torch

from gan_nb import Run
from gan_nb.core import listed
from gan_nb.history import begun, most_kept, room_for, with_points
from gan_nb.lab import Lab
from gan_nb.reel import Reel
from gan_nb.round import tensors
from gan_nb.storage import pack, read_checkpoint
from helpers import assert_same, tiny


def settled(panel):
    "When its thread has drawn all that the run keeps."
    panel.wait()
    until = time.monotonic() + 60
    while panel._thread and time.monotonic() < until: time.sleep(.01)
    return panel


def samples(run): return run.samples(300).numpy()


def played_to(run, round):
    "A run of its own, played from the beginning with what was done before that round."
    fresh = Run(run.start_recipe, run.seed)
    for edit in run.edits:
        if edit.round >= round: break
        fresh.fit(edit.round - fresh.round, progress=False)
        fresh.step(edit.changes["step"]) if "step" in edit.changes else fresh.repeat(edit.changes)
    return fresh.fit(round - fresh.round, progress=False)


def assert_shows_what_was(panel, rounds):
    "Each kept round is that of a run of its own, in the picture and in the state."
    for round in rounds:
        panel.scrub(round)
        fresh = played_to(panel.run, panel.shown)
        assert_same(panel.run.fork(panel.shown), fresh)
        assert np.array_equal(panel.data()["fake"], samples(fresh)), panel.shown
    panel.scrub()


def test_the_state_at_a_scrubbed_round_is_that_of_a_fresh_run(spoil):
    run = Run("ring", **tiny, threads=1, on_divergence="roll back")
    run.fit(70, progress=False)
    run.edit(lr_disc=.003)
    run.fit(40, progress=False)
    run.step("gen")                     # at a round that no point stands at
    run.fit(40, progress=False)
    run.step("disc")                    # at round 150, which is a kept point
    lab = Lab(run)
    lab.step(); lab.wait()
    lab.edit(lr_gen=.004); lab.step(); lab.wait()
    spoil(run, 230)
    lab.play(); lab.wait(rounds=120); lab.pause(); settled(lab)
    assert len(run.rollbacks) == 1
    spoil.on = False
    kept, to = lab.reel.rounds, run.rollbacks[0]["to"]
    assert {0, 50, 100, 151} <= set(kept) and 150 not in kept and kept[-1] > 230 > to
    assert_shows_what_was(lab, [0, 100, 151, *kept[-2:]])
    said = {tick["round"]: tick for tick in lab.data()["time"]["ticks"]}
    assert set(said) == {70, 110, 150, 151, to, 230} and said[230]["hue"] == "bad" and "not finite" in said[230]["text"]
    assert "lr_disc" in said[70]["text"] and "one step of the generator" in said[110]["text"]
    lab.close()


def test_what_was_undone_is_not_shown():
    lab = Lab(run := Run("ring", **tiny, threads=1).fit(60, progress=False))
    lab.edit(lr_gen=.5)
    for _ in range(5): lab.step(); lab.wait()
    wrong = lab.data()["fake"]
    assert 65 in lab.reel.rounds
    lab.scrub(63)
    assert lab.shown == 63
    lab.back(); lab.wait()
    assert lab.shown == lab.round == 60 and max(lab.reel.rounds) <= 60
    for _ in range(5): lab.step(); lab.wait()
    assert_shows_what_was(lab, [62, 64])
    lab.scrub(65)
    assert not np.array_equal(lab.data()["fake"], wrong)
    lab.reset(); settled(lab)
    assert lab.reel.rounds == [0] and lab.shown == 0
    lab.close()


def test_training_goes_on_while_the_past_is_shown():
    lab = Lab(run := Run("ring", **tiny, threads=1).fit(100, progress=False))
    settled(lab)
    lab.play(); lab.wait(rounds=10)
    lab.scrub(50)
    then = lab.data()["fake"]
    lab.wait(rounds=30)
    now = lab.data()
    assert now["round"] == lab.shown == 50 and now["newest"] >= 140 and now["doing"] == "playing"
    assert np.array_equal(now["fake"], then) and len(now["records"]) >= 140
    lab.pause(); lab.wait()
    assert lab.shown == 50
    lab.step(); lab.wait()
    assert lab.shown == lab.round, "who steps wants to see it"
    lab.close()


def test_a_fork_from_the_past_is_a_run_of_its_own_with_its_own_folder(tmp_path):
    lab = Lab(run := Run("ring", folder=tmp_path/"a", **tiny, threads=1).fit(120, progress=False))
    settled(lab)
    lab.scrub(50)
    lab.fork_here(lr_disc=.05); lab.wait()
    fork = lab.run
    assert fork is not run and fork.folder == tmp_path/"a-2" and fork.round == 50
    assert_same(fork, played_to(run, 50).fork(lr_disc=.05))
    lab.play(); lab.wait(rounds=5); lab.pause(); lab.wait()
    assert Run.load(tmp_path/"a-2", device="cpu").round == fork.round and Run.load(tmp_path/"a", device="cpu").round == 120
    lab.close()


def test_a_folder_brings_its_time_with_it_also_after_a_kill(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny, threads=1)
    run.fit(170, progress=False)
    run.edit(lr_gen=.01)
    run.fit(80, progress=False)
    shutil.copytree(tmp_path/"a", tmp_path/"killed") # as it lies there at a moment at which nobody has closed anything
    (tmp_path/"killed/points/.part-x").mkdir()
    files = sorted((tmp_path/"killed/points").glob("*.safetensors"))
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:-7])                                        # torn
    (files[1].with_name("175-" + files[1].name.split("-")[1])).write_bytes(files[1].read_bytes())   # and one of no place on the way
    lab = Lab(str(tmp_path/"killed"))
    settled(lab)
    torn = int(files[0].name.split("-")[0])
    assert lab.reel.rounds == sorted({50, 100, 150, 200, 250} - {torn})
    assert_shows_what_was(lab, [r for r in lab.reel.rounds if r < 250])
    lab.run.fit(1, progress=False)
    assert not (tmp_path/"killed/points/.part-x").exists()
    lab.close()


def test_an_old_folder_shows_what_its_checkpoints_hold(tmp_path):
    run = Run("ring", folder=tmp_path/"a", keep=3, **tiny, threads=1)
    for _ in range(3): run.fit(30, progress=False)
    shutil.rmtree(tmp_path/"a/points")
    lab = Lab(str(tmp_path/"a"))
    settled(lab)
    assert lab.reel.rounds == [30, 60, 90]
    assert_shows_what_was(lab, [30, 60])
    lab.close()


def test_another_runs_points_are_not_taken(tmp_path):
    for seed in (0, 1): Run("ring", seed=seed, folder=tmp_path/str(seed), **tiny, threads=1).fit(120, progress=False)
    for file in (tmp_path/"1/points").iterdir(): shutil.copy(file, tmp_path/"0/points"/file.name)
    assert sorted(p.moves for p in Run.load(tmp_path/"0", device="cpu").history.kept) == [50, 100]
    assert_same(Run.load(tmp_path/"0", device="cpu").fork(100), Run("ring", **tiny, threads=1).fit(100, progress=False))


def test_a_point_that_no_run_has_written_is_passed_over(tmp_path):
    Run("ring", folder=tmp_path/"a", **tiny, threads=1).fit(170, progress=False)
    files = sorted((tmp_path/"a/points").iterdir(), key=lambda file: int(file.name.split("-")[0]))
    about, flat = read_checkpoint(files[0])
    strange = pack({**about, "moves": "many"}, flat), pack(about, {**flat, next(iter(flat)): torch.zeros(1)}), pack({"round": 200, "moves": 150}, flat)
    for file, content in zip(files, strange): file.write_bytes(content)
    again = Run.load(tmp_path/"a", device="cpu")
    assert len(files) == 3 and again.round == 170 and again.history.kept == ()
    assert_same(again.fork(100), Run("ring", **tiny, threads=1).fit(100, progress=False))


def test_budgets_hold_however_long_it_becomes(tmp_path):
    run = Run("ring", **tiny, threads=1)
    history, size = begun(run.experiment, 0), sum(t.nbytes for t in listed(tensors(run.state)))
    for _ in range(3000):
        history = with_points(history)
        history = replace(history, state=replace(history.state, moves=history.state.moves + 50))
        assert len(history.kept) <= most_kept
    assert {b.moves - a.moves for a, b in zip(history.kept, history.kept[1:])} == {history.spacing} and len(history.kept) >= most_kept // 2
    assert room_for(run.state, 10 * size) == 10 and room_for(run.state, size, least=2) == 2
    reel = Reel(room=100_000, most=10**9)
    for round in range(5000):
        reel.keep(round, None, 900)
        assert reel.bytes <= 100_000
    assert len(reel) > 50 and set(np.diff(reel.rounds)) == {reel.spacing}


def test_a_panel_that_is_scrubbed_leaves_no_thread():
    lab = Lab(Run("ring", **tiny, threads=1).fit(100, progress=False))
    for round in (10, 60, None, 90): lab.hear(dict(kind="seek", round=round, nth="1"))
    lab.act("fork_here"); lab.act("now")
    settled(lab)
    lab.close()
    assert not [t for t in threading.enumerate() if t.name == "gan_nb lab"]
