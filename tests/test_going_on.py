"A run that was saved and goes on, or is forked and replayed, has the bits of one that was never stopped."
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from gan_nb import recipes, Run
from gan_nb.gan import players
from gan_nb.recipes import Recipe
from gan_nb.rules import rules
from gan_nb.transforms import clips, normalizers
from helpers import BOUNDS, csv_of, same_run

small = dict(hidden=(16, 16), batch_size=32, device="cpu")
# What a run may remember: each method, rule and transform, averages, schedules, penalties and places to go back to
GOING_ON = [
    dict(method="alternating", n_disc=2, order="gen_first"), dict(method="simultaneous", average="uniform"),
    dict(method="extragradient", schedule="cosine"), dict(method="past_extragradient", average="tail"),
    dict(method="optimistic", lookahead=4), dict(method="consensus", loss="hinge"),
    dict(method="symplectic", loss="wasserstein"), dict(method="unrolled", unroll=2, rule="adam", momentum=.5),
    *(dict(rule=rule) for rule in rules), *(dict(clip=(kind, BOUNDS[kind])) for kind in clips),
    *(dict(normalize=(kind, 1.), lr=.001) for kind in normalizers), dict(r1=.1, r2=.1, loss="r3", halflife=5),
    dict(wgan_gp=1., dragan=1., noise=.1), dict(pack=2, smoothing=.1), dict(gn=True),
    dict(latent="uniform", hidden_gen=(5,), hidden_disc=(7, 6)),
    dict(spectral=True, project=("ball", 2.)),
    dict(skip_not_finite=True, centralize=True, early_momentum=.5, momentum=.5, nesterov=True, weight_decay=.001,
        warmup=13),
    dict(on_divergence="roll back", lr=2., hidden=(32, 32), batch_size=64, rounds=10_000),
    dict(data="digits", z_dim=4, model="conv", width=4, rule="adam", spectral=True)]
plain = Recipe(data="ring", z_dim=2, batch_size=8, device="cpu", threads=1, rounds=50).replace(lr=.01, hidden=(8,))


def in_a_new_process(code, *words):
    "Run the code, once for each group of runs: a process takes seconds to begin."
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_new_process_goes_on_with_the_same_bits(tmp_path):
    "weights, memories, averages, records and edits, after an edit and a step of one player"
    def rounds(settings): return 3 if settings.get("data") == "digits" else 90 if "on_divergence" in settings else 12
    for i, settings in enumerate(GOING_ON):
        run = Run(plain.replace(**settings), seed=i).fit(rounds(settings), progress=False)
        if "on_divergence" not in settings:
            run.edit(lr=.02)
            run.step("disc")
        run.save(tmp_path/f"{i}")
        run.fit(rounds(settings), progress=False).save(tmp_path/f"{i}-whole")
    code = ("import sys; from gan_nb import Run\nfor at in sys.argv[1:]: place, n = at.rsplit(':', 1); "
            "Run.load(place, device='cpu', threads=1).fit(int(n), progress=False)")
    in_a_new_process(code, *(f"{tmp_path}/{i}:{rounds(settings)}" for i, settings in enumerate(GOING_ON)))
    for i, settings in enumerate(GOING_ON):
        went_on, whole = (Run.load(tmp_path/f"{i}{end}", device="cpu", threads=1) for end in ("", "-whole"))
        assert same_run(went_on, whole), settings
        assert (went_on.rollbacks, went_on.recipe) == (whole.rollbacks, whole.recipe), settings
        assert csv_of(tmp_path/f"{i}") == csv_of(tmp_path/f"{i}-whole"), settings


# Every recipe

known = [name for name in recipes() if "fashion" not in name]
reduced = dict(batch_size=8, hidden=(8,), width=2, device="cpu")


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    "Of each recipe three rounds, and three more in a new process: the folder of what that one saved."
    folder = tmp_path_factory.mktemp("rest")
    for name in known: Run(name, seed=5, **reduced).fit(3, progress=False).save(folder/name)
    code = ("import sys; from gan_nb import Run\nfor at in sys.argv[1:]: r = Run.load(at, device='cpu'); "
            "r.fit(3, progress=False); r.save(at + '.safetensors')")
    in_a_new_process(code, *(folder/name for name in known))
    return folder


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_goes_on_exactly(recipe, tmp_path, rest):
    "run(6) equals run(3), save, a new process, run(3)"
    if "fashion" in recipe: pytest.skip("needs files")
    Run(recipe, seed=5, **reduced).fit(6, progress=False).save(tmp_path/"whole.safetensors")
    one, two = load_file(tmp_path/"whole.safetensors"), load_file(rest/f"{recipe}.safetensors")
    one["records"][:, 1] = two["records"][:, 1] = 0  # seconds differ
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k].nan_to_num(-1), two[k].nan_to_num(-1)) for k in one)


def test_edits_and_single_steps_replay_to_the_same_bits():
    run = Run("ring", seed=2, **small).fit(20, progress=False)
    run.edit(lr_gen=2e-3, clip_disc=("block_norm", 0.1)); run.fit(5, progress=False)
    run.step("disc"); run.step("gen")
    run.edit(rule_gen="sgd", normalize_gen=("global_norm", 1.0)); run.fit(5, progress=False)
    again = run.fork()
    assert again.edits == run.edits and again.round == run.round == 30
    assert all(again.state.params[p][k].equal(v) for p in players for k, v in run.state.params[p].items())
    other = run.fork(round=22, lr_gen=1e-2); other.fit(3, progress=False)
    assert not other.state.params["gen"]["0.weight"].equal(run.fork(round=25).state.params["gen"]["0.weight"])


def test_a_fork_past_a_step_by_hand_that_fell_on_a_kept_state():
    "states are kept from move 0 on, every 50 moves at first: the single step is made exactly there"
    run = Run("ring", seed=4, **small).fit(50, progress=False)
    run.step("disc"); run.fit(5, progress=False)
    again = run.fork()
    assert again.edits == run.edits and again.state.moves == run.state.moves == 56
    assert all(again.state.params[p][k].equal(v) for p in players for k, v in run.state.params[p].items())
