"The house is as ARCHITECTURE.md says: rooms import downwards, through the doors it lists; no name has two addresses."
import ast
from pathlib import Path

import pytest

import notebooks as nbs

root = Path(__file__).resolve().parents[1]
numbers = nbs.module_numbers(root)
above_jupyter = 60 # notebooks up to this number, plots the last of them, need no Jupyter
jupyter = {"ipywidgets", "IPython", "jupyterlab", "traitlets", "anywidget", "ipykernel", "notebook"}


def tree(module): return ast.parse((root/f"gan_nb/{module}.py").read_text(encoding="utf-8"))


def own_imports(node):
    "The rooms that are imported anywhere below a node of the syntax tree."
    for part in ast.walk(node):
        if isinstance(part, ast.ImportFrom):
            name = (part.module or "").removeprefix("gan_nb").lstrip(".")
            if not part.level and not (part.module or "").startswith("gan_nb"): continue
            yield from [name.split(".")[0]] if name else [a.name for a in part.names if a.name in numbers]
        elif isinstance(part, ast.Import):
            yield from (a.name.split(".")[1] for a in part.names if a.name.startswith("gan_nb."))


def upward(module):
    "What a room imports from above, with where: {(function or class and method, room)}."
    found = set()
    def look(node, path):
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                found.update((".".join(path), room) for room in own_imports(child) if numbers[room] >= numbers[module])
            else: look(child, [*path, child.name] if named else path)
    look(tree(module), [])
    return found


def public(module):
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__": return ast.literal_eval(node.value)
    return []


def test_every_room_has_a_number_of_its_own():
    assert len(numbers) > 30 and len(set(numbers.values())) == len(numbers)
    written = {p.stem for p in nbs.generated(root)} - {"_modidx"}
    assert written == set(numbers)


def test_rooms_import_downwards_but_through_the_doors_that_are_listed():
    found = {(module, where, room) for module in numbers for where, room in upward(module)}
    assert found == nbs.doors()
    assert all(where for _, where, _ in found), "a door is inside a function, never at the top of a module"


def test_an_import_from_above_would_be_seen(monkeypatch):
    text = "from .lab import Lab\ndef f():\n    import gan_nb.training\nclass A:\n    def m(self):\n        from gan_nb import plots"
    monkeypatch.setitem(globals(), "tree", lambda module: ast.parse(text))
    assert upward("core") == {("", "lab"), ("f", "training"), ("A.m", "plots")}


def test_no_name_has_two_addresses():
    homes = {}
    for module in numbers:
        for name in public(module): homes.setdefault(name, []).append(module)
        assert "_all_" not in {t.id for n in tree(module).body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    assert {name: rooms for name, rooms in homes.items() if len(rooms) > 1} == {}


@pytest.mark.parametrize("module", numbers)
def test_what_a_room_needs(module):
    foreign = {name.split(".")[0] for name, _ in nbs.imports((root/f"gan_nb/{module}.py").read_text(encoding="utf-8"))}
    assert "fastcore" not in foreign
    if numbers[module] <= above_jupyter: assert not foreign & jupyter


def test_game_method_and_average_travel_together():
    "in an Experiment; the one place that takes them apart is where it is made"
    apart = []
    for module in numbers:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef):
                names = {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
                if {"game", "method", "average"} <= names: apart.append(f"{module}.{node.name}")
    assert len(apart) <= 2, apart


def test_the_run_is_a_thin_face():
    run = next(n for n in tree("training").body if isinstance(n, ast.ClassDef) and n.name == "Run")
    methods = [n for n in run.body if isinstance(n, ast.FunctionDef)]
    statements = [sum(isinstance(s, ast.stmt) for s in ast.walk(m)) for m in methods]
    assert sum(statements) < 260 and sorted(statements)[len(statements) // 2] <= 6, statements
