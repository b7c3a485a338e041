"Small IDX files, for the tests of those who read and fetch them."
import gzip
import struct

import numpy as np
import torch


FILES = ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 't10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte')

def idx(array):
    "The bytes of an IDX file."
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f'>{array.ndim}I', *array.shape) + array.tobytes()


def four_files(seed=0):
    "The four files of a small set, unpacked, by name."
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, 256, (6, 28, 28), np.uint8), np.arange(6, dtype=np.uint8),
        rng.integers(0, 256, (4, 28, 28), np.uint8), np.arange(4, dtype=np.uint8)]
    return {file: idx(a) for file, a in zip(FILES, arrays)}


def put(folder, files, zipped=True):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder/(file + '.gz' * zipped)).write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return folder


def everything_in(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))
def same(a, b):
    return all(torch.equal(getattr(a, k), getattr(b, k)) for k in ('train', 'labels', 'held_out', 'labels_held_out'))
