"""Hundreds of wrong calls and odd arrays: each ends in one clear line of ours, or is taken and said.

Most are generated: every setting with every kind of value that it may not have, every name spelt wrongly, every kind
of array. What a person wrote on purpose is at the end."""
import random
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import gan_nb
from gan_nb import Run, recipe
from gan_nb.core import _meanings
from gan_nb.data import Data, load, mixture
from gan_nb.doctor import diagnose
from gan_nb.evaluation import evaluate
from gan_nb.recipes import live, pairs, settings

package = Path(gan_nb.__file__).parent
words = "came", "allowed", "unknown", "cannot", "need", "come to", "there is no"     # one of them is in every message: what, or what else
tiny = dict(rounds=10, batch_size=8, hidden=(4,), device="cpu", threads=1)
rng = np.random.default_rng(0)

values = {"None": None, "-1": -1, "0": 0, "1.5": 1.5, "nan": float("nan"), "inf": float("inf"), "text": "nonsense",
    "empty text": "", "list": [], "dict": {}, "tuple": (), "object": object(), "array": np.array([1, 2]),
    "tensor": torch.ones(2), "True": True, "bytes": b"x", "huge": 10**30, "too long to print": 10**5000,
    "function": len, "three": ("a", "b", "c"), "lines": "a\nb", "nested": [[1]], "module": np, "type": int}


def said(call):
    "None if the call is accepted; else what its error says, after checking that a person can read it."
    try: call()
    except Exception as error:
        message, where = str(error), Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        told = f"{type(error).__name__}: {message!r} from {where.name}"
        assert isinstance(error, (ValueError, TypeError, OSError)), told
        assert where.parent == package, f"not of ours: {told}"
        assert message and "\n" not in message and len(message) < 320, told
        assert any(word in message for word in words), told
        return message


@pytest.mark.parametrize("name", [n for n in settings if n != "name"])
def test_a_setting_refuses_what_it_cannot_be(name):
    "All but `data`, which takes arrays and is tried below, refuses most of the values, by its name."
    refused = 0
    for value in values.values():
        message = said(lambda: recipe("ring", **{name: value}))
        if message is None: continue
        refused += 1
        assert message.startswith(name) or name in message.split(":")[0], message
    assert refused >= (1 if name in ("data", "run_folder", "data_folder") else 10)


def misspelt(name, seed):
    "A letter lost, doubled, or swapped with the next."
    chance = random.Random(f"{name} {seed}")
    i = chance.randrange(len(name) - 1)
    return chance.choice([name[:i] + name[i + 1:], name[:i] + 2 * name[i] + name[i + 1:],
                          name[:i] + name[i + 1] + name[i] + name[i + 2:]])


def test_a_name_that_is_spelt_wrongly_is_guessed():
    "A slip in a name of three letters can be another name; in nearly all others what was meant is named."
    tried = guessed = 0
    for name in [*settings, *pairs]:
        for seed in range(4):
            wrong = misspelt(name, seed)
            if wrong in settings or wrong in pairs: continue
            message = said(lambda: recipe("ring", **{wrong: 1}))
            assert repr(wrong) in message and len(message) <= 200, message
            tried += 1
            guessed += f"did you mean {name!r}" in message
    assert tried > 200
    assert guessed / tried > .9


def test_words_of_other_libraries_are_understood():
    for meant, others in _meanings.items():
        if meant not in settings and meant not in pairs: continue
        for other in others.split():
            if other in settings or other in pairs: continue
            message = said(lambda: recipe("ring", **{other: 1}))
            assert "did you mean" in message and len(message) <= 200, message


@pytest.mark.parametrize("name", [n for n in settings if n != "name"])
def test_a_wrong_edit_changes_nothing(name):
    "Not the settings, not the log, and not the numbers that come after it."
    run, other = Run("ring", **tiny), Run("ring", **tiny)
    for value in values.values():
        before = run.recipe
        message = said(lambda: run.edit(**{name: value}))
        if message is not None: assert run.recipe == before and not run.edits, message
        else: run = Run("ring", **tiny)
        if name not in live: assert message and "cannot change while a run is under way" in message
    run.fit(2, progress=False)
    other.fit(2, progress=False)
    assert torch.equal(run.samples(8), other.samples(8))


points, pictures = rng.normal(size=(50, 2)), rng.uniform(-1, 1, size=(50, 8, 8))
whole = rng.integers(0, 256, (50, 8, 8))

refused = {   # an array, and what is in the message about it
    "no sample": (np.zeros((0, 2)), "at least one sample"),
    "no coordinate": (np.zeros((9, 0)), "at least one sample"),
    "a number": (np.float32(1), "float32 came"),
    "one axis": (points[:, 0], r"points (n, d)"),
    "five axes": (rng.uniform(size=(9, 3, 2, 8, 8)), "points (n, d)"),
    "nan": (np.where(np.eye(50, 2) > 0, np.nan, 1.), "finite"),
    "inf": (np.full((50, 2), np.inf), "finite"),
    "too big for float32": (np.full((50, 2), 1e300), "finite"),
    "objects": (np.array([[1, "a"], [2, "b"]], object), "dtype object"),
    "texts": (np.array([["a", "b"]] * 9), "dtype <U1"),
    "days": (np.array([["2020-01-01"]] * 9, "datetime64[D]"), "datetime64"),
    "records": (np.zeros(5, [("a", float), ("b", float)]), "numbers"),
    "complex": (points * 1j, "complex128"),
    "masked": (np.ma.masked_greater(points, 1), "mask"),
    "masked pictures": (np.ma.masked_greater(pictures, 0), "mask"),
    "0 to 255 as int64": (whole, "uint8"),
    "0 to 255 as floats": (whole.astype(float), "divide 0 to 255 by 127.5"),
    "0 to 65,535": (whole.astype("uint16") * 257, "uint8"),
    "some below 0": (whole - 5, "uint8"),
    "beyond 1": (2 * pictures, "[-1, 1] or [0, 1]"),
    "channels last": (rng.uniform(size=(9, 8, 8, 3)), "channels last"),
    "channels last, opacity": (rng.uniform(size=(9, 8, 8, 4)), "channels last"),
    "two layouts": (rng.uniform(size=(9, 4, 4, 3)), "can be read as"),
    "two layouts, square": (rng.uniform(size=(9, 3, 3, 3)), "can be read as"),
    "sparse": (torch.eye(50, 2).to_sparse(), "to_dense"),
    "csr": (torch.eye(50, 2).to_sparse_csr(), "to_dense"),
    "meta": (torch.ones(50, 2, device="meta"), "meta"),
    "complex tensor": (torch.ones(50, 2, dtype=torch.complex64), "complex64"),
    "fewer labels": ((points, np.arange(49)), "one for each"),
    "more labels": ((points, np.arange(51)), "one for each"),
    "labels in a column": ((points, np.ones((50, 1), int)), "one for each; y.ravel"),
    "labels between": ((points, points[:, 0]), "whole numbers, and texts"),
    "labels unknown": ((points, np.full(50, np.nan)), "whole numbers, and texts"),
    "labels of objects": ((points, np.array([None] * 50)), "whole numbers, and texts"),
    "three of them": ((points,) * 3, "as (x, y)"),
    "one of them": ((points,), "as (x, y)"),
    "rows of two lengths": ([[1, 2], [3]], "list came"),
    "a dict": ({"x": points}, "dict came"),
    "a set": ({1, 2}, "set came"),
    "a generator": ((i for i in range(3)), "generator came"),
    "bytes": (b"abc", "bytes came"),
    "a function": (len, "came"),
    "a number alone": (3, "int came"),
    "no path": ("./nowhere", "no such file or folder"),
    "no name": ("rnig", "did you mean 'ring'")}

taken = {     # an array, what is warned of, and the shape of a sample of it
    "one sample": (points[:1], None, (2,)),
    "one column": (points[:, :1], None, (1,)),
    "all the same": (np.ones((50, 2)), None, (2,)),
    "float16": (points.astype("float16"), None, (2,)),
    "big-endian": (points.astype(">f8"), None, (2,)),
    "backwards": (points[::-1, ::-1], None, (2,)),
    "read only": (np.broadcast_to(points[:1], (50, 2)), None, (2,)),
    "whole points": (rng.integers(-9, 9, (50, 2)), None, (2,)),
    "bfloat16": (torch.ones(50, 2, dtype=torch.bfloat16), None, (2,)),
    "with a gradient": (torch.ones(50, 2, requires_grad=True), None, (2,)),
    "far away": (1e6 + 1e-1 * points, None, (2,)),
    "labels below 0": ((points, -np.arange(50)), None, (2,)),
    "labels as texts": ((points, np.array(["a", "b"] * 25)), None, (2,)),
    "labels as a tensor": ((points, torch.arange(50) % 3), None, (2,)),
    "pictures": (pictures, None, (1, 8, 8)),
    "bytes of pictures": (whole.astype("uint8"), None, (1, 8, 8)),
    "yes and no": (whole > 100, "from 0 to 1", (1, 8, 8)),
    "0 and 1": ((whole > 100).astype(int), "from 0 to 1", (1, 8, 8)),
    "0 and 1 in bytes": ((whole > 100).astype("uint8"), "from 0 to 1", (1, 8, 8)),
    "0 to 1": (np.abs(pictures), "from 0 to 1", (1, 8, 8)),
    "opacity": (whole.astype("uint8")[:, None].repeat(4, 1), "opacity", (3, 8, 8))}


@pytest.mark.parametrize("case", refused)
def test_an_odd_array_is_refused(case):
    array, about = refused[case]
    message = said(lambda: Run("ring", data=array, **tiny))
    assert message and about in message, message


@pytest.mark.parametrize("case", taken)
def test_an_odd_array_is_taken_and_what_was_understood_is_said_once(case):
    array, about, shape = taken[case]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run = Run("ring", data=array, **tiny)
    assert [about in str(w.message) for w in found] == ([] if about is None else [True])
    run.fit(2, progress=False)
    assert run.samples(3).shape == (3, *shape) and run.samples(3).isfinite().all()


@pytest.fixture(scope="module")
def a_run(): return Run("ring", **tiny)


@pytest.mark.parametrize("what", values)
def test_counts_and_places_refuse_what_they_cannot_be(a_run, what):
    "What a call takes by position: how many, where, and which run."
    value, run = values[what], a_run
    for name in ("fit", "samples"):
        if what in ("0", "None") and name == "fit": continue     # none, and the rest of the plan
        message = said(lambda: getattr(run, name)(value))
        assert message is None and what == "0" or message.startswith("n: "), message
    if what not in ("0", "None"): assert said(lambda: next(run.rounds(value))).startswith("rounds: ")
    if what != "0": assert said(lambda: Run("ring", seed=value, **tiny)).startswith("seed: ")
    if what not in ("0", "None"): assert said(lambda: run.fork(round=value)).startswith("round: ")
    if what not in ("text", "empty text", "lines"):
        for call in (run.save, Run.load): assert said(lambda: call(value)).startswith("path: ")
    assert said(lambda: Run(value)) and said(lambda: recipe(value))
    assert said(lambda: diagnose(value)).startswith("run: ")
    assert said(lambda: evaluate(value)).startswith("run: ")
    if what != "nested": assert said(lambda: mixture(value, .1)).startswith("centers: ")
    assert said(lambda: Data("mine", (2,), train=value)).startswith(("train: ", "Data 'mine': neither"))
    if what not in ("1.5", "True", "array", "tensor"): assert said(lambda: mixture([[0, 0], [1, 1]], value)).startswith("sigma: ")
    assert run.round == 0 and not run.edits


by_hand = {
    "Run('rign')": "did you mean 'ring'",
    "Run('ring', seed=2**70)": "below 2**63",
    "Run('ring', device='gpu')": "did you mean 'cuda'",
    "Run('ring', device='cuda:99')": "device",
    "Run('ring', learnig_rate=.1)": "did you mean 'lr'",
    "Run('ring', optimizer='adam')": "did you mean 'rule'",
    "Run('ring', rule='adamw')": "did you mean 'adam'",
    "Run('ring', loss='wgan')": "did you mean 'wasserstein'",
    "Run('ring', clip=1.0)": "a kind and a number",
    "Run('ring', clip=('norm', 1.0))": "did you mean 'global_norm'",
    "Run('ring', batch_size=10**9)": "GiB",
    "Run('ring', hidden=(10**6, 10**6))": "GiB",
    "Run('ring', data='digts')": "did you mean 'digits'",
    "Run('article', data='ring', model='conv')": "use 'mlp'",
    "run.fork(round=10**6)": "the run has come to 0",
    "run.records['nope']": "unknown",
    "run.samples(10**12)": "GiB",
    "Run.load('./nowhere')": "there is no checkpoint",
    "load('digts')": "did you mean 'digits'",
    "mixture([[0, 0], [1]], .1)": "lists of one length",
    "mixture([[0, float('nan')]], .1)": "finite",
    "mixture([[0, 0]], -1)": "above 0",
    "mixture([[0, 0], [1, 1]], [.1])": "one for each of the 2 centres",
    "mixture([[0, 0]], .1, points=[[1, 2, 3]])": "the centres allow (n, 2)",
    "Data('mine', (2,))": "neither train nor centers",
    "Data('mine', (2,), train=[[1, 2, 3]])": "allowed is (n, 2)",
    "Data('mine', (2,), centers=[[0, 0]])": "sigma",
}


@pytest.mark.parametrize("call", by_hand)
def test_what_people_write(a_run, call):
    message = said(lambda: eval(call, globals(), {"run": a_run}))
    assert message and by_hand[call] in message, message


def test_a_list_of_centres_makes_data():
    "What the front page shows with tensors can be written with lists."
    data = Data("mine", (2,), centers=[[0, 0], [3, 3]], sigma=.1)
    assert data.centers.dtype == torch.float32 and data.draw(5).shape == (5, 2)
    assert torch.equal(Data("mine", [2], train=[[0, 0], [3, 3]]).train, torch.tensor([[0., 0.], [3., 3.]]))
