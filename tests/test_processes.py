"""One run in shards, by one process and by several: the same bits; and what happens when one of them dies."""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gan_nb import models, Run
from gan_nb.cli import main
from gan_nb.core import Diverged
from gan_nb.driving import replay
from gan_nb.gan import gradient
from gan_nb.lab import Lab
from gan_nb.population import Population
from gan_nb.processes import Lost
from gan_nb.round import draw
from helpers import assert_same, csv_of, here, needs_compiler, one_line
from play_shards import play

rounds, some = int(os.environ.get("SHARDS_ROUNDS", 3)), int(os.environ.get("SHARDS_SOME", 5))
torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ring = ["--set", "shards=2", "--set", "hidden=16", "--set", "device=cpu"]
ring_of_two = dict(shards=2, hidden=(16,), device="cpu")


def environment(): return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}


def played(place, shards, processes):
    "What came of each combination when so many processes played it."
    file = place/f"{processes}.json"
    subprocess.run([*torchrun, str(processes), str(here/"play_shards.py"), str(file), str(shards), str(rounds), str(some)], env=environment(), check=True)
    return json.loads(file.read_text())


@pytest.mark.parametrize("shards", [4] if rounds < 50 else [2, 4])
def test_who_computes_a_shard_does_not_matter(shards, tmp_path):
    "Every bit of states and records; `make shards` plays 60 combinations for 50 rounds."
    alone = play(shards, rounds, some)
    went = [row for row, came in alone.items() if not came.startswith("refused")]
    assert len(alone) == some and len(went) > some / 2 and len({alone[row] for row in went}) == len(went)
    for processes in (2, 4) if shards == 4 and rounds >= 50 else (2,):
        others = played(tmp_path, shards, processes)
        assert others == alone, [row for row in alone if others[row] != alone[row]]


def gan_nb(*words, start=(sys.executable,), cwd=None):
    return subprocess.Popen([*start, "-m", "gan_nb", *words], env=environment(), cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def done(process, within=120):
    "Status, and what it said on stderr."
    _, errors = process.communicate(timeout=within)
    return process.returncode, errors


def member(process, rank):
    "The pid of one of the processes that a line has started."
    for path in Path("/proc").iterdir():
        try:
            said = (path/"environ").read_bytes() if path.name.isdecimal() else b""
            if f"RANK={rank}".encode() not in said.split(b"\0"): continue
            if process.pid in parents(path): return int(path.name)
        except OSError: continue


def parents(path):
    found = []
    while path.name not in ("0", "1"):
        path = Path("/proc")/next(line.split()[1] for line in (path/"status").read_text().splitlines() if line.startswith("PPid"))
        found.append(int(path.name))
    return found


def wait_for(what, within=90):
    until = time.monotonic() + within
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(.1)


def rows(folder): return sum(1 for _ in open(folder/"records.csv")) if (folder/"records.csv").exists() else 0


@pytest.fixture(scope="module")
def by_one(): return Run("ring", **ring_of_two).fit(60, progress=False)


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")


@needs_proc
@pytest.mark.skipif(rounds < 50, reason="takes half a minute; `make shards`")
def test_each_may_be_killed_and_the_run_goes_on(tmp_path, by_one):
    "The others end at once with one line, the folder is whole, and any number of processes goes on with the same bits."
    folder = tmp_path/"run"
    begun, draw = ["train", "ring", *ring, "--autosave", "0.2", "--out", str(folder)], random.Random(0)
    for i in range(2 if rounds < 50 else 20):
        rank, words = 1 - i % 2, begun if i == 0 else ["resume", str(folder), "--autosave", "0.2"]
        process, before = gan_nb(*words, "--processes", "2"), rows(folder)
        wait_for(lambda: rows(folder) > before + 5 or process.poll() is not None)
        time.sleep(draw.random() / 2)
        os.kill(member(process, rank), signal.SIGKILL)
        status, errors = done(process)
        said = [line for line in errors.splitlines() if "terminate called" not in line]
        assert status == 1 and len(said) == 1 and f"process {rank}" in said[0] and "gan-nb resume" in said[0], errors
    came_to = Run.load(folder, device="cpu")
    again = Run("ring", **ring_of_two).fit(came_to.round, progress=False)
    assert came_to.round > 5 and torch.equal(again.samples(8), came_to.samples(8))
    assert main(["resume", str(folder), "--rounds", "3"]) == 0
    status, errors = done(gan_nb("resume", str(folder), "--rounds", "3", "--processes", "2"))
    assert (status, errors) == (0, "")
    assert torch.equal(again.fit(6, progress=False).samples(8), Run.load(folder, device="cpu").samples(8))


@needs_proc
@pytest.mark.skipif(rounds < 50, reason="takes half a minute; `make shards`")
def test_the_launcher_of_pytorch_starts_them_again_after_a_breakdown(tmp_path):
    folder, words = tmp_path/"run", ["train", "ring", *ring, "--rounds", "300", "--autosave", "0.2", "--out", str(tmp_path/"run")]
    process = gan_nb(*words, start=[*torchrun, "2", "--max-restarts", "2"])
    wait_for(lambda: rows(folder) > 20 or process.poll() is not None)
    os.kill(member(process, 1), signal.SIGKILL)
    assert done(process)[0] == 0
    assert_same(Run.load(folder, device="cpu"), Run("ring", **ring_of_two, rounds=300).fit(300, progress=False))
    assert len(csv_of(folder)) == 301


@needs_proc
def test_a_signal_stops_all_at_the_same_round_and_saves(tmp_path):
    folder = tmp_path/"run"
    process = gan_nb("train", "ring", *ring, "--processes", "2", "--out", str(folder))
    wait_for(lambda: (folder/"checkpoint.safetensors").exists() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    status, errors = done(process)
    assert status == 130 and "interrupted by SIGTERM" in errors and errors.count("\n") == 1, errors
    saved = Run.load(folder, device="cpu")
    assert torch.equal(saved.samples(8), Run("ring", **ring_of_two).fit(saved.round, progress=False).samples(8))


def test_ranks_are_one_more_engine(tmp_path, by_one):
    "Edits, steps by hand, undo, divergence and killed processes: the bits are those of one process, and nothing is left behind."
    run, one = (Run("ring", **ring_of_two).fit(20, progress=False) for _ in range(2))
    assert run.fit(40, processes=2) is run and run.processes == 1
    assert_same(run, by_one)
    one.fit(40, progress=False)
    run.processes = 2
    for r in (run, one):
        r.edit(lr=.02)
        r.fit(5, progress=False)
        for what in ("disc", "round"): r.step(what)
        r.back()
        r.fit(5, progress=False)
    assert_same(run, one)
    for rank in (1, 0) if rounds >= 50 else (1,):
        started = list(run.engines.ranks.started)
        os.kill(started[rank].pid, signal.SIGKILL)
        with pytest.raises(Lost, match=f"process {rank} has gone"): run.fit(50)
        assert_same(run, one.fit(run.round - one.round, progress=False))
        run.fit(2)
    assert all(process.poll() is not None for process in started)
    started = list(run.engines.ranks.started)
    run.edit(lr=1e30)
    with pytest.raises(Diverged, match="not finite"): run.fit(5)
    run.processes = 1
    assert all(process.poll() is not None for process in started) and run.divergence["round"] == run.round


def test_the_lab_steers_ranks(by_one):
    run = Run("ring", **ring_of_two)
    run.processes = 2
    lab = Lab(run)
    lab.play()
    wait_for(lambda: run.round > 10 or lab.note)
    lab.run.edit(lr=.02)
    wait_for(lambda: run.edits and run.round > run.edits[-1].round + 5)
    lab.pause()
    lab.wait()
    again = Run("ring", **ring_of_two)
    replay(again, run.edits, run.round)
    assert_same(run, again)
    lab.close()


def test_own_data_go_along(tmp_path):
    points = torch.randn(40, 2) * 30 + 100
    one, two = (Run("ring", **ring_of_two, data=points) for _ in range(2))
    assert_same(two.fit(5, processes=2), one.fit(5, progress=False))


def test_what_cannot_be_shared_out_is_one_line(tmp_path, monkeypatch, capsys):
    run = Run("ring", **ring_of_two)
    for wrong, says in ((3, "processes: 3 came; allowed are divisors of shards, which is 2"), (0, "processes: 0 came"), ("2", "processes: '2' came")):
        with pytest.raises(ValueError, match=says) as error: run.fit(3, processes=wrong)
        one_line(error.value)
    monkeypatch.setitem(models.builders, "mine", lambda shape, z_dim: (torch.nn.Linear(z_dim, *shape), torch.nn.Linear(*shape, 1)))
    with pytest.raises(ValueError, match="model: 'mine' came; processes of their own know only"): Run("ring", **ring_of_two, model="mine").fit(3, processes=2)
    for wrong, says in ((dict(shards=3), "batch_size: 256 came; allowed are multiples of 3, for 3 equal parts"),
            (dict(shards=2, method="unrolled"), "method: unrolled came; with 2 shards"), (dict(shards=0), "shards: 0 came"),
            (dict(shards=2, pack=3), "multiples of 3")):
        with pytest.raises(ValueError, match=says) as error: Run("ring", **wrong)
        one_line(error.value)
    status, errors = done(gan_nb("train", "ring", "--set", "shards=3", "--set", "batch_size=129", "--processes", "2", "--out", str(tmp_path/"b")))
    assert status == 2 and errors == "gan-nb: processes: 2 came; of 3 shards 1 or 3 can take the same number\n"
    assert not (tmp_path/"b").exists()
    for name, value in dict(RANK="1", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="9").items(): monkeypatch.setenv(name, value)
    (tmp_path/"settings.ini").write_text("[DEFAULT]\ntimeout = 0.5\n")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ring", *ring, "--out", str(tmp_path/"c")]) == 0 # a settled ending is no breakdown
    assert "MASTER_ADDR: 127.0.0.1:9 does not answer" in capsys.readouterr().err


def test_processes_that_do_not_have_the_same_run_say_what_differs(tmp_path):
    "They were started by hand, each with a rate of its own."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    def member(rank):
        place = dict(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        words = ["train", "ring", *ring, "--set", f"lr=0.00{rank + 1}", "--rounds", "5", "--out", str(tmp_path/"run")]
        return subprocess.Popen([sys.executable, "-m", "gan_nb", *words], env={**environment(), **place}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first, second = map(done, [member(0), member(1)])
    assert first[0] == second[0] == 0                              # a settled ending: a launcher shall not try again
    assert "gan-nb: lr_gen: 0.001 in process 0 and 0.002 in process 1; allowed is the same in all\n" in first[1] and second[1] == ""
    assert not (tmp_path/"run").exists()


def test_shards_of_a_batch_have_its_gradient():
    "The step of four shards is the step of the batch that they make together."
    run = Run("ring", shards=4, hidden=(16,), device="cpu", r1=.3, batch_size=64)
    game, state = run.game, run.state
    batches = draw(run.experiment, state)
    parts = batches[:4]
    assert len({part["z"].sum().item() for part in parts}) == 4 and all(len(part["z"]) == 16 for part in parts)
    together = {name: torch.cat([part[name] for part in parts]) if parts[0][name].ndim else parts[0][name] for name in parts[0]}
    mean, _, seen = gradient(game, "disc", state.params, state.buffers, parts)
    whole, _, told = gradient(game, "disc", state.params, state.buffers, together)
    for name in whole: torch.testing.assert_close(mean[name], whole[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(seen["loss_disc"], told["loss_disc"], rtol=1e-5, atol=1e-6)


given = dict(hidden=(8,), batch_size=16, device="cpu", shards=2, r1=.1, loss="r3")


def test_shards_play_as_a_population():
    eager, many = Run("ring", **given).fit(4, progress=False), Population("ring", seeds=2, **given).fit(4)
    torch.testing.assert_close(many.run(0).samples(8), eager.samples(8), rtol=1e-3, atol=1e-4)


@needs_compiler
@pytest.mark.skipif(rounds < 50, reason="takes half a minute; `make shards`")
def test_shards_are_compiled_in_one_process_and_in_two(tmp_path):
    eager, fast = Run("ring", **given).fit(4, progress=False), Run("ring", compile=True, folder=tmp_path/"run", **given)
    fast.fit(2, progress=False)
    fast.fit(2, processes=2)
    assert fast.history.was_compiled and fast.round == 4
    torch.testing.assert_close(fast.samples(8), eager.samples(8), rtol=1e-3, atol=1e-4)
