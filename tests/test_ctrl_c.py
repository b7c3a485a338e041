"Ctrl-C at any line: state, records and file agree afterwards, and the run goes on with the same bits."
import os
import shutil
import signal
import sys
import warnings

import numpy as np
import pytest

import seams
from gan_nb import records as record_room, Run, training
from gan_nb.storage import Store
from helpers import csv_of, same_run, tiny

small = dict(hidden=(16, 16), batch_size=32, device="cpu")


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


def test_ctrl_c_leaves_a_saved_run(tmp_path):
    run = Run("ring", folder=tmp_path/"run", **small)
    def several(most):
        if run.round == 7: raise KeyboardInterrupt
        Run.several(run, most)
    run.several = several
    with pytest.raises(KeyboardInterrupt): run.fit(100, progress=False)
    assert Run.load(tmp_path/"run", device="cpu").round == 7 == run.round


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
    lines = [line for line in seen if line[0] in seams.changing]
    places = {seen.index(line) + 1 for line in lines} | {len(seen) - seen[::-1].index(line) for line in lines}
    assert len(places) > 20
    for at in sorted(places)[::stride]:
        made = prepare()
        Lines(at).run(lambda: do(made))
        yield made, f"before {'%s:%d' % seen[at - 1]}"


@pytest.mark.parametrize("move", ["step", "step of one player", "several", "edit", "roll back"])
def test_ctrl_c_at_any_line(tmp_path, monkeypatch, spoil, move):
    "where nobody waits for the end of the round: in `step`, in `several`, at the second Ctrl-C in `fit`, in an edit"
    seams.fetch_together(monkeypatch, 4)
    do = {"step": lambda run: run.step(), "step of one player": lambda run: run.step("disc"),
          "several": seams.two_at_once,
          "edit": lambda run: run.edit(rule="sgd", lr=.05, momentum=0., batch_size=12),
          "roll back": lambda run: run.step()}[move]
    def prepare():
        run = Run("ring", on_divergence="roll back", **tiny)
        if move == "roll back": spoil(run, 7)
        for _ in range(7): run.step()
        return run
    def go_on(run):
        while run.round < 9: run.step()
        return run
    do(through := prepare())
    # made or not made, nothing between
    ends = [go_on(through)] if move in ("step", "several", "roll back") else [go_on(prepare()), go_on(through)]
    for i, (run, where) in enumerate(interrupted(prepare, do, 5 if move == "roll back" else 1)):
        assert run.records.total - run.state.moves in (0, 1, 2, 3)
        run.save(tmp_path/f"{i}")
        again = run if move == "roll back" else Run.load(tmp_path/f"{i}", device="cpu")
        again.folder = tmp_path/f"{i}"
        go_on(again).save(again.folder)
        if move == "several": seams.one_at_a_time(again)
        assert any(same_run(again, end) and again.rollbacks == end.rollbacks and again.recipe == end.recipe
            for end in ends), where
        assert again.records["round"].tolist() == sorted(again.records["round"]), where
        assert len(csv_of(again.folder)) == again.state.moves + 1, where
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
    seams.fetch_together(monkeypatch, 4)
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
