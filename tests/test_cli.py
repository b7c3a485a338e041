"The command line, as a terminal or a job queue meets it: folders, exit statuses, signals."
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gan_nb.cli import contents, main
from gan_nb.training import Run

command = [sys.executable, "-c", "import sys; from gan_nb.cli import main; sys.exit(main())"]
small = ["--set", "hidden=16 16", "--set", "batch_size=32", "--set", "device=cpu"]


def gan_nb(folder, *words):
    return subprocess.run([*command, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=300)

def begin(folder, *words):
    "A command in the background, after its first save."
    process = subprocess.Popen([*command, *map(str, words)], cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        if (folder/"runs/ring-seed0"/contents[-1]).exists() or process.poll() is not None: break
        time.sleep(.1)
    return process

def one_line(text):
    assert text.startswith("gan-nb: "), text
    assert text.endswith("\n"), text
    assert text.count("\n") == 1, text
    assert "Traceback" not in text, text
    return text

def same_tensors(a, b):
    a, b = load_file(a/contents[-1]), load_file(b/contents[-1])
    differing = [k for k in a if k != "records" and not torch.equal(a[k], b[k])]
    assert a.keys() == b.keys() and not differing, differing
    # all but the seconds
    a, b = (x["records"].index_select(1, torch.tensor([0, *range(2, x["records"].shape[1])])) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A working folder with a finished run of 50 rounds."
    folder = tmp_path_factory.mktemp("trained")
    done = gan_nb(folder, "train", "ring", "--rounds", 50, *small)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    "Call a command that must be refused, in an empty folder; its one line, and nothing written."
    monkeypatch.chdir(tmp_path)
    def call(*words):
        before = sorted(tmp_path.rglob("*"))
        assert main([str(w) for w in words]) == 2
        assert sorted(tmp_path.rglob("*")) == before
        return one_line(capsys.readouterr().err)
    return call


# What training leaves

def test_train_writes_a_run_folder(trained):
    folder = trained/"runs/ring-seed0"
    assert {p.name for p in folder.iterdir()} == set(contents)
    assert (folder/"recipe.ini").read_text().startswith("# seed = 0\n[ring]\n")
    assert len((folder/"records.csv").read_text().splitlines()) == 51
    for name in ("samples.png", "losses.png"): assert min(Image.open(folder/name).size) > 100
    run = Run.load(folder)
    assert (run.round, run.recipe.rounds, run.recipe.hidden_gen) == (50, 50, (16, 16))


def test_fewer_rounds_than_the_recipe_are_mentioned(tmp_path, capsys):
    assert main(["train", "ring", "--rounds", "2", "--out", str(tmp_path/"a"), *small]) == 0
    done = capsys.readouterr()
    assert done.out.splitlines()[0] == "ring: 2 rounds instead of the recipe's 10,000, and its schedule is fitted to them"
    assert done.err == ""                                          # no bar where nobody looks


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = ["--set", "schedule=constant", *small]
    assert main(["train", "ring", "--rounds", "40", "--out", "whole", *plan]) == 0
    assert main(["train", "ring", "--rounds", "15", "--out", "parts", *plan]) == 0
    assert gan_nb(tmp_path, "resume", "parts", "--rounds", 25).returncode == 0
    same_tensors(tmp_path/"whole", tmp_path/"parts")


def test_resume_has_nothing_to_do_after_the_last_round(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    before = {p: p.read_bytes() for p in (trained/"runs/ring-seed0").iterdir()}
    assert main(["resume", "runs/ring-seed0"]) == 0 and "all 50 rounds are done" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in (trained/"runs/ring-seed0").iterdir()} == before


def test_resume_past_the_plan_stretches_the_schedule(trained, tmp_path, monkeypatch):
    import shutil
    shutil.copytree(trained/"runs/ring-seed0", tmp_path/"a")
    monkeypatch.chdir(tmp_path)
    before = Run.load("a").state.params["gen"]
    assert main(["resume", "a", "--rounds", "50"]) == 0
    run = Run.load("a")
    assert (run.round, run.recipe.rounds, len(run.edits)) == (100, 100, 1)
    assert any(not torch.equal(before[k], v) for k, v in run.state.params["gen"].items())


# What it refuses

@pytest.mark.parametrize("words, says", {
    "train rink":                              "did you mean 'ring'?",
    "train ring --set momentun=0.5":           "did you mean 'momentum'?",
    "train ring --set folder=x":               "setting: 'folder' is unknown",
    "train ring --set loss=minmax":            "did you mean 'minimax'?",
    "train ring --set lr=fast":                "lr_gen: 'fast' came; allowed is a finite number",
    "train ring --set lr":                     "allowed is key=value",
    "train ring --rounds 0":                   "allowed is a whole number of at least 1",
    "train ring --seed -1":                    "allowed is a whole number of at least 0",
    "train ring --round 5":                    "unrecognized arguments: --round",
    "trian ring":                              "'train'",
    "":                                        "COMMAND",
    "resume nowhere":                          "holds no run",
    "sample nowhere --n 4 --out a.png":        "holds no run",
    "resume nowhere --set lr=0.1":             "holds no run",
    "doctor nowhere":                          "holds no run",
    "doctor":                                  "DIR",
    "evaluate nowhere":                        "holds no run",
    "evaluate nowhere --n 5":                  "allowed is a whole number of at least 10",
    "sample nowhere --n 4 --out a.jpg":        "ends in .png, .npy, .gif, .txt, .nii",
    "lab index.ipynb":                         "index.ipynb: no such notebook",
    "lab notes.txt":                           "notes.txt: no such notebook",
    "lab --no-browser":                        "unrecognized arguments: --no-browser",
}.items(), ids=str)
def test_bad_input_is_one_line(refused, words, says):
    assert says in refused(*words.split())


def test_bad_input_from_a_terminal(tmp_path):
    done = gan_nb(tmp_path, "train", "rink")
    assert done.returncode == 2 and done.stdout == "" and "did you mean 'ring'?" in one_line(done.stderr)


def test_bad_settings_file_is_one_line(refused, tmp_path):
    (tmp_path/"settings.ini").write_text("[mine]\nbase = ring\nlr = fast\n")
    assert "lr_gen: 'fast' came" in refused("recipes")


def test_a_damaged_checkpoint_is_one_line(refused, tmp_path):
    (tmp_path/"a").mkdir()
    (tmp_path/"a"/contents[-1]).write_bytes(b"not a checkpoint")
    assert "not a whole checkpoint" in refused("resume", "a")


def test_a_folder_that_cannot_be_written(refused, tmp_path):
    (tmp_path/"file").write_text("")
    for out in ("file", "file/below"): assert "cannot be written" in refused("train", "ring", "--out", out, *small)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused, tmp_path):
    (tmp_path/"locked").mkdir(mode=0o500)
    assert "cannot be written" in refused("train", "ring", "--out", "locked/a", *small)


def test_a_run_is_never_written_over(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    before = {p: p.read_bytes() for p in (trained/"runs/ring-seed0").iterdir()}
    assert main(["train", "ring", "--rounds", "50", *small]) == 2
    line = one_line(capsys.readouterr().err)
    assert "gan-nb resume runs/ring-seed0" in line and "--out" in line
    assert {p: p.read_bytes() for p in (trained/"runs/ring-seed0").iterdir()} == before


def test_foreign_files_are_not_written_over(refused, tmp_path):
    (tmp_path/"a").mkdir()
    (tmp_path/"a/samples.png").write_text("mine")
    assert "holds samples.png already" in refused("train", "ring", "--out", "a", *small)


# How it ends

@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_is_saved_and_goes_on(tmp_path, how):
    process = begin(tmp_path, "train", "ring", "--rounds", 100_000, *small)
    time.sleep(1)
    process.send_signal(getattr(signal, how))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "gan-nb resume runs/ring-seed0" in one_line(err)
    folder = tmp_path/"runs/ring-seed0"
    run = Run.load(folder)
    assert 0 < run.round < 100_000 and len(run.records) == run.round
    assert {p.name for p in folder.iterdir()} == {*contents, "points"} or run.round < 50
    if how == "SIGINT":
        whole = Run(run.start_recipe).fit(run.round, progress=False)
        whole.save(tmp_path/"whole")
        same_tensors(folder, tmp_path/"whole")


def test_a_diverged_run_is_saved(tmp_path, capsys):
    assert main(["train", "ring", "--out", str(tmp_path/"a"), "--set", "rule=sgd", "--set", "lr=1e20", *small]) == 3
    assert "not finite" in one_line(capsys.readouterr().err)
    assert {p.name for p in (tmp_path/"a").iterdir()} == {*contents, "diverged.json"}
    Run.load(tmp_path/"a")


def test_nobody_reads_what_it_says(tmp_path):
    done = subprocess.run(["bash", "-c", 'set -o pipefail; "$@" recipes | true', "-", *command], cwd=tmp_path,
        capture_output=True, text=True)
    assert done.stderr == "" and done.returncode == 0


# What can be had from a run

def test_sample_array_and_picture(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    array, picture = tmp_path/"new/a.npy", tmp_path/"a.png"
    assert gan_nb(trained, "sample", "runs/ring-seed0", "--n", 70, "--out", array).returncode == 0
    assert main(["sample", "runs/ring-seed0", "--n", "70", "--out", str(picture)]) == 0
    samples = np.load(array)
    assert samples.shape == (70, 2) and samples.dtype == np.float32
    np.testing.assert_array_equal(samples, Run.load("runs/ring-seed0").samples(70).numpy())
    assert Image.open(picture).size == (400, 400)


def test_pictures_show_each_pixel_of_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "article", "--rounds", "1", "--out", "a", *small]) == 0
    assert main(["sample", "a", "--n", "9", "--out", "a.png", "--seed", "3"]) == 0
    assert main(["sample", "a", "--n", "9", "--out", "a.npy", "--seed", "3"]) == 0
    assert np.load("a.npy").shape == (9, 1, 28, 28)
    shown = np.asarray(Image.open("a.png").convert("L"), float)
    assert shown.shape == (2 * (3 * 29 + 1),) * 2
    np.testing.assert_allclose(shown[2:58:2, 2:58:2], (np.load("a.npy")[0, 0] + 1) * 127.5, atol=1)


# How a run is

def said(capsys, *words):
    "What a command that succeeds prints."
    assert main([str(w) for w in words]) == 0
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return out.out


def test_evaluate_a_mixture(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    found = json.loads(said(capsys, "evaluate", "runs/ring-seed0", "--n", 1200, "--json"))
    assert found["n"] == 1200
    assert found["judge"] is None
    assert set(found["scores"]) == {"modes", "high quality", "reverse KL"}
    assert abs(found["scores"]["high quality"]["perfect"] - .98889) < 1e-4 and found["scores"]["modes"]["perfect"] == 8
    assert found["notes"] == []
    table = said(capsys, "evaluate", "runs/ring-seed0", "--n", 50)
    assert "high quality" in table and "perfect" in table and "50 samples are few" in table
    assert said(capsys, "evaluate", "runs/ring-seed0", "--n", 50) == table
    assert table != said(capsys, "evaluate", "runs/ring-seed0", "--n", 50, "--seed", 1)


def test_evaluate_digits_names_the_judge(tmp_path, monkeypatch, capsys):
    from gan_nb.judges import judge
    monkeypatch.chdir(tmp_path)
    assert main(["train", "article", "--rounds", "3", "--out", "a", *small]) == 0
    capsys.readouterr()
    assert main(["evaluate", "a", "--n", "200", "--json"]) == 0
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert "200 samples are few" in one_line(out.err)
    assert found["judge"] == f"digits {judge().version}" and set(found["shares"]) == set("0123456789")
    scores = found["scores"]
    assert {"Fréchet distance", "kernel distance", "precision", "recall", "density", "coverage"} < set(scores)
    low, high = scores["Fréchet distance"]["interval"]
    assert low <= scores["Fréchet distance"]["value"] <= high and scores["Fréchet distance"]["real_against_real"] < low
    assert scores["coverage"]["value"] < .3 < scores["coverage"]["real_against_real"]
    assert f"judge: digits {judge().version}" in said(capsys, "evaluate", "a", "--n", 200)
    assert json.loads(said(capsys, "doctor", "a", "--json"))["evidence"]["judge"] == found["judge"]


ill = ["--rounds", "250", "--seed", "3", "--set", "lr=0.005", "--set", "momentum=0.9", "--set", "hidden=16 16",
    "--set", "batch_size=64", "--set", "halflife=0", "--set", "device=cpu"]

def test_the_doctors_remedy_can_be_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ring", "--out", "a run", *ill]) == 0
    capsys.readouterr()
    text, found = said(capsys, "doctor", "a run"), json.loads(said(capsys, "doctor", "a run", "--json"))
    assert found["findings"][0]["name"] in ("oscillation", "mode_collapse", "not_converged") and found["findings"][0]["reason"] in text
    assert "reached" in text
    assert f"{found['evidence']['reached']} of 8 modes" in text
    assert text.splitlines()[-1].strip() == found["remedy"]
    words = shlex.split(found["remedy"])
    assert words[:3] == ["gan-nb", "resume", "a run"] and main([*words[1:], "--rounds", "30"]) == 0
    run = Run.load(tmp_path/"a run", device="cpu")
    assert run.round == 280 and run.recipe.loss == "r3" and run.recipe.normalize_gen == ("orthogonal", 1.)
    assert [e.round for e in run.edits] == [250] and run.recipe.rounds == 3250
    assert "Too early" in said(capsys, "doctor", "a run")


def test_a_diverged_run_is_ill_and_its_remedy_starts_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ring", "--out", "a", "--rounds", "300", "--set", "rule=sgd", "--set", "lr=1e4",
        "--set", "momentum=0", "--set", "loss=wasserstein", *small]) == 3
    capsys.readouterr()
    found = json.loads(said(capsys, "doctor", "a", "--json"))
    words = shlex.split(found["remedy"])
    assert found["findings"][0]["name"] == "diverged" and words[:3] == ["gan-nb", "train", "ring"]
    assert main([*words[1:], "--rounds", "40", "--set", "device=cpu"]) == 0
    treated, run = Run.load(tmp_path/"a-treated", device="cpu"), Run.load(tmp_path/"a", device="cpu")
    assert treated.recipe.loss == "r3" and treated.recipe.hidden_gen == run.recipe.hidden_gen and treated.seed == run.seed


def test_settings_for_the_rest_of_a_run(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    assert main(["resume", "runs/ring-seed0", "--set", "data=grid"]) == 2
    assert "data: cannot change while a run is under way" in one_line(capsys.readouterr().err)
    assert main(["resume", "runs/ring-seed0", "--set", "lr=fast"]) == 2
    assert "lr_gen: 'fast' came" in one_line(capsys.readouterr().err)


def test_recipes_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"settings.ini").write_text("[mine]\nbase = ring\nlr_disc = 0.5\nclip = global_norm 1\n")
    assert main(["recipes"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "article" in lines and " / 0.5; clip global_norm 1; " in lines["mine"]


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_ends_with_0(words, capsys):
    with pytest.raises(SystemExit) as ended: main(words)
    assert ended.value.code == 0 and "RECIPE" in capsys.readouterr().out or words == ["--help"]


def test_training_needs_no_jupyter(tmp_path):
    code = ("import sys; from gan_nb.cli import main; main(['train', 'ring', '--rounds', '2', '--out', 'a']); "
            "sys.exit(any(m.split('.')[0] in ('IPython', 'ipywidgets', 'jupyterlab', 'ipykernel') or m == 'matplotlib.pyplot' for m in sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=300).returncode == 0


def test_own_data_from_a_path(tmp_path, capsys):
    import numpy as np
    from gan_nb.cli import main
    np.save(tmp_path/"points.npy", np.random.default_rng(0).normal(size=(60, 2)).astype("float32"))
    here, out = str(tmp_path/"points.npy"), str(tmp_path/"run")
    assert main(["train", "ring", "--rounds", "3", "--out", out, "--set", f"data={here}", "--set", "hidden=4",
        "--set", "batch_size=8"]) == 0
    for words in (["resume", out, "--rounds", "2"], ["evaluate", out, "--n", "40"]):
        assert main(words) == 2 and "--data in the shell" in capsys.readouterr().err
    for kind in ("npy", "png"): assert main(["sample", out, "--n", "4", "--out", str(tmp_path/f"alone.{kind}")]) == 0
    for words in (["resume", out, "--rounds", "2"], ["sample", out, "--n", "4", "--out", str(tmp_path/"x.npy")],
            ["evaluate", out, "--n", "40"], ["doctor", out]):
        assert main([*words, "--data", here]) == 0, words
    assert main(["train", "ring", "--set", "data=./nowhere", "--out", str(tmp_path/"b")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


# The lab

@pytest.fixture
def opened(tmp_path, monkeypatch):
    "In an empty folder, where no JupyterLab starts: what it would have been given, one list a call."
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jupyterlab.labapp.LabApp.launch_instance", calls.append)
    return calls


def test_the_lab_writes_a_notebook_to_start_from(opened, tmp_path, capsys):
    import nbformat
    assert main(["lab"]) == 0 and opened == [["start.ipynb"]]
    assert capsys.readouterr().out == "start.ipynb: written, to start from\n"
    assert [p.name for p in tmp_path.iterdir()] == ["start.ipynb"]
    nb = nbformat.read(tmp_path/"start.ipynb", 4)
    nbformat.validate(nb)
    first, *_ = nb.cells
    assert first.cell_type == "code" and first.source.startswith("from gan_nb.playground import Playground\n")
    assert nb.metadata.kernelspec.name == "python3"
    assert "Lab(" in nb.cells[2].source and "data=" in nb.cells[3].source


def test_the_lab_writes_over_nothing(opened, tmp_path, capsys):
    (tmp_path/"start.ipynb").write_text("mine")
    assert main(["lab"]) == 0 and opened == [["start.ipynb"]]
    (tmp_path/"index.ipynb").write_text("{}")
    assert main(["lab"]) == 0 and opened[1:] == [["index.ipynb"]]
    assert (tmp_path/"start.ipynb").read_text() == "mine" and capsys.readouterr().out == ""


def test_a_folder_in_the_place_of_the_starter(opened, tmp_path, capsys):
    (tmp_path/"start.ipynb").mkdir()
    assert main(["lab"]) == 2 and not opened
    assert "start.ipynb: cannot be written (is there already)" in one_line(capsys.readouterr().err)


def test_a_starter_that_cannot_be_written(opened, tmp_path, capsys, monkeypatch):
    def refuse(*args, **kwargs): raise PermissionError(13, "Permission denied", str(tmp_path))
    monkeypatch.setattr("gan_nb.files.tempfile.TemporaryDirectory", refuse)
    assert main(["lab"]) == 2 and not opened and not list(tmp_path.iterdir())
    assert "start.ipynb: cannot be written (Permission denied)" in one_line(capsys.readouterr().err)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_the_lab_in_a_folder_without_permission(opened, tmp_path, capsys):
    tmp_path.chmod(0o500)
    try: assert main(["lab"]) == 2 and not opened
    finally: tmp_path.chmod(0o700)
    assert "start.ipynb: cannot be written (Permission denied)" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("line, given", {
    "lab":                                     ["index.ipynb"],
    "lab --":                                  ["index.ipynb"],
    "lab other.ipynb":                         ["other.ipynb"],
    "lab other.ipynb --":                      ["other.ipynb"],
    "lab -- --no-browser --port 9":            ["index.ipynb", "--no-browser", "--port", "9"],
    "lab other.ipynb -- --no-browser --port=9": ["other.ipynb", "--no-browser", "--port=9"],
}.items(), ids=str)
def test_what_follows_two_dashes_is_for_jupyterlab(opened, tmp_path, line, given):
    for name in ("index.ipynb", "other.ipynb"): (tmp_path/name).write_text("{}")
    assert main(line.split()) == 0 and opened == [given]


def test_the_lab_opens_one_notebook(opened, tmp_path, capsys):
    for name in ("a.ipynb", "b.ipynb"): (tmp_path/name).write_text("{}")
    assert main(["lab", "a.ipynb", "b.ipynb"]) == 2 and not opened
    assert "'b.ipynb' came; allowed is one notebook" in one_line(capsys.readouterr().err)


def test_python_m_is_the_same(capsys):
    done = subprocess.run([sys.executable, "-m", "gan_nb", "recipes"], capture_output=True, text=True, timeout=120)
    assert main(["recipes"]) == 0
    assert (done.returncode, done.stdout) == (0, capsys.readouterr().out)
    assert subprocess.run([sys.executable, "-m", "gan_nb", "recipe"], capture_output=True, timeout=120).returncode == 2
