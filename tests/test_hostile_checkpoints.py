"Checkpoints and folders from strangers: refused in one line, in little time and memory, and nothing is built, read or written for them."
import math
import os
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

import seams
from gan_nb import Run
from gan_nb.cli import main
from gan_nb.storage import read_checkpoint, unpack
from gan_nb.storage import checkpoint_name
from helpers import bounded, changed, header, one_line, quick, tiny, v2


def recipe_with(content, **settings):
    recipe = {**unpack(content, "")[0]["recipe"], **settings}
    return changed(content, recipe=recipe, start_recipe=recipe)


def now(content, edits=(), **settings):
    "Another recipe at present, while it started with the same."
    return changed(content, edits=list(edits), recipe={**unpack(content, "")[0]["recipe"], **settings})


def spoiled(content, column, value):
    "The records, with another value in the last row."
    rows = unpack(content, "")[1]["records"].clone()
    rows[-1, column] = value
    return rows


HOSTILE = {
    "an oversized header": lambda c: struct.pack("<Q", 2**63) + c[8:],
    "a header as long as the file": lambda c: struct.pack("<Q", len(c)) + c[8:],
    "a pickle": lambda c: b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    "deep JSON": lambda c: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "deep JSON inside": lambda c: header({}, "[" * 100_000),
    "deep objects inside": lambda c: header({}, '{"a":' * 100_000),
    "not an object": lambda c: header({}, "[1, 2]"),
    "a number of a million digits": lambda c: header({}, '{"version": ' + "9" * 1_000_000 + "}"),
    "a terabyte tensor": lambda c: header({"params/gen/0.weight": dict(dtype="F32", shape=[2**19, 2**19],
        data_offsets=[0, 2**40])}, v2),
    "a shape that overflows": lambda c: header({"a": dict(dtype="F32", shape=[2**62, 2**62], data_offsets=[0, 0])}, v2),
    "a negative shape": lambda c: header({"a": dict(dtype="F32", shape=[-1], data_offsets=[0, 0])}, v2),
    "a path as a name": lambda c: changed(c, **{"../../../etc/passwd": torch.zeros(1), "params/gen/0.weight": ...}),
    "an unknown type": lambda c: header({"a": dict(dtype="PICKLE", shape=[0], data_offsets=[0, 0])}, v2),
    "no tensors": lambda c: header({}, v2),
    "a wrong shape": lambda c: changed(c, **{"params/gen/0.weight": torch.zeros(3, 3)}),
    "a wrong type": lambda c: changed(c, **{"params/gen/0.weight": torch.zeros(8, 2, dtype=torch.int64)}),
    "a half type": lambda c: changed(c, **{"params/gen/0.weight": torch.zeros(8, 2, dtype=torch.float16)}),
    "NaN weights": lambda c: changed(c, **{"params/gen/0.weight": torch.full((8, 2), math.nan)}),
    "infinite weights": lambda c: changed(c, **{"params/disc/0.bias": torch.full((8,), math.inf)}),
    "missing records": lambda c: changed(c, records=...),
    "records of one column": lambda c: changed(c, records=torch.zeros(3, 1, dtype=torch.float64)),
    "records of no move": lambda c: changed(c, record_moves=torch.tensor([5, 3, 1])),
    "a negative round": lambda c: changed(c, round=-1),
    "a round of text": lambda c: changed(c, round="many"),
    "a huge seed": lambda c: changed(c, seed=10**30),
    "endless seconds": lambda c: changed(c, seconds=math.inf),
    "edits of what cannot change": lambda c: changed(c, edits=[dict(round=0, moves=0, changes=dict(data_folder="/"))]),
    "edits that are none": lambda c: changed(c, edits=[1, 2]),
    "a best of text": lambda c: changed(c, best=dict(metric="m", value="1", **{"is": "smallest"})),
    "a best of nothing": lambda c: changed(c, best={}),
    "a divergence of no layer": lambda c: changed(c, diverged=dict(player="gen", layer="evil\n", round=1, edits=0)),
    "a divergence of nobody": lambda c: changed(c, diverged=dict(player=["gen"], layer=None, round=1, edits=0)),
    "none to keep": lambda c: changed(c, keep=0),
    "a recipe that is none": lambda c: changed(c, recipe=[]),
    "an unknown setting": lambda c: recipe_with(c, evil=1),
    "a folder of this machine": lambda c: recipe_with(c, data_folder="/etc"),
    "an unknown loss": lambda c: recipe_with(c, loss="__import__('os')"),
    "unknown data": lambda c: recipe_with(c, data="/etc/passwd"),
    "a billion units": lambda c: recipe_with(c, hidden_gen=[10**9, 10**9]),
    "more units than numbers": lambda c: recipe_with(c, hidden_gen=[10**30]),
    "a hundred thousand layers": lambda c: recipe_with(c, hidden_disc=[1] * 100_000),
    "a latent of a billion numbers": lambda c: recipe_with(c, z_dim=10**9),
    "a pack of a billion": lambda c: recipe_with(c, pack=10**9),
    "a record of no round": lambda c: changed(c, records=spoiled(c, 0, math.nan)),
    "a record of an endless round": lambda c: changed(c, records=spoiled(c, 0, math.inf)),
    "a record of a round to come": lambda c: changed(c, records=spoiled(c, 0, 1e308)),
    "a record of half a round": lambda c: changed(c, records=spoiled(c, 0, 2.5)),
    "a record without a time": lambda c: changed(c, records=spoiled(c, 1, math.nan)),
    "an average that is none": lambda c: changed(c, **{"average/mean/0.weight": torch.full((8, 2), math.nan)}),
    "an infinite average": lambda c: changed(c, **{"average/mean/0.weight": torch.full((8, 2), math.inf)}),
    "a rule that remembers no number": 
        lambda c: changed(c, **{"rules/gen/mean/0.weight": torch.full((8, 2), math.nan)}),
    "a rate that is no number": lambda c: changed(c, **{"rules/gen/lr": torch.tensor(math.nan, dtype=torch.float64)}),
    "an edit to text": lambda c: changed(c, edits=[dict(round=1, moves=1, changes=dict(lr_gen="x"))]),
    "an edit to come": lambda c: changed(c, edits=[dict(round=10**18, moves=10**18, changes=dict(lr_gen=.1))]),
    "edits in no order": lambda c: changed(c, edits=[dict(round=r, moves=r, changes={"step": "gen"}) for r in (2, 1)]),
    "more records than moves": lambda c: changed(c, total=2**62),
    "more moves than a record can count": lambda c: changed(c, total=2**62, moves=2**62),
    "more rounds than moves": lambda c: changed(c, round=4),
    "more unlogged than there are": lambda c: changed(c, unlogged=4),
    "data of text": lambda c: changed(c, data="abc", fingerprint="x"),
    "other data": lambda c: changed(c, data=dict(name="ring", fingerprint="b4f4dc0b52ce"), fingerprint="x"),
    "a roll back of nothing": lambda c: changed(c, rollbacks=[{}]),
    "a place to go back to without a state": lambda c: changed(c, back=[dict(round=1, moves=1, edits=0)]),
    "a place to go back to that is to come": lambda c: changed(c, back=[dict(round=9, moves=9, edits=0)]),
    "a place to go back to of text": lambda c: changed(c, back="x"),
    "a metric in colours": lambda c: changed(c, best=dict(metric="m\x1b[31m", value=1, **{"is": "smallest"})),
    "a version that is a list": lambda c: changed(c, gan_nb=[1]),
    "a present recipe with other networks": lambda c: now(c, hidden_gen=[10**6]),
    "a present recipe with other data": lambda c: now(c, data="digits"),
    "a present recipe that nobody edited": lambda c: now(c, batch_size=32),
    "a present batch of a billion": lambda c: now(c, [dict(round=1, moves=1, changes=dict(batch_size=10**9))],
        batch_size=10**9),
    "lists where names should be": lambda c: recipe_with(c, clip_gen=[["global_norm"], 1]),
    "objects where numbers should be": lambda c: recipe_with(c, lr_gen={}, hidden_gen={}),
}

@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_checkpoint_is_refused(content, tmp_path, kind):
    folder = tmp_path/"a"
    folder.mkdir()
    (folder/"bad.safetensors").write_bytes(HOSTILE[kind](content))
    before = sorted(tmp_path.rglob("*"))
    with bounded(), pytest.raises(ValueError, match="bad.safetensors") as error: Run.load(folder/"bad.safetensors")
    one_line(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_unharmed_one_is_read(content, tmp_path):
    "what `changed` makes is refused for its change only"
    (tmp_path/"good.safetensors").write_bytes(changed(content))
    assert Run.load(tmp_path/"good.safetensors").round == 3


def test_what_is_refused_is_refused_in_a_line_by_every_command(content, tmp_path, capsys):
    (tmp_path/"a").mkdir()
    for kind in ("a record of an endless round", "a present batch of a billion", "an edit to text", "other data"):
        for words in (["doctor"], ["sample", "--n", "2", "--out", str(tmp_path/"x.npy")], ["resume", "--rounds", "1"]):
            (tmp_path/"a"/checkpoint_name).write_bytes(HOSTILE[kind](content))
            assert main([words[0], str(tmp_path/"a"), *words[1:]]) == 2 and capsys.readouterr().err.count("\n") == 1


def test_other_data_say_the_difference(content, tmp_path):
    (tmp_path/"a.safetensors").write_bytes(HOSTILE["other data"](content))
    with pytest.raises(ValueError, match="trained on other data: fingerprint x then, b4f4dc0b52ce now"):
        Run.load(tmp_path/"a.safetensors", device="cpu")


def test_networks_of_another_size_are_not_built(content, tmp_path, monkeypatch):
    (tmp_path/"a.safetensors").write_bytes(recipe_with(content, hidden_gen=[3000, 3000]))
    seams.nothing_is_built(monkeypatch, lambda *_: pytest.fail("it was built"))
    with pytest.raises(ValueError, match="the recipe needs"): Run.load(tmp_path/"a.safetensors", device="cpu")


def test_a_checkpoint_names_no_file_as_its_data(tmp_path):
    "A path in a checkpoint would be read when it is opened."
    from gan_nb.checkpoints import check_about
    np.save(tmp_path/"x.npy", np.zeros((20, 2), "float32"))
    run = Run("ring", **tiny).fit(2, progress=False)
    about, flat = read_checkpoint(run.save(tmp_path/"a.safetensors"))
    for name in ("recipe", "start_recipe"):
        with pytest.raises(ValueError, match=f"{name}: data"):
            check_about({**about, name: {**about[name], "data": str(tmp_path/"x.npy")}}, flat)


def test_a_header_has_a_bound_of_its_own(tmp_path):
    "whatever the file's length"
    with open(tmp_path/"a.safetensors", "wb") as f: f.write(struct.pack("<Q", 2**27)); f.truncate(2**28)
    with bounded(), pytest.raises(ValueError, match="its header claims 134,217,728 bytes"):
        read_checkpoint(tmp_path/"a.safetensors")


def test_sparse_files_are_not_read(content, tmp_path, monkeypatch):
    "they take no space on the disk, and all the memory"
    file = tmp_path/"a.safetensors"
    file.write_bytes(content)
    os.truncate(file, 2**40)
    with bounded(), pytest.raises(ValueError, match="a.safetensors: .*the file has 1,099,511,627,776"): Run.load(file)
    start = header({"a": dict(dtype="U8", shape=[2**39], data_offsets=[0, 2**39])}, v2)
    file.write_bytes(start)
    os.truncate(file, len(start) + 2**39)
    with bounded(), pytest.raises(ValueError, match="a.safetensors: .*GiB would be needed"): Run.load(file)
    file.write_bytes(content)
    def none(*_): raise MemoryError
    seams.read_with(monkeypatch, none)
    with pytest.raises(ValueError, match="a.safetensors: .* bytes do not fit into the memory"): Run.load(file)


# Any content

flat_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
json_values = flat_values | st.lists(flat_values | st.lists(flat_values, max_size=3),
    max_size=4) | st.dictionaries(st.text(max_size=6), flat_values, max_size=4)

@pytest.mark.filterwarnings("ignore")
@quick
@given(st.data())
def test_a_checkpoint_with_anything_in_its_header(content, tmp_path_factory, data):
    about, _ = unpack(content, "")
    name = data.draw(st.sampled_from([k for k in about if k not in ("version", "sha256")]))
    value = data.draw(json_values)
    if name in ("recipe", "start_recipe") and data.draw(st.booleans()):
        value = {**about[name], data.draw(st.sampled_from(list(about[name]))): value}
    file = tmp_path_factory.getbasetemp()/"any.safetensors"
    file.write_bytes(changed(content, **{name: value}))
    try: Run.load(file, device="cpu").step()
    except ValueError as error: one_line(error)


@quick
@given(st.binary(max_size=300), st.integers(0, 2**14), st.booleans())
def test_a_checkpoint_of_any_bytes(content, noise, at, inside):
    wrong = content[:at] + noise + content[at + len(noise):] if inside else noise
    try: unpack(wrong, "any")
    except ValueError as error: assert one_line(error).startswith("any: ")
    else: assert wrong == content


# Folders

@pytest.mark.parametrize("name", ["checkpoint.safetensors", "best.safetensors", "checkpoint-7.safetensors"])
def test_a_pipe_is_no_checkpoint(tmp_path, name):
    "it would be waited for"
    Run("ring", folder=tmp_path/"a", **tiny).fit(3, progress=False)
    (tmp_path/"a"/name).unlink(missing_ok=True)
    os.mkfifo(tmp_path/"a"/name)
    if "best" in name:
        with pytest.raises(FileNotFoundError): Run.load(tmp_path/"a", best=True)
    elif name == checkpoint_name:
        with pytest.raises(FileNotFoundError): Run.load(tmp_path/"a")
    else: assert Run.load(tmp_path/"a", device="cpu").round == 3
    with pytest.raises(OSError, match="not a regular file"): read_checkpoint(tmp_path/"a"/name)


@pytest.mark.parametrize("name", [".lock", "records.csv"])
def test_links_in_a_folder_lead_nowhere(tmp_path, name):
    "the folder of a stranger does not let a run write elsewhere"
    run = Run("ring", folder=tmp_path/"a", **tiny).fit(3, progress=False)
    (tmp_path/"precious").write_text("".join(f"{i}\n" for i in range(100)))
    before = (tmp_path/"precious").read_bytes()
    (tmp_path/"a"/name).unlink(missing_ok=True)
    os.symlink(tmp_path/"precious", tmp_path/"a"/name)
    for attempt in (lambda: run.fit(2, progress=False),
            lambda: Run.load(tmp_path/"a", device="cpu").fit(2, progress=False)):
        with pytest.raises(OSError, match="is a link.*" + name.strip(".")): attempt()
    assert main(["resume", str(tmp_path/"a"), "--rounds", "2"]) == 2
    assert (tmp_path/"precious").read_bytes() == before
    (tmp_path/"a"/name).unlink()
    os.mkfifo(tmp_path/"a"/name)
    with pytest.raises(OSError, match="not a regular file"): run.save(tmp_path/"a")
    assert (tmp_path/"precious").read_bytes() == before and Run.load(tmp_path/"a", device="cpu").round == 3
