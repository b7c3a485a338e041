"What a network can do to a download: damage, a break, an end that never comes, absence."
import functools
import hashlib
import http.server
import os
import threading

import pytest

import seams
from gan_nb import readers
from gan_nb.data import load
from idx_files import everything_in, FILES, four_files, put, same

pytestmark = pytest.mark.usefixtures("cache")


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
    folder = put(tmp_path/'served', four_files())
    monkeypatch.setitem(seams.sets['mnist'], 'md5',
        tuple(hashlib.md5((folder/f'{f}.gz').read_bytes()).hexdigest() for f in FILES))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    asked = []
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0),
        functools.partial(type('H', (Handler,), {'asked': asked}), directory=str(folder)))
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


@pytest.mark.parametrize('kind, message',
    [('bad', 'checksum .* came, allowed is'), ('cut', r'ended after [\d,]+ of [\d,]+ bytes|IncompleteRead'),
        ('missing', '404')])
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
    put(cache/'mnist', {f: four_files()[f] for f in FILES[:2]})
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
    monkeypatch.setattr(*seams.longest_download, 100)
    with pytest.raises(OSError, match='more than 100 bytes came'):
        load('mnist', download=True, mirrors=[f'{mirror[0]}/good/'])


@pytest.mark.parametrize('name', ['mnist', 'fashion_mnist'])
def test_absent_set_says_what_to_do(cache, tmp_path, monkeypatch, name):
    def refuse(*_, **__): raise AssertionError('asked the network although nobody asked for it')
    monkeypatch.setattr(readers.urllib.request, 'urlopen', refuse)
    with pytest.raises(FileNotFoundError) as e: load(name, folder=tmp_path/'mine')
    said = str(e.value)
    assert all(part in said for part in (name, str(tmp_path/'mine'), str(cache/name), 'folder=', 'download=True'))
    assert '\n' not in said
    assert ('dataset-fashion-mnist' in said) == (name == 'fashion_mnist')


def test_offline_download_says_what_to_do(cache):
    with pytest.raises(OSError, match="fashion_mnist: could not be downloaded .*refused.*dataset-fashion-mnist.*folder=") as e:
        load('fashion_mnist', download=True, mirrors=['http://127.0.0.1:1/'])
    assert '\n' not in str(e.value)
