"Data, pictures and settings from strangers: read to the last number, or refused in one line, in little time and memory."
import io
import math
import os
import shutil
import stat
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from hypothesis import given, strategies as st

from gan_nb import Run
from gan_nb.data import load
from gan_nb.readers import read_idx
from gan_nb.recipes import recipe, recipes
from helpers import bounded, one_line, quick, tiny


def test_files_train(tmp_path):
    points = np.random.default_rng(0).normal(size=(50, 2))
    (tmp_path/"points.csv").write_text("x,y\n" + "\n".join(f"{a},{b}" for a, b in points))
    run = Run("ring", data=load(str(tmp_path/"points.csv")), **tiny).fit(3, progress=False)
    run.save(tmp_path/"a")
    assert run.game.data.name == "points" and Run.load(tmp_path/"a", data=tmp_path/"points.csv").round == 3
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 6, 3), "uint8")).save(tmp_path/f"{i}.png")
    assert load(tmp_path).shape == (3, 8, 6)
    assert np.array_equal(load(tmp_path).train[2].permute(1, 2, 0),
        np.random.default_rng(2).integers(0, 256, (8, 6, 3), "uint8"))
    with pytest.raises(FileNotFoundError, match="nowhere.csv"): load("nowhere.csv")


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path/'a.csv').write_text('1,2\n')
    os.symlink(tmp_path/'a.csv', tmp_path/'b.csv')
    assert load(tmp_path/'b.csv').train.tolist() == [[1, 2]]


@pytest.mark.parametrize('text, says',
    [('N/A,1\n2,3\n', "could not convert string to float: 'N/A'"), ('nan,1\n2,3\n', 'finite numbers'),
        ('x,y\n', 'no numbers came'), ('x,1\ny,2\n', "'x'")])
def test_a_row_of_a_csv_is_not_lost(tmp_path, text, says):
    "a first line is names only if nothing in it is a number"
    (tmp_path/'a.csv').write_text(text)
    with pytest.raises(ValueError, match=says): load(tmp_path/'a.csv')


# Any content

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
        return [recipe(name, place) for name in recipes(place)]
    return {"a.npy": (load, array.getvalue()), "a.npz": (load, zipped.getvalue()),
            "a.csv": (load, b"x,y\n1,2\n3,4\n"), "a.png": (in_folder, picture.getvalue()),
            "a.jpg": (in_folder, jpeg.getvalue()),
            "a.idx": (lambda p: read_idx(p, 3), idx),
            "settings.ini": (as_settings, b"[DEFAULT]\ndevice = cpu\n[mine]\nbase = ring\nlr = 0.5\nclip = global_norm 1\n")}


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
        path.write_bytes({"inside": good[:at] + noise + good[at + len(noise):], "instead": noise, "cut": good[:at],
            "added": good[:at] + noise + good[at:]}[how])
        try: read(path)
        except ValueError as error: seen.append(one_line(error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        any_bytes()
    assert len(seen) > 10


# Made to harm

def npy(shape, dtype="'<f4'", body=b""):
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def bomb(kind):
    import zipfile, zlib
    if kind == "a.npz":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("arr_0.npy", npy("(5000000,)", body=bytes(20_000_000)))
        return out.getvalue()
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR",
        struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0)) + chunk(b"IDAT",
        zlib.compress(bytes(10_000_000))) + chunk(b"IEND", b"")


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
    "a.jpg of many passes": (lambda: parsers(Path())["a.jpg"][1][:-2] + b"\xff\xda\x00\x08" * 100,
        "in more than 64 passes"),
}

@pytest.mark.parametrize("kind", BAD)
def test_a_hostile_file_is_refused(tmp_path, kind):
    make, says = BAD[kind]
    name = kind.split()[0]
    (tmp_path/"in").mkdir()
    (tmp_path/"in"/name).write_bytes(make())
    with bounded(), pytest.raises(ValueError, match=says) as error:
        load(tmp_path/"in" if name[2:] in ("png", "jpg") else tmp_path/"in"/name)
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
    with gzip.open(tmp_path/"a.gz", "wb") as f:
        f.write(bytes([0, 0, 8, 3]) + struct.pack(">3I", 20, 1000, 1000) + bytes(20_000_000))
    with bounded(3), pytest.raises(ValueError, match="for a file of its length"): read_idx(tmp_path/"a.gz", 3)


@pytest.mark.parametrize('name', ['a.csv', 'a.npy', 'a.npz', 'a.png', 'a.jpg', 'a.idx'])
@pytest.mark.parametrize('kind', ['pipe', 'device', 'link to a device'])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, name, kind):
    "a pipe would be waited for, /dev/zero has no end"
    (tmp_path/'in').mkdir()
    path = tmp_path/'in'/name
    if kind == 'pipe': os.mkfifo(path)
    elif kind == 'link to a device': os.symlink('/dev/zero', path)
    elif os.geteuid(): pytest.skip('only root makes devices')
    else:
        try: os.mknod(path, 0o644 | stat.S_IFCHR, os.makedev(1, 5))
        except PermissionError: pytest.skip('no devices can be made here')
    read = {'.idx': lambda: read_idx(path, 3), '.png': lambda: load(path.parent),
        '.jpg': lambda: load(path.parent)}.get(path.suffix, lambda: load(path))
    with pytest.raises(OSError, match=f'not a regular file.*{name}|Permission denied'): read()


@pytest.mark.parametrize('text, says',
    [('[s%d]\n' * 1001 % tuple(range(1001)), '1,001 sections came; allowed are 1,000'),
        ('#' * 2**17 + '\n', '131,073 bytes came; allowed are 131,072'), ('[a]\nlr = 1\n[a]\n', 'not a settings file')])
def test_settings_have_bounds(tmp_path, text, says):
    (tmp_path/'settings.ini').write_text(text)
    begun = time.process_time()
    with pytest.raises(ValueError, match=says): recipe('ring', tmp_path)
    assert time.process_time() - begun < 1
    (tmp_path/'settings.ini').write_text('[DEFAULT]\n' + ''.join(f'[s{i}]\n' for i in range(900)))
    assert len(recipes(tmp_path)) > 900
