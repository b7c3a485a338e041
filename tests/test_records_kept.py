"Records of long runs leave the memory and stay on the disk; what was harmed there is set aside, never written over."
import os
import warnings

import numpy as np
import pytest
import torch

import seams
from gan_nb import records as record_room, Run
from gan_nb.records import Record, Records
from gan_nb.storage import checkpoint_name
from helpers import csv_of, full, same_run, tiny


def test_records_are_a_dict_of_columns():
    run = Run("ring", hidden=(8, 8), batch_size=16, device="cpu").fit(3, progress=False)
    table = dict(run.records)
    assert list(table) == list(run.records.columns) and all(len(column) == 3 for column in table.values())


def test_ten_million_rounds_stay_within_the_bound(tmp_path, monkeypatch):
    "300,000 moves here, with the default bound; the memory is that of 10 million"
    values, records = torch.arange(float(len(Records.columns) - 2)), Records()
    for i in range(300_000):
        records = records.plus(Record(i + 1, 0., values))
        if records.is_full: records = records.thinned()
    assert len(records) <= record_room.most_rows == 200_000 and records.total == 300_000
    assert records.table().nbytes + records.moves.nbytes < 23e6
    assert records["round"][-100_000:].tolist() == list(range(200_001, 300_001)) and records["round"][0] == 1
    assert len(set(np.diff(records.moves[:20_000]))) == 1


def test_thinned_records_are_whole_on_disk_and_go_on_exactly(tmp_path, monkeypatch):
    seams.remember(monkeypatch, 40)
    whole = Run("ring", folder=tmp_path/"whole", **tiny).fit(300, progress=False)
    assert len(whole.records) < 40 and whole.records.total == 300
    assert [r[0] for r in csv_of(tmp_path/"whole")[1:]] == [str(n) for n in range(1, 301)]
    half = Run("ring", folder=tmp_path/"half", **tiny).fit(170, progress=False)
    with open(tmp_path/"half/records.csv", "a") as f:
        f.write("171,0.1,9\n172,0.")  # rows that no checkpoint counts, the last one torn
    rest = Run.load(tmp_path/"half", device="cpu")
    rest.folder = tmp_path/"half"
    rest.fit(130, progress=False)
    assert same_run(rest, whole) and csv_of(tmp_path/"half") == csv_of(tmp_path/"whole")
    assert (tmp_path/"half"/checkpoint_name).stat().st_size < 20_000
    assert len(half.fork(round=160).records) < 40


def test_records_do_not_leave_memory_while_the_disk_is_full(tmp_path, monkeypatch):
    seams.remember(monkeypatch, 40)
    seams.fetch_together(monkeypatch, 8)
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(10, progress=False)
    with run.claim(), monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match="stay in memory"): [run.step() for _ in range(50)]
        assert len(run.records) == 60
    run.fit(20, progress=False)
    assert len(run.records) < 60 and len(csv_of(tmp_path/"a")) == 81


HARMS = {"a line lost": lambda lines: lines[:100] + lines[101:], "emptied": lambda lines: [],
         "cut": lambda lines: lines[:50] + [lines[50][:9]], "deleted": lambda lines: None,
         "garbage": lambda lines: lines[:100] + ["garbage\x00,,,\n"] + lines[101:],
         "a line too many": lambda lines: lines[:100] + lines[99:], "another head": lambda lines: ["x\n"] + lines[1:]}

@pytest.mark.parametrize("most", [40, 1000])
@pytest.mark.parametrize("harm", HARMS)
def test_records_that_were_harmed_are_set_aside(tmp_path, monkeypatch, harm, most):
    "nothing that can still be read is written over, and what is in memory is written"
    seams.remember(monkeypatch, most)
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
    # every row is in memory, and the last 2,000 are always written again
    healed = most == 1000 and harm not in ("emptied", "another head")
    if lines is not None and not healed:
        assert (tmp_path/"a/records-damaged.csv").read_text() == "".join(lines)
        assert "is not what this run wrote, and is now records-damaged.csv" in str(said[0].message)
    elif lines is None and most == 40: assert "is gone; the " in str(said[0].message)
    rounds = [int(row[0]) for row in csv_of(tmp_path/"a")[1:]]
    assert set(kept) | set(range(301, 311)) <= set(rounds)
    assert rounds == sorted(rounds)
    assert most == 40 or rounds == list(range(1, 311))
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
    with pytest.warns(UserWarning, match="is now records-damaged.csv"):
        Run("ring", folder=tmp_path/"a", **tiny).fit(2, progress=False)
    assert (tmp_path/"a/records-damaged.csv").read_text() == "mine\n" * 1000 and len(csv_of(tmp_path/"a")) == 3
