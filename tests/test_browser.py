"The lab in a real JupyterLab and a real browser: what a person would do, and how long the answers take."
import json
import re
import statistics
import time
from contextlib import ExitStack

import pytest

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

from browser import cell, chromium, end_kernels, notebook, press, run_cell, run_to_its_end, run_until_it_shows

pytestmark = pytest.mark.skipif(chromium is None, reason="needs chromium: apt install chromium")

ring = "Run('ring', batch_size=64, hidden=(32, 32), threads=1)"
sick = "Run('ring', rule='adam', lr=5e-3, momentum=.9, batch_size=64, hidden=(32, 32), halflife=0., rounds=400, threads=1)"
digits = "Run('article', batch_size=32, hidden=(64, 64), threads=1)"
many = "Population('ring', seeds=3, grid={'lr': [1e-4, 1e-3]}, hidden=(32, 32), batch_size=64, halflife=0)"


@pytest.fixture
def tmp_path(tmp_path_factory): return tmp_path_factory.mktemp("pictures")    # stays, to be looked at


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "A folder that stays for whoever wants to look."
    return tmp_path_factory.mktemp("pictures")


class Room:
    """Notebooks with a panel, one after the other. What they share is a kernel, which has imported everything, and, as long
    as the cells are the same and nobody has spoiled it, the page."""
    def __init__(self, server, browser):
        self.place, self.cells, self.page, self.pages, self.is_spoiled = (browser, server), None, None, ExitStack(), False

    def show(self, cells):
        if cells != self.cells or self.is_spoiled:
            self.leave()
            self.page = self.pages.enter_context(notebook(*self.place, "lab", cells, ends=False))
            self.cells, self.is_spoiled = cells, False
        self.page.set_viewport_size(dict(width=1366, height=768))
        run_until_it_shows(self.page, 0, self.page.get_by_role("button", name="Play", exact=True))
        self.page.locator(".gnb[data-round='0']").wait_for()
        return self.page

    def clear(self):
        try:
            run_cell(self.page, len(self.cells) - 1)
            self.page.wait_for_function("() => !document.querySelector('.gnb')")
        except BaseException:
            self.pages.callback(end_kernels, *self.place[1][:2])
            self.is_spoiled = True
            raise

    def leave(self): self.pages.close()


@pytest.fixture(scope="module")
def room(server, browser):
    room = Room(server, browser)
    yield room
    room.leave()


@pytest.fixture
def panel(room, request):
    "A notebook with a lab on the run given by the test, all cells run: the page and the panel."
    imports, kind = ("population import Population",
        "population_lab import PopulationLab") if request.param == many else ("training import Run", "lab import Lab")
    cells = [f"from gan_nb.{imports}\nfrom gan_nb.{kind}\nlab = {kind.split()[-1]}(run := {request.param})\nlab",
             "print('half', 6 * 7, run.round >= 0)",
             "import json; print('facts', json.dumps([[e.round, e.changes] for e in lab.run.edits]))\nprint('share of pictures', lab.draw_share(), 'and of the doctor', lab.doctor_share())",
             "import threading; print('threads', [t.name for t in threading.enumerate() if 'gan_nb' in t.name])",
             "lab.close()"]
    failures = request.session.testsfailed
    yield room.show(cells)
    room.is_spoiled |= request.session.testsfailed > failures
    room.clear()


# the page is read by script, so that looking takes no time of its own
drawn = "() => +document.querySelector('.gnb').dataset.frame"
read_round = "() => +document.querySelector('.gnb').dataset.round"
doing = "() => document.querySelector('.gnb').dataset.doing"
numbers_begin = """() => { // where the numbers of a chart begin that shows −0.00025 and its like
    const [view] = document.querySelector('.gnb').gnb.views, chart = view.parts.find(p => p.spec.id === 'losses'), { ctx } = chart.canvas, found = [];
    const { spec, page: { held } } = chart, { table, levels } = held, write = ctx.fillText;
    ctx.fillText = (text, x, y) => { if (ctx.textAlign === 'right') found.push(x - ctx.measureText(text).width); };
    try { [chart.spec, held.table, held.levels, chart.drawnAt] = [{ ...spec, holds: [-0.00029, -0.00021] }, null, {}, 0]; chart.draw(1e9); }
    finally { [chart.spec, held.table, held.levels] = [spec, table, levels]; delete ctx.fillText; chart.draw(2e9); }
    return found; }"""
ink = """() => [...document.querySelectorAll('.gnb-canvas')].map(c => {
    const px = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
    for (let i = 3; i < px.length; i += 4) n += px[i] > 0; return n; })"""
places = """() => Object.fromEntries([...document.querySelectorAll('.gnb-part, .gnb-player, .gnb-row, .gnb-bar, .gnb-button:not(.gnb-gone)')].map(
    (e, i) => { const b = e.getBoundingClientRect(), o = document.querySelector('.gnb').getBoundingClientRect();
    return [i + e.className.replace(' gnb-gone', '').replace(' gnb-off', ''), [b.x - o.x, b.y - o.y, b.width, b.height].map(Math.round)]; }))"""

def rounds(page): return page.evaluate(read_round)

def until_round_above(page, n): page.wait_for_function(f"n => ({read_round})() > n", arg=n, polling=20)

def until_doing(page, what): page.wait_for_function(f"what => ({doing})() === what", arg=what, polling=20)

def facts(page):
    "The edits of the run, by its own words in a cell."
    run_to_its_end(page, 2)
    said = cell(page, 2).locator(".jp-OutputArea-output pre").first
    print(said.inner_text().split("\n")[-1])
    return json.loads(said.inner_text().split("facts ")[1].split("\n")[0])


def scrub_to(page, part):
    "A place on the slider of the first panel, and wait for its round."
    page.locator(".gnb-time input").first.evaluate("(s, part) => { s.value = Math.floor(part * s.max); s.dispatchEvent(new Event('input')); }", part)
    page.wait_for_function("() => document.querySelector('.gnb').gnb.held.is_past")


def click_latency(page, button, change):
    "Milliseconds from the click on `button` to the first moment at which `change` is true, measured inside the page."
    script = """([button, change]) => new Promise((resolve, reject) => {
        const now = eval(change), begun = performance.now();
        [...document.querySelectorAll('button')].find(b => b.textContent.trim() === button).click();
        const look = () => now() ? resolve(performance.now() - begun) : performance.now() - begun > 60000 ? reject(button) : setTimeout(look, 2);
        look(); })"""
    return page.evaluate(script, [button, change])


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_the_run_is_copied_as_code_and_its_picture_saved(panel, pictures):
    page = panel
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    press(page, "Step round")
    until_round_above(page, 0)
    page.locator(".gnb").get_by_role("button", name="Share", exact=True).click()
    press(page, "Copy as code")
    page.get_by_text("This is on the clipboard.").wait_for()
    code = page.evaluate("() => navigator.clipboard.readText()")
    assert code.startswith("# ring, seed 0, round 1;") and code.endswith("run.fit(1)")
    page.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })") # as over plain http
    press(page, "Copy as a line")
    page.get_by_text("The text is selected").wait_for()
    assert page.evaluate("() => { const t = document.activeElement; return t.value.slice(t.selectionStart, t.selectionEnd); }").startswith("gan_nb:1:")
    page.screenshot(path=pictures/"share.png")
    for kind, begins in (("PNG", b"\x89PNG"), ("SVG", b"<?xml")):
        with page.expect_download() as given: press(page, f"Picture as {kind}")
        file = pictures/given.value.suggested_filename
        given.value.save_as(file)
        assert file.name == f"lab-1.{kind.lower()}" and file.read_bytes().startswith(begins)
    page.evaluate("() => delete navigator.clipboard")


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_everything_is_in_sight_and_nothing_moves(panel, pictures):
    page = panel
    page.locator(".gnb").evaluate("e => e.scrollIntoView()")
    box = page.locator(".gnb").bounding_box()
    assert box["height"] <= 640 and box["width"] >= 900
    for part in (".gnb-plane", ".gnb-main:not(.gnb-gone)", ".gnb-verdict", *[f".gnb-row >> nth={i}" for i in range(8)]):
        seen = page.locator(part).first.bounding_box()
        assert 0 <= seen["y"] and seen["y"] + seen["height"] <= 768, part
    still = page.evaluate(places)
    press(page, "Play")
    until_round_above(page, 60)
    page.get_by_role("slider", name="rate", exact=True).first.press("ArrowRight")
    page.get_by_text(re.compile("lr_gen .* →")).first.wait_for()
    page.get_by_role("combobox", name="clip", exact=True).nth(1).select_option("global_norm")
    page.get_by_text("clip_disc none").first.wait_for()
    press(page, "Pause")
    until_doing(page, "paused")
    after = page.evaluate(places)
    assert {part: at for part, at in after.items() if at != still.get(part)} == {}
    assert page.locator(".gnb").evaluate("e => e.scrollWidth - e.clientWidth") <= 1
    steps = page.get_by_role("textbox", name="steps: value", exact=True).nth(1)
    steps.fill("2"), steps.press("Enter") # so that records hold means, which takes more words
    page.get_by_text(re.compile(r"would have clipped \d+ % of \d+ rounds")).first.wait_for()
    assert page.evaluate("() => [...document.querySelectorAll('.gnb-bounds .gnb-hint')].every(e => e.scrollWidth <= e.clientWidth)")
    assert len(begin := page.evaluate(numbers_begin)) > 2 and min(begin) >= 2
    for width in (700, 1920):
        page.set_viewport_size({"width": width, "height": 1400})
        page.wait_for_function(f"n => ({drawn})() >= n", arg=0)
        time.sleep(.5)
        assert page.locator(".gnb").evaluate("e => e.scrollWidth - e.clientWidth") <= 1
        page.screenshot(path=pictures/f"wide-{width}.png")
    print("pictures:", pictures)


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_time_is_scrubbed_and_forked(panel, pictures):
    page, slider, root = panel, panel.locator(".gnb-time input"), "document.querySelector('.gnb')"
    page.locator(".gnb").evaluate("e => e.scrollIntoView()")
    press(page, "Play")
    until_round_above(page, 60)
    page.get_by_role("slider", name="rate", exact=True).first.press("ArrowRight")
    page.get_by_text(re.compile("lr_gen .* →")).first.wait_for()
    until_round_above(page, rounds(page) + 60)
    press(page, "Pause")
    until_doing(page, "paused")
    newest, painted = rounds(page), page.evaluate(ink)
    box = slider.bounding_box()
    along = lambda part: (box["x"] + 7 + part * (box["width"] - 14), box["y"] + box["height"] / 2)
    page.mouse.move(*along(1))
    page.mouse.down()
    for part in (.9, .7, .5, .3): page.mouse.move(*along(part))
    page.mouse.up()
    near = f"n => {root}.gnb.held.is_past && Math.abs(+{root}.dataset.round - n) <= 25"
    page.wait_for_function(near, arg=.3 * newest)
    shown = rounds(page)
    assert page.locator(".gnb-clock").inner_text() == f"round {shown:,} of {newest:,}"
    assert page.evaluate(ink)[:2] != painted[:2], "another picture, and a line in the charts"
    slider.press("ArrowLeft")
    page.wait_for_function(f"n => +{root}.dataset.round < n", arg=shown)
    tick = page.locator(".gnb-tick").first
    assert re.match(r"lr_gen .* → .*, rounds? \d+", tick.get_attribute("title"))
    tick.click()
    at = int(re.search(r"rounds? (\d+)", tick.get_attribute("title"))[1])
    page.wait_for_function(near, arg=at)
    page.screenshot(path=pictures/"past.png")
    press(page, "Now")
    page.wait_for_function(f"n => !{root}.gnb.held.is_past && +{root}.dataset.round === n", arg=newest)
    slider.evaluate("(s, to) => { s.value = to; s.dispatchEvent(new Event('input')); }", newest // 2)
    page.wait_for_function(near, arg=newest // 2)
    shown = rounds(page)
    press(page, "Fork here")
    page.get_by_text(f"This is a fork from round {shown}").wait_for()
    page.wait_for_function(f"n => !{root}.gnb.held.is_past && +{root}.dataset.round === n && {root}.gnb.held.newest === n", arg=shown)
    assert all(round < shown for round, _ in facts(page))
    press(page, "Step round")
    page.wait_for_function(f"n => +{root}.dataset.round === n + 1", arg=shown)
    press(page, "Back")
    page.wait_for_function(f"n => +{root}.dataset.round === n", arg=newest)


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_a_bound_is_dragged_in_the_chart(panel):
    page = panel
    page.get_by_role("combobox", name="clip", exact=True).nth(1).select_option("global_norm")
    handle = page.locator(".gnb-handle.gnb-disc:visible").first # the chart's; the histogram below has one, too
    handle.wait_for()
    press(page, "Play")
    until_round_above(page, 5)
    box = handle.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for k in range(1, 7): page.mouse.move(box["x"] + 5, box["y"] + 5 + 6 * k)
    page.mouse.up()
    page.wait_for_function("() => document.querySelectorAll('.gnb-handle')[0].getAttribute('aria-valuenow') < .9")
    press(page, "Pause")
    until_doing(page, "paused")
    values = [changes["clip_disc"][1] for _, changes in facts(page) if "clip_disc" in changes]
    assert values[0] == 1. and values[-1] < .9
    both = page.get_by_role("slider", name="bound on the discriminator's gradient")
    assert {both.nth(k).get_attribute("aria-valuenow") for k in range(both.count())} == {f"{values[-1]:g}"}
    handle.press("ArrowUp")
    page.wait_for_function("v => document.querySelectorAll('.gnb-handle')[0].getAttribute('aria-valuenow') > v", arg=values[-1])


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_who_does_not_look_gets_nothing_and_who_comes_back_everything(panel):
    page = panel
    press(page, "Play")
    until_round_above(page, 20)
    page.evaluate("() => { document.querySelector('.gnb').style.display = 'none'; }")       # as if scrolled away
    time.sleep(3)
    at = page.evaluate(drawn)
    time.sleep(2)
    assert page.evaluate(drawn) - at <= 3
    page.evaluate("() => { document.querySelector('.gnb').style.display = ''; }")
    page.wait_for_function(f"n => ({drawn})() > n + 5", arg=at)
    press(page, "Pause")
    until_doing(page, "paused")
    stopped = rounds(page)
    page.keyboard.press("Control+s")
    time.sleep(1)
    page.reload()
    page.locator(f".gnb[data-round='{stopped}']").wait_for()                                # the present state, at once
    assert min(page.evaluate(ink)) > 50
    press(page, "Step round")
    page.wait_for_function(f"n => ({read_round})() === n", arg=stopped + 1)


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_a_fault_of_the_page_is_said_in_the_panel(panel):
    page = panel
    page.evaluate("() => { document.querySelector('.gnb').gnb.held.limits = 7; document.querySelector('.gnb').gnb.draw(); }")
    page.get_by_text("the page cannot draw this").first.wait_for()
    press(page, "Reset")                                                     # and it can be reset
    page.evaluate("() => document.querySelector('.gnb').gnb.greet()")
    page.wait_for_function("() => document.querySelector('.gnb-error').hidden")


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_by_keyboard_and_for_who_cannot_see_it(panel):
    page = panel
    nameless = page.evaluate("""() => [...document.querySelectorAll('.gnb :is(button, select, input, [tabindex])')].filter(
        e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.title)).map(e => e.outerHTML)""")
    assert nameless == []
    page.get_by_role("button", name="Play", exact=True).focus()
    page.keyboard.press("Enter")
    until_round_above(page, 5)
    page.get_by_role("button", name="All settings").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_label("loss", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").first.wait_for(state="hidden")
    page.get_by_role("button", name="Pause", exact=True).focus()
    page.keyboard.press("Enter")
    until_doing(page, "paused")
    assert "generated samples at round" in page.locator(".gnb-plane .gnb-place").get_attribute("aria-label")


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_themes(panel, pictures):
    page = panel
    colour = "() => getComputedStyle(document.querySelector('.gnb')).backgroundColor"
    light = page.evaluate(colour)
    press(page, "Step round")
    page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'false')")
    page.wait_for_function(f"light => ({colour})() !== light", arg=light)
    time.sleep(.5)
    page.screenshot(path=pictures/"dark.png")
    page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'true')")
    print("picture:", pictures/"dark.png")


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_click_latency(panel):
    page, took = panel, {"Step round": [], "Play": [], "Pause": []}
    next_round = f"(() => {{ const read = {read_round}; const n = read(); return () => read() > n; }})()"
    now = "(() => () => document.querySelector('.gnb').dataset.doing === '{}')()"
    for _ in range(5):
        took["Step round"].append(click_latency(page, "Step round", next_round))
        took["Play"].append(click_latency(page, "Play", now.format("playing")))
        time.sleep(.5)
        took["Pause"].append(click_latency(page, "Pause", now.format("paused")))
        time.sleep(.2)
    for name, times in took.items():
        print(f"{name}: median {statistics.median(times):.0f} ms, most {max(times):.0f} ms")
    everything = sum(took.values(), [])
    print(f"all {len(everything)} clicks: median {statistics.median(everything):.0f} ms")
    assert max(everything) < 60_000


@pytest.mark.parametrize("panel", [ring, digits], ids=["ring", "digits"], indirect=True)
def test_a_person_can_drive_the_lab(panel, pictures, request):
    page, name = panel, request.node.callspec.id
    page.locator(".gnb").scroll_into_view_if_needed()
    before = page.evaluate(drawn)

    press(page, "Play")
    until_round_above(page, 5)
    page.wait_for_function(f"n => ({drawn})() > n + 5", arg=before)         # pictures come by themselves

    run_cell(page, 1)                       # another cell runs while the lab plays
    cell(page, 1).get_by_text("half 42 True").wait_for()

    at = rounds(page)
    page.get_by_role("slider", name="rate", exact=True).nth(1).press("ArrowLeft")
    page.get_by_text(re.compile("lr_disc .* →")).first.wait_for()
    until_round_above(page, at)
    page.screenshot(path=pictures/f"playing-{name}.png")

    page.locator(".gnb").get_by_role("button", name="By layer", exact=True).click()
    page.locator(".gnb-table tbody tr").first.wait_for()
    assert page.locator(".gnb-table tbody tr").count() == 1 + 4 + 4        # both, then each player and its three layers
    measured = page.locator(".gnb-sheet:visible .gnb-wrap").inner_text()
    page.wait_for_function("was => document.querySelector('.gnb-sheet:not([hidden]) .gnb-wrap').textContent !== was", arg=measured) # and again
    page.screenshot(path=pictures/f"layers-{name}.png")
    page.keyboard.press("Escape")

    press(page, "Pause")
    until_doing(page, "paused")
    stopped = rounds(page)
    time.sleep(1)
    assert rounds(page) == stopped

    press(page, "Step round")
    page.wait_for_function(f"n => ({read_round})() === n", arg=stopped + 1)
    press(page, "Step discriminator")
    page.get_by_text("one step of the discriminator").first.wait_for()
    assert rounds(page) == stopped + 1
    assert min(page.evaluate(ink)) > 50     # every picture and chart shows something

    (when, changes), *_ = facts(page)
    assert "lr_disc" in changes and at <= when <= stopped
    print("picture:", pictures/f"playing-{name}.png")

    press(page, "Reset")
    page.wait_for_function(f"() => ({read_round})() === 0")
    press(page, "Back")
    page.wait_for_function(f"n => ({read_round})() === n", arg=stopped + 1)


@pytest.mark.parametrize("panel", [sick], ids=["sick"], indirect=True)
def test_the_doctor_speaks_and_is_obeyed(panel, pictures):
    page = panel
    page.get_by_text("no round has been seen yet").wait_for()
    remedy = page.get_by_role("button", name=re.compile("^Apply"))
    assert not remedy.is_visible()

    press(page, "Play")
    page.locator(".gnb-verdict.gnb-bad").wait_for()                     # it speaks while the run trains
    page.get_by_role("button", name="Apply: set loss='r3'").wait_for()  # and says what the click will do
    page.get_by_role("button", name="Evidence").click()
    page.get_by_text("real ranked above generated").wait_for()
    page.screenshot(path=pictures/"ill.png")
    print("picture:", pictures/"ill.png")
    page.keyboard.press("Escape")

    at = rounds(page)
    remedy.click()
    page.get_by_text("→ r3").first.wait_for()
    until_round_above(page, at)                                         # the lab goes on
    press(page, "Pause")
    until_doing(page, "paused")
    page.screenshot(path=pictures/"treated.png")
    [(when, changes)] = facts(page)
    assert when >= at and changes["loss"] == "r3" and changes["normalize_gen"] == ["orthogonal", 1.0]


@pytest.mark.parametrize("panel", [many], ids=["many"], indirect=True)
def test_a_person_can_drive_a_population(panel, pictures):
    page = panel
    table = page.locator(".gnb-multiples .gnb-place")
    drawn_members = "() => document.querySelector('.gnb-multiples canvas').toDataURL()"
    boxes = "() => [...document.querySelectorAll('.gnb-bar, .gnb-multiples, .gnb-chart, .gnb-one')].map(e => e.getBoundingClientRect().toJSON())"
    before, begun = page.evaluate(boxes), page.evaluate(drawn_members)
    page.get_by_text("6 runs: 6 not looked at yet", exact=True).wait_for()

    press(page, "Play")
    until_round_above(page, 20)
    page.wait_for_function(f"begun => ({drawn_members})() !== begun", arg=begun)
    press(page, "Pause")
    until_doing(page, "paused")
    stopped = rounds(page)
    press(page, "Step round")
    page.wait_for_function(f"n => ({read_round})() === n", arg=stopped + 1)
    page.get_by_text(re.compile("^6 runs: (?!.*not looked at yet)")).wait_for()     # the doctor went on while it was paused
    assert page.evaluate(boxes) == before

    present = page.evaluate(drawn_members)
    scrub_to(page, .5)
    page.wait_for_function(f"present => ({drawn_members})() !== present", arg=present)
    assert page.locator(".gnb-clock").inner_text() == f"round {rounds(page):,} of {stopped + 1:,}"
    past = page.evaluate(drawn_members)
    press(page, "Now")
    page.wait_for_function("said => document.querySelector('.gnb-clock').innerText === said", arg=f"round {stopped + 1:,}")
    page.wait_for_function(f"past => ({drawn_members})() !== past", arg=past)        # the doctor may have coloured the present meanwhile

    page.get_by_text("run 0: seed 0, lr 0.0001", exact=True).wait_for()
    table.focus()
    for key in ("ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
        page.get_by_text(re.compile(f"^run {3 if key == 'ArrowDown' else 4}: ")).wait_for()
    page.get_by_text("run 4: seed 1, lr 0.001", exact=True).wait_for()
    box = table.bounding_box()
    page.mouse.move(box["x"] + .9 * box["width"], box["y"] + .4 * box["height"])
    page.locator(".gnb-multiples .gnb-tip", has_text="run 2: seed 2, lr 0.0001").wait_for()
    page.mouse.dblclick(box["x"] + .9 * box["width"], box["y"] + .4 * box["height"])
    page.get_by_role("button", name="Step discriminator", exact=True).wait_for()
    page.get_by_text("run 2 is open in the lab below", exact=True).wait_for()
    assert cell(page, 0).locator(".gnb").count() == 2           # in the same cell
    page.set_viewport_size({"width": 1366, "height": 1600})
    page.screenshot(path=pictures/"population.png")
    print("picture:", pictures/"population.png")


own = """import numpy as np
from gan_nb.stage import Frame, Stage
class Own(Stage):
    heard = []
    def hear(self, message): self.heard.append(message)
stage = Own([dict(part='histogram', id='norms', of='values', hue='disc', label='histogram')])
level = dict(y=1., value=1., drag='clip_disc', hue='disc', text='≤ 1')
stage.show(Frame(round=7, values=10**np.random.default_rng(0).normal(size=400).astype('float32'), said=dict(levels=dict(norms=[level]))))
stage"""


def test_a_stage_of_ones_own_and_a_bound_in_a_histogram(server, browser):
    with notebook(browser, server, "lab", [own, "print('heard', stage.heard[-1]['control'], stage.heard[-1]['number'], stage.heard[-1]['dragging'])"]) as page:
        handle = page.locator(".gnb-histogram .gnb-handle")
        run_until_it_shows(page, 0, handle)
        assert page.locator(".gnb").get_attribute("data-round") == "7" and min(page.evaluate(ink)) > 500
        box = handle.bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        for k in range(1, 6): page.mouse.move(box["x"] + 5 - 12 * k, box["y"] + 5)
        page.mouse.up()
        run_cell(page, 1)
        page.get_by_text(re.compile(r"heard clip_disc 0\.\d+ False")).wait_for()


arms = "{'clip_disc': [None, ('global_norm', 1.), ('global_norm', .1), ('value', .01)]}"
compared = f"from gan_nb.compare import Compare\npanel = Compare.of('ring', {arms}, seeds=2, hidden=(8,), batch_size=16, threads=1)\npanel"
clipped = "from gan_nb import Run\nfrom gan_nb.lab import Lab\nlab = Lab(Run('ring', clip_disc=('value', .01), hidden=(8,), batch_size=16, threads=1))\nlab"

def test_runs_are_compared_side_by_side_and_by_the_lab(server, browser, pictures):
    with notebook(browser, server, "compared", [compared, clipped], size=(1366, 1000)) as page:
        run_until_it_shows(page, 0, page.get_by_role("button", name="Play", exact=True))
        press(page, "Play")
        until_round_above(page, 5)
        press(page, "Pause")
        until_doing(page, "paused")
        assert min(page.evaluate(ink)) > 50 and len(page.evaluate(ink)) == 5, "the pictures and four charts"
        page.get_by_text("clip_disc none | global norm 1.0 | global norm 0.1 | value 0.01 · same start · same batches · 2 seeds").wait_for()
        place = page.locator(".gnb-multiples .gnb-place")
        place.click(position={"x": place.bounding_box()["width"] * .6, "y": 100})
        page.get_by_text("from global norm 0.1, by pairs").wait_for()
        press(page, "Evaluate")
        page.get_by_text("sliced Wasserstein distance, at round").wait_for()
        page.get_by_role("combobox", name="in step by").select_option("evaluations")
        page.get_by_text(re.compile(r"^\d+ gradient evaluations$")).wait_for()
        page.screenshot(path=pictures/"compare.png")
        scrub_to(page, .5)
        assert page.evaluate("() => { const { across_at, round } = document.querySelector('.gnb').gnb.held; return across_at === 2 * round; }"), "two evaluations a round"
        page.get_by_role("combobox", name="seed").select_option("1")
        page.wait_for_function("() => { const { is_past, round, newest } = document.querySelector('.gnb').gnb.held; return !is_past && round === newest; }")
        press(page, "Restart")
        page.wait_for_function(f"() => ({read_round})() === 0")
        run_until_it_shows(page, 1, page.get_by_role("button", name="Compare", exact=True))
        press(page, "Compare")
        page.get_by_text("clip_disc none | value 0.01 · same start").last.wait_for()
        assert page.locator(".gnb").count() == 3 and not page.locator(".gnb-error:visible").count()


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_a_slow_page_slows_the_picture_and_loses_nothing(panel):
    page = panel
    page.evaluate("""() => { window.own = window.requestAnimationFrame; window.requestAnimationFrame = f => setTimeout(() => own(f), 500); }""")
    press(page, "Play")
    until_round_above(page, 50)
    at, begun = page.evaluate(drawn), time.monotonic()
    time.sleep(6)
    frames = page.evaluate(drawn) - at
    assert 2 <= frames <= 2.6 * (time.monotonic() - begun)
    press(page, "Pause")
    until_doing(page, "paused")
    stopped = rounds(page)
    press(page, "Step round")
    page.wait_for_function(f"n => ({read_round})() === n", arg=stopped + 1)
    rows = page.evaluate("""() => document.querySelector('.gnb').gnb.held.table.rows""")
    assert rows == stopped + 1                                               # every record came, in order, once
    page.evaluate("() => { window.requestAnimationFrame = own; }")


@pytest.mark.parametrize("panel", [ring], indirect=True, ids=["ring"])
def test_a_restarted_kernel(panel):
    "What it held is gone; the view of before goes with the cell that is run again, and the new one shows where the new run is."
    page = panel
    press(page, "Play")
    page.wait_for_function("() => +document.querySelector('.gnb').dataset.round > 3")
    page.remove_locator_handler(page.locator(".jp-Dialog"))
    page.locator("[data-jp-item-name=restart]").click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(state="attached")
    run_cell(page, 0)
    page.locator(".gnb[data-round='0']").wait_for()
    assert page.locator(".gnb").count() == 1
    press(page, "Play")
    page.wait_for_function("() => +document.querySelector('.gnb').dataset.round > 3")
    press(page, "Pause")
    page.get_by_role("button", name="Play", exact=True).wait_for()


@pytest.mark.parametrize("panel", [ring], ids=["ring"], indirect=True)
def test_a_second_view_of_the_panel_moves_as_well(panel, room):
    page, room.is_spoiled = panel, True
    page.evaluate("() => document.querySelector('.gnb').scrollIntoView()")
    page.locator(".jp-Cell-outputWrapper").first.click(button="right", position={"x": 20, "y": 20})
    page.get_by_role("menuitem", name="Create New View for Cell Output").click()
    page.wait_for_function("() => document.querySelectorAll('.gnb').length === 2")
    page.locator(".gnb").nth(1).get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => [...document.querySelectorAll('.gnb')].every(e => +e.dataset.round > 20)")
    assert page.evaluate("() => new Set([...document.querySelectorAll('.gnb')].map(e => e.dataset.round)).size") == 1
