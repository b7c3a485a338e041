"A JupyterLab of our own and a real browser, for tests and for the pictures of the front page."
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat

chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync"]
patience = int(os.environ.get("PATIENCE", 120_000))     # ms; a busy machine must not fail a test


@contextmanager
def jupyter(folder: Path, ours: bool = True):
    "For `with`: (address, token, folder) of a JupyterLab, by our own server or by Jupyter's."
    token = "of-this-test-only"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder/f".{name.lower()}") for name in ("CONFIG", "DATA", "RUNTIME")}
    env = {**os.environ, **own, "OMP_NUM_THREADS": "1"}
    start = "from gan_nb.server import serve_lab; import sys; sys.exit(serve_lab(sys.argv[1:]))"
    command = [sys.executable, *(["-c", start] if ours else ["-m", "jupyter", "lab"]), "--no-browser", "--allow-root",
               f"--ServerApp.token={token}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               f"--ServerApp.root_dir={folder}"]
    quiet = folder/".config"/"lab"/"user-settings"/"@jupyterlab"/"apputils-extension"/"notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')     # no question about news over the panel
    with open(folder/".server.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=folder)
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(lambda: _answers(f"{address}/api/status?token={token}"), process, folder/".server.log")
            yield address, token, folder
        finally:
            process.terminate()
            try: process.wait(20)
            except subprocess.TimeoutExpired: process.kill()


def _answers(url):
    try: return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError: return False


def _wait_for(ready, process, log, seconds=90):
    until = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")
        time.sleep(.3)


@contextmanager
def notebook(browser, server, title: str, cells: list, size=(1366, 768), ends: bool = True):
    """For `with`: a page with a notebook of these cells, none of them run. Its kernel ends with it, or, if `ends` is False,
    only if something goes wrong: else the next notebook of this title finds it there."""
    address, token, folder = server
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nb, folder/f"{title}.ipynb")
    page = browser.new_page(viewport=dict(zip(("width", "height"), size)))
    page.set_default_timeout(patience)
    page.add_locator_handler(page.locator(".jp-Dialog"), lambda dialog: dismiss(page, dialog))
    page.goto(f"{address}/lab/workspaces/{title}/tree/{title}.ipynb?token={token}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(state="attached")
    try: yield page
    except BaseException:
        ends = True
        raise
    finally:
        page.close()
        if ends: end_kernels(address, token)


def end_kernels(address, token):
    "A kernel that goes on training takes the time of the next test."
    kernels = json.load(urllib.request.urlopen(f"{address}/api/kernels?token={token}"))
    for kernel in kernels:
        gone = urllib.request.Request(f"{address}/api/kernels/{kernel['id']}?token={token}", method="DELETE")
        urllib.request.urlopen(gone)


def dismiss(page, dialog):
    "JupyterLab may ask something of its own at any time; a person would close it and go on."
    print("JupyterLab asked:", " ".join(dialog.inner_text().split()))
    page.keyboard.press("Escape")

def cell(page, i): return page.locator(".jp-Notebook .jp-CodeCell").nth(i)

def run_cell(page, i):
    "Run cell `i`. A key that is pressed before the page has its kernel is lost, and the cell stays as it was: then it is pressed again."
    before, until = prompt(page, i), time.monotonic() + patience / 1000
    while True:
        cell(page, i).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        if before == "[*]:": return                     # it is running already, and waits for its turn
        for _ in range(30):
            if prompt(page, i) not in (before, "", "[ ]:"): return
            page.wait_for_timeout(100)
        if time.monotonic() > until: raise TimeoutError(f"cell {i} does not run: {cell(page, i).inner_text()[:200]}")

def run_to_its_end(page, i):
    "Run cell `i`, and wait: what stands below it is of this time, and not of the one before."
    before = prompt(page, i)
    run_cell(page, i)
    page.wait_for_function("""([i, before]) => { const now = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[i].querySelector('.jp-InputPrompt').textContent.trim();
        return /\\[\\d+\\]:/.test(now) && now !== before; }""", arg=[i, before])

def run_until_it_shows(page, i, what):
    run_cell(page, i)
    what.wait_for()

def prompt(page, i): return cell(page, i).locator(".jp-InputPrompt").inner_text().strip()

def press(page, name): page.get_by_role("button", name=name, exact=True).click()
