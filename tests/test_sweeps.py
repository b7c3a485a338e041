"""A sweep that is interrupted and killed, and whose workers are killed: every trial is told once, and its runs are what they would have been.

`make sweeps` plays the long version: 100 trials with two workers, of which three are killed, and then the sweep itself."""
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from gan_nb import Run
from gan_nb.cli import main
from gan_nb.evaluation import one_score
from gan_nb.sweeps import Sweep

tiny = dict(hidden=(8,), batch_size=16, rounds=40, device="cpu", threads=1, halflife=5.)
vary = {"lr": "1e-4..1:log", "clip_disc": "none,'global_norm 0.1'..10:log"}
def words(workers, n):
    "What stands after `gan-nb`."
    return ["sweep", "ring", "--workers", str(workers), "--trials", str(n), "--fresh", "0", "--out", "out",
            *(word for name, space in vary.items() for word in ("--vary", f"{name}={space}")),
            *(word for name, value in {**tiny, "hidden": 8}.items() for word in ("--set", f"{name}={value}"))]

def start(folder, workers, n):
    return subprocess.Popen([sys.executable, "-m", "gan_nb", *words(workers, n)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines_of(folder):
    "What stands in the journal; a line that is just being written is none."
    try: return [json.loads(text) for text in (folder/"out/journal.log").read_text().splitlines(True) if text.endswith("\n")]
    except FileNotFoundError: return []

def told(folder):
    "The numbers of trials that the journal says are through, as often as it says so."
    return [it["trial_id"] for it in lines_of(folder) if it["op_code"] == 6 and it["state"] != 0]

def wait_for(condition, seconds=120):
    for _ in range(seconds * 100):
        if condition(): return
        time.sleep(.01)
    raise AssertionError("it took too long")


def workers_of(process):
    "Processes that play: not the one that Python keeps for shared memory."
    return [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]


@pytest.mark.skipif("TRIALS" not in os.environ, reason="make sweeps: 100 trials, three workers killed and then the sweep")
def test_whatever_is_killed_each_trial_is_told_once(tmp_path):
    n, kills, rng, begun = int(os.environ.get("TRIALS", 0)), 3, random.Random(0), time.monotonic()
    sweep = start(tmp_path, 2, n)
    for kill in range(kills):
        wait_for(lambda: len(told(tmp_path)) > (kill + 1) * n // (kills + 2) - 1)
        time.sleep(rng.uniform(0, .2))
        rng.choice(workers_of(sweep)).kill()
    wait_for(lambda: len(told(tmp_path)) > .8 * n)
    left = workers_of(sweep)
    sweep.kill()
    sweep.communicate()
    assert len(told(tmp_path)) < n
    said = start(tmp_path, 2, n).communicate(timeout=600)
    assert said[1] == ""
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in left), "a worker outlives its sweep"
    found = each_told_once(tmp_path, n)
    assert_plays_to_the_bit(found, found.best)
    took = [trial.duration.total_seconds() - trial.user_attrs["told"]["seconds"] for trial in found.ledger.trials("COMPLETE")]
    judging = [trial.user_attrs["told"]["judging"] for trial in found.ledger.trials("COMPLETE")]
    median = lambda x: 1000 * statistics.median(x)
    print(f"{n} trials, {kills} workers and the sweep killed, {time.monotonic() - begun:.0f} s; beyond its rounds a trial took "
          f"{median(took):.0f} ms at the median, of which {median(judging):.0f} ms for judging; {said[0].splitlines()[-2]}")


def test_interrupted_and_killed_it_is_the_sweep_that_was_not(tmp_path, monkeypatch):
    "with one worker: what is drawn has an address, and a run goes on with its bits"
    n, whole = 9, Sweep("ring", vary, tmp_path/"whole", trials=9, workers=0, **tiny).fit()
    (tmp_path/"killed").mkdir()
    monkeypatch.chdir(tmp_path/"killed")
    at_work = threading.Thread(target=lambda: (wait_for(lambda: len(told(Path())) > 2), os.kill(os.getpid(), signal.SIGINT)))
    at_work.start()
    assert main([*words(1, n)]) == 130                             # Ctrl-C, once three are told
    at_work.join()
    first = len(told(Path()))
    process = start(Path(), 1, n)
    wait_for(lambda: len(told(Path())) > first + 2)
    left = workers_of(process)
    process.kill()                                                 # kill -9, some trials later
    process.communicate()
    assert 2 < len(told(Path())) < n
    assert main([*words(0, n)]) == 0
    found = each_told_once(Path(), n)
    rows = [[{**row, "folder": "", "seconds": 0} for row in sweep.table()] for sweep in (found, whole)]
    assert rows[0] == rows[1]
    assert_plays_to_the_bit(found, found.best)
    psutil.wait_procs(left, 10)
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in left), "a worker outlives its sweep"


def test_on_ray_the_same_trials_with_a_task_killed(tmp_path):
    def kills(process):
        try: return "ray::play_job" in " ".join(process.cmdline()) and process.kill() is None
        except psutil.Error: return False                          # it has ended meanwhile
    killed, long = [], {**tiny, "rounds": 300}
    def kill():
        wait_for(lambda: len(told(tmp_path)) > 0 and any(kills(p) and not killed.append(p) for p in psutil.Process().children(recursive=True)))
    at_work = threading.Thread(target=kill)
    at_work.start()
    found = Sweep("ring", vary, tmp_path/"out", trials=4, workers=2, engine="ray", looks=0, **long).fit()
    at_work.join()
    assert len(killed) == 1 and sorted(told(tmp_path)) == list(range(4))
    for row in found.table():
        assert row["state"] == "complete", row
        assert row["value"] == one_score(Run("ring", **long, **{name: row[name] for name in vary}).fit(progress=False))


@pytest.mark.skipif("TRIALS" not in os.environ, reason="make sweeps: another local Ray takes half a minute")
def test_on_ray_one_worker_makes_the_study_of_a_local_one(tmp_path):
    one, here = (Sweep("ring", vary, tmp_path/engine, trials=5, workers=1, engine=engine, **tiny).fit() for engine in ("ray", "local"))
    assert [{**row, "folder": "", "seconds": 0} for row in one.table()] == [{**row, "folder": "", "seconds": 0} for row in here.table()]


def each_told_once(folder, n):
    "The sweep, of whose trials nothing is lost, and nothing told twice."
    assert sorted(told(folder)) == list(range(n))
    found = Sweep("ring", vary, folder/"out", trials=n, **tiny)
    assert {row["state"] for row in found.table()} <= {"complete", "pruned"}
    return found

def assert_plays_to_the_bit(sweep, row):
    run = sweep.run(row["trial"])
    alone = Run("ring", **tiny, **{name: row[name] for name in vary}).fit(progress=False)
    assert_same_weights(alone, run)
    assert one_score(run) == row["value"]
    on, forked = sweep.run(row["trial"]), sweep.run(row["trial"]).fork(round=20)
    assert_same_weights(on.fit(5, progress=False), forked.fit(25, progress=False))


def assert_same_weights(a, b):
    for p in ("gen", "disc"):
        for name, x in a.state.params[p].items(): assert torch.equal(x, b.state.params[p][name]), (p, name)
    assert a.round == b.round


# What is refused

@pytest.mark.parametrize("words, says", {
    "sweep ring":                                     "--vary",
    "sweep ring --vary lr":                           "key=value",
    "sweep ring --vary lr=1..0.1":                    "lr: '1..0.1' is an empty range",
    "sweep ring --vary lr=0..1:log":                  "low end above 0",
    "sweep ring --vary learning_rate=0..1":           "did you mean 'lr'?",
    "sweep ring --vary data=ring,grid":               "data: cannot be varied",
    "sweep ring --vary lr=0..1 --vary lr=0..2":       "lr came twice",
    "sweep ring --vary lr=0..1 --vary lr_gen=0..2":   "lr_gen is varied twice",
    "sweep ring --vary lr=0..1 --set lr=0.1":         "lr_gen: is set and varied",
    "sweep ring --vary lr=0..1 --metric fid":         "metric: 'fid' is unknown",
    "sweep ring --vary lr=0..1 --sampler tpee":       "did you mean 'tpe'?",
    "sweep ring --vary lr=0..1 --pruner mean":        "pruner: 'mean' is unknown",
    "sweep ring --vary lr=0..1 --engine rey":         "did you mean 'ray'?",
    "sweep ring --vary lr=0..1 --workers -1":         "at least 0",
    "sweep ring --vary lr=0..1 --together":           "one seed is no population",
    "sweep ring --vary lr=0..1 --storage sqlite:///a.db": "SQLite is not safe",
    "sweep ring --vary lr=0..1 --set momentun=1":     "did you mean 'momentum'?",
    "sweep rink --vary lr=0..1":                      "did you mean 'ring'?",
}.items())
def test_bad_input_is_one_line_and_begins_nothing(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("gan-nb: ") and error.count("\n") == 1 and says in error, error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address, says", [("127.0.0.1:9", "does not answer"), ("ray://127.0.0.1:9", "does not answer"), ("127.0.0.1:ray", "came; allowed is that of a cluster")])
def test_a_cluster_that_does_not_answer_is_one_line_at_once(address, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    assert main("sweep ring --vary lr=0..1 --engine ray --out out".split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gan-nb: RAY_ADDRESS: '{address}'") and error.count("\n") == 1 and says in error, error
    assert time.monotonic() - began < 30 and list(tmp_path.iterdir()) == []


@pytest.fixture
def begun(tmp_path, monkeypatch):
    "A folder with a sweep of one trial, and the line that made it."
    monkeypatch.chdir(tmp_path)
    def call(vary="lr=1e-3..1e-2:log", more=()):
        return main([*"sweep ring --workers 0 --fresh 0 --looks 0 --trials 1 --out out --rounds 5 --set hidden=8 --set batch_size=8".split(), "--vary", vary, *more])
    assert call() == 0
    return call


@pytest.mark.parametrize("how, says", [
    (dict(vary="lr=1e-3..1:log"), "holds another study: vary lr '0.001..0.01:log' then, '0.001..1:log' now"),
    (dict(more=("--rounds", "6")), "holds another study: rounds 5 then, 6 now"),
    (dict(more=("--seed", "1")), "holds another study: seed 0 then, 1 now"),
    (dict(more=("--metric", "coverage")), "metric 'sliced_wasserstein' then, 'coverage' now"),
], ids=["space", "rounds", "seed", "metric"])
def test_a_study_of_something_else_stays_what_it_is(begun, how, says, tmp_path, capsys):
    before = (tmp_path/"out/journal.log").read_bytes()
    assert begun(**how) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error
    assert (tmp_path/"out/journal.log").read_bytes() == before


def test_folders_that_hold_something_else(begun, tmp_path, capsys):
    (tmp_path/"out/journal.log").write_text('{"a": 1}\n{"b": 2}\n')
    assert begun() == 2 and "cannot be used" in capsys.readouterr().err
    (tmp_path/"out/journal.log").unlink()
    assert begun() == 2 and "holds trials and no journal.log" in capsys.readouterr().err
    assert main("train ring --rounds 1 --set hidden=8 --out run".split()) == 0
    assert begun(more=("--out", "run")) == 2 and "run: holds a run" in capsys.readouterr().err


@pytest.mark.parametrize("package, extra", [("optuna", "sweep"), ("ray", "ray")])
def test_an_extra_that_is_missing_is_one_line(package, extra, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main("sweep ring --vary lr=0..1 --engine ray".split()) == 2
    assert f"pip install 'gan_nb[{extra}]'" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_a_sweep_that_is_through_starts_no_workers(tmp_path, monkeypatch):
    how = dict(trials=2, workers=0, looks=0, **tiny)
    begun = Sweep("ring", vary, tmp_path/"out", **how)
    assert not begun.is_through and begun.fit().is_through
    def refuse(*args): raise AssertionError("somebody was to play")
    monkeypatch.setattr("gan_nb.sweeps._crew", refuse)
    again = Sweep("ring", vary, tmp_path/"out", **{**how, "workers": 2})
    assert again.fit().table() == begun.table()
    with pytest.raises(AssertionError, match="somebody was to play"): Sweep("ring", vary, tmp_path/"out", **{**how, "trials": 3}).fit()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_doctor_gives_up_what_is_ill_twice_running(tmp_path, workers):
    "A generator that does not move: the second look in a row that finds the same says so, and the run is not played to its end."
    made = Sweep("ring", {"lr_gen": "1e-12,2e-12"}, tmp_path/"out", trials=2, workers=workers, looks=3, pruner="none", **{**tiny, "rounds": 480}).fit()
    for trial, row in zip(made.ledger.trials(), made.table()):
        looks, seen = sorted(trial.intermediate_values), trial.user_attrs["seen"]
        names = [seen.get(str(at), [None])[0] for at in looks]
        twice = [a is not None and a == b for a, b in zip(names, names[1:])]
        assert row["state"] == "pruned" and twice[-1] and not any(twice[:-1]), (names, row)
        assert row["reason"] and "pruner" not in row["reason"] and made.run(row["trial"]).round == looks[-1] < 480


def test_points_that_cannot_be_played_fail_and_ill_ones_are_pruned(tmp_path):
    made = Sweep("ring", {"lr": "1e-3,1e30", "pack": "1,3"}, tmp_path/"out", trials=14, workers=0, looks=1, rule="sgd", **tiny).fit()
    rows = made.table()
    assert {row["state"] for row in rows if row["pack"] == 3} == {"failed"} and "multiples of 3" in next(row["reason"] for row in rows if row["pack"] == 3)
    ill = [row for row in rows if row["pack"] == 1 and row["lr"] == 1e30]
    assert {row["state"] for row in ill} == {"pruned"} and all(row["reason"].startswith("Diverged") for row in ill)
    assert made.best["lr"] == 1e-3 and Run.load(ill[0]["folder"], device="cpu").divergence
