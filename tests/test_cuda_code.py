"""A round as PyTorch's compiler writes it for a GPU, on a machine without one: it can be written, nothing in it waits, and Triton, where it is installed (`make pairs`), makes machine code of every kernel."""
import importlib.util
import os
import re

import pytest
import torch
from cuda_code import calls, kernels, machine_code, written

from gan_nb import Run
from helpers import covering
from play_shards import factors, settings

pairs = covering(factors, 2)
rows = pairs if os.environ.get("STRENGTH") else pairs[::40]
on_the_device = { # what the compiler leaves to libraries and to PyTorch; none of it waits for a number
    "mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "sort", "special_ndtri"}
of_the_pinned_torch = pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="asks the inner parts of torch 2.13")


@of_the_pinned_torch
@pytest.mark.parametrize("row", rows, ids=lambda row: "-".join(row.values()).replace(" ", "_"))
def test_the_code_of_a_round_is_written_and_waits_for_nothing(row):
    try: run = Run("ring", **settings(row))
    except ValueError as error: pytest.skip(f"there is no such recipe: {error}")
    program = written(run)
    assert len(kernels(program)) > 10
    assert calls(program) <= on_the_device
    assert not of_the_host(program)


def of_the_host(program):
    "Lines in which a tensor of the host has a part, or a number is read."
    lines = [line for line in program.splitlines() if not line.lstrip().startswith("#") and "guards" not in line] # those are names
    return [line for line in lines if re.search(r"cpu|\.item\(|\.tolist\(|\.numpy\(", line)]


@of_the_pinned_torch
def test_it_finds_what_waits_and_what_is_held_on_the_host():
    def program(more):
        run = Run("ring", device="cpu", threads=1, hidden=(4,), batch_size=4)
        step = run.experiment.method.step
        def otherwise(game, state, batches):
            after, seen = step(game, state, batches)
            return after, {**seen, "logit_fake": seen["logit_fake"] + more()}
        object.__setattr__(run.experiment.method, "step", otherwise)
        return written(run)
    assert calls(program(lambda: torch.linalg.eigvalsh(torch.eye(3)).sum())) - on_the_device
    held = torch.linspace(0, 1, 4)
    assert of_the_host(program(lambda: held.sum()))


@of_the_pinned_torch
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed; `make pairs` installs it")
@pytest.mark.parametrize("recipe, more", [("recommended", dict(hidden=(8,), batch_size=8)), ("dcgan", dict(width=4, batch_size=4)), ("digits-by-class", dict(hidden=(8,), batch_size=8))])
def test_triton_makes_machine_code_of_every_kernel(recipe, more, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path/"cache"))
    found = kernels(written(Run(recipe, device="cpu", threads=1, **more)))
    assert len(found) > 10
    for kernel in found.items(): assert machine_code(kernel, tmp_path)[:4] == b"\x7fELF", kernel[0]
