"The same round three ways: traced, compiled and captured ones equal the eager one, also in short numbers."
import gc
import importlib.util
import os
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest
import torch

import seams
from gan_nb import Run
from gan_nb.core import listed, stream
from gan_nb.compiled import can_compile, compiled, Graph
from gan_nb.engines import as_function, Captured, Compiled, Jitted
from gan_nb.population import Population
from gan_nb.recipes import structure
from gan_nb.round import draw, tensors
from helpers import adam, at_length, assert_same, each_method, needs_compiler, row_of, small, variants

plain = small | dict(rule="sgd", lr=1e-4, momentum=0., halflife=0.) # compiled in little time


def traced(run):
    return Graph(as_function(run.experiment, run.state), tensors(run.state), draw(run.experiment, run.state))


def follow(run, graph, rounds=3, exact=True):
    "Play rounds eagerly and by the graph, each from the eager state."
    for _ in range(rounds):
        tree, row, fine = graph(tensors(run.state), draw(run.experiment, run.state))
        record = run.step()
        assert fine
        for (now, before) in zip(listed((tree, row)), listed((tensors(run.state), row_of(record)))):
            if exact: assert torch.equal(now.nan_to_num(), before.nan_to_num())
            else: torch.testing.assert_close(now, before, rtol=2e-4, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize("variant", variants)
@each_method
def test_a_traced_round_has_the_bits_of_the_eager_one(method, variant):
    run = Run("ring", **small | variants[variant] | method)
    follow(run, traced(run))


def test_numbers_change_without_a_new_trace():
    settings = small | dict(rule="sgd", lr=.05, momentum=.5, weight_decay=.01, early_momentum=.3,
                            clip=("global_norm", .5), normalize=("block_norm", 1.), project=("box", .5),
                            r1=.1, r2=.1, wgan_gp=.1, dragan=.1, l1=.1, noise=.1, lookahead=2, method="consensus",
                            schedule="linear", warmup=3)
    x = torch.randn(40, 2, generator=stream(5))
    settings |= {"data": (x, x.flip(1))} # l1 is for samples that come with arrays
    first = Run("ring", **settings)
    graph = traced(first)
    names = (*seams.numbers_of_a_structure, "lr_gen", "lr_disc", "method_weight")
    changed = {name: getattr(first.recipe, name) for name in names}
    changed = {name: value * 2 if isinstance(value, int) else value / 2 for name, value in changed.items()}
    changed |= dict(clip=("global_norm", .1), normalize=("block_norm", .3), project=("box", .2))
    assert all(changed[name] for name in names) # otherwise a number is not tried
    for name, value in changed.items():
        other = Run("ring", **settings | {name: value})
        assert structure(other.recipe) == structure(first.recipe), name
        follow(other, graph, rounds=4)


def test_what_changes_the_operations_changes_the_structure():
    base = Run("ring", **small).recipe
    for change in (dict(loss="hinge"), dict(method="optimistic"), dict(clip=("value", 1.)), dict(r1=.1),
            dict(momentum=0.), dict(n_disc=2), dict(smoothing=.1), dict(hidden=(4, 4))):
        assert structure(base.replace(**change)) != structure(base), change


@needs_compiler
def test_a_compiled_run_agrees_is_replayed_and_resumed(tmp_path):
    run, eager = Run("ring", compile=True, **adam), Run("ring", **adam)
    follow(eager, compiled(traced(eager)), exact=False)
    run.fit(10, progress=False).edit(lr_gen=5e-4)
    run.fit(5, progress=False).step("disc")
    run.fit(5, progress=False)
    assert [e.changes for e in run.edits if "compiled" in e.changes] == [{"compiled": True}]
    assert_same(run, run.fork())
    assert_same(run.fork(12), run.fork(12))
    run.save(tmp_path/"a.safetensors")
    on = Run.load(tmp_path/"a.safetensors", compile=True).fit(5, progress=False)
    assert_same(run.fit(5, progress=False), on)
    assert_same(run, Run.load(tmp_path/"a.safetensors").fit(5, progress=False)) # as it was, if nothing is said
    off = Run.load(tmp_path/"a.safetensors", compile=False).fit(1, progress=False)
    assert off.edits[-1].changes == {"compiled": False} # eager from here: noted, so that it can be replayed
    assert_same(off, off.fork())


@needs_compiler
def test_many_rounds_in_a_call_have_the_bits_of_single_ones(tmp_path, monkeypatch):
    lengths, asked = [], []
    def play(self, state, n=1, plain=Compiled.play):
        lengths.append(n)
        return plain(self, state, n)
    monkeypatch.setattr(Compiled, "play", play)
    together, alone = (Run("ring", compile=True, folder=folder, **adam) for folder in (tmp_path, None))
    together.step()
    for until, lr in ((33, 5e-4), (160, 2e-3), (230, 1e-3)):
        together.fit(until - together.round, progress=False, metric=lambda run: asked.append(run.round) or 0.,
            every=7).edit(lr=lr)
        while alone.round < until: alone.step()
        alone.edit(lr=lr)
    assert max(lengths) > 3 and asked == [*range(7, 231, 7)]
    assert_same(together, alone)
    assert_same(together.fork(87), alone.fork(87))
    a, b = (run.records.table().copy() for run in (together, alone))
    a[:, 1] = b[:, 1] = 0 # seconds
    np.testing.assert_array_equal(a, b)
    assert together.records.last.round == 230 and (np.diff(together.records["seconds"]) > 0).all()


@needs_compiler
def test_compiled_on_the_command_line(tmp_path, capsys):
    from gan_nb.cli import main
    words = [word for name, value in (adam | dict(hidden="8 8")).items() if name != "rounds" for word in ("--set", f"{name}={value}")]
    assert main(["train", "ring", "--rounds", "20", "--out", str(tmp_path/"whole"), "--compile", *words]) == 0
    assert main(["train", "ring", "--rounds", "20", "--out", str(tmp_path/"plain"), *words]) == 0
    assert main(["resume", str(tmp_path/"whole"), "--rounds", "5"]) == 0
    assert main(["resume", str(tmp_path/"plain"), "--rounds", "5", "--compile"]) == 0
    assert main(["resume", str(tmp_path/"whole"), "--rounds", "5", "--no-compile"]) == 0
    switches = lambda name: [(e.round, e.changes["compiled"]) for e in Run.load(tmp_path/name).edits
        if "compiled" in e.changes]
    assert (switches("whole"), switches("plain")) == ([(0, True), (25, False)], [(20, True)])


@at_length
@needs_compiler
def test_compiled_behind_the_running_loop():
    run = Run("ring", seed=3, compile="background", **adam | dict(hidden=(8, 7)))
    while not any("compiled" in e.changes for e in run.edits) and run.round < 200_000: run.step()
    switch = next(e for e in run.edits if "compiled" in e.changes)
    assert switch.changes == {"compiled": True} and switch.round == run.round - 1 > 0
    run.fit(5, progress=False)
    assert_same(run, run.fork())


@needs_compiler
def test_divergence_in_a_compiled_round_is_recorded_as_in_an_eager_one():
    from gan_nb.core import Diverged
    settings = adam | dict(lr=1e25)
    said = []
    for compile in (True, False):
        run = Run("ring", compile=compile, **settings)
        with pytest.raises(Diverged) as error: run.fit(50, progress=False)
        said.append((error.value.round, error.value.player, error.value.layer))
    assert said[0] == said[1]


def test_without_a_compiler_there_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path)) # what was compiled before would be found
    seams.compile_here(monkeypatch)
    monkeypatch.setattr("gan_nb.compiled.can_compile", lambda device: False)
    seams.nothing_compiled(monkeypatch)
    with pytest.raises(ValueError, match="there is no C.*compile='xla'.*which needs none"): Run("ring", compile=True, **small).step()
    seams.nothing_compiled(monkeypatch)
    run = Run("ring", compile="background", **small)
    with pytest.warns(UserWarning, match="training goes on eagerly") as told:
        while not told and run.round < 50_000: run.fit(200, progress=False) # the thread that compiles may come late
    assert run.round >= 200
    with pytest.raises(ValueError, match="compile: 'yes' came"): Run("ring", compile="yes", **small)


# Rounds compiled by XLA

needs_xla = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="there is no JAX")
of_each = dict(rule_gen="graft", rule_disc="optimistic_adam", clip_gen=("quantile", .5), clip_disc=("adaptive", .05), project=("ball", 2.),
    normalize_gen=("orthogonal", .2), normalize_disc=("trust_ratio", .1), early_momentum=.3, centralize=True, skip_not_finite=True)
by_xla = {
    "penalties": ("ring", small | dict(hidden=(8,), loss="hinge", rule="adam", r1=.1, wgan_gp=.1, noise=.1, spectral=True, pack=2, lookahead=2)),
    "transforms": ("ring", small | of_each | dict(hidden=(8,), method="optimistic", momentum=.5, schedule="cosine", warmup=3)),
    "pictures": ("dcgan", dict(width=4, batch_size=4, device="cpu", precision="float32")),
    "classes": ("digits-by-class", dict(width=4, batch_size=8, device="cpu"))}


@needs_xla
@pytest.mark.parametrize("name", by_xla)
def test_a_round_by_xla_agrees(name):
    of, settings = by_xla[name]
    run = Run(of, **settings)
    xla = Jitted(run.experiment, run.state)
    after, rows, finite = xla.play(run.state, 3)
    for row in rows: torch.testing.assert_close(row, row_of(run.step()), rtol=2e-4, atol=2e-6, equal_nan=True)
    assert finite.all() and (after.round, after.moves) == (3, 3)
    for now, before in zip(listed(tensors(after)), listed(tensors(run.state)), strict=True):
        torch.testing.assert_close(now, before, rtol=2e-4, atol=5e-6, equal_nan=True)


@needs_xla
def test_a_run_by_xla_goes_on_by_xla_with_the_same_bits(tmp_path):
    run = Run("ring", compile="xla", **adam)
    run.fit(10, progress=False).edit(lr_gen=5e-4)
    run.fit(60, progress=False).step("disc")
    run.fit(5, progress=False)
    assert [e.changes for e in run.edits if "compiled" in e.changes] == [{"compiled": "xla"}]
    assert_same(run, run.fork())
    assert_same(run.fork(12), run.fork(12))
    run.save(tmp_path/"a.safetensors")
    on = Run.load(tmp_path/"a.safetensors")
    assert on.compile == "xla"
    assert_same(run.fit(5, progress=False), on.fit(5, progress=False))
    assert Run.load(tmp_path/"a.safetensors", compile=False).fit(1, progress=False).edits[-1].changes == {"compiled": False}
    assert "run.compile = 'xla'" in run.code()
    elsewhere = f"""
import sys
from gan_nb import Run
Run.load(sys.argv[1]).fit(5, progress=False).save(sys.argv[2])
import jax
assert not jax.config.jax_enable_x64
"""
    subprocess.run([sys.executable, "-c", elsewhere, tmp_path/"a.safetensors", tmp_path/"b.safetensors"], check=True)
    assert_same(run, Run.load(tmp_path/"b.safetensors"))


@needs_xla
def test_by_xla_on_the_command_line_and_as_a_population(tmp_path):
    from gan_nb.cli import main
    words = [word for name, value in (adam | dict(hidden="8 8")).items() if name != "rounds" for word in ("--set", f"{name}={value}")]
    assert main(["train", "ring", "--rounds", "5", "--out", str(tmp_path/"run"), "--xla", *words]) == 0
    assert main(["resume", str(tmp_path/"run"), "--rounds", "5"]) == 0
    assert [(e.round, e.changes["compiled"]) for e in Run.load(tmp_path/"run").edits if "compiled" in e.changes] == [(0, "xla")]
    several = dict(seeds=2, grid={"lr": [.01, .1]}, **plain)
    a, b = (Population("ring", compile=compile, **several).fit(5) for compile in ("xla", False))
    for i in range(4): np.testing.assert_allclose(a.records(i)["loss_disc"], b.records(i)["loss_disc"], rtol=1e-4)


def test_what_xla_cannot_do_is_one_clear_line(monkeypatch):
    def said():
        with pytest.raises(ValueError) as error: Run("ring", compile="xla", **small).step()
        assert "\n" not in str(error.value)
        return str(error.value)
    seams.nothing_compiled(monkeypatch)
    run = Run("ring", compile="xla", shards=2, **small)
    with pytest.raises(ValueError, match="several processes are compiled by compile=True"): run.processes = 2
    assert run.processes == 1
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "jax", None)
        assert "JAX is not installed; pip install 'gan_nb[xla]' brings it" in said()
    pytest.importorskip("jax")
    seams.nothing_compiled(monkeypatch)
    monkeypatch.setattr("gan_nb.xla._table", lambda: {})
    assert "no entry for the operation aten." in (line := said()) and "compile=True (C++) or eager rounds can play it" in line


# Captured rounds

def again(fn, generators):
    "In the place of a CUDA graph: what is replayed is called."
    for _ in range(3): fn()
    return fn


@pytest.mark.parametrize("variant", variants)
@each_method
def test_captured_rounds_have_the_bits_of_eager_ones_also_after_an_edit(method, variant):
    run = Run("ring", **small | variants[variant] | method)
    captured = Captured(run.experiment, run.state, capture=again, round=as_function(run.experiment, run.state))
    for change in ({}, {"lr": 3e-3}, {"r1": .7} if run.recipe.r1 else {},
            {"noise": .3, "wgan_gp": .2} if run.recipe.noise else {}):
        if change: run.edit(**change)
        after, rows, fine = captured.bind(run.experiment).play(run.state, 3)
        records = [row_of(run.step()) for _ in range(3)]
        assert fine.all()
        for now, before in zip((*listed(tensors(after)), *rows), (*listed(tensors(run.state)), *records)):
            assert torch.equal(now.nan_to_num(), before.nan_to_num())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_method
def test_captured_on_a_gpu(method):
    settings = adam | dict(noise=.1, device="cuda") | method
    fast, eager = Run("ring", compile=True, **settings), Run("ring", **settings)
    for run in (fast, eager): run.fit(30, progress=False).edit(lr_gen=5e-4, r1=.3, noise=.2)
    kept = dict(seams.compiled_rounds())
    for run in (fast, eager): run.fit(30, progress=False)
    assert seams.compiled_rounds() == kept # no new capture for numbers
    np.testing.assert_allclose(fast.records["loss_disc"], eager.records["loss_disc"], rtol=1e-2, atol=1e-3)
    assert_same(fast, fast.fork(60))


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=needs_compiler)])
def test_a_finished_run_leaves_the_memory_at_once(compile):
    gc.disable() # circles would wait for it, and it hardly comes: a state is few objects and many bytes
    try:
        run = Run("ring", compile=compile, **adam).fit(60, progress=False)
        gone = [weakref.ref(run), weakref.ref(run.game)]
        del run
        assert [g() for g in gone] == [None, None]
    finally: gc.enable()


def is_compiled(run):
    return next((e.changes["compiled"] for e in reversed(run.edits) if "compiled" in e.changes), False)


@at_length
@needs_compiler
def test_runs_of_different_structures_compile_at_the_same_time():
    runs = [Run("ring", compile="background", **plain | dict(loss=loss, hidden=(6, 5)))
        for loss in ("hinge", "r3", "wasserstein")]
    for run in runs: run.step()
    runs[0].edit(loss="least_squares") # while the first is still being compiled
    for run in runs:
        run.step()
        while run.compile and not is_compiled(run):
            time.sleep(.05) # or the compilers wait for the steps
            run.step()
        assert is_compiled(run)


def test_what_cannot_be_compiled_is_tried_again_and_holds_nobody(monkeypatch, tmp_path):
    def fail(*args): raise AssertionError
    settings = plain | dict(hidden=(5, 6))
    with monkeypatch.context() as patch:
        seams.compile_here(patch)
        patch.setattr("gan_nb.compiled.compiled", fail)
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path)) # nothing is found there
        with pytest.raises(ValueError, match="cannot be compiled here: AssertionError"):
            Run("ring", compile=True, **settings).step()
        run = Run("ring", compile="background", **settings)
        with pytest.warns(UserWarning, match="not compiled, training goes on eagerly: AssertionError"):
            while run.compile: run.step()
        gone = weakref.ref(run)
        del run
        gc.collect()
        assert gone() is None
    if can_compile("cpu"): Run("ring", compile=True, **settings).step()


@needs_compiler
def test_the_next_process_finds_a_round_without_the_compiler_and_plays_the_same_bits(tmp_path):
    code = f"""
import sys
from gan_nb import Run
Run("ring", compile=True, **{adam!r}).fit(12, progress=False).save(sys.argv[1])
print("torch._inductor" in sys.modules)
"""
    def play(name): # the first may compile, the second finds what it kept
        return subprocess.run([sys.executable, "-c", code, tmp_path/name], capture_output=True, text=True, check=True).stdout
    play("a.safetensors")
    assert play("b.safetensors").strip() == "False"
    first, second = (Run.load(tmp_path/name) for name in ("a.safetensors", "b.safetensors"))
    assert_same(first, second)
    assert_same(first, Run("ring", compile=True, **adam).fit(12, progress=False))


@needs_compiler
def test_what_a_function_holds_itself_is_handed_to_its_library(tmp_path):
    code = """
import torch
from gan_nb.compiled import Graph, recalled
held = torch.linspace(0, 1, 64)
def fn(x): return [x * held]
x = torch.ones(64)
for shift in (0, 0, 1):
    held += shift
    assert recalled(fn, x, trace=lambda: Graph(fn, x))(x)[0].equal(held)
"""
    for _ in range(2): # in a process of its own: a library that reads what it was not given may end it
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)})
        assert done.returncode == 0, done.stderr


@needs_compiler
def test_a_fork_of_a_run_that_went_on_eagerly_is_eager(tmp_path):
    Run("ring", compile=True, **adam).fit(15, progress=False).save(tmp_path/"a.safetensors")
    off = Run.load(tmp_path/"a.safetensors", compile=False)
    for _ in range(2):
        fork = off.fork()
        for run in (off, fork): run.fit(10, progress=False)
        assert_same(off, fork)


# Short numbers

@each_method
def test_every_method_plays_in_bf16(method):
    settings = small | variants["adam, r1 and r2"] | method
    runs = [Run("ring", precision=precision, **settings).fit(5, progress=False) for precision in ("bf16", "float32")]
    losses = [run.records["loss_disc"] for run in runs]
    np.testing.assert_allclose(*losses, rtol=.02)
    assert not np.array_equal(*losses)


def test_convolutions_in_bf16_and_what_is_kept_of_it(tmp_path):
    settings = dict(width=8, batch_size=8, device="cpu")
    run, exact = (Run("dcgan", precision=precision, **settings).fit(4, progress=False)
        for precision in ("bf16", "float32"))
    np.testing.assert_allclose(run.records["loss_disc"], exact.records["loss_disc"], rtol=.05)
    assert all(t.dtype == torch.float32 and t.is_contiguous() for t in listed(run.state.params))
    assert run.samples(2).dtype == torch.float32
    run.save(tmp_path)
    on = Run.load(tmp_path, device="cpu").fit(2, progress=False)
    assert on.recipe.precision == "bf16"
    assert_same(run.fit(2, progress=False), on)
    with pytest.raises(ValueError, match="cannot change while a run is under way"): run.edit(precision="float32")
    with pytest.raises(ValueError, match="precision: 'fp16' is unknown"): Run("ring", precision="fp16")


@needs_compiler
def test_bf16_compiles():
    a, b = (Run("ring", precision="bf16", compile=compile,
        **adam).fit(5, progress=False) for compile in (True, False))
    np.testing.assert_allclose(a.records["loss_disc"], b.records["loss_disc"], rtol=.01)
