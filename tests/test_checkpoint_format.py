"What a checkpoint is: every flipped bit is seen, older formats go on, and behind a damaged one stands the one before."
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from gan_nb import Run
from gan_nb.recipes import Recipe
from gan_nb.storage import read_checkpoint, Store, unpack
from gan_nb.storage import checkpoint_name
from helpers import changed, csv_of, header, here, params, same_run, saved, tiny, v2


def test_a_checkpoint_says_what_made_it(content):
    import gan_nb
    about, _ = unpack(content, "")
    assert about["version"] == 6
    assert about["gan_nb"] == gan_nb.__version__
    assert about["torch"] == torch.__version__
    assert len(about["sha256"]) == 64


def test_every_flipped_bit_is_seen(content, tmp_path):
    rng, file = np.random.default_rng(1), tmp_path/"a.safetensors"
    bits = {*range(0, 64), *rng.choice(8 * len(content), 1500, replace=False).tolist()}
    for bit in bits:
        wrong = bytearray(content)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="a.safetensors"): unpack(bytes(wrong), file)


def test_older_formats_go_on(tmp_path):
    two = Run.load(here/"checkpoint_v2.safetensors", device="cpu")
    assert two.round == 5 and [e.changes for e in two.edits] == [{"clip_disc": ("global_norm", 0.5)}, {"step": "disc"}]
    torch.testing.assert_close(two.samples(2), torch.tensor([[-0.0244, -0.0734], [-0.1069, -0.3450]]), atol=6e-5,
        rtol=0)
    two.step()
    torch.testing.assert_close(two.samples(2), torch.tensor([[-0.0246, -0.0747], [-0.1073, -0.3486]]), atol=6e-5,
        rtol=0)
    three = Run.load(here/"checkpoint_v3.safetensors", device="cpu")
    assert three.round == 5
    assert [e.changes for e in three.edits] == [{"clip_disc": ("global_norm", 0.5)}, {"step": "disc"}]
    # in that format it was told to the run
    assert three.recipe.on_divergence == three.start_recipe.on_divergence == "roll back"
    torch.testing.assert_close(three.samples(2), torch.tensor([[0.0876, 0.3093], [0.2265, -0.0300]]), atol=6e-5, rtol=0)
    three.step()
    torch.testing.assert_close(three.samples(2), torch.tensor([[0.0882, 0.3119], [0.2274, -0.0290]]), atol=6e-5, rtol=0)
    for old in ("checkpoint_v1.safetensors", "checkpoint_v2.safetensors", "checkpoint_v3.safetensors"):
        run = Run.load(here/old, device="cpu")
        run.save(tmp_path/old)
        assert same_run(run, Run.load(tmp_path/old, device="cpu"))
        assert read_checkpoint(tmp_path/old)[0]["version"] == 6


def test_the_fourth_format_goes_on(tmp_path):
    "both players had the same layers, and own points were taken as they are"
    x = (np.random.default_rng(0).normal(size=(200, 2)) * [3, .5] + [5, -1]).astype("float32")
    run = Run.load(here/"checkpoint_v4.safetensors", device="cpu", data=x)
    assert (run.round, run.recipe.hidden_gen, run.recipe.hidden_disc, run.recipe.latent) == (5, (6, 5), (6, 5), "normal")
    torch.testing.assert_close(run.samples(2), torch.tensor([[-.076887, -.416259], [-.208370, -.385630]]), atol=2e-5, rtol=0)
    run.step()
    torch.testing.assert_close(run.samples(2), torch.tensor([[-.068316, -.417113], [-.200466, -.387887]]), atol=2e-5, rtol=0)
    run.save(tmp_path/"five")
    assert same_run(run, Run.load(tmp_path/"five", device="cpu", data=x))


def test_the_fifth_format_goes_on(tmp_path):
    "there was no augmentation, and no column for it"
    folder = tmp_path/"a"
    folder.mkdir()
    (folder/checkpoint_name).write_bytes((here/"checkpoint_v5.safetensors").read_bytes())
    run = Run.load(folder, device="cpu")
    table = run.records.table()
    whole = [",".join([f"{int(row[0])}", *(f"{v:.9g}" for v in row[1:-1])]) for row in table.tolist()]
    head = ("round,seconds,loss_gen,loss_disc,grad_norm_gen,grad_norm_disc,update_norm_gen,update_norm_disc,"
            "clipped_gen,clipped_disc,logit_real,logit_fake")
    (folder/"records.csv").write_text("\n".join([head, *whole, "6,0.1,.5"])) # a torn row of a round that was not saved
    assert run.round == 5 and np.isnan(run.records["augment"]).all()
    torch.testing.assert_close(run.samples(2), torch.tensor([[-.0999, -.4125], [-.2297, -.3795]]), atol=6e-5, rtol=0)
    run.fit(1, progress=False)
    torch.testing.assert_close(run.samples(2), torch.tensor([[-.0994, -.4125], [-.2293, -.3796]]), atol=6e-5, rtol=0)
    rows = (folder/"records.csv").read_text().splitlines()
    assert rows[0] == f"{head},augment" and rows[1:6] == [f"{row},nan" for row in whole] and len(rows) == 7
    assert not list(folder.glob("*damaged*"))
    assert same_run(run, Run.load(folder, device="cpu"))


def test_a_checkpoint_of_the_first_format_goes_on():
    run = Run.load(Path(__file__).with_name("checkpoint_v1.safetensors"), device="cpu")
    assert run.round == 5 and run.edits[0].round == 3
    torch.testing.assert_close(run.samples(2), torch.tensor([[-0.0238, -0.0740], [-0.1054, -0.3463]]), atol=6e-5,
        rtol=0)
    run.step()
    torch.testing.assert_close(run.samples(2), torch.tensor([[-0.0238, -0.0766], [-0.1053, -0.3525]]), atol=6e-5,
        rtol=0)


def test_a_newer_format_is_refused(tmp_path):
    (tmp_path/"a.safetensors").write_bytes(save({"x": torch.zeros(1)}, {"gan_nb": json.dumps({"version": 7})}))
    with pytest.raises(ValueError, match="a.safetensors"): Run.load(tmp_path/"a.safetensors")


def test_a_byte_of_two_is_a_bool_of_one():
    made = header({"a": dict(dtype="BOOL", shape=[2], data_offsets=[0, 2])}, v2) + b"\x02\x00"
    assert unpack(made, "a")[1]["a"].view(torch.uint8).tolist() == [1, 0]


def test_another_device_is_mentioned(content, tmp_path):
    (tmp_path/"a.safetensors").write_bytes(changed(content, device="cuda"))
    with pytest.warns(UserWarning, match="was trained on cuda and goes on on cpu"):
        assert Run.load(tmp_path/"a.safetensors", device="cpu").round == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe",
    [dict(data="ring", z_dim=2), dict(normalize=("orthogonal", 1.), clip=("quantile", .9), momentum=.5, loss="r3",
        r1=.1, r2=.1, on_divergence="roll back"), dict(model="conv", width=4, rule="adam", spectral=True, halflife=5)])
def test_from_the_cpu_to_cuda_and_back(tmp_path, recipe):
    "what is carried over is the same to the last bit; what is computed from there need not be"
    folder = tmp_path/"a"
    run = Run(Recipe(batch_size=16).replace(hidden=(8,), **recipe), folder=folder, device="cpu").fit(4, progress=False)
    for device, before in (("cuda", "cpu"), ("cpu", "cuda")):
        with pytest.warns(UserWarning, match=f"was trained on {before} and goes on on {device}: from here the bits may differ"):
            again = Run.load(folder, device=device)
        assert again.device.type == device and all(p.device.type == device for p in params(again).values())
        one, two = (saved(r, read_checkpoint)[1] for r in (run, again))
        assert one.keys() == two.keys() and all(torch.equal(one[k].nan_to_num(-1), two[k].nan_to_num(-1)) for k in one)
        again.folder = folder
        run = again.fit(30, progress=False)
        assert all(p.isfinite().all() for p in params(run).values())
    assert run.round == 64
    assert len(csv_of(folder)) == 65
    assert run.records["round"].tolist() == list(range(1, 65))
    assert Run.load(folder, device="cpu").round == 64


@pytest.mark.parametrize("harm",
    [lambda b: b[:-1], lambda b: b"", lambda b: b[:len(b) // 2] + bytes([b[len(b) // 2] ^ 4]) + b[len(b) // 2 + 1:]])
def test_the_older_checkpoint_is_there_if_the_newest_is_damaged(tmp_path, harm):
    run = Run("ring", folder=tmp_path/"a", **tiny)
    for _ in range(3): run.fit(5, progress=False)
    assert [f.name for f in Store(tmp_path/"a").found()] == ["checkpoint.safetensors", "checkpoint-10.safetensors"]
    newest = tmp_path/"a"/checkpoint_name
    newest.write_bytes(harm(newest.read_bytes()))
    with pytest.warns(UserWarning, match=r"checkpoint.safetensors: not a whole checkpoint.*Going on from checkpoint-10.safetensors, round 10"):
        again = Run.load(tmp_path/"a", device="cpu")
    assert again.round == 10
    again.folder = tmp_path/"a"
    again.fit(5, progress=False)
    assert same_run(again, run) and len(csv_of(tmp_path/"a")) == 16
    newest.write_bytes(b"")
    with pytest.warns(UserWarning):
        assert Run.load(tmp_path/"a", device="cpu").round == 10, "the damaged file must not have become the older checkpoint"


def test_a_checkpoint_that_fits_nowhere_is_passed_over(content, tmp_path):
    "it is whole, but no run has written it: the older one is taken, and the newest stays as refused.safetensors"
    run = Run("ring", folder=tmp_path/"a", **tiny)
    for _ in range(2): run.fit(5, progress=False)
    newest = tmp_path/"a"/checkpoint_name
    newest.write_bytes(wrong := changed(newest.read_bytes(), total=4))
    with pytest.warns(UserWarning, match=r"total: 4 came.*Going on from checkpoint-5.safetensors, round 5"):
        again = Run.load(tmp_path/"a", device="cpu")
    assert same_run(again.fit(5, progress=False), run) and (tmp_path/"a/refused.safetensors").read_bytes() == wrong
    newest.write_bytes(b"")
    with pytest.warns(UserWarning): assert Run.load(tmp_path/"a", device="cpu").round == 5


def test_no_whole_checkpoint_at_all(tmp_path):
    Run("ring", **tiny).save(tmp_path/"a")
    (tmp_path/"a"/checkpoint_name).write_bytes(b"x" * 50)
    with pytest.raises(ValueError, match="no older one that is whole"): Run.load(tmp_path/"a")
