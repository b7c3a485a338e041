"""The package imports without Jupyter, without a plotting back end, and touches neither a device nor the network."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

views = {"stage", "lessons", "server", "controls", "lab", "population_lab", "sweep_lab", "playground", "portrait", "explorer", "compare", "watching", "page"}
package = Path(__file__).resolve().parents[1]/"gan_nb"
modules = ["gan_nb"] + [f"gan_nb.{p.stem}" for p in sorted(package.glob("*.py")) if p.stem not in views
    and p.stem[0] != "_"]

# Imports the named modules in an interpreter in which Jupyter, pyplot and the network are out of reach, and says what
# each of them tried, what it printed, and how it failed.
guard = '''
import contextlib, importlib, io, json, socket, sys, traceback
unwanted = {"IPython", "ipywidgets", "ipykernel", "jupyterlab", "notebook", "anywidget", "matplotlib.pyplot"}
tried = []
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name not in unwanted: return
        tried.append(name)
        raise ImportError(f"{name} is not here")
def refuse(*args, **kwargs):
    tried.append("the network")
    raise OSError("the network is out of reach")
sys.meta_path.insert(0, Missing())
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
seen = {}
for name in sys.argv[1:]:
    tried.clear()
    error = ""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try: importlib.import_module(name)
        except BaseException: error = traceback.format_exc()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized(): tried.append("the GPU")
    seen[name] = dict(tried=sorted(set(tried)), printed=printed.getvalue(), error=error)
print(json.dumps(seen))
'''

def look(folder: Path, *names) -> dict:
    done = subprocess.run([sys.executable, "-c", guard, *names], capture_output=True, text=True, cwd=folder,
        timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def seen(): return look(package.parent, *modules)


@pytest.mark.parametrize("module", modules)
def test_imports_without_jupyter(module, seen): assert seen[module] == dict(tried=[], printed="", error="")


def test_the_guard_sees(tmp_path):
    "What the test above looks for, it finds."
    (tmp_path/"shy.py").write_text("try: import IPython\nexcept ImportError: pass\n")
    (tmp_path/"bold.py").write_text("import matplotlib.pyplot\n")
    (tmp_path/"far.py").write_text("import urllib.request as u\nu.urlopen('http://localhost:1')\n")
    (tmp_path/"loud.py").write_text("print('hello')\n")
    seen = look(tmp_path, "shy", "bold", "far", "loud", "json")
    assert seen["shy"]["tried"] == ["IPython"] and not seen["shy"]["error"]
    assert seen["bold"]["tried"] == ["matplotlib.pyplot"] and "is not here" in seen["bold"]["error"]
    assert seen["far"]["tried"] == ["the network"]
    assert seen["loud"]["printed"] == "hello\n"
    assert seen["json"] == dict(tried=[], printed="", error="")


offers = {
    "quick":                "import gan_nb, sys; assert 'torch' not in sys.modules",
    "the command line":     "import gan_nb.cli, sys; assert 'torch' not in sys.modules",
    "listed":               "import gan_nb; assert set(gan_nb.__all__) <= set(dir(gan_nb))",
    "by name":              "from gan_nb import Run, Recipe, recipe, recipes; assert recipe('ring') == Run('ring').recipe",
    "all":                  "from gan_nb import *; assert 'ring' in recipes() and Run('ring').round == 0",
    "after its room":       "from gan_nb.recipes import recipe; from gan_nb import recipes; assert 'ring' in recipes()",
    "as a room's name":     "import gan_nb.recipes as recipes; assert 'ring' in recipes()",
    "rooms":                "import gan_nb; assert gan_nb.training.Run is gan_nb.Run; from gan_nb import data; data.load",
    "nothing else":         "import gan_nb; assert not hasattr(gan_nb, 'nowhere') and not hasattr(gan_nb, '_nowhere')",
    "a room that is broken": "import gan_nb, sys; sys.modules['torch'] = None\ntry: gan_nb.Run\nexcept ImportError: pass\nelse: assert 0",
}

# A process for each piece of code that it is given, in which nothing of ours is imported yet. PyTorch, which takes a second
# each time, is there already for those that do not ask about it; says how each of them ended.
apart = '''
import json, os, sys
def ended(code):
    sys.stderr.flush()
    pid = os.fork()
    if pid: return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try: exec(code, {})
    except BaseException:
        import traceback; traceback.print_exc(); sys.stderr.flush()
        os._exit(1)
    os._exit(0)
codes = json.loads(sys.argv[1])
how = {name: ended(code) for name, code in codes.items() if "sys" in code}
import torch
assert not any(name.split(".")[0] == "gan_nb" for name in sys.modules)
print(json.dumps(how | {name: ended(code) for name, code in codes.items() if name not in how}))
'''

@pytest.fixture(scope="module")
def came():
    done = subprocess.run([sys.executable, "-c", apart, json.dumps(offers)], capture_output=True, text=True, cwd=package.parent, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("what", offers)
def test_what_the_package_offers_is_imported_when_it_is_asked_for(what, came):
    how, said = came
    assert how[what] == 0, said
