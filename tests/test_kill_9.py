"""A run is killed at random moments, half of them while it saves: no bit of it changes.

KILLS=200 makes the long version; the quick one kills 20 times."""
import json
import os
import subprocess
import sys

import torch
from safetensors.torch import load_file

from gan_nb.storage import checkpoint_name
from helpers import csv_of, here


kills = '''
import io, json, os, random, signal, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
sys.argv, (folder, n, seed) = sys.argv[:1], (sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
from pathlib import Path
import gan_nb.plots, matplotlib.backends.backend_agg, tqdm
from gan_nb import Run
from gan_nb.cli import main
from gan_nb.storage import Store
from gan_nb.storage import checkpoint_name
os.chdir(folder)
recipe = ["--rounds", "500", "--set", "hidden=8", "--set", "batch_size=16", "--set", "halflife=20", "--set", "device=cpu"]

def child(out, report, suicide):
    "Train or go on; die at the `suicide`-th time that the folder is touched."
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    done, saved = Run.save, Store.write
    def write(store, round, content):
        saved(store, round, content)
        os.write(report, b"%d\\n" % round)
    Store.write = write
    left = [suicide]
    def touched(event, args):
        if event.startswith(("open", "os.", "shutil.", "tempfile.")) and any(out in str(a) or ".part-" in str(a) for a in args):
            left[0] -= 1
            if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)
    if suicide:
        sys.addaudithook(touched)
        real = os.fsync
        def fsync(file): touched("open", [out]); real(file)
        os.fsync = fsync
    words = ["resume", out] if Path(out, checkpoint_name).exists() else ["train", "ring", "--out", out, *recipe]
    os._exit(main([*words, "--autosave", "0.02"]))

def start(out, suicide=0):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try: child(out, write, suicide)
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(99)
    os.close(write)
    return pid, read

def finish(pid, read):
    "How it ended, and the last round that it had saved."
    rounds = b""
    while block := os.read(read, 65536): rounds += block
    os.close(read)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, [int(r) for r in rounds.split()]

begun = time.monotonic()
status, _ = finish(*start("whole"))
span = time.monotonic() - begun
assert status == 0, status
rng, killed, inside, run, lost, ended = random.Random(seed), 0, 0, 0, 0, []
while killed < n:
    out, safe = f"run{run}", 0
    while True:
        enough = killed >= n or killed >= (run + 1) * max(n // 8, 5)
        saving = rng.random() < .5
        pid, read = start(out, rng.randrange(1, 120) if saving and not enough else 0)
        if not saving and not enough:
            time.sleep(rng.uniform(0, span))
            os.kill(pid, signal.SIGKILL)
        status, rounds = finish(pid, read)
        safe = max([safe, *rounds])
        if status == 0:
            if not saving and not enough: span *= .7  # it was over before it was killed: the machine has become faster
            break
        assert status == -9, (status, out)
        killed, inside = killed + 1, inside + saving
        if Path(out, checkpoint_name).exists():
            import subprocess
            from gan_nb.storage import read_checkpoint
            at = read_checkpoint(Path(out, checkpoint_name))[0]["round"]
            assert at >= safe, (at, safe)
        else: assert safe == 0
    ended.append(out)
    run += 1
print(json.dumps(dict(killed=killed, inside=inside, runs=ended, seconds=time.monotonic() - begun)))
'''

def test_kill_9_at_any_moment_changes_no_bit(tmp_path):
    n = int(os.environ.get("KILLS", 20))
    done = subprocess.run([sys.executable, "-c", kills, str(tmp_path), str(n), "0"], capture_output=True, text=True,
        cwd=here.parent, timeout=300 + 10 * n)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["killed"] >= n and told["inside"] >= n // 5
    whole = load_file(tmp_path/"whole"/checkpoint_name)
    for name in told["runs"]:
        got = load_file(tmp_path/name/checkpoint_name)
        got["records"][:, 1] = whole["records"][:, 1] = 0
        assert got.keys() == whole.keys()
        assert all(torch.equal(got[k].nan_to_num(-1), whole[k].nan_to_num(-1)) for k in whole)
        assert csv_of(tmp_path/name) == csv_of(tmp_path/"whole")
        assert all((tmp_path/name/picture).stat().st_size > 1000 for picture in ("samples.png", "losses.png"))
        assert not [p for p in os.listdir(tmp_path/name) if p.startswith((".part", ".lock"))]
