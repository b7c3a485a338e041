"What training promises: torch's own loop, input that changes nothing, packs, tails and idle clips."
import numpy as np
import pytest
import torch

from gan_nb import Recipe, Run
from gan_nb.core import stream
from gan_nb.gan import players
from gan_nb.build import idle_clips
from gan_nb.toys import bilinear
from gan_nb.transforms import adaptive_clip
from helpers import bytes_of


small = dict(hidden=(16, 16), batch_size=32, device="cpu")

def worst_difference(run, nets):
    return max((run.state.params[p][k] - v).abs().max().item() for p in players for k, v in nets[p].named_parameters())


@pytest.mark.parametrize("clip", [None, ("global_norm", 0.05)])
def test_a_hundred_rounds_equal_the_loop_that_everybody_writes(clip):
    "alternating SGD on digits with torch.optim.SGD and clip_grad_norm_, on the same batches"
    run = Run("article-plain", loss="non_saturating", r1=0, r2=0, n_gen=1, n_disc=2, order="disc_first", lr=0.05,
              momentum=0.5,
              schedule="constant", halflife=0, clip=clip, **small)
    nets, real = Run(run.recipe).game.nets, run.game.data
    steps = {p: torch.optim.SGD(nets[p].parameters(), 0.05, momentum=0.5) for p in players}
    for round in range(100):
        for k, player in enumerate(["disc", "disc", "gen"]):
            address = lambda: stream(0, round, k)
            z, x = torch.randn(32, 100, generator=(rng := address())), None
            fake = nets["disc"](nets["gen"](z))
            if player == "disc": x = real.draw(32, rng)
            sp = torch.nn.functional.softplus
            loss = sp(-fake).mean() if player == "gen" else sp(fake).mean() + sp(-nets["disc"](x)).mean()
            for s in steps.values(): s.zero_grad()
            loss.backward()
            if clip: torch.nn.utils.clip_grad_norm_(nets[player].parameters(), clip[1])
            steps[player].step()
        run.step()
    assert worst_difference(run, nets) < 1e-6
    assert clip is None or run.records["clipped_disc"].mean() > 0.5, "the clip must have had something to do"


@pytest.mark.parametrize("settings",
    [dict(of="dcgan", batch_size=8, width=4), dict(of="article", data="fashion_mnist", batch_size=16, hidden=(16,))])
def test_other_recipes_train(settings):
    try: run = Run(device="cpu", **settings)
    except FileNotFoundError as absent: pytest.skip(str(absent))
    before = run.state.params
    run.fit(3, progress=False)
    assert run.samples(5).shape == (5, 1, 28, 28) and np.isfinite(run.records["loss_gen"]).all()
    assert all(any(not run.state.params[p][k].equal(v) for k, v in before[p].items()) for p in players)


def test_bad_input_changes_nothing(tmp_path):
    run = Run("ring", **small).fit(2, progress=False)
    before = bytes_of(run)
    for call in (lambda: run.edit(lr=float("inf")), lambda: run.edit(clip=("nothing", 1)),
                 lambda: run.edit(n_gen=0, n_disc=0), lambda: run.step("both"),
                 lambda: run.fit(-1), lambda: run.samples(-1), lambda: run.fork(round=99),
                 lambda: Run("ring", data=np.full((9, 2), np.nan)),
                 lambda: Run("ring", data=np.empty((0, 2))), lambda: Run("rign"), lambda: Run("ring", hiden=3),
                 lambda: Run("ring", seed=-1)):
        with pytest.raises(ValueError) as error: call()
        assert "\n" not in str(error.value)
    assert bytes_of(run) == before
    file = tmp_path/"a file"; file.write_text("x")
    with pytest.raises(OSError): run.save(file/"inside")
    for bad in (b"", b"\x00" * 100, b"\xff" * 8, before[:-10], before[:50]):
        (tmp_path/"bad.safetensors").write_bytes(bad)
        with pytest.raises(ValueError, match="bad.safetensors"): Run.load(tmp_path/"bad.safetensors")
    with pytest.raises(FileNotFoundError): Run.load(tmp_path/"nowhere")


WRONG = {
    "a seed that no checkpoint holds": (lambda run: Run("ring", seed=2**63), "seed: 9223372036854775808 came"),
    "no seed for samples": (lambda run: run.samples(2, seed=None), "seed: None came"),
    "real data by a word": (lambda run: run.real("two"), "n: 'two' came"),
    "samples of another shape": (lambda run: run.score(torch.ones(3, 5)),
        r"x: shape \(3, 5\) came; allowed is \(n, 2\)"),
    "one sample without its n": (lambda run: run.score([1., 2.]), r"x: shape \(2,\) came"),
    "no device": (lambda run: Recipe(device=None), "device: None is unknown; allowed are auto"),
    "a kind of clipping in a list": (lambda run: Recipe(clip_gen=([1], 1)), r"clip_gen: \[1\] is unknown"),
    "a name of two lines": (lambda run: Recipe(name="a]\n[b"), "name: .* came; allowed is text in one line"),
    "a long text": (lambda run: Recipe(lr_gen="9" * 10**6 + "x"),
        "^lr_gen: '9{50,60}.* came; allowed is a finite number from 0$"),
    "a ragged matrix": (lambda run: bilinear([[1., 2.], [3.]]),
        "A: .* came; allowed are finite real numbers, the same count in each row"),
    "no matrix": (lambda run: bilinear(None), "A: None came"),
    "a clip without its weights": (lambda run: (t := adaptive_clip(.1)).update(g := {"w": torch.ones(2, 2)},
        t.init(g)), "params: None came; adaptive_clip compares"),
    "numbers as text": (lambda run: Run("ring", data=np.array([["1", "2"]])), "dtype <U1 came; allowed are numbers"),
}

@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_in_one_line(kind):
    do, says = WRONG[kind]
    with pytest.raises(ValueError, match=says) as error: do(Run("ring", hidden=(4,), batch_size=8, device="cpu"))
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_numbers_of_numpy_are_numbers(tmp_path):
    run = Run("ring", seed=np.int64(3), lr=np.float32(1e-3), hidden=(4,), batch_size=np.int64(8),
        device="cpu").fit(np.int64(2), progress=False)
    run.save(tmp_path)
    assert Run.load(tmp_path, device="cpu").seed == 3 and run.fork(np.int64(1)).round == 1


def test_score_takes_what_an_array_holds():
    run = Run("ring", hidden=(4,), batch_size=8, device="cpu")
    assert torch.equal(run.score(np.ones((3, 2))), run.score(torch.ones(3, 2)))


def test_a_tail_that_is_planned_longer_is_the_tail_of_the_longer_plan():
    settings = dict(hidden=(8, 8), batch_size=16, average="tail", schedule="constant", device="cpu")
    longer, planned = Run("ring", rounds=40, **settings).fit(40, progress=False), Run("ring", rounds=100,
        **settings).fit(100, progress=False)
    longer.edit(rounds=100)
    longer.fit(60, progress=False)
    for name, mean in planned.state.average["mean"].items():
        torch.testing.assert_close(longer.state.average["mean"][name], mean, rtol=1e-6, atol=1e-7)


def test_packs_are_scored_as_packs():
    run = Run("ring", hidden=(8, 8), batch_size=16, pack=2, device="cpu")
    x = run.real(6)
    assert run.score(x, packed=True).shape == (3,) and run.score(x).shape == (6,)
    torch.testing.assert_close(run.score(x[[0, 0, 1, 1]], packed=True), run.score(x[:2]))
    with pytest.raises(ValueError, match="x: 5 samples came; allowed are multiples of 2"): run.score(x[:5], packed=True)


@pytest.mark.parametrize("clip",
    [("global_norm", .05), ("quantile", 0.), ("block_norm", .02), ("value", .005), ("adaptive", .01)], ids=str)
@pytest.mark.parametrize("normalize",
    [None, ("global_norm", 1.), ("block_norm", .5), ("block_rms", 1.), ("orthogonal", 1.), ("sign", 1.)], ids=str)
def test_a_clip_is_called_idle_where_it_is(clip, normalize):
    settings = dict(hidden=(8, 8), batch_size=16, rule="sgd", lr=.003, momentum=0., normalize=normalize,
        schedule="constant", device="cpu")
    with_clip, without = (Run("ring", clip=c, **settings).fit(12, progress=False) for c in (clip, None))
    apart = max((with_clip.state.params[p][k] - without.state.params[p][k]).abs().max().item()
        for p in ("gen", "disc") for k in with_clip.state.params[p])
    idle = idle_clips(with_clip.recipe)
    assert idle in ([], ["gen", "disc"]) and idle_clips(without.recipe) == []
    if idle: assert apart < 1e-5
    else: assert apart > 1e-5
    early = with_clip.recipe.replace(early_momentum_gen=.5)
    assert "gen" not in idle_clips(early)
