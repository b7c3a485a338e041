"A run as one page, opened from the disk in a real browser without a network: every round that it says it holds is shown."
import base64
import json

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

from browser import chromium
from gan_nb import Run
from gan_nb.stage import as_pixels

pytestmark = pytest.mark.skipif(chromium is None, reason="needs chromium: apt install chromium")

to_round = """([at, round]) => new Promise((resolve, reject) => {
    const letters = (data) => btoa(Array.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), (b) => String.fromCharCode(b)).join(''));
    const root = document.querySelector('.gnb'), slider = document.querySelector('.gnb-time input');
    slider.value = at;
    slider.dispatchEvent(new Event('input'));
    const begun = performance.now();
    const look = () => +root.dataset.round === round && root.gnb.held.at === at ? resolve(letters((root.gnb.held.fake ?? root.gnb.held.pictures).data))
        : performance.now() - begun > 20000 ? reject(new Error(`round ${round}`)) : requestAnimationFrame(look);
    look(); })"""
picture = """() => { const c = document.querySelector('.gnb-canvas'), px = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0; for (let i = 0; i < px.length; i += 4) n = (31 * n + px[i]) | 0; return n; }"""


@pytest.fixture
def opened(browser, tmp_path):
    "Open the page of a run, with the network off; what it asked for, and what went wrong."
    contexts = []
    def open_page(run, **kwargs):
        file = run.page(tmp_path/"run.html", progress=False)
        context = browser.new_context(viewport=dict(width=1366, height=768), **kwargs)
        context.set_offline(True)
        contexts.append(context)
        page, asked, wrong = context.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(file.as_uri())
        page.locator(f".gnb[data-round='{run.round}']").wait_for()
        return page, asked, wrong
    yield open_page
    for context in contexts: context.close()


def held(page, name): return json.loads(page.evaluate(f"() => JSON.stringify(document.querySelector('.gnb').gnb.held{name})"))


def assert_shows_all(run, page, shown):
    "Each round that it says it holds, to the bit, and drawn."
    rounds, drawn = held(page, ".time.rounds"), set()
    assert rounds[0] == 0 and rounds[-1] == run.round
    for at, then in enumerate(run.earlier(rounds)):
        assert base64.b64decode(page.evaluate(to_round, [at, then.round])) == shown(then).tobytes(), then.round
        drawn.add(page.evaluate(picture))
    assert len(drawn) > .9 * len(rounds)
    return rounds


def test_the_ring_is_shown_round_by_round_without_a_network(opened):
    run = Run("ring", hidden=(16, 16), batch_size=32, threads=1, device="cpu").fit(10, progress=False)
    run.edit(lr_disc=.01)
    run.step("gen")
    run.fit(15, progress=False)
    page, asked, wrong = opened(run)
    assert assert_shows_all(run, page, lambda then: then.samples(300).numpy()) == list(range(26))
    assert "all 26 rounds" in page.locator(".gnb-about").inner_text()
    tick = page.locator(".gnb-tick")
    assert tick.count() == 1 and "lr_disc" in tick.get_attribute("title") and "one step of the generator" in tick.get_attribute("title")
    tick.click()
    page.locator(".gnb[data-round='10']").wait_for()
    assert "lr_disc" in page.locator(".gnb-about").inner_text()
    page.get_by_role("button", name="Play", exact=True).click()
    page.locator(".gnb[data-doing='playing']").wait_for()
    page.locator(".gnb[data-round='25'][data-doing='paused']").wait_for()
    page.locator(".gnb-chart .gnb-place").first.click(position=dict(x=60, y=60))
    page.wait_for_function("() => +document.querySelector('.gnb').dataset.round < 9")
    assert len(asked) == 1 and asked[0].startswith("file://") and not wrong


def test_pictures_with_classes_are_shown_in_chinese_and_in_the_dark(opened):
    from gan_nb.words import speak
    try:
        run = Run("digits-by-class", hidden=(16,), batch_size=16, threads=1, device="cpu", language="zh").fit(6, progress=False)
        page, asked, wrong = opened(run, color_scheme="dark")
    finally: speak("en")
    from gan_nb.stage import scene_of
    scene = scene_of(run)
    assert_shows_all(run, page, lambda then: as_pixels(then.experiment.generate(then.state, scene.z, scene.condition).detach()))
    assert page.locator("html").get_attribute("lang") == "zh" and page.get_by_role("button", name="播放", exact=True).count() == 1
    assert page.evaluate("() => getComputedStyle(document.querySelector('.gnb')).backgroundColor") == "rgb(22, 24, 28)"
    assert len(asked) == 1 and not wrong


def test_the_articles_recipe_fits_with_rounds_of_its_whole_length(opened, monkeypatch):
    "Here 40 rounds in 0.7 MB; 1,000 in 5 MB take minutes."
    monkeypatch.setattr("gan_nb.page.page_of.__defaults__", (None, None, 700_000))
    run = Run("article", batch_size=8, hidden=(32, 32), threads=1, device="cpu").fit(40, progress=False)
    page, asked, wrong = opened(run)
    n = held(page, ".pictures.shape")[0] # fewer pictures, so that there is room for rounds
    rounds = assert_shows_all(run, page, lambda then: as_pixels(then.samples(n)))
    assert 16 <= n < 64 and 10 < len(rounds) < 41 and len(set(np.diff(rounds[:-1]))) == 1
    assert f"{len(rounds)} rounds are kept, every {rounds[1]}" in page.locator(".gnb-about").inner_text()
    assert len(asked) == 1 and not wrong


def test_the_code_is_copied_or_shown_where_the_browser_refuses(opened):
    run = Run("ring", hidden=(8,), batch_size=8, threads=1, device="cpu").fit(3, progress=False)
    page, _, _ = opened(run)
    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: { writeText: async (text) => { window.taken = text; } }, configurable: true })")
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_role("button", name="Copy as code", exact=True).click()
    page.get_by_text("This is on the clipboard.").wait_for()
    assert page.evaluate("() => window.taken") == run.code()
    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy as code", exact=True).click()
    page.get_by_text("The text is selected").wait_for()
    assert page.evaluate("() => { const t = document.activeElement; return t.value.slice(t.selectionStart, t.selectionEnd); }") == run.code()
