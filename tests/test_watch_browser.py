"Somebody's own loop in a real JupyterLab and a real browser: it blocks its cell, and is seen while it does."
import time

import pytest

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

from browser import cell, chromium, notebook, run_cell, run_until_it_shows

pytestmark = pytest.mark.skipif(chromium is None, reason="needs chromium: apt install chromium")

prepare = """
import time, torch
from pathlib import Path
from torch import nn
from gan_nb.data import load
from gan_nb.lab import watch
torch.manual_seed(0)
gen = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
disc = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(.2), nn.Linear(32, 1))
opt_gen, opt_disc = (torch.optim.Adam(net.parameters(), lr=2e-3) for net in (gen, disc))
ring = load('ring')
says = lambda x, label: nn.functional.binary_cross_entropy_with_logits(disc(x), torch.full((len(x), 1), label))
print('ready', 6 * 7)
"""
loop = """
look = watch(gen, disc, real=ring, latents=torch.randn(300, 2))
until = time.monotonic() + 600            # a page that is slow to open has its time
while time.monotonic() < until and not Path('seen-enough').exists():
    fake = gen(torch.randn(64, 2))
    loss_disc = says(ring.draw(64), 1.) + says(fake.detach(), 0.)
    opt_disc.zero_grad(); loss_disc.backward()
    nn.utils.clip_grad_norm_(disc.parameters(), .1)
    opt_disc.step()
    loss_gen = says(fake, 1.)
    opt_gen.zero_grad(); loss_gen.backward(); opt_gen.step()
    look(loss_gen=loss_gen, loss_disc=loss_disc)
print('ended at', look.round, look.error)
"""
threaded = """
import threading
def play():
    for _ in range(100_000):
        if stop.is_set(): return
        loss = says(gen(torch.randn(64, 2)), 1.)
        opt_gen.zero_grad(); loss.backward(); opt_gen.step()
        look(loss_gen=loss)
        time.sleep(.01)
stop = threading.Event()
threading.Thread(target=play).start()
"""
cells = [prepare, loop, threaded, "stop.set(); look.close(); print('let go', look.error)"]

seen = "() => { const panel = document.querySelector('.gnb'); return panel ? [+panel.dataset.round, panel.dataset.doing, +panel.dataset.frame] : null; }"
held = "document.querySelector('.gnb').gnb.held"
is_running = "() => !!document.querySelector('.jp-Notebook-ExecutionIndicator[data-status=busy]')"
is_examined = "() => document.querySelector('.gnb').textContent.includes('real ranked above generated')"
picture = "() => document.querySelector('.gnb-plane canvas')?.toDataURL().length ? document.querySelector('.gnb-plane canvas').toDataURL() : ''"


@pytest.fixture
def page(server, browser):
    "A notebook with the loop in its second cell; the first one was run."
    with notebook(browser, server, "watch", [c.strip() for c in cells], (1280, 1000)) as page:
        run_until_it_shows(page, 0, cell(page, 0).get_by_text("ready 42"))
        yield page


def test_a_loop_is_seen_while_it_blocks_its_cell(page, server, tmp_path):
    run_cell(page, 1)
    page.wait_for_function(f"() => (({seen})() ?? [0])[0] > 0", polling=50)
    rounds, drawn, until = [], set(), time.monotonic() + 300
    while page.evaluate(is_running) and time.monotonic() < until and not (len(set(rounds)) > 3 and len(drawn) > 3 and page.evaluate(is_examined)):
        at, doing, _ = page.evaluate(seen)
        if doing == "playing": rounds.append(at); drawn.add(page.evaluate(picture))
        time.sleep(.3)
    assert page.evaluate(is_running), "the loop ended before it was seen"
    assert len(set(rounds)) > 3 and rounds == sorted(rounds) and len(drawn) > 3
    assert page.evaluate(f"() => {held}.is_deaf && document.querySelector('.gnb-time input').disabled"), "the slider rests where nobody would answer"
    print(f"{len(set(rounds))} rounds and {len(drawn)} pictures seen while the cell ran, from {rounds[0]:,} to {rounds[-1]:,}")
    page.screenshot(path=tmp_path/"while-it-runs.png")
    (server[2]/"seen-enough").touch()

    said = cell(page, 1).locator(".jp-OutputArea-output pre")
    said.wait_for()
    ended, error = said.inner_text().split()[-2:]
    assert error == "None"
    page.wait_for_function(f"n => {{ const [round, doing] = ({seen})(); return round === n && doing === 'paused'; }}", arg=int(ended), polling=50)
    page.screenshot(path=tmp_path/"after.png")
    print("pictures:", tmp_path)

    slider, now = page.locator(".gnb-time input"), page.get_by_role("button", name="Now", exact=True)
    slider.evaluate("s => { s.value = s.max / 2; s.dispatchEvent(new Event('input')); }")
    page.wait_for_function(f"n => {held}.is_past && Math.abs({held}.round - n) < n / 2", arg=int(ended) / 2)
    now.click()
    page.wait_for_function(f"n => !{held}.is_past && {held}.round === n", arg=int(ended))
    page.get_by_role("button", name="Evidence").click()     # the panel is alive
    page.get_by_text("real ranked above generated").wait_for()
    run_cell(page, 2)                                       # a loop in a thread: credit, as in every panel
    page.wait_for_function(f"n => ({seen})()[0] > n + 20", arg=int(ended), polling=50)
    run_cell(page, 3)
    cell(page, 3).get_by_text("let go None").wait_for()
    page.get_by_text("let go at round").wait_for()
