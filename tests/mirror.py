"""How our code looks beside that of model codebases. A mirror: it asserts nothing.

    python tests/mirror.py            this project, module by module
    python tests/mirror.py FOLDER ... other code, counted in the same way; each folder with modules is one line

How it is counted:

- module: all lines of an exported module (its generated index and `__init__` are left out);
- cell: all lines of a cell that is exported, its directive among them;
- tokens: what Python's tokenizer finds in the body of a function, without comments, line ends and indentation; nested
  ones and methods are functions too, and a docstring is one token;
- over 120: the share of lines longer than 120 characters, among those that are neither empty nor a comment;
- class: lines of a class from its name to its end, and how many functions are defined in it directly;
- nesting: how many of if, for, while, with, try and match stand inside each other in a function;
- docstrings: of the functions and classes of a module whose name begins with no underscore.
"""
import argparse
import ast
import io
import json
import math
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

root = Path(__file__).resolve().parents[1]
generated = ("_modidx.py", "__init__.py")
no_words = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER,
            tokenize.ENCODING}
blocks = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
functions = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Count:
    "What was found in some source code, number by number."
    modules: list = field(default_factory=list)     # lines
    cells: list = field(default_factory=list)       # lines
    tokens: list = field(default_factory=list)      # of each function's body
    depths: list = field(default_factory=list)      # of each function
    classes: list = field(default_factory=list)     # lines
    methods: list = field(default_factory=list)     # of each class
    is_long: list = field(default_factory=list)     # of each line of code
    has_words: list = field(default_factory=list)   # of each public name

    def __add__(self, other): return Count(*(getattr(self, name) + getattr(other, name) for name in vars(self)))

    def row(self) -> list:
        "As it is shown under `columns`."
        share = lambda flags: f"{100 * sum(flags) / len(flags):.1f} %" if flags else "-"
        text = [at(self.modules, 50, 100), at(self.cells, 50, 90), at(self.tokens, 50, 90), share(self.is_long)]
        shape = [at(self.classes, 50, 100), at(self.methods, 50, 100), at(self.depths, 90, 100)]
        return [*text, *shape, share(self.has_words)]

columns = ["module lines", "cell lines", "body tokens", "over 120", "class lines", "methods", "nesting", "docstrings"]
meaning = ["median/most", "median/p90", "median/p90", "", "median/most", "median/most", "p90/most", ""]

def at(numbers, *percents) -> str:
    "What is at these percentiles, as text."
    return " / ".join(f"{percentile(numbers, p):.0f}" for p in percents) if numbers else "-"

def percentile(numbers, percent) -> float:
    "Between two numbers: in a straight line."
    numbers, at = sorted(numbers), percent / 100 * (len(numbers) - 1)
    low, high = numbers[math.floor(at)], numbers[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


# Counting

def count_module(text: str) -> Count:
    tree, lines = ast.parse(text), text.splitlines()
    found = Count(modules=[len(lines)])
    found.is_long = [len(line) > 120 for line in lines if line.strip() and not line.strip().startswith("#")]
    for node in ast.walk(tree):
        if isinstance(node, functions):
            found.tokens.append(sum(n_tokens(ast.get_source_segment(text, part, padded=True)) for part in node.body))
            found.depths.append(depth(node))
        if isinstance(node, ast.ClassDef):
            found.classes.append(node.end_lineno - node.lineno + 1)
            found.methods.append(sum(isinstance(part, functions) for part in node.body))
    public = [node for node in tree.body if isinstance(node, (*functions, ast.ClassDef)) and node.name[0] != "_"]
    found.has_words = [ast.get_docstring(node) is not None for node in public]
    return found

def n_tokens(text: str) -> int:
    lines = text.splitlines()
    indent = re.match(r"\s*", lines[0])[0]
    text = "\n".join(line.removeprefix(indent) for line in lines)
    return sum(token.type not in no_words for token in tokenize.generate_tokens(io.StringIO(text).readline))

def depth(node) -> int:
    "How deep blocks stand in each other below `node`; not in functions and classes inside it."
    below = [part for part in ast.iter_child_nodes(node) if not isinstance(part, (*functions, ast.ClassDef))]
    return max((depth(part) + (isinstance(part, blocks) and not is_elif(node, part)) for part in below), default=0)

def is_elif(node, part) -> bool:
    is_last = isinstance(node, ast.If) and isinstance(part, ast.If) and node.orelse == [part]
    return is_last and node.col_offset == part.col_offset

def count_cells(path: Path) -> list:
    "Lines of each exported cell of a notebook."
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    texts = ["".join(c["source"]) for c in cells]
    return [len(text.split("\n")) for text in texts if re.search(r"^\s*#\s*\|\s*exports?\b", text, re.M)]

def count_folder(folder: Path) -> dict:
    "{module: Count} of a folder of modules."
    paths = [p for p in sorted(folder.glob("*.py")) if p.name not in generated]
    return {p.stem: count_module(p.read_text(encoding="utf-8")) for p in paths}

def count_project(folder: Path) -> dict:
    "The same of this project, in the order of its notebooks, with their cells."
    modules, notebooks = count_folder(folder/"gan_nb"), {}
    for path in sorted((folder/"nbs").glob("*.ipynb")):
        match = re.search(r"#\s*\|\s*default_exp (\w+)", path.read_text(encoding="utf-8"))
        if match and match[1] in modules:
            modules[match[1]].cells = count_cells(path)
            notebooks[match[1]] = path.stem
    order = sorted(modules, key=lambda name: notebooks.get(name, "~"))
    return {f"{notebooks[name][:2] if name in notebooks else '  '} {name}": modules[name] for name in order}


# Showing

# Classes, methods and nesting were counted by this script, the rest before it was written; it finds about the same there.
models = {
    "miniai": ["78 / 238", "8 / 22", "32 / 105", "0.5 %", "10 / 54", "2 / 9", "1 / 3", "4 %"],
    "fastcore": ["194 / 1507", "7 / 18", "28 / 105", "3.1 %", "7 / 162", "2 / 18", "2 / 5", "91 %"],
    "optax": ["209 / 2794", "-", "62 / 298", "0.1 %", "7 / 189", "0 / 6", "1 / 4", "94 %"],
    "R3GAN": ["76 / 474", "-", "38 / 125", "5.8 %", "12 / 41", "2 / 4", "1 / 1", "0 %"],
}
aim = ["<= 400", "14 / 40", "40 / 125", "3.0 %", "-", "-", "-", "96 %"]

def show(rows: dict) -> None:
    "Names and the figures of each, in columns."
    width = max(map(len, rows)) + 2
    print(" " * width + "".join(f"{name:>14}" for name in columns))
    print(" " * width + "".join(f"{name:>14}" for name in meaning))
    for name, row in rows.items(): print(f"{name:<{width}}" + "".join(f"{value:>14}" for value in row))

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    folders = parser.parse_args().folders
    if folders:
        return show({str(folder): sum(count_folder(folder).values(), Count()).row() for folder in folders})
    ours = count_project(root)
    rows = {name: count.row() for name, count in ours.items()}
    show(rows | {"gan_nb": sum(ours.values(), Count()).row(), "": [""] * len(columns)} | models | {"aim": aim})

if __name__ == "__main__": main()
