"The generator alone: the same numbers in other programs, whatever the run; and files that are no such export."
import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gan_nb import Run
from gan_nb.cli import main
from gan_nb.core import stream
from gan_nb.export import formats, load_generator
from gan_nb.models import draw_latents
from helpers import tiny

far = 1000 + torch.randn(300, 2, generator=stream(7)) * torch.tensor([.01, 100.])
kinds = {
    "points": lambda: Run("ring", **tiny),
    "uniform latents": lambda: Run("ring", **tiny, latent="uniform"),
    "no average": lambda: Run("ring", **{**tiny, "halflife": 0.}),
    "mean of the tail": lambda: Run("ring", **tiny, average="tail", rounds=20),
    "own points": lambda: Run("ring", data=far, **tiny),
    "own points as they are": lambda: Run("ring", data=far / 1000, standardize=False, **tiny),
    "digits": lambda: Run("article", **tiny),
    "convolutions": lambda: Run("dcgan", width=4, batch_size=8, device="cpu"),
    "convolutions, spectral": lambda: Run("dcgan", width=4, batch_size=8, device="cpu", spectral=True),
    "colour, 32 pixels": lambda: Run("dcgan", data=np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype="uint8"),
        width=4, batch_size=8, device="cpu"),
    "packs, normalised discriminator": lambda: Run("ring", **tiny, pack=2, gn=True)}


@pytest.fixture(scope="module", params=kinds)
def run(request): return kinds[request.param]().fit(12, progress=False)


def latents(run, n): return draw_latents(run.game.pair, n, stream(3, 1 << 40))


def test_every_format_gives_the_samples_of_the_run(run, tmp_path):
    "For 1, 2 and 7 samples: the same bits in PyTorch, and up to rounding in onnxruntime."
    weights = load_generator(run.export(tmp_path/"a.safetensors", measure=False))
    program = torch.export.load(run.export(tmp_path/"a.pt2", measure=False)).module()
    session = onnxruntime.InferenceSession(run.export(tmp_path/"a.onnx", measure=False), providers=["CPUExecutionProvider"])
    for n in (1, 2, 7):
        z, x = latents(run, n), run.samples(n, seed=3)
        scale = x.abs().max().item()
        assert torch.equal(weights(z), x)
        torch.testing.assert_close(program(z), x, rtol=1e-6, atol=1e-6 * scale)
        np.testing.assert_allclose(session.run(None, {"z": z.numpy()})[0], x.numpy(), rtol=1e-5, atol=1e-5 * scale)


def test_a_run_goes_on_as_if_nothing_had_been_exported(tmp_path):
    run, other = (Run("dcgan", width=4, batch_size=8, device="cpu") for _ in range(2))
    for kind in formats: run.fit(2, progress=False).export(tmp_path/"a", kind, measure=False)
    run.fit(2, progress=False)
    other.fit(8, progress=False)
    assert torch.equal(run.samples(4), other.samples(4))
    assert run.game.nets["gen"].training


def test_networks_in_16_bits_are_exported_in_32(tmp_path):
    run = Run("ring", **tiny, precision="bf16").fit(5, progress=False)
    made = load_generator(run.export(tmp_path/"a.safetensors", measure=False))
    torch.testing.assert_close(made(latents(run, 7)), run.samples(7, seed=3), rtol=.05, atol=.05)


def test_the_card_says_what_it_is(tmp_path):
    run = Run("ring", **tiny, seed=5).fit(10, progress=False)
    run.edit(lr_gen=.01)
    card = run.export(tmp_path/"mine.safetensors").with_suffix(".md").read_text()
    for said in ("# mine.safetensors", "(n, 2): independent standard normal", "points (n, 2)", run.game.data.fingerprint,
                 "recipe ring, seed 5, 10 rounds, one edit", "95 % interval", "lr_gen = 0.01"):
        assert said in card, said
    with safe_open(tmp_path/"mine.safetensors", "pt") as file: about = json.loads(file.metadata()["gan_nb"])
    assert (about["z_dim"], about["shape"], about["round"], about["recipe"]["lr_gen"]) == (2, [2], 10, .01)


def test_without_its_data_a_run_is_exported_unmeasured(tmp_path):
    Run("ring", data=far, **tiny).fit(5, progress=False).save(tmp_path/"run")
    run = Run.load(tmp_path/"run", device="cpu")
    file = run.export(tmp_path/"a.safetensors")
    assert "the data were not there" in file.with_suffix(".md").read_text()
    assert torch.equal(load_generator(file)(latents(run, 5)), run.samples(5, seed=3))


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_package_that_is_missing_is_named(package, tmp_path):
    code = (f"import sys; sys.modules['{package}'] = None\nfrom gan_nb import Run\n"
            f"try: Run('ring', hidden=(4,), device='cpu').export(r'{tmp_path/'a.onnx'}', measure=False)\n"
            "except ValueError as error: print(error)")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stdout
    assert package in said and "gan_nb[export]" in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, capsys):
    assert main(["train", "ring", "--out", str(tmp_path/"run"), "--rounds", "5", "--set", "hidden=8"]) == 0
    for ending in formats:
        assert main(["export", str(tmp_path/"run"), "--out", str(tmp_path/f"a.{ending}"), "--unmeasured"]) == 0
        assert (tmp_path/f"a.{ending}").stat().st_size > 100
    capsys.readouterr()
    assert main(["export", str(tmp_path/"run"), "--out", str(tmp_path/"a.pth")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "onnx, safetensors, pt2" in said


def damaged(good):
    "Exports that are none, from a good one."
    yield b""
    for cut in (1, 8, 9, 100, len(good) // 2, len(good) - 1): yield good[:cut]
    for i in range(0, 300, 7): yield good[:i] + bytes([good[i] ^ 255]) + good[i + 1:]
    for wrong in ({}, {"gan_nb": "[]"}, {"gan_nb": "{}"}, {"gan_nb": '{"recipe": {}, "shape": [2]}'}, {"gan_nb": '{"recipe": {"model": "none"}, "shape": [2]}'},
                  {"gan_nb": '{"recipe": {"hidden_gen": [200000, 200000]}, "shape": [2], "latent": 1}'}, {"gan_nb": '{"recipe": 5, "shape": "ab"}'}):
        yield wrong


def test_a_damaged_export_is_one_line(tmp_path):
    good = Run("ring", **tiny).export(tmp_path/"good.safetensors", measure=False).read_bytes()
    for bad in damaged(good):
        file = tmp_path/"bad.safetensors"
        if isinstance(bad, dict): save_file({"net.0.weight": torch.zeros(2, 2)}, file, bad)
        else: file.write_bytes(bad)
        try: load_generator(file)
        except ValueError as error: assert "no generator that gan_nb exported" in str(error) and "\n" not in str(error)
        else: assert isinstance(bad, bytes) and len(bad) == len(good)      # a letter of a setting that still reads
