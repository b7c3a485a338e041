"""Coverage-guided fuzzing of everything that reads a file: `make fuzz`, or `python tests/fuzz/parsers.py CORPUS -runs=1000000`.

Each input begins with a byte that chooses the reader. A reader may return or raise ValueError in one line; anything else ends the
campaign: another exception, more than a second of the processor, a single allocation of more than 300 MB (libFuzzer's own limit), a peak
of the process's memory that grows by more than 256 MiB within one input, or one that comes to lie more than 512 MiB above where it was
before the first. For the formats that carry a checksum the fuzzer cannot guess, the checksum is put right first, so that what lies behind
it is reached. Inputs have up to 8 KiB; `-max_len=1048576` makes them large, from a file of a megabyte for each reader.

The last campaign, November 2026, in six parts with different seeds. 1,000,000 small inputs on the readers as they are now, except that a
settings file may since have 128 KiB and not a megabyte; 1,000,000 before, when a checkpoint did not yet say where a run may go back to:
nothing was found. Large inputs: after 3,000 a settings file of a megabyte of comments took 2.4 seconds, which is why it may no longer be as large;
after that 10,000, and nothing was found. The peak of the memory lay below 330 MiB with small inputs, of which 270 are Python and PyTorch.
An earlier campaign of 1,700,000 inputs, on older readers and without a check of the memory, had found nothing. A later one of 200,000
small inputs, November 2026, on the readers in rooms of their own, found nothing. Then the readers of fonts and scans were among them:
fonts of two kilobytes that count millions of pictures or characters took 3 GB and 4 seconds, and are refused now; 1,000,000 small inputs
and 10,000 large ones after that found nothing, with a peak of 383 MiB."""
import gzip
import io
import json
import logging
import os
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import atheris

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL) # readers of fonts and of scans have much to say
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from odd_files import dicom, tiny_font

with atheris.instrument_imports(include=["gan_nb", "configparser", "zipfile", "numpy.lib", "PIL"]):
    from gan_nb import Run, data, storage
    from gan_nb.checkpoints import read_history
    from gan_nb.readers import read_idx, read_picture
    from gan_nb.recipes import built_in, recipe, recipes
    from gan_nb.sources import read_dicom, read_emoji_font, read_volume, volume_bytes

folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
tiny = Run("ring", hidden=(2,), batch_size=2, device="cpu")
tiny.step()


def bytes_of(run): return run.save(folder/"run.safetensors").read_bytes()


good = bytes_of(tiny)
start = 8 + int.from_bytes(good[:8], "little")


def put(name, content):
    (folder/name).parent.mkdir(exist_ok=True)
    (folder/name).write_bytes(content)
    return folder/name


def checkpoint(content):
    "A whole file as it came."
    make(*storage.read_checkpoint(put("it.safetensors", content)))


def make(about, tensors):
    "As `Run.load` does, which turns these errors into `Damaged`."
    try: read_history(about, tensors, here={"device": "cpu"})
    except (KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split())[:200])


def header(content):
    "A JSON header of the fuzzer's in front of good tensors, in a format without a checksum."
    about, tensors = storage.unpack(struct.pack("<Q", len(content)) + content + good[start:], "it")
    make(about, tensors)


def about(content):
    "What the header says about the run, with the checksum put right."
    try: said = json.loads(content)
    except (ValueError, RecursionError): return
    if not isinstance(said, dict): return
    whole, tensors = storage.unpack(good, "it")
    merged = {**whole, **{k: v for k, v in said.items() if k in whole}}
    for name in ("recipe", "start_recipe"):
        if isinstance(said.get(name), dict): merged[name] = {**whole[name], **said[name]}
    merged = {k: v for k, v in merged.items() if k not in ("sha256", "version")}
    try: packed = storage.pack(merged, tensors)
    except (ValueError, RecursionError, UnicodeError): return
    make(*storage.unpack(packed, "it"))


def png(content):
    "Chunks of the fuzzer's, with their checksums put right."
    out, at = b"\x89PNG\r\n\x1a\n", 0
    while at + 6 <= len(content):
        n = struct.unpack(">H", content[at:at + 2])[0]
        name, body = content[at + 2:at + 6], content[at + 6:at + 6 + n]
        out += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        at += 6 + n
    read_picture(put("it.png", out))


def npz(content):
    "An array of the fuzzer's in a good archive."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive: archive.writestr("arr_0.npy", content)
    data.load(put("it.npz", out.getvalue()))


def settings(content):
    "A settings.ini."
    put("ini/settings.ini", content)
    for name in ("ring", *recipes(folder/"ini")[len(built_in):][:5]): recipe(name, folder/"ini")


readers = [
    checkpoint, header, about, npz, png, settings,
    lambda c: read_idx(put("it.idx", c), 3), lambda c: read_idx(put("it.idx", c), 1),
    lambda c: data.load(put("it.npy", c)), lambda c: data.load(put("it2.npz", c)), lambda c: data.load(put("it.csv", c)),
    lambda c: read_picture(put("it2.png", c)), lambda c: read_picture(put("it.jpg", c)),
    lambda c: data.load(put("it.txt", c)), lambda c: read_volume(put("it.nii", c)), lambda c: read_volume(put("it.nii.gz", gzip.compress(c, 1))),
    lambda c: read_dicom(put("it.dcm", c)), lambda c: read_emoji_font(put("it.ttf", c), ["1F600", "1F600-1F601"], 16),
]
counts, refused = [0] * len(readers), [0] * len(readers)

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 # MiB


def one(content):
    if not content: return
    which = content[0] % len(readers)
    counts[which] += 1
    begun, before = time.process_time(), peak()
    try: readers[which](content[1:])
    except ValueError as error:
        refused[which] += 1
        assert "\n" not in str(error) and len(str(error)) < 5000 + 2 * len(content), str(error)[:200]
    except OSError as error:
        if which != 5: raise
    spent = time.process_time() - begun
    assert spent < 1, f"reader {which} took {spent:.1f} s"
    assert peak() - before < 256, f"reader {which} took {peak() - before:.0f} MiB"
    if sum(counts) % 10_000 == 0: tell()


def tell(): print("inputs by reader:", counts, "refused:", refused, f"peak {peak():.0f} MiB", flush=True)


def seeds(place, large):
    "A good file for each reader, to begin with; large: one of nearly a megabyte, too."
    picture, jpeg, array, zipped, colour = (io.BytesIO() for _ in range(5))
    Image.new("L", (5, 4), 9).save(picture, "PNG")
    Image.new("RGB", (9, 8), 9).save(jpeg, "JPEG", progressive=True)
    Image.new("P", (3, 3), 1).save(colour, "PNG", transparency=1)
    np.save(array, np.ones((3, 2), "float32"))
    np.savez_compressed(zipped, np.ones((3, 2)))
    idx = lambda n: bytes([0, 0, 8, n]) + struct.pack(f">{n}I", *[2] * n) + bytes(2**n)
    chunks = lambda c: b"".join(struct.pack(">H", n) + c[at + 4:at + 8 + n] for at, n in walk(c))
    said, volume = storage.unpack(good, "it")[0], volume_bytes(np.ones((3, 4, 5)))
    dicom(folder/"seed.dcm", np.ones((3, 4)), RescaleSlope=2)
    tiny_font(folder/"seed.ttf")
    old = json.dumps({**json.loads(good[8:start]), "__metadata__": {"gan_nb": json.dumps({**{k: v for k, v in said.items() if k != "sha256"}, "version": 2})}}).encode()
    files = [good, old, json.dumps(said).encode(), array.getvalue(), chunks(picture.getvalue()), b"[DEFAULT]\ndevice = cpu\n[mine]\nbase = ring\nlr = 0.5\nclip = global_norm 1\n",
             idx(3), idx(1), array.getvalue(), zipped.getvalue(), b"x,y\n1,2\n3,4\n", picture.getvalue(), jpeg.getvalue(),
             "Oslo\nRome\nZürich\n".encode(), volume, volume, (folder/"seed.dcm").read_bytes(), (folder/"seed.ttf").read_bytes()]
    place.mkdir(parents=True, exist_ok=True)
    for i, file in enumerate(files): (place/f"good{i}").write_bytes(bytes([i]) + file)
    (place/"good4b").write_bytes(bytes([4]) + chunks(colour.getvalue()))
    if large:
        for i, file in big().items(): (place/f"big{i}").write_bytes(bytes([i]) + file)


def big():
    n, picture, jpeg, array, zipped = 2**20 - 2000, *(io.BytesIO() for _ in range(4))
    noise = np.random.default_rng(0).integers(0, 256, (590, 590, 3), "uint8")
    Image.fromarray(noise[..., 0]).save(picture, "PNG")
    Image.fromarray(noise).save(jpeg, "JPEG", quality=90)
    np.save(array, np.ones((n // 8, 2), "float32"))
    np.savez(zipped, np.ones((n // 8, 2), "float32"))
    wide = Run("ring", hidden=(128, 128), batch_size=2, device="cpu")
    wide.step()
    lines = lambda line: (line * (n // len(line))).encode()
    said = {**storage.unpack(good, "it")[0], "rollbacks": [{"round": 1, "to": 0, "error": "x" * 100}] * (n // 150)}
    return {0: bytes_of(wide)[:n], 2: json.dumps(said).encode(), 3: array.getvalue(), 5: b"[mine]\nbase = ring\n" + lines("# nothing\n")[:2**17 - 50], 6: bytes([0, 0, 8, 3]) + struct.pack(">3I", n // 4, 2, 2) + bytes(n // 4 * 4),
            7: bytes([0, 0, 8, 1]) + struct.pack(">I", n) + bytes(n), 8: array.getvalue(), 9: zipped.getvalue(), 10: lines("1.25,-2\n"), 11: picture.getvalue(), 12: jpeg.getvalue()}


def walk(content):
    at = 8
    while at < len(content):
        n = struct.unpack(">I", content[at:at + 4])[0]
        yield at, n
        at += 12 + n


if __name__ == "__main__":
    make(*storage.unpack(good, "it")) # the unharmed one is accepted, so a refusal means something
    options = [a for a in sys.argv[1:] if a.startswith("-")]
    large = any(a.startswith("-max_len") for a in options)
    corpus = [a for a in sys.argv[1:] if not a.startswith("-")] or [str(folder/"corpus")]
    seeds(Path(corpus[0]), large)
    sizes = ["-len_control=0"] if large else ["-max_len=8192"]
    atheris.Setup([sys.argv[0], *corpus, f"-rss_limit_mb={peak() + 512:.0f}", "-malloc_limit_mb=300", *sizes, *options], one)
    atheris.Fuzz()
