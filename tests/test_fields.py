"""Data of the article's fields, read where they lie, and the networks that are made for them: what is right, what is refused."""
import gzip
import json
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from gan_nb import Run
from gan_nb.cli import main
from gan_nb.data import Data, as_pictures, is_name, load
from gan_nb.doctor import diagnose
from gan_nb.evaluation import evaluate
from gan_nb.experiment import Experiment
from gan_nb.lab import Lab
from gan_nb.models import pair
from gan_nb.readers import read_folders, read_picture, read_pictures
from gan_nb.sources import (
    alike, emoji, find_font, read_dicom, read_emoji_font, read_off, read_slices, read_volume, read_words, spelt, volume_bytes)
from helpers import bounded, one_line, same_run
from odd_files import dicom, stand_in_font, tiny_font

rng = np.random.default_rng(0)
small = dict(device="cpu", threads=1, batch_size=8, rounds=20, lr=1e-3, rule="adam", normalize=None)


@pytest.fixture
def font(tmp_path): return tiny_font(tmp_path/"it.ttf")


def test_a_font_that_counts_more_pictures_than_it_has_takes_no_room(font):
    import tracemalloc
    content = bytearray(font.read_bytes())
    at = int.from_bytes(content[(tag := content.index(b"CBLC")) + 8:tag + 12], "big") # of the table, which its first part follows
    first = at + int.from_bytes(content[at + 8:at + 12], "big")
    header = first + int.from_bytes(content[first + 4:first + 8], "big")
    content[header:header + 2], content[header + 8:header + 12] = (4).to_bytes(2, "big"), (2**24).to_bytes(4, "big")
    font.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match="not read as a font of emoji: counts more than 262,144 pictures"): read_emoji_font(font, ["1F600"], 16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26


def test_a_font_that_names_more_characters_than_there_are_takes_no_room(tmp_path):
    from fontTools.ttLib import TTFont
    tables = {table.format: table for table in TTFont(tiny_font(tmp_path/"it.ttf"))["cmap"].tables}
    content = bytearray((tmp_path/"it.ttf").read_bytes())
    at = int.from_bytes(content[(tag := content.index(b"cmap")) + 8:tag + 12], "big")
    group = content.index((12).to_bytes(2, "big"), at) + 16 # of the table for characters of four bytes
    assert 12 in tables and int.from_bytes(content[group:group + 4], "big") == 0x1F600
    content[group:group + 8] = (0).to_bytes(4, "big") + (0x10FFFF).to_bytes(4, "big")
    (tmp_path/"it.ttf").write_bytes(content)
    with pytest.raises(ValueError, match="names more than 262,144 characters"): read_emoji_font(tmp_path/"it.ttf", ["1F600"], 16)


def test_emoji_are_read_from_a_font(font):
    "Single characters, sequences, white where nothing is, the picture in the middle of a square."
    found = read_emoji_font(font, ["1F600", "1F601", "1F600-1F601", "1F602"], 20)
    assert set(found) == {"1F600", "1F601", "1F600-1F601"} and all(x.shape == (20, 20, 3) for x in found.values())
    assert found["1F600"][10, 10].tolist() == [255, 0, 0] and found["1F601"][10, 10].tolist() == [0, 255, 0]
    assert found["1F600"][1, 10].tolist() == [255, 255, 255] == found["1F600-1F601"][10, 10].tolist()
    with pytest.raises(ValueError, match="size: 300 came"): read_emoji_font(font, ["1F600"], 300)


def test_spoilt_fonts_are_one_clear_line(font, tmp_path):
    whole, draw = font.read_bytes(), np.random.default_rng(1)
    cut = [whole[:n] for n in (0, 4, 11, 100, len(whole) // 2, len(whole) - 30)]
    spoilt = []
    for _ in range(300):
        content = bytearray(whole)
        for at in draw.integers(0, len(whole), 4): content[at] = draw.integers(256)
        spoilt.append(bytes(content))
    refused = 0
    with bounded(60, 512):
        for content in cut + spoilt:
            font.write_bytes(content)
            try: read_emoji_font(font, ["1F600", "1F600-1F601"], 20)
            except ValueError as error:
                refused += 1
                one_line(error)
    assert refused > len(cut)


def test_a_font_that_is_missing_says_how_to_get_it(monkeypatch, tmp_path):
    import gan_nb.sources as sources
    monkeypatch.setattr(sources, "font_places", ())
    monkeypatch.delenv("GAN_NB_FONTS", raising=False)
    with pytest.raises(FileNotFoundError, match="fonts-noto-color-emoji"): find_font(tmp_path)
    with pytest.raises(FileNotFoundError, match="pip install no-such-package"): sources.package_folder("no_such_package", "it", "no-such-package")
    assert alike("1F469-200D-1F33E") == alike("1F468-200D-1F33E") != alike("1F469-200D-1F373")


def test_volumes_and_slices(tmp_path):
    "What is written is read; each axis is cut; a window says what is black and white."
    x = rng.normal(size=(6, 8, 10)).astype(np.float32)
    (tmp_path/"x.nii").write_bytes(volume_bytes(x))
    (tmp_path/"x.nii.gz").write_bytes(gzip.compress(volume_bytes(x)))
    for name in ("x.nii", "x.nii.gz"): np.testing.assert_array_equal(read_volume(tmp_path/name), x)
    for axis, n in enumerate(x.shape): assert read_slices(tmp_path/"x.nii", axis, (-1, 1)).shape[0] == n
    upright = read_slices(tmp_path/"x.nii", 2, (-9, 9))[0, 0]
    lit = np.rot90(np.clip((x[:, :, 0] + 9) / 18, 0, 1))
    np.testing.assert_allclose(upright[:, 1:7], lit * 255, atol=.51)
    data = load(str(tmp_path/"x.nii@16"))
    assert data.shape == (1, 16, 16) and len(data.train) == 10


def test_hostile_volumes_are_one_clear_line(tmp_path):
    whole = bytearray(volume_bytes(np.ones((4, 4, 4))))
    def with_shape(*shape):
        content = bytearray(whole)
        content[40:40 + 2 * (len(shape) + 1)] = struct.pack(f"<{len(shape) + 1}h", len(shape), *shape)
        return bytes(content)
    cases = [b"", b"x" * 400, bytes(whole[:300]), bytes(whole[:-20]), with_shape(32767, 32767, 32767), with_shape(4, 4, 4, 9), with_shape(0, 4, 4),
             with_shape(-3, 4, 4), with_shape(2000, 2000, 10), gzip.compress(bytes(2**26))]
    draw = np.random.default_rng(2)
    for _ in range(200):
        content = bytearray(whole)
        for at in draw.integers(0, 352, 3): content[at] = draw.integers(256)
        cases.append(bytes(content))
    with bounded(60, 700):
        for i, content in enumerate(cases):
            path = tmp_path/("x.nii.gz" if content[:2] == b"\x1f\x8b" else "x.nii")
            path.write_bytes(content)
            try: read_volume(path)
            except ValueError as error: one_line(error)
            else: assert i >= 10, f"case {i} was read"


def test_dicom(tmp_path):
    "Units of the file, white that is low, frames; what is damaged is one line."
    x = rng.integers(0, 4000, (5, 7))
    dicom(tmp_path/"x.dcm", x, RescaleSlope=2, RescaleIntercept=-1000)
    np.testing.assert_array_equal(read_dicom(tmp_path/"x.dcm")[0], x * 2. - 1000)
    seen = read_slices(tmp_path/"x.dcm", window=(-1000, 7000))[0, 0]
    np.testing.assert_allclose(seen[1:6], x / 4000 * 255, atol=.51) # upright, as it is stored
    dicom(tmp_path/"low.dcm", x, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_dicom(tmp_path/"low.dcm")[0], x.max() + x.min() - x)
    dicom(tmp_path/"many.dcm", rng.integers(0, 9, (3, 4, 4)), NumberOfFrames=3)
    assert read_dicom(tmp_path/"many.dcm").shape == (3, 4, 4)
    assert load(tmp_path/"many.dcm").shape == (1, 4, 4)
    dicom(tmp_path/"minnii.dcm", x) # what a file is, its ending says
    assert read_slices(tmp_path/"minnii.dcm").shape == (1, 1, 7, 7)
    dicom(tmp_path/"long.dcm", x, Rows=6)
    dicom(tmp_path/"huge.dcm", x, Rows=65535, Columns=65535)
    whole = (tmp_path/"x.dcm").read_bytes()
    (tmp_path/"cut.dcm").write_bytes(whole[:-30])
    (tmp_path/"none.dcm").write_bytes(b"DICM" * 50)
    with bounded(30, 256):
        for name in ("long", "huge", "cut", "none"):
            with pytest.raises(ValueError, match="not read as DICOM") as error: read_dicom(tmp_path/f"{name}.dcm")
            one_line(error.value)
        draw = np.random.default_rng(3)
        for _ in range(150):
            content = bytearray(whole)
            for at in draw.integers(132, len(whole) - 70, 2): content[at] = draw.integers(256)
            (tmp_path/"it.dcm").write_bytes(content)
            try: read_dicom(tmp_path/"it.dcm")
            except ValueError as error: one_line(error)


def test_words_of_ones_own(tmp_path):
    path = tmp_path/"towns.txt"
    path.write_text("Oslo\nRome\n\n Zürich \n", encoding="utf-8")
    words, alphabet, length = read_words(path)
    assert (words, length, alphabet[-1]) == (["Oslo", "Rome", "Zürich"], 6, " ")
    assert read_off(spelt(words, alphabet, length), alphabet) == words
    for content, says in (("", "0 words"), ("a", "1 words"), ("a\na\na", "again"), ("x" * 65 + "\na", "65 letters"), ("\n".join(map(chr, range(300, 600))), "letters came")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=says) as error: read_words(path)
        one_line(error.value)
    path.write_bytes(b"\xff\xfe\x00 binary")
    with pytest.raises(ValueError, match="UTF-8") as error: load(path)
    one_line(error.value)


def test_folders_are_classes_or_pairs(tmp_path):
    for k, name in enumerate(("cats", "dogs")):
        (tmp_path/"pets"/name).mkdir(parents=True)
        for i, size in enumerate(((30, 20), (64, 40), (16, 16))): Image.new("RGBA", size, (0, 0, 200 * k, 255 * (i > 0))).save(tmp_path/"pets"/name/f"{i}.png")
    with pytest.raises(ValueError, match="pets@64") as error: load(tmp_path/"pets")
    one_line(error.value)
    pets = load(f"{tmp_path}/pets@16")
    assert (pets.shape, pets.classes, pets.labels.tolist()) == ((3, 16, 16), ("cats", "dogs"), [0, 0, 0, 1, 1, 1])
    assert pets.train[0].min() == 255 and pets.train[4, 2].max() == 200 # clear is white
    run = Run("dcgan", data=f"{tmp_path}/pets@16", classes=True, width=2, **{k: v for k, v in small.items() if k != "rule"}).fit(1, progress=False)
    assert run.game.condition.names == ("cats", "dogs") and run.samples(4, condition="dogs").shape == (4, 3, 16, 16)
    with pytest.raises(ValueError, match="size: 3 came"): load(f"{tmp_path}/pets@3")
    with pytest.raises(FileNotFoundError, match="no such file"): load(f"{tmp_path}/pats@16")
    (tmp_path/"x.npy").write_bytes(b"")
    np.save(tmp_path/"x.npy", np.zeros((4, 2)))
    with pytest.raises(ValueError, match="a side came"): load(f"{tmp_path}/x.npy@16")


def test_pairs_belong_together_by_name(tmp_path):
    for name in ("A", "B"):
        (tmp_path/"both"/name).mkdir(parents=True)
        for i in range(4): Image.new("L", (16, 16), 10 * i + (name == "B")).save(tmp_path/"both"/name/f"{i}.{'jpg' if name == 'A' and i == 2 else 'png'}", quality=100)
    both = load(tmp_path/"both")
    assert [x[0, 0, 0].item() for x in both.train] == [1, 11, 21, 31] and [c[0, 0, 0].item() for c in both.conditions] == [0, 10, 20, 30]
    run = Run("recommended", data=both, model="unet", width=2, l1=10., **small).fit(2, progress=False)
    assert run.samples(4).shape == (4, 1, 16, 16)
    (tmp_path/"both"/"A"/"9.png").write_bytes((tmp_path/"both"/"A"/"0.png").read_bytes())
    with pytest.raises(ValueError, match="no picture called 9"): read_folders(tmp_path/"both")


def test_webp_and_a_huge_png(tmp_path):
    Image.new("RGB", (20, 10), (9, 8, 7)).save(tmp_path/"x.webp", lossless=True)
    assert read_picture(tmp_path/"x.webp")[0, 0].tolist() == [9, 8, 7] and read_pictures(tmp_path).shape == (1, 3, 10, 20)
    Image.new("1", (30000, 30000)).save(tmp_path/"x.png")
    with bounded(20, 256), pytest.raises(ValueError, match="pixels|bomb") as error: read_picture(tmp_path/"x.png")
    one_line(error.value)


def test_a_side_is_part_of_a_name(tmp_path):
    assert [is_name(t) for t in ("emoji@64", "emoji@", "emoji@x", "digits@64", "@64", "emoji@64@64", "emoji")] == [True, False, False, False, False, False, True]
    with pytest.raises(ValueError, match="did you mean 'emoji'"): Run("dcgan", data="emojis")


films = Data("films", (1, 4, 16, 16), train=rng.integers(0, 256, (40, 1, 4, 16, 16), dtype="uint8"), conditions=rng.integers(0, 256, (40, 1, 2, 16, 16), dtype="uint8"))
words = Data("words", (5, 6), train=torch.from_numpy(spelt(["".join(w) for w in rng.choice(list("abcd"), (60, 5))], "abcd ", 6)), alphabet="abcd ")
fields = {
    "residual": dict(data=rng.integers(0, 256, (40, 3, 28, 28), dtype="uint8"), model="residual", width=2),
    "films": dict(data=films, model="unet", width=2, l1=1.),
    "slices": dict(data=(rng.integers(0, 256, (40, 1, 16, 16), dtype="uint8"),) * 2, model="unet", width=2),
    "words": dict(data=words, model="text", width=4)}


@pytest.mark.parametrize("name", fields)
def test_a_field_is_trained_looked_at_and_written(name, tmp_path, capsys):
    "Trained, saved, gone on with to the bit, judged, diagnosed, shown and written as what it is."
    run = Run("recommended", **{**small, **fields[name]}).fit(3, progress=False)
    run.save(tmp_path/"run")
    again = Run.load(tmp_path/"run", data=run.game.data).fit(2, progress=False)
    run.fit(2, progress=False)
    assert all(torch.equal(a, b) for p in run.state.params for a, b in zip(run.state.params[p].values(), again.state.params[p].values()))
    assert run.score(run.real(4, seed=1) if run.game.condition is None else run.real_pairs(4, seed=1)[0],
                     **({} if run.game.condition is None else {"condition": run.real_pairs(4, seed=1)[1]})).shape == (4,)
    assert "Fréchet" in str(evaluate(run, 40, n_boot=0)) and diagnose(run)[0].name
    lab = Lab(run)
    frame = lab.frame()
    lab.figure(); lab.close()
    shown = {"residual": (64, 28, 28, 3), "films": (12, 16, 64, 1), "slices": (48, 16, 16, 1), "words": (64, 15, 46, 1)}
    assert frame.pictures.shape == shown[name]
    alone = Run.load(tmp_path/"run") # without the data; words still have their letters
    fits = {"residual": {".png", ".npy"}, "films": {".png", ".npy", ".gif"}, "slices": {".png", ".npy", ".nii"}, "words": {".png", ".npy", ".txt"}}[name]
    given = {} if run.game.condition is None else {"condition": run.real_pairs(5)[1]}
    if given: np.save(tmp_path/"c.npy", given["condition"].numpy())
    x = alone.samples(5, **given)
    for end in (".png", ".npy", ".gif", ".nii", ".txt"):
        out = tmp_path/f"it{end}"
        said = ["--condition", str(tmp_path/"c.npy")] if given else []
        assert main(["sample", str(tmp_path/"run"), "--n", "5", "--out", str(out), *said]) == (0 if end in fits else 2), capsys.readouterr().err
        if end not in fits: assert f"{end} is for" in capsys.readouterr().err
    if name == "films":
        with Image.open(tmp_path/"it.gif") as film: assert film.n_frames == 4
    if name == "slices": np.testing.assert_allclose(read_volume(tmp_path/"it.nii")[:, ::-1].transpose(2, 1, 0), (x[:, 0] + 1) / 2, atol=1e-6)
    if name == "words": assert (tmp_path/"it.txt").read_text().split("\n")[:-1] == read_off(x, "abcd ")


def test_words_are_letters_and_their_gradient_goes_through():
    run = Run("recommended", **{**small, **fields["words"]})
    x = run.samples(50)
    assert torch.equal(x.round(), x.round().clamp(0, 1)) and (x - x.round()).abs().max() < 1e-6 and (x.round().sum(1) == 1).all()
    before = {k: v.clone() for k, v in run.state.params["gen"].items()}
    run.fit(1, progress=False)
    assert any(not torch.equal(before[k], v) for k, v in run.state.params["gen"].items())
    other = run.samples(50, seed=1)
    assert not torch.equal(x, other) # other latents, other letters


def test_patches_are_judged_by_their_mean():
    "The score of a picture is the mean over its patches; the loss sees each."
    run = Run("recommended", **{**small, **fields["slices"]})
    x, c = run.real_pairs(6)
    logits = Experiment.evaluate(run.experiment, "disc", run.state.params["disc"], run.state.buffers["disc"], x, run.game.conditions(6, c))
    assert logits.shape[1] > 1
    torch.testing.assert_close(run.score(x, condition=c), logits.mean(1))


pictures = dict(data="digits", model="conv", width=4, z_dim=4, **{**small, "batch_size": 16})


@pytest.mark.parametrize("settings", [
    dict(augment=("adaptive", 0.)), dict(augment=("fixed", .5), r1=.1, r2=.1, loss="r3"), dict(augment=("adaptive", .6), classes=True, wgan_gp=1.),
    dict(augment=("adaptive", .2), method="extragradient", pack=2), dict(augment=("adaptive", 0.), method="consensus", r1=.1)])
def test_altered_pictures_go_on_exactly(settings, tmp_path):
    run = Run("adam", **{**pictures, **settings}).fit(3, progress=False)
    run.save(tmp_path/"a")
    again = Run.load(tmp_path/"a", device="cpu", threads=1)
    for it in (run, again): it.fit(2, progress=False)
    assert same_run(run, again)
    seen = run.records["augment"]
    if settings["augment"][0] == "fixed": assert (seen == .5).all() and "augment" not in run.state.buffers["disc"]
    else: assert seen[0] < 1e-3 and 0 <= run.state.buffers["disc"]["augment"] <= 1


def test_altering_rises_where_a_discriminator_knows_all_by_heart():
    "the steps are of one size, so the probability says how often it knew more than was aimed at"
    def played(target): return Run("adam", **{**pictures, "n_disc": 4, "lr": 2e-3, "augment": ("adaptive", target)}).fit(8, progress=False)
    rises, stays = played(0.).state.buffers["disc"]["augment"].item(), played(1.).state.buffers["disc"]["augment"].item()
    assert rises > 16 * 16 / 100_000 and stays == 0.


def test_altering_is_an_edit():
    run = Run("adam", **pictures, augment="adaptive 0").fit(2, progress=False)
    run.edit(augment=("fixed", .25))
    run.step()
    run.edit(augment=None)
    run.step()
    run.edit(augment=("adaptive", .5))
    run.fit(2, progress=False)
    assert run.records["augment"][2] == .25 and np.isnan(run.records["augment"][3]) and run.records["augment"][4] < 1e-3
    assert same_run(run, run.fork()) and run.fork(3).records["augment"][-1] == .25
    lab = Lab(run)
    try: assert "altered" in json.dumps(lab.parts()) and lab.words()["about_disc"].endswith("% altered")
    finally: lab.close()
    for data in ("ring", "moving_digits", "brain@16"):
        with pytest.raises(ValueError, match="augment: .*data that are pictures, alone or with classes"):
            Run("adam", **{**pictures, "data": data, "model": "mlp"}, augment=("fixed", .5))


def test_a_log_says_whose_data_they_are(tmp_path):
    "Arrays of one's own stand in it by their name, and every number that was recorded by its round."
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    run = Run("dcgan", data=(rng.integers(0, 256, (40, 1, 8, 8), dtype="uint8"), np.arange(40) % 3), width=2, device="cpu", threads=1, batch_size=8).fit(3, progress=False)
    run.log_to("tensorboard", tmp_path/"log")
    read = EventAccumulator(str(tmp_path/"log"), size_guidance=dict(scalars=0, images=0, tensors=0))
    read.Reload()
    said = read.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| data | own images |" in said and "| batch_size | 8 |" in said and len(said) < 5000
    assert [(it.step, it.value) for it in read.Scalars("grad_norm_disc")] == [(int(r), np.float32(v)) for r, v in zip(run.records["round"], run.records["grad_norm_disc"])]
    assert len(read.Images("samples")) == 1


def test_films_are_shown_frame_by_frame():
    x = torch.zeros(2, 3, 4, 5, 6)
    x[:, :, 2] = 1
    seen = as_pictures(x)
    assert seen.shape == (2, 3, 5, 24) and (seen[..., 12:18] == 1).all() and seen.sum() == x.sum()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 128, 128)])
def test_larger_pictures(shape):
    both = pair("residual", shape, width=2)
    x = both.generator(torch.randn(2, both.z_dim))
    assert x.shape == (2, *shape) and both.discriminator(x).shape == (2, 1)
    assert pair("conv", shape, width=2).generator(torch.randn(2, 100)).shape == (2, *shape)


def test_a_font_in_a_folder_of_ones_own(monkeypatch, tmp_path):
    import gan_nb.sources as sources
    monkeypatch.setattr(sources, "font_places", ())
    monkeypatch.setenv("GAN_NB_FONTS", str(tmp_path))
    stand_in_font(tmp_path/"NotoColorEmoji.ttf")
    x, group, names, held = emoji(16)
    assert x.shape == (len(sources.emoji_groups()), 3, 16, 16) and len(names) == 9 and held.any()


def test_what_does_not_fit_is_one_clear_line():
    for wrong, says in ((dict(data="ring", model="residual"), "use 'mlp'"), (dict(data="digits", model="unet"), "data=\\(x, y\\)"),
            (dict(data="digits", model="text"), "letters"), (dict(data=(rng.normal(size=(9, 3, 16, 16)).clip(-1, 1), rng.normal(size=(9, 1, 8, 8)).clip(-1, 1)), model="unet"), "of their size")):
        with pytest.raises(ValueError, match=says) as error: Run("recommended", **{**small, "width": 2, **wrong})
        one_line(error.value)


def test_the_emoji_of_this_machine():
    try: x, group, names, held = emoji()
    except FileNotFoundError as missing: pytest.skip(str(missing))
    assert len(x) > 1500 and len(names) == 9 and .05 < held.mean() < .2 and np.bincount(group).min() > 50
    data = load("emoji@48")
    assert data.shape == (3, 48, 48) and data.condition.names == names and json.dumps(list(names))
