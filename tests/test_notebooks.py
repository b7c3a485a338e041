"Notebooks, modules and README.md agree, notebooks are clean, and the checks that say so see what they look for."
import copy
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

import notebooks as nbs

every = nbs.paths()
name = lambda path: str(path.relative_to(nbs.root))
each = pytest.mark.parametrize("path", every, ids=name)


@pytest.fixture(scope="session")
def synced(tmp_path_factory):
    "A project of one notebook, with its module and README.md."
    folder = tmp_path_factory.mktemp("small")
    (folder/"nbs").mkdir()
    (folder/"gan_nb").mkdir()
    (folder/"gan_nb/__init__.py").write_text('__version__ = "0"\n')
    for file in ("pyproject.toml", "LICENSE"): (folder/file).write_bytes((nbs.root/file).read_bytes())
    save(folder/"nbs/10_one.ipynb", notebook("#| default_exp one", "#| export\ndef one(): return 1", "one() + 1"))
    save(folder/"index.ipynb", notebook("#| hide\nimport torch", "#| export\n1", "#| echo: false\nprint('seen')"))
    nbs.sync(folder)
    return folder


@pytest.fixture
def small(synced, tmp_path):
    "A copy of that project, to be broken."
    return Path(shutil.copytree(synced, tmp_path, dirs_exist_ok=True))


def notebook(*code) -> dict:
    title = dict(cell_type="markdown", id="title", metadata={}, source="# Small\n\n> A notebook to break.")
    empty = dict(cell_type="code", metadata={}, execution_count=None, outputs=[])
    cells = [dict(copy.deepcopy(empty), id=f"cell{i}", source=s) for i, s in enumerate(code)]
    kernel = dict(display_name="python3", language="python", name="python3")
    return dict(cells=[title] + cells, metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)


def save(path, nb):
    path.write_text(nbs.as_text(nb), encoding="utf-8")
    return path


def stream(text, to="stdout"): return dict(output_type="stream", name=to, text=text)


# The project

def test_modules_are_what_the_notebooks_say(): assert nbs.sync_problems() == []

def test_readme_is_what_the_index_says(): assert nbs.readme_problems() == []

@each
def test_is_clean(path): assert nbs.dirt(path) == []

@each
def test_imports_from_smaller_numbers(path): assert nbs.import_problems(path, nbs.module_numbers()) == []

@each
def test_links_lead_somewhere(path): assert nbs.broken_links(path) == []


def tracked():
    "The text files under version control; where there is no git, those of a source archive."
    done = subprocess.run(["git", "ls-files", "-z"], cwd=nbs.root, capture_output=True, text=True)
    files = done.stdout.split("\0") if done.returncode == 0 else [str(p) for p in nbs.root.rglob("*.py")]
    return [nbs.root/f for f in files if f and (nbs.root/f).is_file()]


def test_no_merge_is_left_unfinished():
    found = {name(p): nbs.conflict_markers(p.read_text(encoding="utf-8", errors="ignore")) for p in tracked()}
    assert {k: v for k, v in found.items() if v} == {}


@cache
def provides(distribution):
    "The top-level modules that an installed distribution brings."
    try: return {f.parts[0].removesuffix(".py") for f in metadata.files(distribution) or []}
    except metadata.PackageNotFoundError: return set()


@each
def test_imports_are_declared(path):
    "Whoever installs gan_nb has what its modules import, and whoever installs gan_nb[dev] what its notebooks do."
    required = [(nbs.re.match(r"[\w.-]+", r)[0], "extra ==" in r) for r in metadata.requires("gan_nb")]
    always = {top for r, extra in required if not extra for top in provides(r)}
    tests = {top for r, _ in required for top in provides(r)} | {"IPython"}
    found = []
    for cell in nbs.code_cells(nbs.read(path)):
        if nbs.source(cell).startswith("%%"): continue
        allowed = nbs.sys.stdlib_module_names | {"gan_nb"} | (always | nbs.optional & tests if nbs.is_exported(cell) else tests)
        found += [module for module, _ in nbs.imports(nbs.source(cell)) if module.split(".")[0] not in allowed]
    assert found == []


# The checks themselves: each one fails on a bad example

def test_small_project_is_in_order(small): assert nbs.check(small) == []


def test_a_changed_module_is_seen(small):
    module = small/"gan_nb/one.py"
    module.write_text(module.read_text().replace("return 1", "return 2"))
    assert "gan_nb/one.py: not what its notebook says" in nbs.sync_problems(small)


def test_a_missing_module_is_seen(small):
    (small/"gan_nb/one.py").unlink()
    assert "gan_nb/one.py: missing" in nbs.sync_problems(small)


def test_a_renamed_notebook_is_seen(small):
    nb = notebook("#| default_exp two", "#| export\ndef two(): return 2")
    (small/"nbs/10_one.ipynb").unlink()
    save(small/"nbs/10_two.ipynb", nb)
    problems = nbs.sync_problems(small)
    assert "gan_nb/one.py: written from 10_one.ipynb, which is gone" in problems
    assert "gan_nb/one.py: no notebook writes it" in problems
    nbs.sync(small)
    assert nbs.check(small) == [] and not (small/"gan_nb/one.py").exists()


def test_two_notebooks_for_one_module_are_seen(small):
    save(small/"nbs/20_copy.ipynb", nbs.read(small/"nbs/10_one.ipynb"))
    assert nbs.doubles(small) == ["20_copy.ipynb and 10_one.ipynb both export to one"]


def dirty(change):
    "A clean notebook after `change`, and what the checks say to it."
    nb = notebook("1 + 1")
    change(nb, nb["cells"][1])
    return nb

DIRT = {
    "has an execution count": lambda nb, c: c.update(execution_count=3),
    "has no id":              lambda nb, c: c.pop("id"),
    "share an id":            lambda nb, c: c.update(id="title"),
    "widget state":           lambda nb, c: nb["metadata"].update(widgets={}),
    "shows a widget":         lambda nb,
    c: c.update(outputs=[dict(output_type="display_data", metadata={}, data={nbs.widget_view: {}})]),
    "more than 300,000":      lambda nb, c: c.update(outputs=[stream("x" * 300_001)]),
    "wrote to stderr":        lambda nb, c: c.update(outputs=[stream("a warning", "stderr")]),
    "failed: E: it broke":    lambda nb,
    c: c.update(outputs=[dict(output_type="error", ename="E", evalue="it broke", traceback=[])]),
    "not a valid notebook":   lambda nb, c: c.update(outputs=[dict(stream("text"), metadata={})]),
    "nbdev-clean removes":    lambda nb, c: c.update(metadata={"collapsed": True}),
    "path of one machine":    lambda nb, c: c.update(outputs=[stream("saved in /" + "home/ada/runs")]),
}

@pytest.mark.parametrize("says", DIRT)
def test_dirt_is_seen(says, tmp_path):
    path = save(tmp_path/"a.ipynb", dirty(DIRT[says]))
    assert says in "; ".join(nbs.dirt(path))


def test_a_clean_notebook_passes(tmp_path):
    assert nbs.dirt(save(tmp_path/"a.ipynb", dirty(lambda nb, c: c.update(outputs=[stream("see /usr/share")])))) == []


def test_cleaning_removes_what_changes_from_run_to_run(tmp_path):
    def all_of(nb, cell):
        cell.update(execution_count=2, metadata={"collapsed": True}, outputs=[stream("kept"), stream("gone", "stderr")])
        nb["metadata"].update(widgets={}, language_info={"version": "3"})
    nb = nbs.cleaned(dirty(all_of))
    assert nbs.dirt(save(tmp_path/"a.ipynb", nb)) == []
    assert [o["text"] for o in nb["cells"][1]["outputs"]] == ["kept"]


def test_conflict_markers_are_seen():
    ours, theirs = "<" * 7 + " HEAD", ">" * 7 + " theirs"
    assert nbs.conflict_markers(f"a\n{ours}\nb\n") == ["line 2: a merge conflict marker"]
    assert len(nbs.conflict_markers(f'[\n    "{ours}\\n",\n  "{theirs}"\n]')) == 2
    assert nbs.conflict_markers("=======\n>>> 1 << 2\n") == []


def test_imports_against_the_order_are_seen(tmp_path):
    numbers = dict(core=0, rules=25, lab=55)
    (tmp_path/"nbs").mkdir()
    def problems(*code): return nbs.import_problems(save(tmp_path/"nbs/25_rules.ipynb", notebook(*code)), numbers)
    assert problems("#| export\nfrom gan_nb.core import nearest\nimport math, torch",
        "import scipy\nfrom gan_nb.rules import sgd\n%time 1") == []
    assert "gan_nb.lab" in problems("from gan_nb.lab import Lab")[0]
    assert "gan_nb.lab" in problems("from gan_nb import lab")[0]
    assert "gan_nb.rules" in problems("#| export\nimport gan_nb.rules")[0]
    assert "the core may not import pandas" in problems("#| export\ndef f():\n    from pandas import Series")
    assert "instead of from its module" in problems("#| export\nfrom gan_nb import Run")[0]


def test_a_link_to_nowhere_is_seen(small):
    nb = nbs.read(small/"index.ipynb")
    nb["cells"][0]["source"] = "# A\n[one](nbs/10_one.ipynb#x) [two](nbs/two.ipynb) [web](https://example.org) `f[0](1)`"
    assert nbs.broken_links(save(small/"index.ipynb", nb)) == ["a link to nbs/two.ipynb, which does not exist"]


# README.md

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="

def test_readme_shows_what_a_reader_wants(small):
    nb = notebook("#| hide\nsecret()", "#| export\ndef hidden(): pass", "#| echo: false\nshown()", "#| slow\n2 + 2",
        "widget()", "%matplotlib inline\nplot()")
    nb["cells"][3]["outputs"] = [stream("only this")]
    nb["cells"][5]["outputs"] = [dict(output_type="display_data", metadata={},
        data={nbs.widget_view: {}, "text/plain": "Lab()"})]
    nb["cells"][6]["outputs"] = [dict(output_type="display_data", metadata={},
        data={"image/png": PIXEL, "text/plain": "<Figure>"})]
    made = nbs.readme(save(small/"index.ipynb", nb).parent)
    text = made["README.md"].decode()
    for word in ("# Small", "only this", "2 + 2", "widget()", "plot()", "readme_files/cell5-0.png"):
        assert word in text, word
    for word in ("secret", "hidden", "shown()", "#|", "Lab()", "%matplotlib", "<Figure>"): assert word not in text, word
    assert made["readme_files/cell5-0.png"].startswith(b"\x89PNG")
    assert nbs.readme(small) == made


def test_an_old_readme_is_seen(small):
    (small/"README.md").write_text("old")
    (small/nbs.readme_files).mkdir(exist_ok=True)
    (small/nbs.readme_files/"old.png").write_bytes(b"")
    assert nbs.readme_problems(small) == ["README.md: not what index.ipynb gives",
        "readme_files/old.png: index.ipynb gives no such picture"]


# The kernel

def test_errors_in_a_kernel_are_seen(tmp_path):
    "An error of a cell, one inside an Output widget, one in a thread, and none in the cells that are skipped."
    widget = "import ipywidgets\nout = ipywidgets.Output()\nwith out: 1/0\nout"
    thread = "import threading\nt = threading.Thread(target=lambda: [].pop()); t.start(); t.join()"
    path = save(tmp_path/"a.ipynb",
        notebook("undefined", widget, thread, "#| slow\nskipped_1", "#| eval: false\nskipped_2"))
    found = "\n".join(nbs.kernel_errors(nbs.execute(path)))
    assert "NameError" in found and "a widget: ZeroDivisionError" in found and "IndexError" in found
    assert "skipped" not in found


def test_a_good_notebook_runs(tmp_path):
    nb = nbs.execute(save(tmp_path/"a.ipynb", notebook("x = 1", "x + 1")))
    assert nbs.kernel_errors(nb) == []
    assert nb.cells[1].outputs[0].data["text/plain"] == "2"


def test_only_what_shows_a_view_or_speaks_to_the_shell_needs_a_kernel(tmp_path):
    for i, (code, needs) in enumerate((("Lab(run)", True), ("import threading", False), ("!ls", True), ("x = 1\n%time x", True), ("panel = watch(run)", True),
                                       ("draw(run)", False), ("labels = Labels(3)", False))):
        path = tmp_path/f"{i}.ipynb"
        path.write_text(nbs.json.dumps(dict(cells=[dict(cell_type="code", source=code)])))
        assert nbs.needs_kernel(path) == needs, code
    assert {p.name for p in nbs.paths() if nbs.needs_kernel(p)} >= {"65_lab.ipynb", "68_playground.ipynb", "index.ipynb"}
