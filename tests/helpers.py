"What several test files share: small runs, how two of them are compared, and checkpoints that were changed."
import errno
import itertools
import json
import math
import os
import random
import struct
import tempfile
import time
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from gan_nb import Run
from gan_nb.checkpoints import flatten
from gan_nb.compiled import can_compile
from gan_nb.core import listed
from gan_nb.gan import players
from gan_nb.recipes import Recipe, methods
from gan_nb.round import measured
from gan_nb.round import tensors
from gan_nb.storage import pack, read_checkpoint, unpack

here = Path(__file__).parent # where the old checkpoints are
memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None # a folder that no disk is behind
tiny = dict(hidden=(8,), batch_size=16, halflife=5, device="cpu")

# Every method with a spread of rules, for what must hold of all of them
small = dict(hidden=(8, 8), z_dim=2, batch_size=16, rounds=100, device="cpu", halflife=5.)
adam = small | dict(rule="adam", lr=1e-3, momentum=.5, r1=.1) # compiled once for all tests that take it as it is
variants = {
    "sgd, clipped": dict(rule="sgd", lr=.05, clip=("global_norm", .5)),
    "momentum, unit rms": dict(rule="sgd", lr=.01, momentum=.5, normalize=("block_rms", 1.), schedule="linear"),
    "adam, r1 and r2": dict(rule="adam", lr=1e-3, momentum=.5, clip=None, loss="r3", r1=.1, r2=.1),
    "orthogonal, wgan_gp": dict(rule="sgd", lr=.02, normalize=("orthogonal", 1.), loss="wasserstein", wgan_gp=.5,
        noise=.1)}
every_method = [*({"method": m} for m in methods if m != "unrolled"), {"method": "unrolled", "unroll": 2}, {"lookahead": 2}]
each_method = pytest.mark.parametrize("method", every_method, ids=lambda m: "-".join(map(str, m.values())))
at_length = pytest.mark.skipif(int(os.environ.get("STRENGTH", 2)) < 3, reason="takes half a minute; `make pairs`")
needs_compiler = pytest.mark.skipif(not can_compile("cpu"), reason="there is no C++ compiler")

# One of everything, and few rounds: for what is tried with every method, rule, transform and loss
BASE = Recipe(data="ring", z_dim=2, batch_size=8, device="cpu", threads=1, unroll=2, rounds=50,
    halflife=5).replace(lr=0.01, hidden=(8,))

# A bound for each kind of clip, at which it has something to do
BOUNDS = {"value": .1, "global_norm": .5, "block_norm": .3, "adaptive": .01, "quantile": .5}

quick = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def pair(n, k, d, seed=0):
    "Two sets of features that differ in mean and covariance."
    rng = np.random.default_rng([seed, n, k, d])
    return rng.normal(size=(n, d)), rng.normal(size=(k, d)) @ (np.eye(d) + 0.2 * rng.normal(size=(d, d))) + 0.3


# What is tried in combinations

def covering(factors, strength, seed=0):
    "Rows in which every choice of any `strength` factors occurs: each time the best of 30 random rows that hold a missing one."
    names, draw = list(factors), random.Random(seed)
    missing = {frozenset(zip(some, values)) for some in itertools.combinations(names, strength)
        for values in itertools.product(*(factors[n] for n in some))}
    left, rows = sorted(missing, key=lambda part: sorted(part)), []
    while left:
        best = None
        for _ in range(30):
            row = {n: draw.choice(list(factors[n])) for n in names} | dict(draw.choice(left))
            gain = sum(part <= set(row.items()) for part in left[:4000])
            if best is None or gain > best[0]: best = gain, row
        rows.append(best[1])
        there = set(best[1].items())
        left = [part for part in left if not part <= there]
    return rows


# Looking at a run

def params(run): return {f"{p}/{k}": v for p in players for k, v in run.state.params[p].items()}


def state_of(run):
    s = run.state
    return flatten({"params": s.params, "buffers": s.buffers, "rules": s.rules, "method": s.method,
        "average": s.average})


def row_of(record):
    "What a record holds as one tensor."
    return torch.tensor([getattr(record, name) for name in measured], dtype=torch.float64)


def saved(run, read):
    "What `read` makes of a checkpoint of the run."
    with tempfile.TemporaryDirectory(dir=memory) as folder: return read(run.save(Path(folder)/"run.safetensors"))


def bytes_of(run): return saved(run, Path.read_bytes)


def same_run(a, b):
    one, two = (saved(r, read_checkpoint)[1] for r in (a, b))
    one["records"][:, 1] = two["records"][:, 1] = 0  # seconds differ
    same = all(torch.equal(one[k].nan_to_num(-1), two[k].nan_to_num(-1))
        for k in one) if one.keys() == two.keys() else False
    return same and a.edits == b.edits


def assert_same(a, b):
    assert a.edits == b.edits and (a.round, a.state.moves) == (b.round, b.state.moves)
    for x, y in zip(listed(tensors(a.state)), listed(tensors(b.state)), strict=True): assert torch.equal(x, y)


def csv_of(folder):
    "records.csv without the seconds."
    return [line.split(",")[:1] + line.split(",")[2:] for line in (Path(folder)/"records.csv").read_text().splitlines()]


def best_of(folder): return Run.load(folder, best=True, device="cpu")


def level(run):
    "A metric with its best at round 9, among the rounds that 3 divides, of those up to 30; not a number at 12."
    return math.nan if run.round == 12 else (run.round - 10)**2 if run.round != 30 else -math.inf


# What goes wrong

def full(*_): raise OSError(errno.ENOSPC, "No space left on device")


def one_line(error):
    assert "\n" not in str(error) and len(str(error)) < 2500
    return str(error)


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


# Checkpoints that somebody made or changed

v2 = dict(version=2, round=1)


def header(entries, about=None, length=None):
    "A safetensors file with this header."
    said = {} if about is None else {"__metadata__": {"gan_nb": about if isinstance(about, str) else json.dumps(about)}}
    text = json.dumps({**said, **entries}).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def changed(content, **changes):
    "A well-made checkpoint with other contents: its checksum is right. Three dots leave a tensor out."
    about, tensors = unpack(content, "")
    about.pop("sha256"); about.pop("version")
    tensors.update((k, v) for k, v in changes.items() if isinstance(v, torch.Tensor) or v is ...)
    about.update((k, v) for k, v in changes.items() if not isinstance(v, torch.Tensor) and v is not ...)
    return pack(about, {k: v for k, v in tensors.items() if v is not ...})
