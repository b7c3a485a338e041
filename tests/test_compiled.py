"""The same step three ways: traced, compiled and mapped over many runs equal the eager one."""
import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from gan_nb import Run
from gan_nb.compiled import Graph, can_compile, compiled, listed
from gan_nb.games import draw
from gan_nb.population import Population
from gan_nb.recipes import methods
from gan_nb.rounds import CapturedRounds, _numbers, round_of, structure, tensors
from gan_nb.studies import heat_map

small = dict(hidden=(8, 8), z_dim=2, batch_size=16, rounds=100, device="cpu", halflife=5.)
variants = {
    "sgd, clipped": dict(rule="sgd", lr=.05, clip=("global_norm", .5)),
    "momentum, unit rms": dict(rule="sgd", lr=.01, momentum=.5, normalize=("block_rms", 1.), schedule="linear"),
    "adam, r1 and r2": dict(rule="adam", lr=1e-3, momentum=.5, clip=None, loss="r3", r1=.1, r2=.1),
    "orthogonal, wgan_gp": dict(rule="sgd", lr=.02, normalize=("orthogonal", 1.), loss="wasserstein", wgan_gp=.5, noise=.1)}
every_method = [*({"method": m} for m in methods), {"lookahead": 2}]


def traced(run): return Graph(round_of(run.game, run.method, run.average, run.state), tensors(run.state), draw(run.game, run.method, run.state))


def follow(run, graph, rounds=3, exact=True):
    "Play rounds eagerly and by the graph, each from the eager state."
    for _ in range(rounds):
        tree, row, fine = graph(tensors(run.state), draw(run.game, run.method, run.state))
        record = run.step()
        assert fine
        for (now, before) in zip(listed((tree, row)), listed((tensors(run.state), record._values))):
            if exact: assert torch.equal(now.nan_to_num(), before.nan_to_num())
            else: torch.testing.assert_close(now, before, rtol=2e-4, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize("variant", variants)
@pytest.mark.parametrize("method", every_method, ids=lambda m: "-".join(map(str, m.values())))
def test_a_traced_round_has_the_bits_of_the_eager_one(method, variant):
    run = Run("ring", **small | variants[variant] | method)
    follow(run, traced(run))


def test_numbers_change_without_a_new_trace():
    settings = small | dict(rule="sgd", lr=.05, momentum=.5, weight_decay=.01, early_momentum=.3, clip=("global_norm", .5), normalize=("block_norm", 1.), project=("box", .5),
                            r1=.1, r2=.1, wgan_gp=.1, dragan=.1, noise=.1, lookahead=2, method="consensus", schedule="linear", warmup=3)
    first = Run("ring", **settings)
    graph = traced(first)
    names = (*_numbers, "lr_gen", "lr_disc", "method_weight")
    changed = {name: getattr(first.recipe, name) for name in names}
    changed = {name: value * 2 if isinstance(value, int) else value / 2 for name, value in changed.items()} | dict(clip=("global_norm", .1), normalize=("block_norm", .3), project=("box", .2))
    assert all(changed[name] for name in names) # otherwise a number is not tried
    for name, value in changed.items():
        other = Run("ring", **settings | {name: value})
        assert structure(other.recipe) == structure(first.recipe), name
        follow(other, graph, rounds=4)


def test_what_changes_the_operations_changes_the_structure():
    base = Run("ring", **small).recipe
    for change in (dict(loss="hinge"), dict(method="optimistic"), dict(clip=("value", 1.)), dict(r1=.1), dict(momentum=0.), dict(n_disc=2), dict(smoothing=.1), dict(hidden=(4, 4))):
        assert structure(base.replace(**change)) != structure(base), change


needs_compiler = pytest.mark.skipif(not can_compile("cpu"), reason="there is no C++ compiler")


@needs_compiler
def test_a_compiled_run_agrees_is_replayed_and_resumed(tmp_path):
    settings = small | dict(rule="adam", lr=1e-3, momentum=.5, r1=.1)
    run, eager = Run("ring", compile=True, **settings), Run("ring", **settings)
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
def test_many_rounds_in_a_call_have_the_bits_of_single_ones(tmp_path):
    from gan_nb.rounds import CompiledRounds
    settings, lengths = small | dict(rule="adam", lr=1e-3, momentum=.5, r1=.1), []
    def play(self, game, method, state, n=1):
        lengths.append(n)
        return CompiledRounds.play(self, game, method, state, n)
    together, alone, asked = Run("ring", compile=True, folder=tmp_path, **settings), Run("ring", compile=True, **settings), []
    together.step()
    together._fast.play, until = play.__get__(together._fast), 0
    for until, lr in ((33, 5e-4), (160, 2e-3), (230, 1e-3)):
        together.fit(until - together.round, progress=False, metric=lambda run: asked.append(run.round) or 0., every=7).edit(lr=lr)
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
    words = ["--set", "hidden=6 7", "--set", "batch_size=8"]
    assert main(["train", "ring", "--rounds", "20", "--out", str(tmp_path/"whole"), "--compile", *words]) == 0
    assert main(["train", "ring", "--rounds", "20", "--out", str(tmp_path/"plain"), *words]) == 0
    assert main(["resume", str(tmp_path/"whole"), "--rounds", "5"]) == 0
    assert main(["resume", str(tmp_path/"plain"), "--rounds", "5", "--compile"]) == 0
    assert main(["resume", str(tmp_path/"whole"), "--rounds", "5", "--no-compile"]) == 0
    switches = lambda name: [(e.round, e.changes["compiled"]) for e in Run.load(tmp_path/name).edits if "compiled" in e.changes]
    assert (switches("whole"), switches("plain")) == ([(0, True), (25, False)], [(20, True)])


@needs_compiler
def test_compiled_behind_the_running_loop():
    run = Run("ring", seed=3, compile="background", **small | dict(rule="adam", lr=1e-3, momentum=.5, r1=.1, hidden=(8, 7)))
    while not any("compiled" in e.changes for e in run.edits) and run.round < 200_000: run.step()
    switch = next(e for e in run.edits if "compiled" in e.changes)
    assert switch.changes == {"compiled": True} and switch.round == run.round - 1 > 0
    run.fit(5, progress=False)
    assert_same(run, run.fork())


@needs_compiler
def test_divergence_in_a_compiled_round_is_recorded_as_in_an_eager_one():
    from gan_nb.core import Diverged
    settings = small | dict(rule="sgd", lr=1e25, clip=None, momentum=0.)
    said = []
    for compile in (True, False):
        run = Run("ring", compile=compile, **settings)
        with pytest.raises(Diverged) as error: run.fit(50, progress=False)
        said.append((error.value.round, error.value.player, error.value.layer))
    assert said[0] == said[1]


def test_without_a_compiler_there_is_one_clear_line(monkeypatch):
    import gan_nb.rounds
    monkeypatch.setattr("gan_nb.compiled.can_compile", lambda device: False)
    gan_nb.rounds._rounds.clear()
    with pytest.raises(ValueError, match="there is no C"): Run("ring", compile=True, **small).step()
    gan_nb.rounds._rounds.clear()
    run = Run("ring", compile="background", **small)
    with pytest.warns(UserWarning, match="training goes on eagerly"): run.fit(200, progress=False)
    assert run.round == 200
    with pytest.raises(ValueError, match="compile: 'yes' came"): Run("ring", compile="yes", **small)


# Captured rounds and short numbers

def again(fn, generators):
    "In the place of a CUDA graph: what is replayed is called."
    for _ in range(3): fn()
    return fn


@pytest.mark.parametrize("variant", variants)
@pytest.mark.parametrize("method", every_method, ids=lambda m: "-".join(map(str, m.values())))
def test_captured_rounds_have_the_bits_of_eager_ones_also_after_an_edit(method, variant):
    run = Run("ring", **small | variants[variant] | method)
    rounds = CapturedRounds(run.game, run.method, run.average, run.state, capture=again, round=round_of(run.game, run.method, run.average, run.state))
    for change in ({}, {"lr": 3e-3}, {"r1": .7} if run.recipe.r1 else {}, {"noise": .3, "wgan_gp": .2} if run.recipe.noise else {}):
        if change: run.edit(**change)
        tree, rows, fine = rounds.play(run.game, run.method, run.state, 3)
        records = [run.step()._values for _ in range(3)]
        assert fine.all()
        for now, before in zip((*listed(tree), *rows), (*listed(tensors(run.state)), *records)): assert torch.equal(now.nan_to_num(), before.nan_to_num())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", every_method, ids=lambda m: "-".join(map(str, m.values())))
def test_captured_on_a_gpu(method):
    settings = small | dict(rule="adam", lr=1e-3, momentum=.5, r1=.1, noise=.1, device="cuda") | method
    fast, eager = Run("ring", compile=True, **settings), Run("ring", **settings)
    for run in (fast, eager): run.fit(30, progress=False).edit(lr_gen=5e-4, r1=.3, noise=.2)
    kept = dict(gan_nb_rounds())
    for run in (fast, eager): run.fit(30, progress=False)
    assert gan_nb_rounds() == kept # no new capture for numbers
    np.testing.assert_allclose(fast.records["loss_disc"], eager.records["loss_disc"], rtol=1e-2, atol=1e-3)
    assert_same(fast, fast.fork(60))


def gan_nb_rounds():
    import gan_nb.rounds
    return gan_nb.rounds._rounds


@pytest.mark.parametrize("method", every_method, ids=lambda m: "-".join(map(str, m.values())))
def test_every_method_plays_in_bf16(method):
    losses = [Run("ring", precision=precision, **small | variants["adam, r1 and r2"] | method).fit(5, progress=False).records["loss_disc"] for precision in ("bf16", "float32")]
    np.testing.assert_allclose(*losses, rtol=.02)
    assert not np.array_equal(*losses)


def test_convolutions_in_bf16_and_what_is_kept_of_it(tmp_path):
    settings = dict(width=8, batch_size=8, device="cpu")
    run, exact = (Run("dcgan", precision=precision, **settings).fit(4, progress=False) for precision in ("bf16", "float32"))
    np.testing.assert_allclose(run.records["loss_disc"], exact.records["loss_disc"], rtol=.05)
    assert all(t.dtype == torch.float32 and t.is_contiguous() for t in listed(run.state.params)) and run.samples(2).dtype == torch.float32
    run.save(tmp_path)
    on = Run.load(tmp_path, device="cpu").fit(2, progress=False)
    assert on.recipe.precision == "bf16"
    assert_same(run.fit(2, progress=False), on)
    with pytest.raises(ValueError, match="cannot change while a run is under way"): run.edit(precision="float32")
    with pytest.raises(ValueError, match="precision: 'fp16' is unknown"): Run("ring", precision="fp16")


@needs_compiler
def test_bf16_compiles():
    a, b = (Run("ring", precision="bf16", compile=compile, **small | dict(rule="adam", lr=1e-3, momentum=.5, r1=.1)).fit(5, progress=False) for compile in (True, False))
    np.testing.assert_allclose(a.records["loss_disc"], b.records["loss_disc"], rtol=.01)


def assert_same(a, b):
    assert a.edits == b.edits and (a.round, a.state.moves) == (b.round, b.state.moves)
    for x, y in zip(listed(tensors(a.state)), listed(tensors(b.state)), strict=True): assert torch.equal(x, y)


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=needs_compiler)])
def test_a_finished_run_leaves_the_memory_at_once(compile):
    gc.disable() # circles would wait for it, and it hardly comes: a state is few objects and many bytes
    try:
        run = Run("ring", compile=compile, **small | dict(rule="adam", lr=1e-3, momentum=.5, r1=.1)).fit(60, progress=False)
        gone = [weakref.ref(run), weakref.ref(run.game)]
        del run
        assert [g() for g in gone] == [None, None]
    finally: gc.enable()


# Populations

@pytest.mark.parametrize("variant", ["sgd, clipped", "adam, r1 and r2"])
@pytest.mark.parametrize("method", every_method, ids=lambda m: "-".join(map(str, m.values())))
def test_each_member_is_the_single_run(method, variant):
    settings = small | variants[variant] | method
    lr = settings.pop("lr")
    many = Population("ring", seeds=[4, 9], grid={"lr": [lr, lr / 3]}, **settings).fit(4)
    for i, about in enumerate(many.members):
        alone, out = Run("ring", seed=about["seed"], lr=about["lr"], **settings).fit(4, progress=False), many.run(i)
        for name in ("loss_gen", "loss_disc", "grad_norm_gen", "update_norm_disc"):
            np.testing.assert_allclose(out.records[name], alone.records[name], rtol=2e-4, atol=1e-6, equal_nan=True)
        close = dict(rtol=1e-3, atol=2e-4) # orthogonalising magnifies the rounding of directions that hardly occur
        for x, y in zip(listed(tensors(out.state)), listed(tensors(alone.state)), strict=True): torch.testing.assert_close(x, y, **close)
        out.fit(2, progress=False)
        alone.fit(2, progress=False)
        np.testing.assert_allclose(out.records["loss_disc"], alone.records["loss_disc"], rtol=1e-3, atol=1e-5)


def test_populations_refuse_with_a_reason():
    for settings, word in ((dict(grid={"loss": ["hinge", "r3"]}), "loss: 'hinge' and 'r3' came"), (dict(grid={"lr": []}), "empty"), (dict(seeds=0), "seeds"), (dict(seeds=[-1]), "seeds"),
                           (dict(grid={"colour": [1]}), "colour"), (dict(skip_not_finite=True), "skip_not_finite"), (dict(grid={"n_disc": [1, 2]}), "n_disc")):
        with pytest.raises(ValueError, match=word): Population("ring", **small | settings)


def test_a_member_that_diverges_leaves_the_others_alone():
    settings = small | dict(rule="sgd", clip=None, momentum=0.)
    many = Population("ring", grid={"lr": [.1, 1e25]}, **settings).fit(12)
    assert many.diverged[0] == -1 and many.diverged[1] >= 0
    gone = many.run(1)
    assert gone.round == many.diverged[1] == len(gone.records) and all(t.isfinite().all() for t in listed(gone.state.params))
    alone = Run("ring", lr=.1, **settings).fit(12, progress=False)
    np.testing.assert_allclose(many.records(0)["loss_disc"], alone.records["loss_disc"], rtol=1e-4)


@needs_compiler
def test_a_compiled_population_agrees():
    settings = small | dict(rule="sgd", clip=("global_norm", .5), halflife=0.)
    a, b = (Population("ring", seeds=3, grid={"lr": [.01, .1]}, compile=compile, **settings).fit(5) for compile in (True, False))
    for i in range(len(a)): np.testing.assert_allclose(a.records(i)["loss_gen"], b.records(i)["loss_gen"], rtol=1e-4)


def test_a_member_remembers_what_its_schedule_does():
    settings = small | dict(rule="sgd", lr=1., clip=("global_norm", .5), momentum=0., schedule="polyak")
    out, alone = Population("ring", seeds=2, **settings).fit(20).run(1), Run("ring", seed=1, **settings).fit(20, progress=False)
    for run in (out, alone): run.fit(10, progress=False)
    np.testing.assert_allclose(out.records["loss_gen"], alone.records["loss_gen"], rtol=1e-4)


def test_a_population_may_be_looked_at_and_played_while_a_panel_plays_it():
    many, over = Population("ring", seeds=3, **small), threading.Event()
    def panel():
        while not over.is_set(): many.fit(1)
    thread = threading.Thread(target=panel)
    thread.start()
    try:
        for _ in range(30):
            out = many.run(2)
            assert out.round == len(out.records) == int(out.state.rules["gen"]["step"])
            many.fit(3)
    finally: over.set(); thread.join()
    assert many.round == len(many.records(0)) == int(many._tree["rules"]["disc"]["step"][0])


def test_a_population_plays_up_to_the_longest_plan():
    many = Population("ring", grid={"rounds": [3, 7]}, schedule="linear", **{k: v for k, v in small.items() if k != "rounds"}).fit()
    assert many.round == 7


@needs_compiler
def test_runs_of_different_structures_compile_at_the_same_time():
    runs = [Run("ring", compile="background", **small | dict(loss=loss, hidden=(6, 5))) for loss in ("hinge", "r3", "wasserstein")]
    for run in runs: run.step()
    runs[0].edit(loss="least_squares") # while the first is still being compiled
    for run in runs:
        while run.compile and run._fast is None: run.step()
        assert run._fast is not None


def test_what_cannot_be_compiled_is_tried_again_and_holds_nobody(monkeypatch):
    import gan_nb.rounds
    def fail(*args): raise AssertionError
    settings = small | dict(hidden=(5, 6))
    with monkeypatch.context() as patch:
        patch.setattr("gan_nb.rounds.compiled", fail)
        with pytest.raises(ValueError, match="cannot be compiled here: AssertionError"): Run("ring", compile=True, **settings).step()
        run = Run("ring", compile="background", **settings)
        with pytest.warns(UserWarning, match="not compiled, training goes on eagerly: AssertionError"):
            while run.compile: run.step()
        gone = weakref.ref(run)
        del run
        gc.collect()
        assert gone() is None
    if can_compile("cpu"): Run("ring", compile=True, **settings).step()


@needs_compiler
def test_a_fork_of_a_run_that_went_on_eagerly_is_eager(tmp_path):
    Run("ring", compile=True, **small).fit(15, progress=False).save(tmp_path/"a.safetensors")
    off = Run.load(tmp_path/"a.safetensors", compile=False)
    for _ in range(2):
        fork = off.fork()
        for run in (off, fork): run.fit(10, progress=False)
        assert_same(off, fork)


@pytest.mark.parametrize("wrong", [dict(grid={"data": ["ring", "grid"]}), dict(grid={"threads": [1, 2]}), dict(seeds=[2**63]), dict(seeds=2.5), dict(grid="lr"), dict(grid={"lr": .1}),
                                   dict(compile="maybe"), dict(nesterov=True, rule="sgd", grid={"momentum": [0., .5]})], ids=str)
def test_populations_refuse_what_single_runs_would(wrong):
    with pytest.raises(ValueError): Population("ring", **small | wrong)


def test_members_are_asked_for_by_number():
    many = Population("ring", grid={"clip": ["global_norm .5", "global_norm 1"], "lr": [0, .1]}, seeds=2, **{**small, "rule": "sgd", "momentum": 0.}).fit(3)
    for wrong in (1.5, "x", True, 8, None):
        for ask in (many.run, many.records):
            with pytest.raises(ValueError, match="member: "): ask(wrong)
    assert many.members[0]["clip"] == ("global_norm", .5) and many.records(-1)["loss_gen"].size == 3
    heat_map(many.table(), "clip", "lr", "loss_gen")
    heat_map(many.table(), "clip", "lr", "diverged")


def test_who_diverged_stays_as_it_was():
    settings = small | dict(rule="sgd", momentum=0., normalize=None, schedule="constant", clip=("global_norm", 1.), loss="wasserstein", lr=1e4)
    many = Population("ring", **settings).fit(30)
    before = many.run(0)
    after = many.fit(20).run(0)
    assert many.diverged[0] >= 0 and before.round == after.round
    for x, y in zip(listed(before.state.params), listed(after.state.params)): assert torch.equal(x, y)


@pytest.mark.parametrize("penalty", ["wgan_gp", "dragan", "r1"])
def test_a_member_without_a_penalty_draws_as_if_nobody_had_one(penalty):
    settings = small | dict(noise=.1, rule="sgd", lr=.05, momentum=0., r1=0., r2=0.)
    many = Population("ring", grid={penalty: [0., .5]}, **settings).fit(6)
    for i, weight in enumerate((0., .5)):
        alone = Run("ring", **settings | {penalty: weight}).fit(6, progress=False)
        np.testing.assert_allclose(many.records(i)["loss_disc"], alone.records["loss_disc"], rtol=1e-4)


def test_a_member_that_was_taken_out_is_its_own_fork():
    out = Population("ring", seeds=2, **small | dict(rule="adam", lr=1e-2, momentum=.5)).fit(60).run(1)
    assert_same(out, out.fork())
    out.fit(5, progress=False)
    assert_same(out, out.fork(63).fit(2, progress=False))
    assert (np.diff(out.records["seconds"]) >= 0).all()


def test_a_population_that_is_stopped_in_a_round_plays_it_again(monkeypatch):
    import gan_nb.population
    settings = small | dict(rule="adam", lr=1e-3, momentum=.5)
    stopped, whole, calls = Population("ring", seeds=2, **settings), Population("ring", seeds=2, **settings).fit(8), []
    cat = torch.cat
    def stop(*args, **kwargs):
        calls.append(None)
        if len(calls) == 3: raise KeyboardInterrupt
        return cat(*args, **kwargs)
    monkeypatch.setattr(gan_nb.population.torch, "cat", stop)
    with pytest.raises(KeyboardInterrupt): stopped.fit(8)
    monkeypatch.undo()
    stopped.fit(8 - stopped.round)
    for a, b in zip(listed(stopped._tree), listed(whole._tree)): assert torch.equal(a, b)
    np.testing.assert_array_equal(stopped.records(0)["loss_gen"], whole.records(0)["loss_gen"])
    assert stopped.trace("loss_gen")[1].shape == (8, 2)
