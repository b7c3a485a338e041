"A run is walked through as it was, and made again: by its code, by its line, by the command line; and read as one page."
import base64
import json
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch

from gan_nb import Run
from gan_nb.core import listed
from gan_nb.page import most_bytes_of_page, page_of
from gan_nb.round import tensors
from gan_nb.sharing import begun_of_line

small = dict(hidden=(8, 8), batch_size=16, threads=1, device="cpu")
command = [sys.executable, "-c", "import sys; from gan_nb.cli import main; sys.exit(main())"]


def as_bits(state): return [t.clone() for t in listed(tensors(state))]

def same_bits(a, b): return len(a) == len(b) and all(torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) for x, y in zip(a, b))


def steered(run, seen=None):
    "A run of 100 rounds with edits, a drag, and steps by hand on the way; `seen` gets the bits of each round as it is played."
    def play(n):
        for _ in range(n):
            run.step()
            if seen is not None: seen[run.round] = as_bits(run.state)
    if seen is not None: seen[0] = as_bits(run.state)
    play(20)
    run.edit(lr_gen=.02, clip_disc=("global_norm", .5))
    play(3)
    for lr in (.01, .02, .03):
        run.edit(lr_disc=lr)
        play(1)
    run.step("gen")
    run.step("disc")
    play(40)
    run.edit(rule="adam", momentum=.5)
    run.edit(loss="hinge")
    play(34)
    return run


def test_every_earlier_round_has_the_bits_of_a_run_that_was_just_played_to_it():
    played = {}
    run = steered(Run("ring", **small), played)
    assert [p.moves for p in run.history.kept] == [0, 50, 100]
    rounds = list(range(run.round + 1))
    assert [then.round for then in run.earlier(rounds)] == rounds
    for then in run.earlier(rounds): assert same_bits(as_bits(then.state), played[then.round]), then.round
    for then in run.earlier([7, 24, 25, 26, 49, 89, 100]): assert same_bits(as_bits(then.state), played[then.round]), then.round


def test_it_plays_each_round_once_and_jumps_to_kept_states(monkeypatch):
    run, counted = steered(Run("ring", **small)), []
    step = Run.several
    def count(self, most=50):
        before = self.round
        step(self, most)
        counted.append(self.round - before)
    monkeypatch.setattr(Run, "several", count)
    list(run.earlier(range(0, 101, 5)))
    assert sum(counted) <= 100
    counted.clear()
    list(run.earlier([3, 99]))
    assert sum(counted) == 3 + 99 - max(p.state.round for p in run.history.kept)


def test_also_after_rolling_back_and_from_a_folder(tmp_path):
    "A run that rolls back comes to some rounds more than once; what it did there the last time is its past."
    run, played = Run("ring", rule="sgd", lr=2., on_divergence="roll back", **small), {}
    played[0] = as_bits(run.state)
    while run.round < 60:
        run.step()
        played[run.round] = as_bits(run.state)
    assert run.rollbacks
    run.edit(lr_gen=.1)
    for _ in range(10):
        run.step()
        played[run.round] = as_bits(run.state)
    run.save(tmp_path)
    for again in (run, Run.load(tmp_path, threads=1, device="cpu")):
        for then in again.earlier(range(1, 71, 7)): assert same_bits(as_bits(then.state), played[then.round]), then.round
        assert same_bits(as_bits(next(again.earlier([70])).state), played[70])


def test_a_run_that_goes_on_meanwhile_is_shown_as_it_was():
    run = steered(Run("ring", **small))
    bits = {then.round: as_bits(then.state) for then in run.earlier(range(0, 101, 50))}
    walking = run.earlier(range(0, 101, 50))
    next(walking)
    run.reset()
    run.edit(lr_gen=.5)
    run.step()
    assert all(same_bits(as_bits(then.state), bits[then.round]) for then in walking)


# Code and line, in processes of their own

@pytest.fixture(scope="module")
def told():
    run = steered(Run("ring", seed=7, **small))
    run.edit(clip_gen=("global_norm", .3)) # and something after the last round
    return run


def test_the_code_makes_it_again_in_another_process(told, tmp_path):
    ends = f"\nimport numpy as np\nnp.save({str(tmp_path/'samples.npy')!r}, run.samples(50).numpy())\nprint(run.round, len(run.edits))"
    done = subprocess.run([sys.executable, "-c", told.code() + ends], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(told.round), str(len(told.edits))]
    assert np.array_equal(np.load(tmp_path/"samples.npy"), told.samples(50).numpy())
    assert max(map(len, told.code().splitlines())) <= 120


def test_the_line_makes_it_again_by_the_command_line(told, tmp_path):
    (tmp_path/"settings.ini").write_text("[DEFAULT]\ndevice = cpu\nthreads = 1\n")
    done = subprocess.run([*command, "train", "--from", "-"], cwd=tmp_path, capture_output=True, text=True, timeout=300, input=f"\n{told.line()}\n")
    assert done.returncode == 0, done.stderr
    made = Run.load(tmp_path/"runs/ring-seed7", threads=1, device="cpu")
    assert torch.equal(made.samples(50), told.samples(50)) and made.edits == told.edits
    assert same_bits(as_bits(made.state), as_bits(told.state))


@pytest.mark.parametrize("words, said", [
    (["--from", "gan_nb:1:AAAA"], "damaged"), (["--from", "nonsense"], "allowed is a line that run.line() gave"), (["--from", "/etc"], "allowed is a line"),
    ([], "nothing came"), (["ring", "--from", "x"], "RECIPE came"), (["--from", "x", "--seed", "0"], "--seed came"),
    (["--from", "x", "--set", "lr=1"], "--set came"), (["ring", "--data", "x"], "--set data=PATH")])
def test_bad_text_is_one_line_and_status_two(words, said, tmp_path, monkeypatch, capsys):
    from gan_nb.cli import main
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.startswith("gan-nb: ") and said in line
    assert not list(tmp_path.iterdir())


def test_an_interrupted_line_is_saved_and_says_what_it_lacks(told, tmp_path, monkeypatch, capsys):
    import gan_nb.cli as cli
    from gan_nb.driving import drive
    asked = set() # as a list of signals, but without names
    def stopped(player, until=None, stop=lambda: False, most=None, tasks=()):
        drive(player, until, lambda: stop() or player.round >= 30, tasks=tasks)
        if player.round >= 30: asked.add(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gan_nb.driving.drive", stopped)
    run, edits, until = begun_of_line(told.line(), device="cpu", threads=1)
    assert cli.train_until(run, until, tmp_path/"run", asked, edits=edits) == 130
    made = Run.load(tmp_path/"run", threads=1, device="cpu")
    assert made.round == 30 and made.edits == told.edits[:len(made.edits)] and len(made.edits) < len(told.edits)
    assert f"without the {len(told.edits) - len(made.edits)} edits" in capsys.readouterr().err


# The page, read without a browser

def letters_of(path): return json.loads(re.search("id='kept'>(.*?)</script>", path.read_text(encoding="utf-8"))[1])

def head_of(letters):
    whole = zlib.decompress(base64.b64decode(letters))
    return json.loads(whole[4:4 + int.from_bytes(whole[:4], "little")])


def test_a_page_asks_for_nothing_and_stays_below_its_bound(tmp_path):
    run = Run("ring", **small).fit(30, progress=False)
    text = run.page(tmp_path/"a").read_text(encoding="utf-8")
    assert len(text.encode()) <= most_bytes_of_page
    assert "default-src 'none'" in text and not re.search(r"(src|href)=['\"]?(https?:)?//", text)
    assert text.count("</script>") == 2 and text.count("</style>") == 1


def test_what_does_not_fit_is_left_out_evenly(tmp_path):
    run = Run("ring", **small).fit(60, progress=False)
    for most in (250_000, 350_000):
        path = tmp_path/"small.html"
        path.write_text(page_of(run, most=most), encoding="utf-8")
        first, *rounds = letters_of(path)
        kept = head_of(first)["plain"]["time"]["rounds"]
        assert path.stat().st_size <= most and len(kept) == len(rounds) and kept[-1] == 60
        assert len(set(np.diff(kept[:-1]))) == 1 and 1 < len(kept) < 61


def test_a_page_of_a_saved_run_is_that_of_the_run(tmp_path):
    run = Run("ring", **small).fit(10, progress=False)
    run.edit(lr_gen=.02)
    run.fit(10, progress=False)
    run.save(tmp_path/"run")
    a, b = (it.page(tmp_path/name) for name, it in (("a", run), ("b", Run.load(tmp_path/"run", threads=1, device="cpu"))))
    assert a.read_bytes() == b.read_bytes()
