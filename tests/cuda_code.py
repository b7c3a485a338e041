"""The code that PyTorch's compiler writes for a CUDA device, on a machine that has none.

A round is traced on the CPU and taken apart there as the compiler does it. Then its devices are exchanged, and the compiler
is told what it asks a GPU about: how many processors, how much shared memory. It writes kernels in Triton's language, and
the program that starts them; neither can be run here. Triton itself, where it is installed, makes machine code of them.

Since devices are exchanged, a tensor that a round makes on the host is not found here; `pretend.py` finds those."""
import contextlib
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch._dynamo.device_interface import CudaInterface
from torch._guards import TracingContext, tracing
from torch._inductor import compile_fx, config, graph, scheduler
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes import reinplace
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from gan_nb.compiled import Graph
from gan_nb.core import listed
from gan_nb.engines import as_function
from gan_nb.round import draw, tensors

device = torch.device("cuda:0")
told = SimpleNamespace( # of an H100
    name="none", major=9, minor=0, multi_processor_count=132, regs_per_multiprocessor=65536, warp_size=32, total_memory=80 * 2**30, L2_cache_size=50 * 2**20,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, shared_memory_per_block=48 * 2**10, shared_memory_per_block_optin=227 * 2**10,
    shared_memory_per_multiprocessor=228 * 2**10, gcnArchName="")


class Written(Exception): "The compiler has written what it would load next."


@contextlib.contextmanager
def as_if_there_were_one():
    "What the compiler asks PyTorch about the device is answered, and what it would do to it is not done."
    here = lambda *anything: 0
    properties = lambda *which: told
    answers = [
        (torch.cuda, dict(is_available=lambda: True, device_count=lambda: 1, current_device=here, _exchange_device=here, _maybe_exchange_device=here, synchronize=here,
            get_device_properties=properties, get_device_capability=lambda *which: (9, 0),
            get_rng_state=lambda *which: torch.zeros(16, dtype=torch.uint8), set_rng_state=here)),
        (CudaInterface, dict(get_device_properties=staticmethod(properties), current_device=staticmethod(here), synchronize=staticmethod(here))),
        (CudaInterface.Worker, dict(get_device_properties=staticmethod(properties), current_device=staticmethod(here))),
        (reinplace, dict(_inplace_generalized_scatter=lambda whole, *rest: whole)), # asked for its shape only
        (scheduler, dict(has_triton=lambda: True)), (torch.utils._triton, dict(triton_hash_with_backend=lambda: "none"))]
    with contextlib.ExitStack() as stack:
        for place, of in answers: stack.enter_context(patch.multiple(place, **of))
        yield


def written(run) -> str:
    "The program of a round."
    experiment, state = run.experiment, run.state
    traced = Graph(as_function(experiment, state), tensors(state), draw(experiment, state))
    given, programs = listed(traced.takes), []
    def stop(self):
        programs.append(self.codegen()[0].value)
        raise Written
    with torch.no_grad(): apart = make_fx(torch.func.functionalize(traced.module, remove="mutations"), select_decomp_table())(*given)
    for node in apart.graph.nodes:
        node.meta.clear()
        if node.kwargs.get("device") is not None: node.kwargs = {**node.kwargs, "device": device}
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode: there = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device) for t in given]
    plain = config.patch(fx_graph_cache=False, compile_threads=1)
    with as_if_there_were_one(), patch.object(graph.GraphLowering, "compile_to_module", stop), plain, compile_fx.V.set_fake_mode(mode), tracing(TracingContext(mode)):
        try: compile_fx.compile_fx_inner(apart, there)
        except Exception: # the compiler wraps what `stop` raises
            if not programs: raise
    return programs[0]


_kernel = re.compile(r"async_compile\.triton\('(\w+)', '''(.*?)''', device_str='cuda'\)", re.S)


def kernels(program) -> dict: return dict(_kernel.findall(program))


def calls(program) -> set:
    "What else the program calls on tensors: a library's products, or PyTorch's own operations."
    starts = _kernel.sub("", program)[program.index("async_compile ="):]
    lines = [line for line in starts.splitlines() if not line.lstrip().startswith("#")]
    return set(re.findall(r"(?:extern_kernels|torch\.ops\.aten|aten)\.(\w+)[\w.]*\(", "\n".join(lines)))


def machine_code(kernel, folder):
    "A kernel as Triton makes it, for that device: its first choice of sizes, a file of the kind that a driver loads."
    from torch._inductor.runtime import triton_helpers
    name, source = kernel
    file = folder/f"{name}.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    with patch.object(triton_helpers, "set_driver_to_gpu", lambda: None):
        spec.loader.exec_module(module)
        tuner = getattr(module, name)
        made = tuner._precompile_config(tuner.configs[0])
    return made.kernel.cubin_raw or Path(made.kernel.cubin_path).read_bytes()
