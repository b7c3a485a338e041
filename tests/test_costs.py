"""What a round costs, counted instead of timed: it is the same on every machine, so that a slowdown is seen on a busy one.

Fewer is always welcome: whoever makes a round cheaper writes the new numbers here. PyTorch is pinned in the constraints;
with another version the numbers may be others, and are not compared."""
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gan_nb import Run
from gan_nb.compiled import Graph
from gan_nb.engines import as_function
from gan_nb.round import draw, play, tensors
from helpers import at_length, needs_compiler

plain = dict(n_gen=1, n_disc=1, loss="non_saturating", r1=0., r2=0., halflife=0., order="disc_first", normalize=None, momentum=0., clip=("global_norm", 1.))
known = { # what make bench times, and three recipes as they are: calls, operations of the traced round, megabytes
    "bench, article": ("article", dict(plain, batch_size=128), (277, 365, 36.4)),
    "bench, 2-128-128-2": ("article", dict(plain, data="ring", z_dim=2, batch_size=512), (265, 353, 27.6)),
    "bench, 2-32-32-2": ("article", dict(plain, data="ring", z_dim=2, hidden=(32, 32), batch_size=128), (265, 353, 1.8)),
    "article": ("article", {}, (1953, 2484, 341.3)), "recommended": ("recommended", {}, (603, 686, 108.1)), "ring": ("ring", {}, (451, 497, 19.2))}
of_the_pinned_torch = pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="counted with torch 2.13")


class Counted(TorchDispatchMode):
    "Calls that reach the device, and the bytes that they read and write, if each reads and writes all of its tensors."
    def __init__(self):
        super().__init__()
        self.calls, self.bytes = 0, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        came = operation(*args, **(kwargs or {}))
        self.calls += 1
        if not operation.is_view: self.bytes += sum(t.nbytes for t in tree_leaves((args, kwargs, came)) if isinstance(t, torch.Tensor))
        return came


@of_the_pinned_torch
@pytest.mark.parametrize("name", known)
def test_a_round_costs_no_more(name):
    recipe, settings, expected = known[name]
    run = Run(recipe, device="cpu", threads=1, **settings)
    experiment, state = run.experiment, run.state
    with Counted() as counted: play(experiment, state)
    graph = Graph(as_function(experiment, state), tensors(state), draw(experiment, state))
    cost = counted.calls, graph.operations, round(counted.bytes / 1e6, 1)
    dearer = [f"{new:g} {what}, {old:g} are known" for what, new, old in zip(("calls", "operations", "megabytes"), cost, expected) if new > old]
    assert not dearer, f"a round of {name}: {'; '.join(dearer)}"


@at_length
@needs_compiler
@of_the_pinned_torch
@pytest.mark.parametrize("name, kernels", {"bench, article": 144, "bench, 2-32-32-2": 136}.items())
def test_a_compiled_round_has_no_more_kernels(name, kernels, monkeypatch):
    import torch._inductor.config
    from torch._inductor import metrics
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True) # what comes from a cache is not counted
    metrics.reset()
    Run(known[name][0], device="cpu", threads=1, compile=True, **known[name][1]).fit(2, progress=False)
    assert 0 < metrics.generated_kernel_count <= kernels

