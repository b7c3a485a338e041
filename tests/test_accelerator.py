"""Rounds on an accelerator that exists only in Python: what a GPU would wait for, or refuse to record, is found here.

Every pair of choices is covered; `make pairs` (STRENGTH=3) covers every triple."""
import os

import pytest
import torch
from pretend import accelerator, carried, device, recorded, there

from gan_nb.core import listed
from gan_nb.engines import Captured, as_function
from gan_nb.round import play, tensors
from helpers import covering
from play_shards import factors, settings

rows = covering(factors, int(os.environ.get("STRENGTH", 2)))


@pytest.mark.parametrize("row", rows, ids=lambda row: "-".join(row.values()).replace(" ", "_"))
def test_what_is_recorded_stays_on_the_accelerator(row):
    "Batches, a round, its row and the look at it: one pass, of which a GPU makes a recording."
    try: experiment, state = there("ring", **{"unroll": 2, **settings(row)})
    except ValueError: return # there is no such recipe anywhere
    with accelerator() as watched:
        after, table, finite = Captured(experiment, state, recorded, as_function(experiment, state))._play(state, 2)
    assert watched.calls > 100
    assert {t.device for t in (*listed(after), table, finite)} == {device}
    assert [t.shape for t in listed(after)] == [t.shape for t in listed(tensors(state))]


def test_several_rounds_by_themselves_stay_there():
    experiment, state = there("recommended", hidden=(8,))
    with accelerator():
        for _ in range(3): state, row, finite = play(experiment, state)
    assert (state.round, row.device, finite.device) == (3, device, device)


@pytest.mark.parametrize("wrong, says", [
    (lambda x: x.sum().item(), "_local_scalar_dense"), (lambda x: x + torch.ones(3), "two devices"), (lambda x: bool((x > 0).all()), "_local_scalar_dense"),
    (lambda x: torch.tensor([1., 2.]), "on cpu"), (lambda x: x.cpu(), "on cpu"), (lambda x: x[torch.tensor([0, 1])], "on cpu")],
    ids=["a number is read", "two devices", "a decision", "made on the host", "carried to the host", "an index of the host"])
def test_it_finds_what_a_gpu_would_wait_for(wrong, says):
    x = carried(torch.ones(3))
    with pytest.raises((RuntimeError, AssertionError), match=says), accelerator(): wrong(x)
