"""Plays combinations of settings in shards, alone (`play`) or as one of several processes, and writes what came of each.

    torchrun --nproc-per-node K tests/play_shards.py WHERE SHARDS ROUNDS SOME
"""
import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from gan_nb import Run
from gan_nb.core import Diverged, listed
from gan_nb.losses import losses
from gan_nb.processes import joined, share_out
from gan_nb.recipes import methods
from gan_nb.round import tensors
from gan_nb.rules import rules
from gan_nb.transforms import clips, normalizers
from helpers import covering

bytes_of = lambda *shape: np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
small = dict(z_dim=3, batch_size=24, rounds=100, threads=1, device="cpu", lr=.003, width=2)
factors = {
    "model": {"mlp": dict(data="ring", hidden=(8,)), "conv": dict(data=bytes_of(40, 1, 8, 8), model="conv"),
        "four conv": dict(data=bytes_of(40, 3, 16, 16), model="conv"), "residual": dict(data=bytes_of(40, 3, 8, 8), model="residual"),
        "classes": dict(data="ring", classes=True, hidden=(8,)), "augmented": dict(data=bytes_of(40, 1, 8, 8), hidden=(8,), augment=("adaptive", .6))},
    "method": {**{m: dict(method=m) for m in methods}, "lookahead": dict(lookahead=2), "more steps": dict(n_disc=2, n_gen=2)},
    "rule": {r: dict(rule=r, **({"momentum": 0} if r == "adagrad" else {})) for r in rules},
    "clip": {"no clip": {}, **{c: dict(clip=(c, .9)) for c in clips}},
    "normaliser": {"no normaliser": {}, **{n: dict(normalize=(n, 1.)) for n in normalizers}},
    "loss": {name: dict(loss=name) for name in losses},
    "penalty": {"no penalty": {}, "r1 and r2": dict(r1=.1, r2=.2), "wgan_gp": dict(wgan_gp=1.), "dragan": dict(dragan=1.)},
    "network": {"plain": {}, "spectral": dict(spectral=True), "gn": dict(gn=True), "pack": dict(pack=3)},
    "more": {"nothing more": {}, "noise": dict(noise=.1), "average": dict(halflife=5.), "skip": dict(skip_not_finite=True)}}


def digest(run):
    "Of all that a run has come to, but for the seconds."
    found = hashlib.sha256()
    for t in listed(tensors(run.state)): found.update(t.contiguous().numpy().tobytes())
    table = run.records.table()
    found.update(table[:, [i for i, name in enumerate(run.records.columns) if name != "seconds"]].tobytes())
    return f"round {run.round}: {found.hexdigest()}"


def settings(row):
    "Of a combination."
    return {**small, **{name: value for factor, choice in row.items() for name, value in factors[factor][choice].items()}}


def came(row, shards, rounds, team):
    try:
        run = Run("ring", shards=shards, **settings(row))
        if team: share_out(team, run)
    except ValueError as error: return f"refused: {error}"
    try:
        for _ in range(rounds): run.several(1)
    except Diverged: pass
    return digest(run)


def play(shards, rounds, some, team=None):
    "What came of each combination."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"-".join(row.values()): came(row, shards, rounds, team) for row in covering(factors, 2)[:some]}


if __name__ == "__main__":
    where, shards, rounds, some = Path(sys.argv[1]), *map(int, sys.argv[2:])
    torch.set_num_threads(1)
    with joined() as team:
        said = play(shards, rounds, some, team)
        if team.leads: where.write_text(json.dumps(said))
