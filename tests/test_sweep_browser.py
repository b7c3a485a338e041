"The sweep's panel in a real JupyterLab and a real browser: what needs a page. The rest is tested in its notebook."
import json

import pytest

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

from browser import cell, chromium, notebook, press, run_to_its_end, run_until_it_shows

pytestmark = pytest.mark.skipif(chromium is None, reason="needs chromium: apt install chromium")

source = """from gan_nb.sweeps import Sweep
from gan_nb.sweep_lab import SweepLab
sweep = Sweep('ring', {'lr': '1e-4..1:log', 'clip_disc': "none,'global_norm 0.1'..10:log"}, 'swept', trials=6, workers=1, looks=1,
              hidden=(8,), batch_size=16, rounds=60, device='cpu', threads=1)
panel = SweepLab(sweep, n_fresh=2)
panel"""
asked = "import json; print('facts', json.dumps([panel.chosen, dict(panel.axes), [r['state'] for r in sweep.table()], panel.opened is None or panel.opened.run.recipe.lr_gen]))"
held = "document.querySelector('.gnb').gnb.held"
place = """([id, i]) => { const part = [...document.querySelector('.gnb').gnb.views][0].parts.find(p => p.spec.id === id), dot = part.dots.find(d => d.i === i),
    box = part.place.getBoundingClientRect(); return [box.x + dot.x, box.y + dot.y]; }"""


@pytest.fixture(scope="module")
def page(server, browser):
    "A notebook with the panel of a sweep; its tests follow each other, as a person's doings do."
    with notebook(browser, server, "sweep", [source, asked], size=(1366, 900)) as page:
        run_until_it_shows(page, 0, page.get_by_role("button", name="Play", exact=True))
        page.locator(".gnb[data-doing=paused]").wait_for()
        yield page


def facts(page):
    "What Python knows: the chosen trial, the axes, the states of all, the rate of the run that is open."
    run_to_its_end(page, 1)
    return json.loads(cell(page, 1).locator(".jp-OutputArea-output pre").inner_text().removeprefix("facts "))


def until(page, what, arg=None): page.wait_for_function(what, arg=arg, polling=50)


def test_it_plays_and_shows_every_trial(page):
    assert page.get_by_role("button", name="Fresh seeds", exact=True).is_disabled()
    press(page, "Play")
    until(page, f"() => {held}.round === 6 && {held}.doing === 'paused'")
    dots = page.evaluate("() => [...document.querySelector('.gnb').gnb.views][0].parts.filter(p => p.dots).map(p => p.dots.length)")
    assert dots == [6, 6]
    assert page.locator(".gnb-trials canvas").count() == 2
    size = page.locator(".gnb-sweep").evaluate("e => [e.clientHeight, e.scrollWidth - e.clientWidth]")
    assert size[0] < 620 and size[1] <= 0


def test_a_click_and_a_key_choose_a_trial(page):
    page.mouse.click(*page.evaluate(place, ["course", 2]))
    until(page, f"() => {held}.chosen === 2")
    page.wait_for_function("() => /^trial 2: /.test(document.querySelector('.gnb-trials .gnb-tip').textContent)")
    page.locator(".gnb-trials .gnb-place").first.press("ArrowRight")
    until(page, f"() => {held}.chosen === 3")
    page.mouse.click(*page.evaluate(place, ["map", 0]))
    until(page, f"() => {held}.chosen === 0")
    assert "trial 0:" in page.locator(".gnb-one").first.inner_text()


def test_a_menu_chooses_an_axis(page):
    page.get_by_label("upwards", exact=True).select_option("value")
    until(page, f"() => {held}.axes.map.y.column === 'value'")
    chosen, axes, states, _ = facts(page)
    assert chosen == 0 and axes == {"across": "lr", "upwards": "value"} and len(states) == 6
    lies = page.evaluate("() => [...document.querySelector('.gnb').gnb.views][0].parts.filter(p => p.dots).map(p => p.dots.map(d => Math.round(d.y)))")
    assert lies[0] == lies[1]                                      # both show the value upwards now


def test_fresh_seeds_are_drawn(page):
    press(page, "Fresh seeds")
    until(page, f"() => {held}.fresh && {held}.doing === 'paused'")
    assert "with 2 fresh seeds" in page.locator(".gnb-low").first.inner_text()


def test_a_trial_is_opened_in_a_lab(page):
    press(page, "Open in a lab")
    page.locator(".gnb").nth(1).wait_for()
    page.locator(".gnb[data-round='60']").wait_for()
    _, _, states, rate = facts(page)
    assert rate == pytest.approx(page.evaluate(f"() => {held}.measures.data[{held}.measures_columns.indexOf('lr')]"), rel=1e-6)
