"The disk is full, fails at any write, is read-only or knows no links: the checkpoint before is there, and it is said."
import errno
import os
import subprocess
import sys
import warnings
from contextlib import contextmanager
from functools import partial

import pytest

import seams
from gan_nb import Run
from gan_nb.cli import main
from gan_nb.storage import read_checkpoint, Store
from gan_nb.storage import checkpoint_name
from helpers import csv_of, full, one_line, tiny


def test_a_disk_that_is_full_for_a_while_does_not_end_training(tmp_path, monkeypatch):
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(5, progress=False)
    with monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match="not saved at round 10, training goes on.*No space"):
            for _ in range(5): run.step()
            run.autosave()
        with pytest.raises(OSError, match="No space left on device, so round 11 is not saved; round 5 is: .*a/records.csv"):
            run.fit(1, progress=False)
    run.fit(1, progress=False)
    assert Run.load(tmp_path/"a", device="cpu").round == 12 and len(csv_of(tmp_path/"a")) == 13


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
        m.setattr(seams.writer, "open", passing(partial(opened, open)), raising=False)
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
    did, real = [], (os.fsync, os.replace)
    def path_of(f): return os.path.relpath(os.readlink(f"/proc/self/fd/{f}") if isinstance(f, int) else f, tmp_path/"a")
    monkeypatch.setattr(os, "fsync", lambda f: (did.append(("fsync", path_of(f).split("/")[-1])), real[0](f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (did.append(("replace", path_of(b))), real[1](a, b)))
    run.save(tmp_path/"a")
    assert did[:4] == [("fsync", "records.csv"), ("fsync", checkpoint_name), ("replace", checkpoint_name),
        ("fsync", ".")]


def test_a_folder_on_a_small_disk(tmp_path):
    "a tmpfs that two checkpoints do not fit in; where it cannot be mounted, a limit on the length of files"
    disk = tmp_path/"disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        capture_output=True).returncode == 0
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


def test_a_disk_without_links(tmp_path, monkeypatch):
    def no(*_): raise OSError(errno.EPERM, "Operation not permitted")
    monkeypatch.setattr(os, "link", no)
    run = Run("ring", folder=tmp_path/"a", **tiny)
    for _ in range(2): run.fit(5, progress=False)
    assert [read_checkpoint(f)[0]["round"] for f in Store(tmp_path/"a").found()] == [10, 5]
