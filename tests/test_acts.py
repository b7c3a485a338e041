"What is done to a run by hand: edits while a slider is dragged, and the way back. The bits are those of a run without what was undone."
import threading

import numpy as np
import pytest

from gan_nb import Run
from gan_nb.acts import drags, most_acts
from gan_nb.history import Edit, share_clipped
from helpers import adam, assert_same, csv_of, same_run, small

ring = dict(small, threads=1)


def a_run(rounds=20, seed=3, **settings):
    return Run("ring", seed=seed, **{**ring, **settings}).fit(rounds, progress=False)


def drag(run, *values, name="lr_disc"):
    for value in values: run.edit(**{name: value})


def columns_but_seconds(run): return np.delete(run.records.table(), 1, axis=1)


# Dragging

def test_of_a_drag_between_two_moves_the_last_value_is_left():
    dragged, once = a_run(), a_run()
    drag(dragged, .5, .002, .1, .004)
    once.edit(lr_disc=.004)
    assert dragged.edits == once.edits and len(dragged.edits) == 1
    for run in (dragged, once): run.fit(60, progress=False)
    assert same_run(dragged, once)


@pytest.mark.parametrize("changes", [dict(rule="sgd", momentum=0.), dict(method="optimistic"), dict(lookahead=3),
                                     dict(clip=("quantile", .5)), dict(rule="rmsprop"), dict(batch_size=5)])
def test_a_value_that_was_there_before_leaves_nothing_even_where_a_memory_would_have_been_lost(changes):
    dragged, untouched = a_run(), a_run()
    before = {name: getattr(dragged.recipe, name) for name in dragged.recipe.replace(**changes).settings()}
    dragged.edit(**changes)
    assert dragged.recipe != untouched.recipe
    names = {name for edit in dragged.edits for name in edit.changes}
    dragged.edit(**{name: before[name] for name in names})
    assert dragged.edits == [] and dragged.back() == ""
    for run in (dragged, untouched): run.fit(10, progress=False)
    assert same_run(dragged, untouched)


def test_every_value_that_a_round_was_played_with_is_in_the_log_and_is_replayed(tmp_path):
    run = a_run()
    for k in range(12):
        drag(run, *(.001 + .0001 * i for i in range(k, k + 3)))
        run.edit(noise=.01 * k) if k % 4 == 0 else None
        run.fit(1 if k % 3 else 2, progress=False)
    assert [e.changes["lr_disc"] for e in run.edits if "lr_disc" in e.changes] == [.001 + .0001 * (k + 2) for k in range(12)]
    assert same_run(run.fork(), run), "a fork replays them"
    assert same_run(run.fork(round=30), run.fork().fork(round=30))
    run.save(tmp_path/"run")
    loaded = Run.load(tmp_path/"run", device="cpu", threads=1)
    for one in (run, loaded): one.fit(40, progress=False)
    assert same_run(loaded, run) and loaded.edits == run.edits


def test_an_edit_at_the_move_that_was_saved_is_beside_those_that_were_read(tmp_path):
    run = a_run()
    run.edit(rule="sgd", momentum=0.)
    run.save(tmp_path/"run")
    loaded = Run.load(tmp_path/"run", device="cpu", threads=1)
    loaded.edit(rule="adam", momentum=.5) # Adam's moments are gone in the file
    assert len(loaded.edits) == 2
    loaded.fit(5, progress=False)
    assert same_run(loaded.fork(), loaded), "replayed as it was, not as if it had been dragged"
    fork = loaded.fork(round=loaded.round - 5)
    assert fork.edits == loaded.edits


def test_a_refused_value_leaves_the_drag_as_it_was():
    run = a_run()
    drag(run, .002, .003)
    state, edits = run.state, run.edits
    with pytest.raises(ValueError, match="lr_disc"): run.edit(lr_disc=-1.)
    with pytest.raises(ValueError, match="cannot change"): run.edit(lr_disc=.1, z_dim=5)
    assert run.state is state and run.edits == edits


def test_a_divergence_is_of_the_settings_it_was_seen_with():
    run = a_run(5, rule="sgd", momentum=0.)
    run.edit(lr=1e30)
    with pytest.raises(Exception, match="finite"): run.fit(20, progress=False)
    assert run.divergence and run.state.moves == run.edits[-1].moves
    run.edit(lr=1e-4)
    assert run.divergence is None and len(run.edits) == 1
    run.fit(5, progress=False)
    assert same_run(run.fork(), run)


def test_the_forks_points_know_nothing_of_an_edit_that_was_replaced():
    run = a_run(50, rule="sgd", momentum=0.)
    run.edit(lr=1e30)
    with pytest.raises(Exception, match="finite"): run.step() # round 50 is a kept point
    run.edit(lr=.01)
    run.fit(3, progress=False)
    assert [e.changes["lr_gen"] for e in run.edits] == [.01]
    assert same_run(run.fork(), run) and same_run(run.fork(round=50), run.fork(round=50))
    assert run.fork(round=50).fit(3, progress=False).recipe.lr_gen == run.recipe.lr_gen


def test_numbers_alone_do_not_make_an_engine_anew():
    run = Run("ring", compile=True, **adam).fit(5, progress=False)
    program = run._engine()
    drag(run, .002, .003)
    assert run._engine().graph is program.graph and run._engine().experiment is run.experiment
    run.fit(5, progress=False)
    assert [e.changes for e in run.edits] == [{"compiled": True}, {"lr_disc": .003}]


# What a log shows

def test_a_log_shows_a_drag_as_one_line():
    run = a_run(120)
    for i in range(61): run.edit(lr_disc=.001 + (.002 / 60) * i + 1e-9); run.step()
    run.step("gen")
    assert [d.in_words() for d in drags(run.edits, run.start_recipe)] == [
        "lr_disc 0.001 → 0.003, rounds 120 to 180", "one step of the generator, round 181"]
    assert len(run.edits) == 62


def test_values_that_the_players_do_not_share_are_told_apart():
    start = a_run(1).recipe
    both = [Edit(1, 1, dict(lr_gen=.5)), Edit(300, 300, dict(lr_gen=.1, lr_disc=.1))]
    assert drags(both, start)[1].in_words() == "lr_gen 0.5 → 0.1, lr_disc 0.001 → 0.1, round 300"


# Back

ACTS = {"edit": lambda run: run.edit(lr=.02), "drag": lambda run: drag(run, .002, .003, .004), "reset": lambda run: run.reset(),
        "disc": lambda run: run.step("disc"), "gen": lambda run: run.step("gen"),
        "remedy": lambda run: run.edit(rule="sgd", momentum=.5, normalize=("orthogonal", 1.), schedule="linear")}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("since", [0, 7, 70])
def test_back_gives_the_run_that_there_was(act, since):
    run, untouched = a_run(60), a_run(60)
    ACTS[act](run)
    run.fit(since, progress=False)
    assert run.back()
    assert same_run(run, untouched)
    for one in (run, untouched): one.fit(70, progress=False)
    assert same_run(run, untouched) and (run.back(), untouched.back()) == ("", "")
    for one in (run, untouched): one.edit(lr_gen=.03); one.step()
    assert same_run(run.fork(), untouched.fork())


def test_acts_are_undone_one_by_one():
    run, at = a_run(20), []
    for act in ("edit", "gen", "reset", "remedy"):
        at.append((run.state, run.edits, run.recipe))
        ACTS[act](run)
        run.fit(5, progress=False)
    said = []
    while at:
        said.append(run.back())
        assert (run.state, run.edits, run.recipe) == at.pop() and len(run.records) == run.state.moves
    assert said[1:] == ["reset, round 30", "one step of the generator, round 25", "lr 0.001 → 0.02, round 20"] and run.back() == ""


def test_a_drag_that_goes_on_while_rounds_are_played_is_one_act():
    run, untouched = a_run(20), a_run(20)
    for i in range(30): run.edit(lr_gen=.002 + i / 1e4); run.step()
    assert run.back() == "lr_gen 0.001 → 0.0049, rounds 20 to 49" and same_run(run, untouched)


def test_going_back_and_dragging_on_replaces_the_edit_that_is_left():
    run, once = a_run(20), a_run(20)
    run.edit(lr_gen=.002); run.edit(noise=.1)
    assert run.back() == "noise 0 → 0.1, round 20"
    run.edit(lr_gen=.004); once.edit(lr_gen=.004)
    for one in (run, once): one.fit(5, progress=False)
    assert same_run(run, once) and len(run.edits) == 1


def test_a_fork_and_a_loaded_run_have_nothing_to_go_back_to(tmp_path):
    run = a_run(20)
    run.edit(lr=.02); run.step("gen"); run.fit(60, progress=False)
    assert run.fork().back() == "" and run.fork(lr=.5).back() == "lr 0.02 → 0.5, round 80"
    run.save(tmp_path/"run")
    assert Run.load(tmp_path/"run", device="cpu", threads=1, rounds=10**6).back() == ""


def test_a_few_acts_are_remembered():
    run = a_run(5)
    for i in range(40): run.step("gen")
    assert sum(bool(run.back()) for _ in range(60)) == most_acts and run.state.moves == 45 - most_acts


@pytest.mark.parametrize("save_between", [False, True])
@pytest.mark.parametrize("act", ["edit", "gen", "reset"])
def test_a_folder_holds_the_run_that_was_gone_back_to(tmp_path, act, save_between):
    run = Run("ring", seed=3, folder=tmp_path/"run", **ring).fit(30, progress=False)
    ACTS[act](run)
    if save_between: run.fit(25, progress=False)
    else: [run.step() for _ in range(25)]
    assert run.back()
    run.fit(10, progress=False)
    whole = Run("ring", seed=3, folder=tmp_path/"whole", **ring).fit(30, progress=False).fit(10, progress=False)
    assert csv_of(tmp_path/"run") == csv_of(tmp_path/"whole")
    loaded = Run.load(tmp_path/"run", device="cpu", threads=1)
    assert same_run(loaded, whole) and not list(tmp_path.glob("run/*damaged*"))
    assert csv_of(tmp_path/"run") == csv_of(tmp_path/"whole")


def test_the_notes_of_compiled_rounds_are_those_of_then():
    run = a_run(10)
    run.edit(lr=.02)
    run.compile = True
    run.fit(5, progress=False)
    assert run.history.was_compiled
    run.back()
    assert not run.history.was_compiled and run.edits == []
    run.step()
    assert run.edits == [Edit(10, 10, {"compiled": True})]


def test_going_back_while_it_is_played():
    run, done = a_run(20), threading.Event()
    def play():
        while not done.is_set(): run.several(5)
    player = threading.Thread(target=play)
    player.start()
    try:
        for _ in range(20): run.edit(lr_gen=.02); run.edit(noise=.1); assert run.back() and run.back()
    finally:
        done.set(); player.join()
    assert run.edits == [] and len(run.records) == run.state.moves
    assert same_run(run, a_run(run.round))


# The present clip

def test_the_share_of_clipped_steps_is_that_of_the_present_clip():
    run = a_run(10, clip_gen=("global_norm", 1e-9))
    assert (share_clipped(run.history, "gen"), share_clipped(run.history, "disc")) == (1., None)
    run.edit(lr_disc=.01); run.step()
    assert share_clipped(run.history, "gen") == 1.
    run.edit(clip_gen=("global_norm", 1e9))
    assert share_clipped(run.history, "gen") is None
    run.step("disc")
    assert share_clipped(run.history, "gen") is None, "the generator has not stepped since"
    run.step()
    assert share_clipped(run.history, "gen") == 0.
    run.back(), run.back()
    assert share_clipped(run.history, "gen") == 1.
    run.edit(clip_gen=None)
    assert share_clipped(run.history, "gen") is None
