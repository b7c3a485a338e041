"The lab in a real JupyterLab and a real browser: what a person would do, and how long the answers take."
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(chromium is None, reason="needs chromium: apt install chromium")

flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync"]
patience = 120_000                          # ms; a busy machine must not fail a test
ring = "Run('ring', batch_size=64, hidden=(32, 32), threads=1)"
sick = "Run('ring', rule='adam', lr=5e-3, momentum=.9, batch_size=64, hidden=(32, 32), halflife=0., rounds=400, threads=1)"
digits = "Run('article', batch_size=32, hidden=(64, 64), threads=1)"
many = "Population('ring', seeds=3, grid={'lr': [1e-4, 1e-3]}, hidden=(32, 32), batch_size=64, halflife=0)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "A JupyterLab of our own: (address, token, folder)."
    folder, token = tmp_path_factory.mktemp("lab"), "of-this-test-only"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder/f".{name.lower()}") for name in ("CONFIG", "DATA", "RUNTIME")}
    env = {**os.environ, **own, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--ServerApp.token={token}",
               f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               f"--ServerApp.root_dir={folder}"]
    quiet = folder/".config"/"lab"/"user-settings"/"@jupyterlab"/"apputils-extension"/"notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')     # no question about news over the panel
    with open(folder/".server.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: answers(f"{address}/api/status?token={token}"), process, folder/".server.log")
            yield address, token, folder
        finally:
            process.terminate()
            try: process.wait(20)
            except subprocess.TimeoutExpired: process.kill()


def answers(url):
    try: return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError: return False


def wait_for(ready, process, log, seconds=90):
    until = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")
        time.sleep(.3)


@pytest.fixture
def tmp_path(tmp_path_factory): return tmp_path_factory.mktemp("pictures")    # stays, to be looked at


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "A folder that stays for whoever wants to look."
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def panel(server, browser, request):
    "A notebook with a lab on the run given by the test, all cells run: the page and the panel."
    address, token, folder = server
    imports, kind = ("population import Population",
        "population_lab import PopulationLab") if request.param == many else ("training import Run", "lab import Lab")
    cells = [f"from gan_nb.{imports}\nfrom gan_nb.{kind}\nlab = {kind.split()[-1]}(run := {request.param})\nlab",
             "print('half', 6 * 7, run.round >= 0)",
             "import json; print('facts', json.dumps([[e.round, e.changes] for e in run.edits]))\nprint('share of pictures', lab.draw_share(), 'and of the doctor', lab.doctor_share())"]
    title = re.sub(r"\W+", "-", request.node.name).strip("-")
    name = f"{title}.ipynb"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nb, folder/name)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(patience)
    page.add_locator_handler(page.locator(".jp-Dialog"), lambda dialog: dismiss(page, dialog))
    page.goto(f"{address}/lab/workspaces/{title}/tree/{name}?token={token}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(state="attached")
    run_until_it_shows(page, 0, page.get_by_role("button", name="Play", exact=True))
    page.get_by_text("round 0", exact=True).wait_for()
    yield page
    page.close()


def dismiss(page, dialog):
    "JupyterLab may ask something of its own at any time; a person would close it and go on."
    print("JupyterLab asked:", " ".join(dialog.inner_text().split()))
    page.keyboard.press("Escape")

def cell(page, i): return page.locator(".jp-Notebook .jp-CodeCell").nth(i)

def run_cell(page, i):
    cell(page, i).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")

def run_until_it_shows(page, i, what, tries=6):
    "Run cell `i`; once more if nothing came of it, for a key pressed before the page has its kernel is lost."
    for left in reversed(range(tries)):
        run_cell(page, i)
        try: return what.wait_for(timeout=20_000)
        except playwright.TimeoutError:
            if not left: raise

# the page is read by script, so that looking takes no time of its own
read_round = "() => { const m = [...document.querySelectorAll('.widget-html-content')].map(e => e.textContent.match(/^round ([\\d,]+)$/)).find(Boolean); return m ? +m[1].replaceAll(',', '') : null; }"
read_doctor = "() => { const m = [...document.querySelectorAll('.widget-html-content')].map(e => e.textContent.match(/^Doctor, round ([\\d,]+)/)).find(Boolean); return m ? +m[1].replaceAll(',', '') : null; }"
first_picture = "() => document.querySelector('img.widget-image')?.src"

def rounds(page): return page.evaluate(read_round)

def press(page, name): page.get_by_role("button", name=name, exact=True).click()

def until_round_above(page, n): page.wait_for_function(f"n => ({read_round})() > n", arg=n, polling=20)


def click_latency(page, button, change):
    "Milliseconds from the click on `button` to the first moment at which `change` is true, measured inside the page."
    script = """([button, change]) => new Promise((resolve, reject) => {
        const now = eval(change), begun = performance.now();
        [...document.querySelectorAll('button')].find(b => b.textContent.trim() === button).click();
        const look = () => now() ? resolve(performance.now() - begun) : performance.now() - begun > 60000 ? reject(button) : setTimeout(look, 2);
        look(); })"""
    return page.evaluate(script, [button, change])


@pytest.mark.parametrize("panel", [ring, digits], ids=["ring", "digits"], indirect=True)
def test_a_person_can_drive_the_lab(panel, pictures, request):
    page = panel
    assert rounds(page) == 0
    before = page.evaluate(first_picture)

    press(page, "Play")
    until_round_above(page, 5)
    page.wait_for_function(f"before => ({first_picture})() !== before", arg=before)

    run_cell(page, 1)                       # another cell runs while the lab plays
    cell(page, 1).get_by_text("half 42 True").wait_for()

    at = rounds(page)
    slider = page.get_by_text("learning rate").first.locator("xpath=ancestor::*[contains(@class, 'widget-slider')]").locator(".noUi-handle")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("lr_disc = ").wait_for()
    until_round_above(page, at)
    page.screenshot(path=pictures/"playing.png")

    press(page, "Pause")
    page.get_by_text("paused", exact=True).wait_for()
    stopped = rounds(page)
    time.sleep(1)
    assert rounds(page) == stopped

    press(page, "Step round")
    page.wait_for_function(f"n => ({read_round})() === n", arg=stopped + 1)
    press(page, "Step discriminator")
    page.get_by_text("one step of discriminator").wait_for()
    assert rounds(page) == stopped + 1

    run_cell(page, 2)
    facts = cell(page, 2).locator(".jp-OutputArea-output pre").first
    facts.get_by_text("share").wait_for()
    edits = json.loads(facts.inner_text().split("facts ")[1].split("\n")[0])
    print(facts.inner_text().split("\n")[-1])
    assert "lr_disc" in edits[0][1] and at <= edits[0][0] <= stopped

    overflow = page.evaluate("() => { const box = document.querySelector('.jp-OutputArea-output .widget-vbox'); return box.scrollWidth - box.clientWidth; }")
    assert overflow <= 1
    page.screenshot(path=pictures/f"lab-{request.node.callspec.id}.png")
    print("picture:", pictures/f"lab-{request.node.callspec.id}.png")

    press(page, "Reset")
    page.wait_for_function(f"() => ({read_round})() === 0")


@pytest.mark.parametrize("panel", [many], ids=["many"], indirect=True)
def test_a_person_can_drive_a_population(panel, pictures):
    page = panel
    before = page.evaluate(first_picture)
    press(page, "Play")
    until_round_above(page, 20)
    page.wait_for_function(f"before => ({first_picture})() !== before", arg=before)
    press(page, "Pause")
    page.get_by_text("paused", exact=True).wait_for()
    stopped = rounds(page)
    press(page, "Step round")
    page.wait_for_function(f"n => ({read_round})() === n", arg=stopped + 1)
    page.get_by_text("seed 0, lr 0.0001").wait_for()
    handle = page.get_by_text("member",
        exact=True).locator("xpath=ancestor::*[contains(@class, 'widget-slider')]").locator(".noUi-handle")
    handle.focus()
    for _ in range(4): page.keyboard.press("ArrowRight")
    page.get_by_text("seed 1, lr 0.001").wait_for()
    press(page, "Open in a lab")
    page.get_by_role("button", name="Step discriminator", exact=True).wait_for()
    page.get_by_text("too early", exact=False).first.wait_for()
    overflow = page.evaluate("() => { const box = document.querySelector('.jp-OutputArea-output .widget-vbox'); return box.scrollWidth - box.clientWidth; }")
    assert overflow <= 1
    page.set_viewport_size({"width": 1280, "height": 1900})
    page.screenshot(path=pictures/"population.png")
    print("picture:", pictures/"population.png")


@pytest.mark.parametrize("panel", [sick], ids=["sick"], indirect=True)
def test_the_doctor_speaks_and_is_obeyed(panel, pictures):
    page = panel
    remedy = page.get_by_role("button", name="Apply the remedy", exact=True)
    page.get_by_text("too early, no round has been seen yet").wait_for()
    assert not remedy.is_visible()

    press(page, "Play")
    page.get_by_text(re.compile("^Doctor, round [1-9]")).wait_for()     # it speaks while the run trains
    remedy.wait_for()
    page.get_by_text("set loss='r3'").wait_for()                        # and says what the click will do
    page.get_by_text("The doctor's evidence").click()
    page.get_by_text("real ranked above generated").wait_for()
    page.screenshot(path=pictures/"ill.png")
    print("picture:", pictures/"ill.png")

    at = rounds(page)
    remedy.click()
    page.get_by_text("loss = r3").wait_for()
    remedy.wait_for(state="hidden")
    until_round_above(page, at)                                         # the lab goes on
    page.wait_for_function(f"n => ({read_doctor})() > n", arg=at)       # and the doctor looks at what became of it
    press(page, "Pause")
    page.get_by_text("paused", exact=True).wait_for()
    page.screenshot(path=pictures/"treated.png")
    run_cell(page, 2)
    facts = cell(page, 2).locator(".jp-OutputArea-output pre").first
    facts.get_by_text("share").wait_for()
    [(when, changes)] = json.loads(facts.inner_text().split("facts ")[1].split("\n")[0])
    print(facts.inner_text().split("\n")[-1])
    assert when >= at and changes["loss"] == "r3" and changes["normalize_gen"] == ["orthogonal", 1.0]


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_click_latency(panel):
    page, took = panel, {"Step round": [], "Play": [], "Pause": []}
    next_round = f"(() => {{ const read = {read_round}; const n = read(); return () => read() > n; }})()"
    saying = "(() => () => [...document.querySelectorAll('.widget-html-content')].some(e => e.textContent.startsWith('{}')))()"
    for _ in range(5):
        took["Step round"].append(click_latency(page, "Step round", next_round))
        took["Play"].append(click_latency(page, "Play", saying.format("playing")))
        time.sleep(.5)
        took["Pause"].append(click_latency(page, "Pause", saying.format("paused")))
        time.sleep(.2)
    for name, times in took.items():
        print(f"{name}: median {statistics.median(times):.0f} ms, most {max(times):.0f} ms")
    everything = sum(took.values(), [])
    print(f"all {len(everything)} clicks: median {statistics.median(everything):.0f} ms")
    assert max(everything) < 60_000
