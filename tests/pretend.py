"""An accelerator that exists only in Python: tensors on it have a shape and a type, and no numbers.

What a real one does slowly, or refuses while it records a round, is found here at once: reading a number back (there is
none), a tensor of the host in any operation, two devices in one. So rounds can be tried on a machine without a GPU."""
import copy
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from gan_nb import Run


class Hook(torch._C._acc.PrivateUse1Hooks):
    def is_available(self): return True
    def is_built(self): return True
    def has_primary_context(self, index): return True


_setup_privateuseone_for_python_backend(rename="pretend", hook=Hook())
device, mode = torch.device("pretend:0"), FakeTensorMode()


class Generator(torch.Generator):
    "Its draws are where it says. PyTorch makes none for a device that is written in Python."
    def __new__(cls, place=None): return super().__new__(cls)
    device = device


def carried(what):
    "The same with each tensor on the accelerator."
    def over(tensor, memo):
        if id(tensor) not in memo:
            there = mode.from_tensor(tensor.detach())
            with mode: there = there.to(device)
            memo[id(tensor)] = nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there
        return memo[id(tensor)]
    with patch.object(torch.Tensor, "__deepcopy__", over), patch.object(nn.Parameter, "__deepcopy__", over): return copy.deepcopy(what)


class Watched(TorchDispatchMode):
    "Counts the calls that reach a device, and notes those in which a tensor of the host has a part."
    def __init__(self):
        super().__init__()
        self.calls, self.strangers = 0, [] # noted, not raised: what is raised in the middle of a backward pass ends the process

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        came = operation(*args, **(kwargs or {}))
        self.calls += 1
        at = {t.device.type for t in tree_leaves((args, kwargs, came)) if isinstance(t, torch.Tensor)}
        if at - {device.type, "meta"}: self.strangers.append(f"{operation} on {', '.join(sorted(at))}") # meta: zeros that are not held
        return came


@contextmanager
def accelerator():
    with mode, patch("torch.Generator", Generator), Watched() as watched: yield watched
    assert not watched.strangers, watched.strangers


def there(recipe, **settings):
    "The experiment and the state of a new run, on the accelerator."
    run = Run(recipe, **{**settings, "device": "cpu", "threads": 1})
    experiment, state = carried((run.experiment, run.state))
    experiment.game.device = device
    return experiment, state


def recorded(fn, generators):
    "In the place of `cuda_graph`: what would be recorded runs once, and nothing is replayed, since there are no numbers."
    fn()
    return lambda: None
