"""Where tests reach inside: names that nobody promised, in one place.

Whoever changes the inside changes this file alone. Each function says what a test wants to happen; how it is brought
about is a matter of today's code."""
import dataclasses
import sys

import torch

from gan_nb import doctor, metrics, records, rounds, storage, training
from gan_nb import data as room

# The modules that change a run or a file: Ctrl-C is tried before each of their lines. A name that is no module's yet
# is no harm.
changing = ("training.py", "history.py", "divergence.py", "checkpoints.py", "driving.py", "engines.py", "round.py",
            "records.py", "storage.py",
            "files.py", "data.py")


# A run

def look_every(run, moves):
    "Look for numbers that are not finite after so many moves only, as on a GPU."
    run._every = moves


def looks_every(run): return run._every


class Together:
    "Rounds in one call, as compiled ones are."
    most = 50
    def __init__(self, average): self.average = average
    def play(self, game, method, state, n=1):
        told = []
        for _ in range(n):
            round = training.round_of(game, method, self.average, state)
            tree, row, fine = round(training.tensors(state), training.draw(game, method, state))
            state = dataclasses.replace(state, round=state.round + 1, moves=state.moves + 1, **tree)
            told.append((row, fine))
        return tree, *map(torch.stack, zip(*told))


def two_at_once(run):
    "Play two rounds in one call, eagerly."
    run._fast, run._settled, run._pace = Together(run.average), True, 1e-6
    run.several(2)


def one_at_a_time(run):
    "After `two_at_once`: as it was before."
    run._fast = None


first_not_finite = training._first_not_finite # of a state


def nothing_is_built(monkeypatch, said):
    "Call `said` where networks would be built."
    monkeypatch.setattr(training, "build_game", said)


# Rounds

numbers_of_a_structure = rounds._numbers # settings whose size makes no other structure


def compiled_rounds(): return rounds._rounds # those that are kept, for runs of the same structure


def nothing_compiled(monkeypatch):
    "As if nothing had been compiled so far; afterwards it is there again."
    monkeypatch.setattr(rounds, "_rounds", {})


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

sets = room._SETS # by name: where they usually are, their checksums
split = room._split # (images, labels) -> both parts of each
parser_of_digits = room, "_parse_digits" # for monkeypatch.setattr
longest_download = room, "_LARGEST"


def no_usual_places(monkeypatch):
    "No data set lies where the system's packages put it."
    for known in sets.values(): monkeypatch.setitem(known, "usual", ())


# Judgement

why = doctor._why # the doctor's reasons, by finding
kmeans = metrics._kmeans
