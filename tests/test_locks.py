"One process in a folder, and the others are told who it is."
import errno
import os
import signal
import subprocess
import sys
import time

import pytest

import seams
from gan_nb import Run, storage
from gan_nb.cli import main
from gan_nb.storage import Lock
from gan_nb.storage import checkpoint_name
from helpers import tiny


def test_the_second_process_is_told_who_was_first(tmp_path, capsys):
    command = [sys.executable, "-c", "import sys; from gan_nb.cli import main; sys.exit(main())"]
    first = subprocess.Popen([*command, "train", "ring", "--rounds", "1000000", "--out", "a", "--set", "hidden=8",
        "--set", "device=cpu"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
    racing = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path/"a"), str(tmp_path/"flag")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
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
        if not pid: os._exit(int(lock.held or seams.file_of(lock) is not None))
        assert os.waitpid(pid, 0)[1] == 0 and lock.held


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path, monkeypatch):
    "the holder removes it between our opening and our locking"
    left = [2]
    def late(file):
        plain(file)
        if left[0]: left[0] -= 1; (tmp_path/"a/.lock").unlink(); (tmp_path/"a/.lock").write_text("")
    plain = seams.lock_with(monkeypatch, late)
    with Lock(tmp_path/"a") as lock:
        assert os.path.samestat(os.fstat(seams.file_of(lock)), os.stat(tmp_path/"a/.lock")) and not left[0]


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
        with Lock(tmp_path/"a"), pytest.raises(ValueError, match="in use by this process"):
            Lock(tmp_path/"a").__enter__()
    def refuse(file): raise OSError(errno.ENOLCK, "No locks available")
    seams.lock_with(monkeypatch, refuse)
    with Lock(tmp_path/"c") as lock: assert lock.held
