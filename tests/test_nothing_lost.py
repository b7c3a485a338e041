"""A run is stopped in every way, its disk fails, its files come from strangers: nothing is lost, or it is said.

KILLS=200 makes the long version of the kill test; the quick one kills 20 times."""
import dataclasses
import errno
import io
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from safetensors.torch import load_file, save

from gan_nb import Run
from gan_nb import checkpoints, files, readers, records as record_room, storage, training
from gan_nb.cli import main
from gan_nb.core import Diverged
from gan_nb.data import load
from gan_nb.doctor import diagnose
from gan_nb.games import players
from gan_nb.recipes import Recipe, recipe as a_recipe, recipes as all_recipes
from gan_nb.records import Log, Record, Records
from gan_nb.rules import rules
from gan_nb.storage import Lock, Store, pack, read_checkpoint, unpack
from gan_nb.training import checkpoint_name
from gan_nb.transforms import clips, normalizers

tiny = dict(hidden=(8,), batch_size=16, halflife=5, device="cpu")
here = Path(__file__).parent


@pytest.fixture
def tmp_path(tmp_path):
    "In memory where that can be: these tests wait for the disk hundreds of times."
    if not os.access("/dev/shm", os.W_OK): yield tmp_path
    else:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder: yield Path(folder)


def params(run): return {f"{p}/{k}": v for p in players for k, v in run.state.params[p].items()}

def same_run(a, b):
    one, two = (unpack(r._to_bytes(), "")[1] for r in (a, b))
    one["records"][:, 1] = two["records"][:, 1] = 0  # seconds differ
    return one.keys() == two.keys() and all(torch.equal(one[k].nan_to_num(-1), two[k].nan_to_num(-1)) for k in one) and a.edits == b.edits

def csv_of(folder):
    "records.csv without the seconds."
    return [line.split(",")[:1] + line.split(",")[2:] for line in (Path(folder)/"records.csv").read_text().splitlines()]

def one_line(error):
    assert "\n" not in str(error) and len(str(error)) < 2500
    return str(error)


@pytest.fixture(scope="module")
def content():
    "A checkpoint's bytes."
    return Run("ring", **tiny).fit(3, progress=False)._to_bytes()


# Checkpoints

def test_every_flipped_bit_is_seen(content, tmp_path):
    rng, file = np.random.default_rng(1), tmp_path/"a.safetensors"
    bits = {*range(0, 64), *rng.choice(8 * len(content), 1500, replace=False).tolist()}
    for bit in bits:
        wrong = bytearray(content)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="a.safetensors"): unpack(bytes(wrong), file)


def test_a_checkpoint_says_what_made_it(content):
    import gan_nb
    about, _ = unpack(content, "")
    assert about["version"] == 4 and about["gan_nb"] == gan_nb.__version__ and about["torch"] == torch.__version__ and len(about["sha256"]) == 64


def test_older_formats_go_on(tmp_path):
    two = Run.load(here/"checkpoint_v2.safetensors", device="cpu")
    assert two.round == 5 and [e.changes for e in two.edits] == [{"clip_disc": ("global_norm", 0.5)}, {"step": "disc"}]
    torch.testing.assert_close(two.samples(2), torch.tensor([[-0.0244, -0.0734], [-0.1069, -0.3450]]), atol=6e-5, rtol=0)
    two.step()
    torch.testing.assert_close(two.samples(2), torch.tensor([[-0.0246, -0.0747], [-0.1073, -0.3486]]), atol=6e-5, rtol=0)
    three = Run.load(here/"checkpoint_v3.safetensors", device="cpu")
    assert three.round == 5 and [e.changes for e in three.edits] == [{"clip_disc": ("global_norm", 0.5)}, {"step": "disc"}]
    assert three.recipe.on_divergence == three.start_recipe.on_divergence == "roll back"  # in that format it was told to the run
    torch.testing.assert_close(three.samples(2), torch.tensor([[0.0876, 0.3093], [0.2265, -0.0300]]), atol=6e-5, rtol=0)
    three.step()
    torch.testing.assert_close(three.samples(2), torch.tensor([[0.0882, 0.3119], [0.2274, -0.0290]]), atol=6e-5, rtol=0)
    for old in ("checkpoint_v1.safetensors", "checkpoint_v2.safetensors", "checkpoint_v3.safetensors"):
        run = Run.load(here/old, device="cpu")
        run.save(tmp_path/old)
        assert same_run(run, Run.load(tmp_path/old, device="cpu"))
        assert read_checkpoint(tmp_path/old)[0]["version"] == 4


def test_another_device_is_mentioned(content, tmp_path):
    (tmp_path/"a.safetensors").write_bytes(changed(content, device="cuda"))
    with pytest.warns(UserWarning, match="was trained on cuda and goes on on cpu"): assert Run.load(tmp_path/"a.safetensors", device="cpu").round == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", [dict(data="ring", z_dim=2), dict(normalize=("orthogonal", 1.), clip=("quantile", .9), momentum=.5, loss="r3", r1=.1, r2=.1, on_divergence="roll back"), dict(model="conv", width=4, rule="adam", spectral=True, halflife=5)])
def test_from_the_cpu_to_cuda_and_back(tmp_path, recipe):
    "what is carried over is the same to the last bit; what is computed from there need not be"
    folder = tmp_path/"a"
    run = Run(Recipe(batch_size=16, hidden=(8,)).replace(**recipe), folder=folder, device="cpu").fit(4, progress=False)
    for device, before in (("cuda", "cpu"), ("cpu", "cuda")):
        with pytest.warns(UserWarning, match=f"was trained on {before} and goes on on {device}: from here the bits may differ"): again = Run.load(folder, device=device)
        assert again.device.type == device and all(p.device.type == device for p in params(again).values())
        one, two = (unpack(r._to_bytes(), "")[1] for r in (run, again))
        assert one.keys() == two.keys() and all(torch.equal(one[k].nan_to_num(-1), two[k].nan_to_num(-1)) for k in one)
        again.folder = folder
        run = again.fit(30, progress=False)
        assert all(p.isfinite().all() for p in params(run).values())
    assert run.round == 64 and len(csv_of(folder)) == 65 and run.records["round"].tolist() == list(range(1, 65)) and Run.load(folder, device="cpu").round == 64


def test_a_newer_format_is_refused(tmp_path):
    (tmp_path/"a.safetensors").write_bytes(save({"x": torch.zeros(1)}, {"gan_nb": json.dumps({"version": 5})}))
    with pytest.raises(ValueError, match="a.safetensors"): Run.load(tmp_path/"a.safetensors")


@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b"", lambda b: b[:len(b) // 2] + bytes([b[len(b) // 2] ^ 4]) + b[len(b) // 2 + 1:]])
def test_the_older_checkpoint_is_there_if_the_newest_is_damaged(tmp_path, harm):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    for _ in range(3): run.fit(5, progress=False)
    assert [f.name for f in Store(tmp_path/"a").found()] == ["checkpoint.safetensors", "checkpoint-10.safetensors"]
    newest = tmp_path/"a"/checkpoint_name
    newest.write_bytes(harm(newest.read_bytes()))
    with pytest.warns(UserWarning, match=r"checkpoint.safetensors: not a whole checkpoint.*Going on from checkpoint-10.safetensors, round 10"):
        again = Run.load(tmp_path/"a", device="cpu")
    assert again.round == 10
    again.folder = tmp_path/"a"
    again.fit(5, progress=False)
    assert same_run(again, run) and len(csv_of(tmp_path/"a")) == 16
    newest.write_bytes(b"")
    with pytest.warns(UserWarning): assert Run.load(tmp_path/"a", device="cpu").round == 10, "the damaged file must not have become the older checkpoint"


def test_saving_does_not_write_over_another_run(tmp_path):
    other, run = (Run("ring", seed=seed, **tiny).fit(3, progress=False) for seed in (1, 2))
    other.save(tmp_path/"a")
    before = {p.name: p.read_bytes() for p in (tmp_path/"a").iterdir()}
    with pytest.raises(ValueError, match=r"a: holds another run; .* goes on with it, overwrite=True puts"): run.save(tmp_path/"a")
    assert {p.name: p.read_bytes() for p in (tmp_path/"a").iterdir()} == before
    run.save(tmp_path/"a", overwrite=True)
    assert Run.load(tmp_path/"a", device="cpu").seed == 2
    for folder in ("b", "a", "b", "a"): run.fit(2, progress=False).save(tmp_path/folder)     # its own folders are no other run's
    assert [len((tmp_path/f/"records.csv").read_text().splitlines()) for f in "ab"] == [12, 10]
    assert [Run.load(tmp_path/f, device="cpu").round for f in "ab"] == [11, 9]


def test_a_run_that_begins_anew_forgets_what_it_wrote(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(20, progress=False)
    run.reset()
    run.fit(5, progress=False)
    assert len((tmp_path/"a/records.csv").read_text().splitlines()) == 6
    again = Run.load(tmp_path/"a", device="cpu")
    assert (again.round, len(again.records)) == (5, 5)


@pytest.mark.parametrize("setting, why", [("hidden=1000000000", "GiB would be needed"), ("z_dim=1000000000", "GiB would be needed"), ("batch_size=1000000000", "GiB would be needed"), ("hidden=" + "9" * 30, "at most"),
                                          ("n_disc=1000000000000", "at most 1,000"), ("pack=100000000", "at most 1,000"), ("threads=1000000000", "threads: '1000000000' came; allowed is a whole number of at most"), ("rounds=" + "9" * 30, "at most"), ("hidden=" + "8 " * 5000, "layers came")])
def test_absurd_sizes_are_refused_before_anything_is_made(setting, why, tmp_path, capsys):
    assert main(["train", "ring", "--out", str(tmp_path/"a"), "--rounds", "2", "--set", setting]) == 2
    said = capsys.readouterr().err
    assert why in said and said.count("\n") == 1 and not (tmp_path/"a").exists()


def test_absurd_numbers_of_samples_are_refused(tmp_path, capsys):
    run = Run("ring", **tiny)
    for ask in (run.samples, run.real):
        with pytest.raises(ValueError, match="n: 1,000,000,000,000 samples: at least .* GiB would be needed"): ask(10**12)
    with pytest.raises(ValueError, match="GiB would be needed"): run.edit(batch_size=10**9)
    assert run.recipe.batch_size == 16 and run.edits == []
    run.save(tmp_path/"a")
    for words in (["sample", "--n", "1" + "0" * 14, "--out", str(tmp_path/"b.npy")], ["resume", "--rounds", "9" * 30], ["evaluate", "--n", "1" + "0" * 14]):
        assert main([words[0], str(tmp_path/"a"), *words[1:]]) == 2
        assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path/"b.npy").exists()


def test_a_loaded_run_saves_where_it_was_read(tmp_path):
    "its forks, and what was read from a file, do not"
    run = Run("ring", **tiny).fit(5, progress=False)
    run.save(tmp_path/"a"); run.save(tmp_path/"b.safetensors")
    again = Run.load(tmp_path/"a", device="cpu").fit(5, progress=False, autosave=1e-9)
    assert again.folder == tmp_path/"a" and Run.load(tmp_path/"a", device="cpu").round == 10 and len(csv_of(tmp_path/"a")) == 11
    before = {p.name: p.read_bytes() for p in (tmp_path/"a").iterdir()}
    for other in (again.fork(round=7, lr=.01), Run.load(tmp_path/"b.safetensors", device="cpu"), Run.load(tmp_path/"a", device="cpu").fork()):
        assert other.folder is None
        other.fit(3, progress=False)
    assert {p.name: p.read_bytes() for p in (tmp_path/"a").iterdir()} == before


def test_as_many_checkpoints_as_can_be_counted(tmp_path, capsys):
    "what is written can be read"
    with pytest.raises(ValueError, match="keep: 9223372036854775808 came; allowed is a whole number below"): Run("ring", keep=2**63, **tiny)
    assert main(["train", "ring", "--out", str(tmp_path/"a"), "--rounds", "2", "--keep", str(2**63)]) == 2 and not (tmp_path/"a").exists()
    Run("ring", keep=2**63 - 1, **tiny).save(tmp_path/"b")
    assert Run.load(tmp_path/"b", device="cpu").keep == 2**63 - 1


def test_no_whole_checkpoint_at_all(tmp_path):
    Run("ring", **tiny).save(tmp_path/"a")
    (tmp_path/"a"/checkpoint_name).write_bytes(b"x" * 50)
    with pytest.raises(ValueError, match="no older one that is whole"): Run.load(tmp_path/"a")


def test_other_data_and_other_recipes_are_named(tmp_path):
    Run("ring", data=np.ones((9, 2), "float32"), **tiny).save(tmp_path/"a")
    with pytest.raises(ValueError, match="samples 9 then, 8 now; fingerprint .* then, .* now"): Run.load(tmp_path/"a", data=np.ones((8, 2), "float32"))
    with pytest.raises(ValueError, match=r"shape \[2\] then, \[3\] now"): Run.load(tmp_path/"a", data=np.ones((9, 3), "float32"))
    run = Run("ring", **tiny).fit(2, progress=False)
    run.save(tmp_path/"b")
    with pytest.raises(ValueError, match=r"another recipe: lr_gen 0.001 then, 0.5 now; batch_size 16 then, 32 now$"): Run.load(tmp_path/"b", lr_gen=.5, batch_size=32)
    with pytest.raises(ValueError, match="hidden"): Run.load(tmp_path/"b", of="ring")
    with pytest.raises(ValueError, match="did you mean 'rounds'"): Run.load(tmp_path/"b", round=3)
    with pytest.raises(ValueError, match="may only grow"): Run.load(tmp_path/"b", rounds=5)
    assert Run.load(tmp_path/"b", of=run.recipe, lr=0.001).edits == []
    more = Run.load(tmp_path/"b", rounds=12_000, device="cpu")
    assert more.recipe.rounds == 12_000 and more.edits[-1].changes == {"rounds": 12_000} and more.edits[-1].moves == 2


# One new process for all of these

BOUNDS = {"value": .1, "global_norm": .5, "block_norm": .3, "adaptive": .01, "quantile": .5}
GOING_ON = [dict(method="alternating", n_disc=2, order="gen_first"), dict(method="simultaneous", average="uniform"), dict(method="extragradient", schedule="cosine"), dict(method="past_extragradient", average="tail"), dict(method="optimistic", lookahead=4),
    dict(method="consensus", loss="hinge"), dict(method="symplectic", loss="wasserstein"), dict(method="unrolled", unroll=2, rule="adam", momentum=.5), *(dict(rule=rule) for rule in rules), *(dict(clip=(kind, BOUNDS[kind])) for kind in clips),
    *(dict(normalize=(kind, 1.), lr=.001) for kind in normalizers), dict(r1=.1, r2=.1, loss="r3", halflife=5), dict(wgan_gp=1., dragan=1., noise=.1), dict(pack=2, smoothing=.1), dict(gn=True), dict(spectral=True, project=("ball", 2.)),
    dict(skip_not_finite=True, centralize=True, early_momentum=.5, momentum=.5, nesterov=True, weight_decay=.001, warmup=13), dict(on_divergence="roll back", lr=2., hidden=(32, 32), batch_size=64, rounds=10_000),
    dict(data="digits", z_dim=4, model="conv", width=4, rule="adam", spectral=True)]

def test_a_new_process_goes_on_with_the_same_bits(tmp_path):
    "weights, memories, averages, records and edits, after an edit and a step of one player"
    def rounds(settings): return 3 if settings.get("data") == "digits" else 90 if "on_divergence" in settings else 12
    for i, settings in enumerate(GOING_ON):
        run = Run(Recipe(**{"data": "ring", "z_dim": 2, "hidden": (8,), "batch_size": 8, "device": "cpu", "threads": 1, "rounds": 50}).replace(**{"lr": .01, **settings}), seed=i).fit(rounds(settings), progress=False)
        if "on_divergence" not in settings: run.edit(lr=.02); run.step("disc")
        run.save(tmp_path/f"{i}")
        run.fit(rounds(settings), progress=False).save(tmp_path/f"{i}-whole")
    code = "import sys; from gan_nb import Run\nfor at in sys.argv[1:]: place, n = at.rsplit(':', 1); Run.load(place, device='cpu', threads=1).fit(int(n), progress=False)"
    done = subprocess.run([sys.executable, "-c", code, *(f"{tmp_path}/{i}:{rounds(settings)}" for i, settings in enumerate(GOING_ON))], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for i, settings in enumerate(GOING_ON):
        went_on, whole = (Run.load(tmp_path/f"{i}{end}", device="cpu", threads=1) for end in ("", "-whole"))
        assert same_run(went_on, whole) and (went_on.rollbacks, went_on.recipe) == (whole.rollbacks, whole.recipe), settings
        assert csv_of(tmp_path/f"{i}") == csv_of(tmp_path/f"{i}-whole"), settings


# Stops

kills = '''
import io, json, os, random, signal, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
sys.argv, (folder, n, seed) = sys.argv[:1], (sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
from pathlib import Path
import gan_nb.plots, matplotlib.backends.backend_agg, tqdm
from gan_nb import Run
from gan_nb.cli import main
from gan_nb.storage import Store
from gan_nb.training import checkpoint_name
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
    done = subprocess.run([sys.executable, "-c", kills, str(tmp_path), str(n), "0"], capture_output=True, text=True, cwd=here.parent, timeout=300 + 10 * n)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["killed"] >= n and told["inside"] >= n // 5
    whole = load_file(tmp_path/"whole"/checkpoint_name)
    for name in told["runs"]:
        got = load_file(tmp_path/name/checkpoint_name)
        got["records"][:, 1] = whole["records"][:, 1] = 0
        assert got.keys() == whole.keys() and all(torch.equal(got[k].nan_to_num(-1), whole[k].nan_to_num(-1)) for k in whole)
        assert csv_of(tmp_path/name) == csv_of(tmp_path/"whole")
        assert all((tmp_path/name/picture).stat().st_size > 1000 for picture in ("samples.png", "losses.png"))
        assert not [p for p in os.listdir(tmp_path/name) if p.startswith((".part", ".lock"))]


def test_autosave_by_seconds(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    saved = []
    run.autosave = lambda: saved.append(run.round)
    run.fit(60, progress=False, autosave=1e-6)
    assert len(saved) > 3 and Run.load(tmp_path/"a", device="cpu").round == 60
    with pytest.raises(ValueError, match="seconds above 0"): run.fit(1, autosave=0)
    assert main(["train", "ring", "--out", str(tmp_path/"b"), "--autosave", "-1"]) == 2 and not (tmp_path/"b").exists()


def test_a_disk_that_is_full_for_a_while_does_not_end_training(tmp_path, monkeypatch):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(5, progress=False)
    def full(*_): raise OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match="not saved at round 10, training goes on.*No space"):
            for _ in range(5): run.step()
            run.autosave()
        with pytest.raises(OSError, match="No space left on device, so round 11 is not saved; round 5 is: .*a/records.csv"): run.fit(1, progress=False)
    run.fit(1, progress=False)
    assert Run.load(tmp_path/"a", device="cpu").round == 12 and len(csv_of(tmp_path/"a")) == 13


def test_ctrl_c_waits_for_the_end_of_the_round(tmp_path):
    "the signal comes in the middle of a move; state, records and file agree afterwards"
    signal.signal(signal.SIGINT, signal.default_int_handler) # a shell starts background jobs with Ctrl-C ignored
    run = Run("ring", folder=tmp_path/"a", **tiny)
    draw, left = run.game.draw, [1]
    def interrupted(*args):
        if run.round == 4 and left[0]:
            left[0] -= 1
            signal.raise_signal(signal.SIGINT)
        return draw(*args)
    run.game.draw = interrupted
    with pytest.raises(KeyboardInterrupt): run.fit(50, progress=False)
    assert run.round == len(run.records) == 5 == Run.load(tmp_path/"a", device="cpu").round
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run.several = lambda most: [signal.raise_signal(signal.SIGINT) for _ in range(2)]  # a second one does not wait
    with pytest.raises(KeyboardInterrupt): run.fit(50, progress=False)
    assert run.round == 5


class Lines:
    "Which lines of gan_nb are run, and Ctrl-C before the `at`-th of them."
    root = os.path.dirname(training.__file__)
    def __init__(self, at=0): self.at, self.seen = at, []
    def __call__(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(self.root): return None
        if event == "line":
            self.seen.append((os.path.basename(frame.f_code.co_filename), frame.f_lineno))
            if len(self.seen) == self.at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self
    def run(self, do):
        sys.settrace(self)
        try: do()
        except KeyboardInterrupt: pass
        finally: sys.settrace(None)
        return self

def interrupted(prepare, do, stride=1):
    "What `prepare` makes, after `do` was stopped before each line of the modules that change a run or a file: before its first time and its last."
    made = prepare()
    seen = Lines().run(lambda: do(made)).seen
    lines = [line for line in seen if line[0] in ("training.py", "records.py", "storage.py", "data.py", "files.py")]
    places = {seen.index(line) + 1 for line in lines} | {len(seen) - seen[::-1].index(line) for line in lines}
    assert len(places) > 20
    for at in sorted(places)[::stride]:
        made = prepare()
        Lines(at).run(lambda: do(made))
        yield made, f"before {'%s:%d' % seen[at - 1]}"

class Together:
    "Rounds in one call, as compiled ones are."
    most = 50
    def __init__(self, average): self.average = average
    def play(self, game, method, state, n=1):
        told = []
        for _ in range(n):
            tree, row, fine = training.round_of(game, method, self.average, state)(training.tensors(state), training.draw(game, method, state))
            state = dataclasses.replace(state, round=state.round + 1, moves=state.moves + 1, **tree)
            told.append((row, fine))
        return tree, *map(torch.stack, zip(*told))

def several(run):
    run._fast, run._settled, run._pace = Together(run.average), True, 1e-6
    run.several(2)

@pytest.mark.parametrize("move", ["step", "step of one player", "several", "edit", "roll back"])
def test_ctrl_c_at_any_line(tmp_path, monkeypatch, move):
    "where nobody waits for the end of the round: in `step`, in `several`, at the second Ctrl-C in `fit`, in an edit"
    monkeypatch.setattr(record_room, "_together", 4)
    do = {"step": lambda run: run.step(), "step of one player": lambda run: run.step("disc"), "several": several,
          "edit": lambda run: run.edit(rule="sgd", lr=.05, momentum=0., batch_size=12), "roll back": lambda run: run.step()}[move]
    def prepare():
        run = Run("ring", on_divergence="roll back", **tiny)
        if move == "roll back": spoil(run, 7)
        for _ in range(7): run.step()
        return run
    def go_on(run):
        while run.round < 9: run.step()
        return run
    do(through := prepare())
    ends = [go_on(through)] if move in ("step", "several", "roll back") else [go_on(prepare()), go_on(through)] # made or not made, nothing between
    for i, (run, where) in enumerate(interrupted(prepare, do, 5 if move == "roll back" else 1)):
        assert run.records.total - run.state.moves in (0, 1, 2, 3)
        run.save(tmp_path/f"{i}")
        again = run if move == "roll back" else Run.load(tmp_path/f"{i}", device="cpu")
        again.folder = tmp_path/f"{i}"
        go_on(again).save(again.folder)
        if move == "several": again._fast = None
        assert any(same_run(again, end) and again.rollbacks == end.rollbacks and again.recipe == end.recipe for end in ends), where
        assert again.records["round"].tolist() == sorted(again.records["round"]) and len(csv_of(again.folder)) == again.state.moves + 1, where
        if not i % 5: assert same_run(again.fork(), again), where
        shutil.rmtree(tmp_path/f"{i}")


def test_ctrl_c_at_any_line_of_a_save(tmp_path):
    "the folder holds a whole checkpoint, and can be saved to again"
    def prepare():
        shutil.rmtree(tmp_path/"a", ignore_errors=True)
        run = Run("ring", **tiny)
        run.step()
        run.save(tmp_path/"a")
        run.step()
        return run
    for run, where in interrupted(prepare, lambda run: run.save(tmp_path/"a"), 4):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Run.load(tmp_path/"a", device="cpu").round in (1, 2), where
            run.step()
            run.save(tmp_path/"a")
            assert Run.load(tmp_path/"a", device="cpu").round == 3 and len(csv_of(tmp_path/"a")) == 4, where
        Store(tmp_path/"a").tidy()
        left = [name for name in os.listdir(tmp_path/"a") if name.startswith(".")]
        assert left in ([], [".lock"]), (where, left)  # the lock, if it came just before that is let go


def test_two_ctrl_c_while_records_are_fetched(tmp_path, monkeypatch):
    "the checkpoint that `fit` then saves can be read"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(record_room, "_together", 4)
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(3, progress=False)
    stacked = np.column_stack
    def twice(*args):
        if run.round >= 6: signal.raise_signal(signal.SIGINT); signal.raise_signal(signal.SIGINT)
        return stacked(*args)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(record_room.np, "column_stack", twice)
        try: run.fit(20, progress=False)
        finally: m.setattr(record_room.np, "column_stack", stacked)
    run.save(tmp_path/"a")
    again = Run.load(tmp_path/"a", device="cpu").fit(20 - run.round, progress=False)
    assert same_run(again, Run("ring", **tiny).fit(20, progress=False)) and len(csv_of(tmp_path/"a")) == 21


def test_a_folder_that_holds_another_run_is_not_written_over(tmp_path):
    first = Run("ring", folder=tmp_path/"a", **tiny).fit(3, progress=False)
    with pytest.raises(ValueError, match="holds another run"): Run("ring", seed=1, folder=tmp_path/"a", **tiny).fit(1)
    again = Run.load(tmp_path/"a", device="cpu")
    again.folder = tmp_path/"a"
    again.fit(2, progress=False)
    with pytest.raises(ValueError, match="holds another run"): first.fit(1)  # it was continued elsewhere in the meantime
    assert Run.load(tmp_path/"a", device="cpu").round == 5


# The last ones and the best

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
    with pytest.raises(ValueError, match="keep: 0 came; allowed is a whole number of at least 1"): Run("ring", keep=0, **tiny)
    assert main(["train", "ring", "--out", str(tmp_path/"b"), "--rounds", "2", "--keep", "3", "--set", "hidden=8"]) == 0
    assert read_checkpoint(tmp_path/"b"/checkpoint_name)[0]["keep"] == 3


def level(run):
    "A metric with its best at round 9, among the rounds that 3 divides, of those up to 30; not a number at 12."
    return math.nan if run.round == 12 else (run.round - 10)**2 if run.round != 30 else -math.inf

def best_of(folder): return Run.load(folder, best=True, device="cpu")

def test_the_best_checkpoint_stays(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    for _ in range(5): run.fit(6, progress=False, metric=level, every=3)
    kept = best_of(tmp_path/"a")
    assert run.best == kept.best == {"metric": "level", "is": "smallest", "value": 1., "round": 9} and kept.round == 9
    assert same_run(kept, Run("ring", **tiny).fit(9, progress=False)) and same_run(run, Run("ring", **tiny).fit(30, progress=False))
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
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(12, progress=False, metric=lambda run: torch.tensor(-float(level(run))), best="largest", every=3)
    assert run.best["value"] == -1 and best_of(tmp_path/"a").round == 9
    run = Run("ring", folder=tmp_path/"b", **tiny).fit(7, progress=False, metric=lambda run: -run.round)  # without `every` at each save: here the end
    assert best_of(tmp_path/"b").round == 7
    run.fit(7, progress=False, metric=lambda run: -run.round, autosave=1e-9)
    assert best_of(tmp_path/"b").round == 14


def test_a_process_that_goes_on_knows_the_best(tmp_path):
    "whatever it died of, and also if the best was saved after the last checkpoint"
    class Dead(BaseException): pass
    for at in (1, 2):
        folder = tmp_path/f"a{at}"
        run = Run("ring", folder=folder, **tiny).fit(8, progress=False, metric=level, every=3)
        if at == 1:
            write = run._save_best
            def dies(said): write(said); raise Dead
        else:
            def dies(said): raise Dead
        run._save_best = dies
        with pytest.raises(Dead): run.fit(10, progress=False, metric=level, every=3)
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
    with pytest.raises(ValueError, match="metric: 'good' came from it; allowed is a number"): Run("ring", folder=tmp_path/"b", **tiny).fit(3, progress=False, metric=lambda run: "good")
    with pytest.raises(ValueError, match="metric: 'frechet' came; allowed is a function"): Run("ring", folder=tmp_path/"c", **tiny).fit(3, metric="frechet")
    with pytest.raises(ValueError, match="needs a folder"): Run("ring", **tiny).fit(3, metric=level)
    with pytest.raises(ValueError, match="did you mean 'largest'"): Run("ring", folder=tmp_path/"c", **tiny).fit(3, metric=level, best="larger")
    assert not (tmp_path/"c").exists()


def test_the_best_of_something_else_is_not_written_over(tmp_path):
    folder = tmp_path/"a"
    run = Run("ring", folder=folder, **tiny).fit(6, progress=False, metric=level, every=3)
    before = (folder/"best.safetensors").read_bytes()
    with pytest.raises(ValueError, match="has the smallest level, not the largest level; move it away"): run.fit(3, progress=False, metric=level, best="largest")
    with pytest.raises(ValueError, match="not the smallest <lambda>"): run.fit(3, progress=False, metric=lambda run: 0)
    (folder/checkpoint_name).unlink()
    with pytest.raises(ValueError, match="best.safetensors: is of another run"): Run("ring", seed=1, folder=folder, **tiny).fit(3, progress=False, metric=level)
    with pytest.raises(ValueError, match="best.safetensors: is of another run"): Run("ring", lr=.5, folder=folder, **tiny).fit(3, progress=False, metric=level)
    assert (folder/"best.safetensors").read_bytes() == before
    (folder/"best.safetensors").write_bytes(before[:-1])
    with pytest.warns(UserWarning, match="not a whole checkpoint.*The next best"): Run("ring", folder=folder, **tiny).fit(3, progress=False, metric=level, every=3)
    assert best_of(folder).round == 3


def test_a_full_disk_leaves_the_best_before(tmp_path, monkeypatch):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(4, progress=False, metric=level, every=3)
    def full(*_): raise OSError(errno.ENOSPC, "No space left on device")
    with run.claim(), monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        judge = checkpoints.Best(run, level, "smallest", 3)
        judge.begin()
        for _ in range(2): run.step()
        with pytest.warns(UserWarning, match="best checkpoint was not saved at round 6, training goes on.*No space left on device.*best.safetensors"): judge.look()
    assert best_of(tmp_path/"a").round == 3
    run.fit(3, progress=False, metric=level, every=3)
    assert best_of(tmp_path/"a").round == 9


def test_samples_of_the_best(tmp_path, capsys):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(12, progress=False, metric=level, every=3)
    for out, more in (("last.npy", []), ("best.npy", ["--best"])): assert main(["sample", str(tmp_path/"a"), "--n", "5", "--out", str(tmp_path/out), *more]) == 0
    assert "after 9 rounds" in capsys.readouterr().out
    assert np.array_equal(np.load(tmp_path/"best.npy"), best_of(tmp_path/"a").samples(5)) and not np.array_equal(np.load(tmp_path/"last.npy"), np.load(tmp_path/"best.npy"))
    run.save(tmp_path/"b")
    assert main(["sample", str(tmp_path/"b"), "--n", "5", "--out", str(tmp_path/"x.npy"), "--best"]) == 2 and "there is no best checkpoint" in capsys.readouterr().err


# The disk

@contextmanager
def failing(monkeypatch, at, code):
    "The `at`-th write, fsync, renaming, link or opening fails with `code`; yields how many there were."
    seen = [0]
    def passing(real):
        def call(*args, **kwargs):
            seen[0] += 1
            if seen[0] == at: raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)
        return call
    def opened(open, *args, **kwargs):
        file = open(*args, **kwargs)
        return Failing(file, passing(file.write)) if "r" != args[1][0] or "+" in args[1] else file
    class Failing:
        def __init__(self, file, write): self.file, self.write = file, write
        def __getattr__(self, name): return getattr(self.file, name)
        def __enter__(self): return self
        def __exit__(self, *_): self.file.close()
    with monkeypatch.context() as m:
        for name in ("fsync", "replace", "link", "mkdir"): m.setattr(os, name, passing(getattr(os, name)))
        m.setattr(files, "open", passing(partial(opened, open)), raising=False)
        m.setattr(os, "fdopen", passing(partial(opened, os.fdopen)))
        yield seen

@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_at_any_write_leaves_the_checkpoint_before(tmp_path, monkeypatch, code):
    at, failed = 1, 0
    while True:
        folder = tmp_path/f"{at}"
        run = Run("ring", **tiny)
        for _ in range(2):
            run.fit(5, progress=False)
            run.save(folder)
        run.fit(5, progress=False)
        with failing(monkeypatch, at, code) as seen:
            try: run.save(folder)
            except OSError as error:
                failed += 1
                assert error.errno == code and str(folder) in one_line(error) and ".part-" not in str(error)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # no falling back: the newest is whole
            assert Run.load(folder, device="cpu").round in ((10, 15) if failed else (15,))
        run.save(folder)
        assert Run.load(folder, device="cpu").round == 15 and len(csv_of(folder)) == 16
        assert [f.name for f in Store(folder).found()] == ["checkpoint.safetensors", "checkpoint-10.safetensors"]
        assert not [p for p in os.listdir(folder) if p.startswith((".lock", ".part"))]
        if seen[0] < at: break
        at += 1
    assert failed >= 10, f"{failed} of {at} calls failed"


def test_what_is_moved_into_place_is_on_the_disk(tmp_path, monkeypatch):
    "the records, then the checkpoint before it is renamed, then the folder: a power cut finds no name without its content"
    run = Run("ring", **tiny)
    run.save(tmp_path/"a")
    run.fit(2, progress=False)
    did, path_of = [], lambda f: os.path.relpath(os.readlink(f"/proc/self/fd/{f}"), tmp_path/"a") if isinstance(f, int) else os.path.relpath(f, tmp_path/"a")
    real = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (did.append(("fsync", path_of(f).split("/")[-1])), real[0](f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (did.append(("replace", path_of(b))), real[1](a, b)))
    run.save(tmp_path/"a")
    assert did[:4] == [("fsync", "records.csv"), ("fsync", checkpoint_name), ("replace", checkpoint_name), ("fsync", ".")]


def test_a_folder_on_a_small_disk(tmp_path):
    "a tmpfs that two checkpoints do not fit in; where it cannot be mounted, a limit on the length of files"
    disk = tmp_path/"disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode == 0
    try:
        limit = "" if mounted else "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))\n"
        code = limit + ("import sys; from gan_nb import Run\nrun = Run('ring', hidden=(8,), batch_size=16, device='cpu')\n"
                "try:\n  while True: run.fit(20, progress=False); run.save(sys.argv[1]); print(run.round, flush=True)\n"
                "except OSError as e: print(e); sys.exit(7)")
        done = subprocess.run([sys.executable, "-c", code, str(disk/"a")], capture_output=True, text=True, timeout=200)
        assert done.returncode == 7, done.stderr
        *saved, error = done.stdout.splitlines()
        assert str(disk/"a") in error and ("No space left" if mounted else "File too large") in error
        assert saved and Run.load(disk/"a", device="cpu").round == int(saved[-1])
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with pytest.raises(OSError, match="Read-only file system.*disk/a"): Run("ring", **tiny).save(disk/"a")
            assert main(["resume", str(disk/"a"), "--rounds", "1"]) == 2
            assert Run.load(disk/"a", device="cpu").round == int(saved[-1])
    finally:
        if mounted: subprocess.run(["umount", str(disk)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the read-only disk above stands for it")
def test_a_read_only_folder(tmp_path):
    Run("ring", **tiny).save(tmp_path/"a")
    (tmp_path/"a").chmod(0o500)
    with pytest.raises(OSError, match="Permission denied.*/a"): Run("ring", **tiny).save(tmp_path/"a")


# One process in a folder

def test_the_second_process_is_told_who_was_first(tmp_path, capsys):
    command = [sys.executable, "-c", "import sys; from gan_nb.cli import main; sys.exit(main())"]
    first = subprocess.Popen([*command, "train", "ring", "--rounds", "1000000", "--out", "a", "--set", "hidden=8", "--set", "device=cpu"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path/"a/recipe.ini").exists() and first.poll() is None: time.sleep(.05)
    before = (tmp_path/"a"/checkpoint_name).read_bytes()
    assert main(["resume", str(tmp_path/"a"), "--rounds", "2"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{tmp_path}/a: in use by process {first.pid};" in said
    with pytest.raises(ValueError, match=f"in use by process {first.pid}"): Run("ring", **tiny).save(tmp_path/"a")
    assert (tmp_path/"a"/checkpoint_name).read_bytes() == before
    first.kill()
    first.communicate()
    assert main(["resume", str(tmp_path/"a"), "--rounds", "2"]) == 0  # the dead process does not keep it
    assert not (tmp_path/"a/.lock").exists()


def test_of_many_processes_one_gets_the_lock(tmp_path):
    code = '''
import os, sys, time
from pathlib import Path
import importlib.util
from gan_nb.storage import Lock
got = 0
for _ in range(300):
    try:
        with Lock(sys.argv[1]):
            assert not os.path.exists(sys.argv[2]), "two at once"
            Path(sys.argv[2]).write_text("x"); os.unlink(sys.argv[2])
            got += 1
    except ValueError: pass
print(got)
'''
    racing = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path/"a"), str(tmp_path/"flag")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [p.communicate(timeout=120) for p in racing]
    assert all(p.returncode == 0 for p in racing), told
    assert sum(int(out) for out, _ in told) > 0 # how often each gets it is the scheduler's matter


def test_a_process_that_was_forked_off_does_not_keep_the_lock(tmp_path):
    code = "import os, signal, sys, time\nfrom gan_nb.storage import Lock\nwith Lock(sys.argv[1]):\n  if os.fork(): os.kill(os.getpid(), signal.SIGKILL)\n  print(os.getpid(), flush=True); time.sleep(60)"
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path/"a")], stdout=subprocess.PIPE, text=True)
    child = int(owner.stdout.readline())
    try:
        assert owner.wait(60) == -9
        Run("ring", **tiny).save(tmp_path/"a")
    finally: os.kill(child, signal.SIGKILL)
    pid = os.fork()  # and it knows that it has none
    if not pid: os._exit(0)
    with Lock(tmp_path/"a") as lock:
        pid = os.fork()
        if not pid: os._exit(int(lock.held or lock._file is not None))
        assert os.waitpid(pid, 0)[1] == 0 and lock.held


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path, monkeypatch):
    "the holder removes it between our opening and our locking"
    plain, left = storage._lock, [2]
    def late(file):
        plain(file)
        if left[0]: left[0] -= 1; (tmp_path/"a/.lock").unlink(); (tmp_path/"a/.lock").write_text("")
    monkeypatch.setattr(storage, "_lock", late)
    with Lock(tmp_path/"a") as lock: assert os.path.samestat(os.fstat(lock._file), os.stat(tmp_path/"a/.lock")) and not left[0]


def test_systems_that_lock_otherwise_or_not_at_all(tmp_path, monkeypatch):
    "as on Windows, as on a file system without locks, and where there are none"
    class Windows:
        LK_NBLCK, taken = 2, []
        def locking(file, mode, n):
            place = os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR)
            if place in Windows.taken: raise PermissionError(errno.EACCES, "Permission denied")
            Windows.taken.append(place)
    with monkeypatch.context() as m:
        m.setattr(storage, "fcntl", None)
        with pytest.warns(UserWarning, match="no locks"), Lock(tmp_path/"b"): pass
        m.setattr(storage, "msvcrt", Windows)
        with Lock(tmp_path/"a"), pytest.raises(ValueError, match="in use by this process"): Lock(tmp_path/"a").__enter__()
    def refuse(file): raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(storage, "_lock", refuse)
    with Lock(tmp_path/"c") as lock: assert lock.held


def test_a_disk_without_links(tmp_path, monkeypatch):
    def no(*_): raise OSError(errno.EPERM, "Operation not permitted")
    monkeypatch.setattr(os, "link", no)
    run = Run("ring", folder=tmp_path/"a", **tiny)
    for _ in range(2): run.fit(5, progress=False)
    assert [read_checkpoint(f)[0]["round"] for f in Store(tmp_path/"a").found()] == [10, 5]


# The lab

def test_the_lab_saves_a_run_that_has_a_folder(tmp_path):
    from gan_nb.lab import Lab
    run = Run("ring", folder=tmp_path/"a", **tiny)
    lab = Lab(run)
    lab._keeper.pause = .01
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
        assert run.round == 0 and str(run.folder) in lab.status.value != str(saved)
    lab.step(); lab.wait(); lab.close()
    assert Run.load(tmp_path/"a-2", device="cpu").round == round >= 30 and Run.load(tmp_path/"a", device="cpu").round >= 30
    assert Run.load(tmp_path/"a-3", device="cpu").round == 1 and len(csv_of(tmp_path/"a-2")) == round + 1


def test_the_lab_saves_where_it_diverged(tmp_path):
    from gan_nb.lab import Lab
    run = Run("ring", folder=tmp_path/"a", **tiny)
    spoil(run, 20)
    lab = Lab(run)
    lab.play()
    with pytest.raises(Diverged): lab.wait(rounds=100)
    lab.close()
    assert json.loads((tmp_path/"a/diverged.json").read_text())["round"] == 20 == Run.load(tmp_path/"a", device="cpu").round


def test_the_lab_saves_when_the_kernel_ends(tmp_path):
    code = ("import sys; from gan_nb import Run; from gan_nb.lab import Lab\n"
            "run = Run('ring', hidden=(8,), batch_size=16, device='cpu', folder=sys.argv[1]); lab = Lab(run); lab.play(); lab.wait(rounds=30)\n"
            "paused = Lab(Run('ring', hidden=(8,), batch_size=16, device='cpu', folder=sys.argv[2])); paused.step(); paused.wait()")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path/"a"), str(tmp_path/"b")], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert Run.load(tmp_path/"a", device="cpu").round >= 30 and Run.load(tmp_path/"b", device="cpu").round == 1


# Divergence

def spoil(run, at, player="gen", name="0.weight", value=float("nan")):
    "Let one weight of the player become `value` in that round, whatever its loss is."
    def wrap():
        plain = run.method.step
        def step(game, state, batches):
            state, seen = plain(game, state, batches)
            if run.state.round == at and spoil.on and not run.rollbacks: state.params[player][name] = state.params[player][name].clone().fill_(value)
            return state, seen
        run.method.step = step
    def set_recipe(*args, **parts):
        before(*args, **parts)
        wrap()
    before, run._set_recipe, spoil.on = run._set_recipe, set_recipe, True
    wrap()

@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_seen_at_once(tmp_path, value):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    spoil(run, 70, "disc", "2.bias", value)
    with pytest.raises(Diverged, match=r"round 70: disc/2.bias is not finite \(in the discriminator, first in 2.bias\)") as raised: run.fit(100, progress=False)
    error = raised.value
    assert (error.player, error.layer, error.round) == ("disc", "2.bias", 70) and [len(error.norms[p]) for p in players] == [50, 50]
    assert error.norms["gen"][:-1] == run.records["grad_norm_gen"][-49:].tolist()
    assert run.round == 70 == len(run.records) and all(v.isfinite().all() for v in params(run).values())
    note = json.loads((tmp_path/"a/diverged.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (note["player"], note["layer"], note["round"], len(note["norms"]["gen"])) == ("disc", "2.bias", 70, 50)
    again = Run.load(tmp_path/"a", device="cpu").fit(5, progress=False)
    assert same_run(again, Run("ring", **tiny).fit(75, progress=False)) and not (tmp_path/"a/diverged.json").exists(), "it has passed that round"


def test_the_doctor_reads_where_it_diverged(tmp_path):
    "in the process itself and in the next one, though nothing is wrong with the round that it would play now"
    run = Run("ring", folder=tmp_path/"a", **tiny)
    spoil(run, 70, "disc", "2.bias")
    with pytest.raises(Diverged): run.fit(100, progress=False)
    spoil.on = False
    for at in (run, Run.load(tmp_path/"a", device="cpu")):
        found, = diagnose(at)
        assert found.name == "diverged" and found.evidence["divergence"] == {"player": "disc", "layer": "2.bias", "round": 70} and found.evidence["next_round_finite"]
        assert found.why.startswith("Round 70 was not finite, in the discriminator, first in 2.bias. ")
    other = Run.load(tmp_path/"a", device="cpu")
    other.edit(lr=1e-4)
    assert diagnose(other, ahead=0)[0].name != "diverged", "it was changed since"
    at.fit(5, progress=False)
    assert at.divergence is None and diagnose(at, ahead=0)[0].name != "diverged", "it has passed that round"


def test_a_loss_that_is_not_finite(tmp_path):
    run = Run("ring", rule="sgd", lr=1e38, **tiny)
    with pytest.raises(Diverged) as raised: run.fit(100, progress=False)
    assert raised.value.player in players and raised.value.layer and raised.value.seen.keys() >= {"loss_gen"}


def test_large_finite_weights_are_no_divergence():
    "their squares overflow, they themselves do not"
    run = Run("ring", **tiny)
    spoil(run, 1, "gen", "0.bias", 3e20)
    for _ in range(2): run.step()
    assert run.round == 2 and run.state.params["gen"]["0.bias"].max() > 1e20


def test_rolling_back(tmp_path):
    run = Run("ring", rule="sgd", lr=2., momentum=0., hidden=(32, 32), batch_size=64, device="cpu", on_divergence="roll back", folder=tmp_path/"a").fit(200, progress=False)
    back = run.rollbacks
    assert 1 <= len(back) <= 3 and run.round == 200 and run.recipe.lr_gen == 2. / 2**len(back)
    assert [e.changes for e in run.edits] == [{"lr_gen": 2. / 2**(k + 1), "lr_disc": 2. / 2**(k + 1)} for k in range(len(back))]
    assert [e.round for e in run.edits] == [b["to"] for b in back] and all(b["round"] - b["to"] <= 100 for b in back)
    assert run.records["round"].tolist() == list(range(1, 201)) and len(csv_of(tmp_path/"a")) == 201
    assert [r[0] for r in csv_of(tmp_path/"a")[1:]] == [str(n) for n in range(1, 201)]
    assert same_run(run.fork(), run)
    again = Run.load(tmp_path/"a", device="cpu")
    assert again.rollbacks == back and again.recipe.on_divergence == "roll back" and same_run(again, run)


def test_what_to_do_at_a_divergence_is_a_setting(tmp_path, monkeypatch, capsys):
    "in settings.ini, on the command line, as an override, and as an edit; a fork and a resumed run know it too"
    (tmp_path/"settings.ini").write_text("[wild]\nbase = ring\nrule = sgd\nmomentum = 0\nlr = 2\nhidden = 32 32\nbatch_size = 64\non_divergence = roll back\n[DEFAULT]\ndevice = cpu\n")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "wild", "--rounds", "200", "--out", "a"]) == 0
    run = Run.load("a")
    assert run.rollbacks and run.round == 200 and "on_divergence = roll back" in Path("a/recipe.ini").read_text()
    assert run.fork(round=10).recipe.on_divergence == "roll back"
    assert main(["train", "wild", "--rounds", "200", "--out", "b", "--set", "on_divergence=stop"]) == 3
    assert main(["train", "ring", "--out", "c", "--set", "on_divergence=roll  back"]) == 2 and "did you mean 'roll back'" in capsys.readouterr().err
    stopped = Run("wild", on_divergence="stop", rounds=200)
    assert stopped.recipe.on_divergence == "stop"
    stopped.edit(on_divergence="roll back")
    assert stopped.fit(200, progress=False).rollbacks == run.rollbacks


def test_rolling_back_ends(monkeypatch):
    plain = training.round_of
    def suspicious(*args): return lambda tree, batches, fn=plain(*args): (*fn(tree, batches)[:2], torch.tensor(False))  # every round is looked at closely
    monkeypatch.setattr(training, "round_of", suspicious)
    run = Run("ring", on_divergence="roll back", **tiny)
    calls = []
    def hopeless(values, seen, state):
        if run.round == 60: calls.append(run.recipe.lr_gen); run._fail("nothing is right", "gen", None)
    run._check_finite = hopeless
    with pytest.raises(Diverged, match="nothing is right"): run.fit(100, progress=False)
    assert len(calls) == 4 and calls[-1] == calls[0] / 8 and len(run.rollbacks) == 3 and run.round == 60
    run._check_finite = lambda *_: None
    run.edit(n_disc=2)  # an edit is never rolled back over
    run.rollbacks.clear()
    run._check_finite = lambda *_: run.round == 70 and not run.rollbacks and run._fail("once", "gen", None)
    run.fit(20, progress=False)
    assert run.rollbacks[0]["to"] == 60 and run.recipe.n_disc == 2
    with pytest.raises(ValueError, match="allowed are stop, roll back"): Run("ring", on_divergence="ignore")


def test_looking_only_now_and_then_as_on_a_gpu(tmp_path):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    run._every = 50
    spoil(run, 70, "gen", "2.weight")
    with pytest.raises(Diverged, match=r"round 70: gen/2.weight is not finite \(in the generator, first in 2.weight\)"): run.fit(200, progress=False)
    assert run.round == 70 == len(run.records) and run._every == 50 and all(v.isfinite().all() for v in params(run).values())
    spoil.on = False
    run.fit(25, progress=False)
    run = Run.load(tmp_path/"a", device="cpu")
    run._every = 50
    spoil(run, 95); run.step()  # nobody has looked yet, but nothing that is not finite is ever saved
    with pytest.raises(Diverged): run.save(tmp_path/"a")
    assert run.round == Run.load(tmp_path/"a", device="cpu").round == 95


@pytest.mark.parametrize("command", [False, True])
def test_a_divergence_between_two_looks(tmp_path, monkeypatch, command):
    "as on a GPU, where it is found when the run is saved: the end of `fit` or of the command, an autosave, the best checkpoint"
    def play(run, folder, n):
        run._every = 50
        if command:
            from gan_nb import cli
            return cli.play(run, n, folder, [], 60.)
        run.folder = folder
        return run.fit(n, progress=False)
    run = Run("ring", **tiny)
    spoil(run, 70, "gen", "2.weight")
    if command: assert play(run, tmp_path/"a", 75) == 3
    else:
        with pytest.raises(Diverged, match="round 70: gen/2.weight"): play(run, tmp_path/"a", 75)
    assert json.loads((tmp_path/"a/diverged.json").read_text())["layer"] == "2.weight" and Run.load(tmp_path/"a", device="cpu").round == 70
    run = Run("ring", on_divergence="roll back", **tiny)
    spoil(run, 70, "gen", "2.weight")
    play(run, tmp_path/"b", 75)
    assert run.round == 75 and len(run.rollbacks) == 1 and len(csv_of(tmp_path/"b")) == 76 and not (tmp_path/"b/diverged.json").exists()
    if not command:
        for settings in (dict(autosave=1e-9), dict(metric=lambda run: -run.round, every=1)):
            shutil.rmtree(tmp_path/"c", ignore_errors=True)
            run = Run("ring", on_divergence="roll back", folder=tmp_path/"c", **tiny)
            run._every = 50
            spoil(run, 70, "gen", "2.weight")
            run.fit(90, progress=False, **settings)
            assert run.round == 90 and [r["round"] for r in run.rollbacks] == [70] and len(csv_of(tmp_path/"c")) == 91


def test_looking_at_the_weights_costs_little():
    run = Run("article", device="cpu", n_gen=1, n_disc=1, r1=0, r2=0)
    run.fit(3, progress=False)
    begun = time.perf_counter(); run.fit(10, progress=False); round = (time.perf_counter() - begun) / 10
    looks = []
    for _ in range(30):
        begun = time.perf_counter(); training._first_not_finite(run.state); looks.append(time.perf_counter() - begun)
    assert np.median(looks) < .06 * round, f"{np.median(looks) / round:.1%} of a round"  # measured: 1 to 2 %


# Long runs

def test_ten_million_rounds_stay_within_the_bound(tmp_path, monkeypatch):
    "300,000 moves here, with the default bound; the memory is that of 10 million"
    values, records, log = torch.arange(10.), Records(), Log(tmp_path/"records.csv")
    for i in range(300_000): records.append(Record(i + 1, 0., values))
    assert len(records) <= record_room.most_rows == 200_000 and records.total == 300_000
    assert records.table().nbytes + records.moves.nbytes < 21e6
    assert records["round"][-100_000:].tolist() == list(range(200_001, 300_001)) and records["round"][0] == 1
    assert len(set(np.diff(records.moves[:20_000]))) == 1


def test_thinned_records_are_whole_on_disk_and_go_on_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(record_room.Records.__init__, "__defaults__", (None, None, None, 40))
    whole = Run("ring", folder=tmp_path/"whole", **tiny).fit(300, progress=False)
    assert len(whole.records) < 40 and whole.records.total == 300
    assert [r[0] for r in csv_of(tmp_path/"whole")[1:]] == [str(n) for n in range(1, 301)]
    half = Run("ring", folder=tmp_path/"half", **tiny).fit(170, progress=False)
    with open(tmp_path/"half/records.csv", "a") as f: f.write("171,0.1,9\n172,0.")  # rows that no checkpoint counts, the last one torn
    rest = Run.load(tmp_path/"half", device="cpu")
    rest.folder = tmp_path/"half"
    rest.fit(130, progress=False)
    assert same_run(rest, whole) and csv_of(tmp_path/"half") == csv_of(tmp_path/"whole")
    assert (tmp_path/"half"/checkpoint_name).stat().st_size < 20_000
    assert len(half.fork(round=160).records) < 40


def test_records_do_not_leave_memory_while_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(record_room.Records.__init__, "__defaults__", (None, None, None, 40))
    monkeypatch.setattr(record_room, "_together", 8)
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(10, progress=False)
    def full(*_): raise OSError(errno.ENOSPC, "No space left on device")
    with run.claim(), monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match="stay in memory"): [run.step() for _ in range(50)]
        assert len(run.records) == 60
    run.fit(20, progress=False)
    assert len(run.records) < 60 and len(csv_of(tmp_path/"a")) == 81


HARMS = {"a line lost": lambda lines: lines[:100] + lines[101:], "emptied": lambda lines: [], "cut": lambda lines: lines[:50] + [lines[50][:9]], "deleted": lambda lines: None, "garbage": lambda lines: lines[:100] + ["garbage\x00,,,\n"] + lines[101:],
         "a line too many": lambda lines: lines[:100] + lines[99:], "another head": lambda lines: ["x\n"] + lines[1:]}

@pytest.mark.parametrize("most", [40, 1000])
@pytest.mark.parametrize("harm", HARMS)
def test_records_that_were_harmed_are_set_aside(tmp_path, monkeypatch, harm, most):
    "nothing that can still be read is written over, and what is in memory is written"
    monkeypatch.setattr(record_room.Records.__init__, "__defaults__", (None, None, None, most))
    Run("ring", folder=tmp_path/"a", **tiny).fit(300, progress=False)
    file = tmp_path/"a/records.csv"
    lines = HARMS[harm](file.read_text().splitlines(True))
    if lines is None: file.unlink()
    else: file.write_text("".join(lines))
    run = Run.load(tmp_path/"a", device="cpu")
    kept = run.records["round"].tolist()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run.fit(10, progress=False)
    healed = most == 1000 and harm not in ("emptied", "another head")  # every row is in memory, and the last 2,000 are always written again
    if lines is not None and not healed: assert (tmp_path/"a/records-damaged.csv").read_text() == "".join(lines) and "is not what this run wrote, and is now records-damaged.csv" in str(said[0].message)
    elif lines is None and most == 40: assert "is gone; the " in str(said[0].message)
    rounds = [int(row[0]) for row in csv_of(tmp_path/"a")[1:]]
    assert set(kept) | set(range(301, 311)) <= set(rounds) and rounds == sorted(rounds) and (most == 40 or rounds == list(range(1, 311)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Run.load(tmp_path/"a", device="cpu").fit(10, progress=False)
    assert len(csv_of(tmp_path/"a")) == len(rounds) + 11


def test_rows_that_no_checkpoint_counts_are_cut_off(tmp_path):
    "though less is written in their place"
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(5, progress=False)
    with open(tmp_path/"a/records.csv", "a") as f: f.write("".join(f"{i},0.1,9\n" for i in range(6, 100)))
    Run.load(tmp_path/"a", device="cpu").fit(1, progress=False)
    assert len(csv_of(tmp_path/"a")) == 7


def test_a_strangers_records_are_not_written_over(tmp_path):
    (tmp_path/"a").mkdir()
    (tmp_path/"a/records.csv").write_text("mine\n" * 1000)
    with pytest.warns(UserWarning, match="is now records-damaged.csv"): Run("ring", folder=tmp_path/"a", **tiny).fit(2, progress=False)
    assert (tmp_path/"a/records-damaged.csv").read_text() == "mine\n" * 1000 and len(csv_of(tmp_path/"a")) == 3


# Files from strangers

quick = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

@contextmanager
def bounded(seconds=1., mebibytes=256):
    "Time and memory of the block. The limit allows for a busy machine."
    tracemalloc.start()
    begun = time.process_time()
    try: yield
    finally:
        spent, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert spent < 3 * seconds and peak < mebibytes * 2**20, (spent, peak)

def header(entries, about=None, length=None):
    "A safetensors file with this header."
    text = json.dumps({**({} if about is None else {"__metadata__": {"gan_nb": about if isinstance(about, str) else json.dumps(about)}}), **entries}).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text

def changed(content, **changes):
    "A well-made checkpoint with other contents: its checksum is right."
    about, tensors = unpack(content, "")
    about.pop("sha256"); about.pop("version")
    tensors = {k: v for k, v in {**tensors, **{k: v for k, v in changes.items() if isinstance(v, torch.Tensor) or v is ...}}.items() if v is not ...}
    return pack({**about, **{k: v for k, v in changes.items() if not isinstance(v, torch.Tensor) and v is not ...}}, tensors)

def recipe_with(content, **settings):
    recipe = {**unpack(content, "")[0]["recipe"], **settings}
    return changed(content, recipe=recipe, start_recipe=recipe)

def now(content, edits=(), **settings):
    "Another recipe at present, while it started with the same."
    return changed(content, edits=list(edits), recipe={**unpack(content, "")[0]["recipe"], **settings})

def spoiled(content, column, value):
    "The records, with another value in the last row."
    rows = unpack(content, "")[1]["records"].clone()
    rows[-1, column] = value
    return rows

v2 = dict(version=2, round=1)
HOSTILE = {
    "an oversized header": lambda c: struct.pack("<Q", 2**63) + c[8:],
    "a header as long as the file": lambda c: struct.pack("<Q", len(c)) + c[8:],
    "a pickle": lambda c: b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    "deep JSON": lambda c: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "deep JSON inside": lambda c: header({}, "[" * 100_000),
    "deep objects inside": lambda c: header({}, '{"a":' * 100_000),
    "not an object": lambda c: header({}, "[1, 2]"),
    "a number of a million digits": lambda c: header({}, '{"version": ' + "9" * 1_000_000 + "}"),
    "a terabyte tensor": lambda c: header({"params/gen/0.weight": dict(dtype="F32", shape=[2**19, 2**19], data_offsets=[0, 2**40])}, v2),
    "a shape that overflows": lambda c: header({"a": dict(dtype="F32", shape=[2**62, 2**62], data_offsets=[0, 0])}, v2),
    "a negative shape": lambda c: header({"a": dict(dtype="F32", shape=[-1], data_offsets=[0, 0])}, v2),
    "a path as a name": lambda c: changed(c, **{"../../../etc/passwd": torch.zeros(1), "params/gen/0.weight": ...}),
    "an unknown type": lambda c: header({"a": dict(dtype="PICKLE", shape=[0], data_offsets=[0, 0])}, v2),
    "no tensors": lambda c: header({}, v2),
    "a wrong shape": lambda c: changed(c, **{"params/gen/0.weight": torch.zeros(3, 3)}),
    "a wrong type": lambda c: changed(c, **{"params/gen/0.weight": torch.zeros(8, 2, dtype=torch.int64)}),
    "a half type": lambda c: changed(c, **{"params/gen/0.weight": torch.zeros(8, 2, dtype=torch.float16)}),
    "NaN weights": lambda c: changed(c, **{"params/gen/0.weight": torch.full((8, 2), math.nan)}),
    "infinite weights": lambda c: changed(c, **{"params/disc/0.bias": torch.full((8,), math.inf)}),
    "missing records": lambda c: changed(c, records=...),
    "records of one column": lambda c: changed(c, records=torch.zeros(3, 1, dtype=torch.float64)),
    "records of no move": lambda c: changed(c, record_moves=torch.tensor([5, 3, 1])),
    "a negative round": lambda c: changed(c, round=-1),
    "a round of text": lambda c: changed(c, round="many"),
    "a huge seed": lambda c: changed(c, seed=10**30),
    "endless seconds": lambda c: changed(c, seconds=math.inf),
    "edits of what cannot change": lambda c: changed(c, edits=[dict(round=0, moves=0, changes=dict(data_folder="/"))]),
    "edits that are none": lambda c: changed(c, edits=[1, 2]),
    "a best of text": lambda c: changed(c, best=dict(metric="m", value="1", **{"is": "smallest"})),
    "a best of nothing": lambda c: changed(c, best={}),
    "a divergence of no layer": lambda c: changed(c, diverged=dict(player="gen", layer="evil\n", round=1, edits=0)),
    "a divergence of nobody": lambda c: changed(c, diverged=dict(player=["gen"], layer=None, round=1, edits=0)),
    "none to keep": lambda c: changed(c, keep=0),
    "a recipe that is none": lambda c: changed(c, recipe=[]),
    "an unknown setting": lambda c: recipe_with(c, evil=1),
    "a folder of this machine": lambda c: recipe_with(c, data_folder="/etc"),
    "an unknown loss": lambda c: recipe_with(c, loss="__import__('os')"),
    "unknown data": lambda c: recipe_with(c, data="/etc/passwd"),
    "a billion units": lambda c: recipe_with(c, hidden=[10**9, 10**9]),
    "more units than numbers": lambda c: recipe_with(c, hidden=[10**30]),
    "a hundred thousand layers": lambda c: recipe_with(c, hidden=[1] * 100_000),
    "a latent of a billion numbers": lambda c: recipe_with(c, z_dim=10**9),
    "a pack of a billion": lambda c: recipe_with(c, pack=10**9),
    "a record of no round": lambda c: changed(c, records=spoiled(c, 0, math.nan)),
    "a record of an endless round": lambda c: changed(c, records=spoiled(c, 0, math.inf)),
    "a record of a round to come": lambda c: changed(c, records=spoiled(c, 0, 1e308)),
    "a record of half a round": lambda c: changed(c, records=spoiled(c, 0, 2.5)),
    "a record without a time": lambda c: changed(c, records=spoiled(c, 1, math.nan)),
    "an average that is none": lambda c: changed(c, **{"average/mean/0.weight": torch.full((8, 2), math.nan)}),
    "an infinite average": lambda c: changed(c, **{"average/mean/0.weight": torch.full((8, 2), math.inf)}),
    "a rule that remembers no number": lambda c: changed(c, **{"rules/gen/mean/0.weight": torch.full((8, 2), math.nan)}),
    "a rate that is no number": lambda c: changed(c, **{"rules/gen/lr": torch.tensor(math.nan, dtype=torch.float64)}),
    "an edit to text": lambda c: changed(c, edits=[dict(round=1, moves=1, changes=dict(lr_gen="x"))]),
    "an edit to come": lambda c: changed(c, edits=[dict(round=10**18, moves=10**18, changes=dict(lr_gen=.1))]),
    "edits in no order": lambda c: changed(c, edits=[dict(round=r, moves=r, changes={"step": "gen"}) for r in (2, 1)]),
    "more records than moves": lambda c: changed(c, total=2**62),
    "more moves than a record can count": lambda c: changed(c, total=2**62, moves=2**62),
    "more rounds than moves": lambda c: changed(c, round=4),
    "more unlogged than there are": lambda c: changed(c, unlogged=4),
    "data of text": lambda c: changed(c, data="abc", fingerprint="x"),
    "other data": lambda c: changed(c, data=dict(name="ring", fingerprint="b4f4dc0b52ce"), fingerprint="x"),
    "a roll back of nothing": lambda c: changed(c, rollbacks=[{}]),
    "a place to go back to without a state": lambda c: changed(c, back=[dict(round=1, moves=1, edits=0)]),
    "a place to go back to that is to come": lambda c: changed(c, back=[dict(round=9, moves=9, edits=0)]),
    "a place to go back to of text": lambda c: changed(c, back="x"),
    "a metric in colours": lambda c: changed(c, best=dict(metric="m\x1b[31m", value=1, **{"is": "smallest"})),
    "a version that is a list": lambda c: changed(c, gan_nb=[1]),
    "a present recipe with other networks": lambda c: now(c, hidden=[10**6]),
    "a present recipe with other data": lambda c: now(c, data="digits"),
    "a present recipe that nobody edited": lambda c: now(c, batch_size=32),
    "a present batch of a billion": lambda c: now(c, [dict(round=1, moves=1, changes=dict(batch_size=10**9))], batch_size=10**9),
    "lists where names should be": lambda c: recipe_with(c, clip_gen=[["global_norm"], 1]),
    "objects where numbers should be": lambda c: recipe_with(c, lr_gen={}, hidden={}),
}

@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_checkpoint_is_refused(content, tmp_path, kind):
    folder = tmp_path/"a"
    folder.mkdir()
    (folder/"bad.safetensors").write_bytes(HOSTILE[kind](content))
    before = sorted(tmp_path.rglob("*"))
    with bounded(), pytest.raises(ValueError, match="bad.safetensors") as error: Run.load(folder/"bad.safetensors")
    one_line(error.value)
    assert sorted(tmp_path.rglob("*")) == before

def test_what_is_refused_is_refused_in_a_line_by_every_command(content, tmp_path, capsys):
    (tmp_path/"a").mkdir()
    for kind in ("a record of an endless round", "a present batch of a billion", "an edit to text", "other data"):
        for words in (["doctor"], ["sample", "--n", "2", "--out", str(tmp_path/"x.npy")], ["resume", "--rounds", "1"]):
            (tmp_path/"a"/checkpoint_name).write_bytes(HOSTILE[kind](content))
            assert main([words[0], str(tmp_path/"a"), *words[1:]]) == 2 and capsys.readouterr().err.count("\n") == 1


def test_other_data_say_the_difference(content, tmp_path):
    (tmp_path/"a.safetensors").write_bytes(HOSTILE["other data"](content))
    with pytest.raises(ValueError, match="trained on other data: fingerprint x then, b4f4dc0b52ce now"): Run.load(tmp_path/"a.safetensors", device="cpu")


def test_a_checkpoint_that_fits_nowhere_is_passed_over(content, tmp_path):
    "it is whole, but no run has written it: the older one is taken, and the newest stays as refused.safetensors"
    run = Run("ring", folder=tmp_path/"a", **tiny)
    for _ in range(2): run.fit(5, progress=False)
    newest = tmp_path/"a"/checkpoint_name
    newest.write_bytes(wrong := changed(newest.read_bytes(), total=4))
    with pytest.warns(UserWarning, match=r"total: 4 came.*Going on from checkpoint-5.safetensors, round 5"): again = Run.load(tmp_path/"a", device="cpu")
    assert same_run(again.fit(5, progress=False), run) and (tmp_path/"a/refused.safetensors").read_bytes() == wrong
    newest.write_bytes(b"")
    with pytest.warns(UserWarning): assert Run.load(tmp_path/"a", device="cpu").round == 5


def test_networks_of_another_size_are_not_built(content, tmp_path, monkeypatch):
    (tmp_path/"a.safetensors").write_bytes(recipe_with(content, hidden=[3000, 3000]))
    monkeypatch.setattr(training, "build_game", lambda *_: pytest.fail("it was built"))
    with pytest.raises(ValueError, match="the recipe needs"): Run.load(tmp_path/"a.safetensors", device="cpu")


def test_a_header_has_a_bound_of_its_own(tmp_path):
    "whatever the file's length"
    with open(tmp_path/"a.safetensors", "wb") as f: f.write(struct.pack("<Q", 2**27)); f.truncate(2**28)
    with bounded(), pytest.raises(ValueError, match="its header claims 134,217,728 bytes"): read_checkpoint(tmp_path/"a.safetensors")


def test_a_byte_of_two_is_a_bool_of_one():
    made = header({"a": dict(dtype="BOOL", shape=[2], data_offsets=[0, 2])}, v2) + b"\x02\x00"
    assert unpack(made, "a")[1]["a"].view(torch.uint8).tolist() == [1, 0]


def test_sparse_files_are_not_read(content, tmp_path, monkeypatch):
    "they take no space on the disk, and all the memory"
    file = tmp_path/"a.safetensors"
    file.write_bytes(content)
    os.truncate(file, 2**40)
    with bounded(), pytest.raises(ValueError, match="a.safetensors: .*the file has 1,099,511,627,776"): Run.load(file)
    start = header({"a": dict(dtype="U8", shape=[2**39], data_offsets=[0, 2**39])}, v2)
    file.write_bytes(start)
    os.truncate(file, len(start) + 2**39)
    with bounded(), pytest.raises(ValueError, match="a.safetensors: .*GiB would be needed"): Run.load(file)
    file.write_bytes(content)
    def none(*_): raise MemoryError
    monkeypatch.setattr(storage, "_unpack", none)
    with pytest.raises(ValueError, match="a.safetensors: .* bytes do not fit into the memory"): Run.load(file)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "best.safetensors", "checkpoint-7.safetensors"])
def test_a_pipe_is_no_checkpoint(tmp_path, name):
    "it would be waited for"
    Run("ring", folder=tmp_path/"a", **tiny).fit(3, progress=False)
    (tmp_path/"a"/name).unlink(missing_ok=True)
    os.mkfifo(tmp_path/"a"/name)
    if "best" in name:
        with pytest.raises(FileNotFoundError): Run.load(tmp_path/"a", best=True)
    elif name == checkpoint_name:
        with pytest.raises(FileNotFoundError): Run.load(tmp_path/"a")
    else: assert Run.load(tmp_path/"a", device="cpu").round == 3
    with pytest.raises(OSError, match="not a regular file"): read_checkpoint(tmp_path/"a"/name)


@pytest.mark.parametrize("name", [".lock", "records.csv"])
def test_links_in_a_folder_lead_nowhere(tmp_path, name):
    "the folder of a stranger does not let a run write elsewhere"
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(3, progress=False)
    (tmp_path/"precious").write_text("".join(f"{i}\n" for i in range(100)))
    before = (tmp_path/"precious").read_bytes()
    (tmp_path/"a"/name).unlink(missing_ok=True)
    os.symlink(tmp_path/"precious", tmp_path/"a"/name)
    for attempt in (lambda: run.fit(2, progress=False), lambda: Run.load(tmp_path/"a", device="cpu").fit(2, progress=False)):
        with pytest.raises(OSError, match="is a link.*" + name.strip(".")): attempt()
    assert main(["resume", str(tmp_path/"a"), "--rounds", "2"]) == 2
    assert (tmp_path/"precious").read_bytes() == before
    (tmp_path/"a"/name).unlink()
    os.mkfifo(tmp_path/"a"/name)
    with pytest.raises(OSError, match="not a regular file"): run.save(tmp_path/"a")
    assert (tmp_path/"precious").read_bytes() == before and Run.load(tmp_path/"a", device="cpu").round == 3


def test_the_unharmed_one_is_read(content, tmp_path):
    "what `changed` makes is refused for its change only"
    (tmp_path/"good.safetensors").write_bytes(changed(content))
    assert Run.load(tmp_path/"good.safetensors").round == 3


flat_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
json_values = flat_values | st.lists(flat_values | st.lists(flat_values, max_size=3), max_size=4) | st.dictionaries(st.text(max_size=6), flat_values, max_size=4)

@pytest.mark.filterwarnings("ignore")
@quick
@given(st.data())
def test_a_checkpoint_with_anything_in_its_header(content, tmp_path_factory, data):
    about, _ = unpack(content, "")
    name = data.draw(st.sampled_from([k for k in about if k not in ("version", "sha256")]))
    value = data.draw(json_values)
    if name in ("recipe", "start_recipe") and data.draw(st.booleans()): value = {**about[name], data.draw(st.sampled_from(list(about[name]))): value}
    file = tmp_path_factory.getbasetemp()/"any.safetensors"
    file.write_bytes(changed(content, **{name: value}))
    try: Run.load(file, device="cpu").step()
    except ValueError as error: one_line(error)

@quick
@given(st.binary(max_size=300), st.integers(0, 2**14), st.booleans())
def test_a_checkpoint_of_any_bytes(content, noise, at, inside):
    wrong = content[:at] + noise + content[at + len(noise):] if inside else noise
    try: unpack(wrong, "any")
    except ValueError as error: assert one_line(error).startswith("any: ")
    else: assert wrong == content


def parsers(folder):
    "Each reader, and a good file of its kind."
    picture, array, zipped = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.new("L", (5, 4), 9).save(picture, "PNG")
    jpeg = io.BytesIO(); Image.new("RGB", (9, 8), 9).save(jpeg, "JPEG")
    np.save(array, np.ones((3, 2), "float32")); np.savez_compressed(zipped, np.ones((3, 2)))
    idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 2, 2) + bytes(8)
    def in_folder(path):
        place = folder/f"of{path.suffix[1:]}"
        place.mkdir(exist_ok=True)
        shutil.copy(path, place)
        return load(place)
    def as_settings(path):
        place = folder/"ini"
        place.mkdir(exist_ok=True)
        shutil.copy(path, place/"settings.ini")
        return [a_recipe(name, place) for name in all_recipes(place)]
    return {"a.npy": (load, array.getvalue()), "a.npz": (load, zipped.getvalue()), "a.csv": (load, b"x,y\n1,2\n3,4\n"), "a.png": (in_folder, picture.getvalue()), "a.jpg": (in_folder, jpeg.getvalue()),
            "a.idx": (lambda p: readers.read_idx(p, 3), idx), "settings.ini": (as_settings, b"[DEFAULT]\ndevice = cpu\n[mine]\nbase = ring\nlr = 0.5\nclip = global_norm 1\n")}

@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.png", "a.jpg", "a.idx", "settings.ini"])
def test_a_file_of_any_bytes(tmp_path, name):
    read, good = parsers(tmp_path)[name]
    path = tmp_path/name
    path.write_bytes(good)
    read(path)
    seen = []
    @quick
    @given(st.binary(max_size=60), st.integers(0, len(good)), st.sampled_from(["inside", "instead", "cut", "added"]))
    def any_bytes(noise, at, how):
        path.write_bytes({"inside": good[:at] + noise + good[at + len(noise):], "instead": noise, "cut": good[:at], "added": good[:at] + noise + good[at:]}[how])
        try: read(path)
        except ValueError as error: seen.append(one_line(error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        any_bytes()
    assert len(seen) > 10

def npy(shape, dtype="'<f4'", body=b""):
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body

def bomb(kind):
    import zipfile, zlib
    if kind == "a.npz":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z: z.writestr("arr_0.npy", npy("(5000000,)", body=bytes(20_000_000)))
        return out.getvalue()
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + chunk(b"IEND", b"")

BAD = {
    "a.npy a pickled object": (lambda: npy("(1,)", "'|O'", b"\x80\x04N."), "allowed are numbers"),
    "a.npy a terabyte": (lambda: npy("(1000000, 1000000)"), "its header claims"),
    "a.npy a negative shape": (lambda: npy("(-1, -4)", body=bytes(16)), "its header claims"),
    "a.npy a deep header": (lambda: npy("(" * 9000), "not read as .npy"),
    "a.npy code in its header": (lambda: npy("__import__('os').getpid()"), "not read as .npy"),
    "a.npy records": (lambda: npy("(1,)", "[('a', '<f4')]", bytes(4)), "allowed are numbers"),
    "a.npy not finite": (lambda: npy("(1, 1)", body=struct.pack("<f", math.nan)), "allowed are finite numbers"),
    "a.npz a bomb": (lambda: bomb("a.npz"), "allowed are 16,777,216"),
    "a.csv no numbers": (lambda: b"\n" * 1_000_000, "no numbers"),
    "a.csv ragged": (lambda: b"1,2\n3\n", "line 2 of numbers has 1; the first has 2"),
    "a.csv words": (lambda: b"1,2\nx,4\n", "not read as .csv"),
    "a.csv too wide": (lambda: b"1," * 500_000 + b"1", "columns came"),
    "a.csv not text": (lambda: b"\xff\xfe\x00\x01", "not read as .csv"),
    "a.csv infinite": (lambda: b"1,inf\n", "finite numbers"),
    "a.csv too large for float32": (lambda: b"1,1e300\n", "finite numbers"),
    "a.png a bomb": (lambda: bomb("a.png"), "3600000000 pixels"),
    "a.png truncated": (lambda: parsers(Path())["a.png"][1][:-20], "not read as a picture"),
    "a.jpg of many passes": (lambda: parsers(Path())["a.jpg"][1][:-2] + b"\xff\xda\x00\x08" * 100, "in more than 64 passes"),
}

@pytest.mark.parametrize("kind", BAD)
def test_a_hostile_file_is_refused(tmp_path, kind):
    make, says = BAD[kind]
    name = kind.split()[0]
    (tmp_path/"in").mkdir()
    (tmp_path/"in"/name).write_bytes(make())
    with bounded(), pytest.raises(ValueError, match=says) as error: load(tmp_path/"in" if name[2:] in ("png", "jpg") else tmp_path/"in"/name)
    assert name in one_line(error.value)


def test_one_megabyte_never_becomes_many(tmp_path):
    "the largest of each kind that is accepted"
    import gzip
    big = 2**24 // 4
    np.savez_compressed(tmp_path/"a.npz", np.zeros((big // 2 - 100, 2), "float32"))
    with bounded(2): load(tmp_path/"a.npz")
    (tmp_path/"a.csv").write_bytes(b"1,2\n" * 2**18)
    with bounded(3): assert len(load(tmp_path/"a.csv").train) == 2**18
    (tmp_path/"p").mkdir()
    Image.new("L", (2048, 2048)).save(tmp_path/"p/0.png")
    for i in range(1, 20): shutil.copy(tmp_path/"p/0.png", tmp_path/f"p/{i}.png")
    with bounded(5), pytest.raises(ValueError, match="bytes in all"): load(tmp_path/"p")
    Image.new("L", (2049, 2048)).save(tmp_path/"p/0.png")
    with bounded(), pytest.raises(ValueError, match="2049 x 2048 pixels came"): load(tmp_path/"p")
    with gzip.open(tmp_path/"a.gz", "wb") as f: f.write(bytes([0, 0, 8, 3]) + struct.pack(">3I", 20, 1000, 1000) + bytes(20_000_000))
    with bounded(3), pytest.raises(ValueError, match="for a file of its length"): readers.read_idx(tmp_path/"a.gz", 3)


def test_files_train(tmp_path):
    (tmp_path/"points.csv").write_text("x,y\n" + "\n".join(f"{a},{b}" for a, b in np.random.default_rng(0).normal(size=(50, 2))))
    run = Run("ring", data=load(str(tmp_path/"points.csv")), **tiny).fit(3, progress=False)
    run.save(tmp_path/"a")
    assert run.game.data.name == "points" and Run.load(tmp_path/"a", data=tmp_path/"points.csv").round == 3
    for i in range(4): Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 6, 3), "uint8")).save(tmp_path/f"{i}.png")
    assert load(tmp_path).shape == (3, 8, 6) and np.array_equal(load(tmp_path).train[2].permute(1, 2, 0), np.random.default_rng(2).integers(0, 256, (8, 6, 3), "uint8"))
    with pytest.raises(FileNotFoundError, match="nowhere.csv"): load("nowhere.csv")


def test_a_checkpoint_names_no_file_as_its_data(tmp_path):
    "A path in a checkpoint would be read when it is opened."
    from gan_nb.checkpoints import check_about
    np.save(tmp_path/"x.npy", np.zeros((20, 2), "float32"))
    run = Run("ring", **tiny).fit(2, progress=False)
    about, flat = read_checkpoint(run.save(tmp_path/"a.safetensors"))
    for name in ("recipe", "start_recipe"):
        with pytest.raises(ValueError, match=f"{name}: data"): check_about({**about, name: {**about[name], "data": str(tmp_path/"x.npy")}}, flat)
