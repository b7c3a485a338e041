"""Where tests reach inside: names that nobody promised, in one place.

Whoever changes the inside changes this file alone. Each function says what a test wants to happen; how it is brought
about is a matter of today's code."""
import sys

import torch

from gan_nb import checkpoints, divergence, engines, metrics, readers, records, storage
from gan_nb import data as room
from gan_nb.engines import Eager, Engines
from gan_nb.recipes import settings

# The modules that change a run or a file: Ctrl-C is tried before each of their lines
changing = ("training.py", "history.py", "divergence.py", "checkpoints.py", "driving.py", "engines.py", "round.py",
            "records.py", "storage.py", "files.py", "folders.py")


# A run

def look_every(run, moves):
    "Look for numbers that are not finite after so many moves only, as on a GPU."
    run.look_every = moves


def looks_every(run): return run.look_every


class Together(Eager):
    "Rounds in one call, as compiled ones are."
    most, together = 50, 2
    def play(self, state, n=1):
        state, rows, finite = super().play(state, n)
        return state, torch.stack(rows), torch.stack(finite)


class Always(Engines):
    def pick(self, experiment, state): return Together(experiment)


def two_at_once(run):
    "Play two rounds in one call, eagerly."
    run.engines = Always()
    run.several(2)


def one_at_a_time(run):
    "After `two_at_once`: as it was before."
    run.compile = False


first_not_finite = divergence.first_not_finite # of a state


def nothing_is_built(monkeypatch, said):
    "Call `said` where networks would be built."
    monkeypatch.setattr(checkpoints, "build", said)


# Rounds

# Settings whose size makes no other structure
numbers_of_a_structure = [n for n, it in settings.items() if it["role"] in ("switch", "weight")]


def compiled_rounds(): return engines._programs # those that are kept, for runs of the same structure


def nothing_compiled(monkeypatch):
    "As if nothing had been compiled so far; afterwards it is there again."
    monkeypatch.setattr(engines, "_programs", {})


def compile_here(monkeypatch):
    "No other process compiles, which would know nothing of what a test replaced."
    monkeypatch.setattr(engines, "compile_aside", lambda recipe: None)


# Records and files

def fetch_together(monkeypatch, n):
    "So many records are fetched from the device at once."
    monkeypatch.setattr(records, "_together", n)


def remember(monkeypatch, most):
    "So many rows of records stay in memory."
    monkeypatch.setattr(records.Records.__init__, "__defaults__", (None, None, None, most))


# where a file is opened to be written: `open` of that module may be replaced
writer = sys.modules[storage.write_whole.__module__]


def lock_with(monkeypatch, lock):
    "What locks an open file; returns what did before."
    before = storage._lock
    monkeypatch.setattr(storage, "_lock", lock)
    return before


def file_of(lock): return lock._file # None: it has none


def read_with(monkeypatch, unpack):
    "What reads a checkpoint's bytes."
    monkeypatch.setattr(storage, "_unpack", unpack)


def save_often(lab, seconds):
    "Seconds between two saves of a lab."
    lab._keeper.pause = seconds


# Data

sets = readers.idx_sets # by name: where they usually are, their checksums
split = room._split # (images, labels) -> both parts of each
parser_of_digits = room, "_parse_digits" # for monkeypatch.setattr
longest_download = readers, "_LARGEST"


def no_usual_places(monkeypatch):
    "No data set lies where the system's packages put it."
    for known in sets.values(): monkeypatch.setitem(known, "usual", ())


# Judgement

kmeans = metrics._kmeans
