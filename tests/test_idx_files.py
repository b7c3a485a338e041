"Sets of IDX files: found where they may lie, and refused if they are damaged, mislabelled or too large."
import gzip
import hashlib
import os
import struct

import numpy as np
import pytest
import torch

import seams
from gan_nb.data import load
from gan_nb.readers import read_idx
from idx_files import FILES, four_files, idx, put

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('where', ['.', 'mnist', 'MNIST/raw'])
def test_set_is_found_in_a_folder(tmp_path, zipped, where):
    files = four_files()
    got = load('mnist', folder=put(tmp_path/'mine'/where, files, zipped).parents[len(where.split('/')) - 1]
        if where != '.' else put(tmp_path/'mine', files, zipped))
    assert got.train.numpy().tobytes() == files[FILES[0]][16:] and got.labels.tolist() == list(range(6))
    assert got.held_out.numpy().tobytes() == files[FILES[2]][16:] and got.labels_held_out.tolist() == list(range(4))
    assert got.shape == (1, 28, 28) and got.train.dtype == torch.uint8 and len(got.classes) == 10


def test_folder_comes_before_cache_and_cache_before_usual_place(tmp_path, cache, monkeypatch):
    put(tmp_path/'usual', four_files(1)); put(cache/'mnist', four_files(2)); put(tmp_path/'mine', four_files(3))
    monkeypatch.setitem(seams.sets['mnist'], 'usual', (str(tmp_path/'usual'),))
    first = load('mnist', folder=tmp_path/'mine').fingerprint, load('mnist').fingerprint
    for p in (cache/'mnist').iterdir(): p.unlink()
    prints = [*first, load('mnist').fingerprint]
    assert len(set(prints)) == 3
    assert prints == [load('mnist', folder=put(tmp_path/f'again{k}', four_files(k))).fingerprint for k in (3, 2, 1)]


IMAGES = np.zeros((3, 28, 28), np.uint8)
HUGE = bytes([0, 0, 8, 3]) + struct.pack('>3I', 2**32 - 1, 2**32 - 1, 2**32 - 1)
BAD = {
    'cut': (idx(IMAGES)[:-5], 'truncated at 2,347 bytes'),
    'too long': (idx(IMAGES) + b'x', 'longer than'),
    'cut in its header': (idx(IMAGES)[:9], 'truncated in its header'),
    'empty': (b'', '0x; allowed is an IDX file of images'),
    'labels': (idx(np.zeros(3, np.uint8)), r'labels \(1 dimension\); allowed is an IDX file of images'),
    'a web page': (b'<html>not found</html>', '0x3c68746d'),
    'of floats': (bytes([0, 0, 13, 3]) + idx(IMAGES)[4:], '0x00000d03'),
    'huge': (HUGE, 'claims 4294967295 x 4294967295 x 4294967295 bytes; allowed'),
    'just too large': (bytes([0, 0, 8, 3]) + struct.pack('>3I', 2**28 + 1, 1, 1), 'allowed are 1 to 268,435,456'),
    'of no images': (idx(IMAGES[:0]), 'claims 0 x 28 x 28 bytes'),
}

@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('kind', BAD)
def test_bad_idx_is_refused(tmp_path, kind, zipped):
    content, message = BAD[kind]
    path = tmp_path/'some-images'
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(ValueError, match=message) as e: read_idx(path, ndim=3)
    assert str(path) in str(e.value) and 'allowed' in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('spoil',
    [lambda b: b[:-4], lambda b: b[:len(b) // 2], lambda b: b[:-6] + bytes([b[-6] ^ 1]) + b[-5:],
        lambda b: b[:12] + b'\xff' * 20 + b[32:]])
def test_damaged_gzip_is_refused(tmp_path, spoil):
    path = tmp_path/'x.gz'
    path.write_bytes(spoil(gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)))))
    with pytest.raises(ValueError, match='x.gz: truncated or damaged'): read_idx(path, ndim=3)


def test_gzip_bomb_costs_no_memory(tmp_path):
    import tracemalloc
    path = tmp_path/'bomb.gz'
    with gzip.open(path, 'wb', compresslevel=1) as f:
        f.write(idx(IMAGES))
        for _ in range(64): f.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(ValueError, match='longer than'): read_idx(path, ndim=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.parametrize('change, message', [
    ({FILES[1]: idx(np.zeros(5, np.uint8))}, '5 labels for the 6 images'),
    ({FILES[1]: idx(np.full(6, 10, np.uint8))}, 'label 10 came; allowed are 0 to 9'),
    ({FILES[0]: idx(np.zeros((6, 28, 27), np.uint8))}, '28 x 27 came; allowed are 28 x 28'),
    ({FILES[0]: four_files()[FILES[1]]}, 'allowed is an IDX file of images'),
    ({FILES[3]: four_files()[FILES[2]]}, r'images \(3 dimensions\); allowed is an IDX file of labels'),
    ({FILES[2]: idx(np.zeros((10, 28, 28), np.uint8)),
        FILES[3]: idx(np.array([9, 2, 1, 1, 6, 1, 4, 6, 5, 7], np.uint8))},
        'holds fashion_mnist; allowed are the files of mnist'),
])
def test_mislabelled_files_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load('mnist', folder=put(tmp_path/'mine', {**four_files(), **change}))


@pytest.mark.skipif(not os.path.isdir('/usr/share/datasets/fashion-mnist'),
    reason='needs the package dataset-fashion-mnist')
def test_fashion_mnist_of_debian():
    got = load('fashion_mnist', folder='/usr/share/datasets/fashion-mnist')
    assert got.train.shape == (60000, 1, 28, 28) and got.held_out.shape == (10000, 1, 28, 28)
    assert got.labels.bincount().tolist() == [6000] * 10 and got.labels_held_out.bincount().tolist() == [1000] * 10
    for file, md5 in zip(FILES, seams.sets['fashion_mnist']['md5']):
        with open(f'/usr/share/datasets/fashion-mnist/{file}.gz', 'rb') as f:
            assert hashlib.md5(f.read()).hexdigest() == md5
