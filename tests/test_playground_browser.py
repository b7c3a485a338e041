"The playground and the portrait in a real JupyterLab and a real browser: what needs a page. The rest is tested in their notebooks."
import pytest

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

from browser import chromium, notebook, press, run_cell, run_until_it_shows

pytestmark = pytest.mark.skipif(chromium is None, reason="needs chromium: apt install chromium")

source = "from gan_nb.playground import Playground\npanel = Playground(hidden=(16, 16), threads=1)\npanel"
asked = "import json; print('facts', json.dumps([panel.run.game.data.name, panel.round, panel.run.recipe.lr_disc, panel.pace.is_slow]))"
portrait = "from gan_nb.portrait import Portrait\nplane = Portrait(rounds=30)\nplane"
went = "print('went', json.dumps([*plane.sitter.start, *plane.player.path[0].tolist(), *plane.player.path[-1].tolist()]))"
measured = "c = panel.run.game.data.centers; print('length', float((c.amax(0) - c.amin(0)).norm()))"


@pytest.fixture(scope="module")
def page(server, browser):
    "A notebook with a playground; its tests follow each other, as a person's doings do."
    with notebook(browser, server, "playground", [source, asked, measured, portrait, went]) as page:
        run_until_it_shows(page, 0, page.get_by_role("button", name="Play", exact=True))
        page.locator(".gnb[data-round='0']").wait_for()
        yield page


def facts(page):
    "What Python knows: data, round, rate, slow motion."
    run_cell(page, 1)
    return page.wait_for_function("""() => { const all = [...document.querySelectorAll('.jp-CodeCell')][1].innerText.match(/facts (\\[.*\\])/);
        return all && JSON.parse(all[1]); }""").json_value()


def text(page, selector): return page.locator(selector).first.inner_text()


def place(page):
    box = page.locator(".gnb-plane .gnb-place").bounding_box()
    return lambda x, y: (box["x"] + x*box["width"], box["y"] + y*box["height"])


def is_painted(page):
    return page.evaluate("""() => { const c = document.querySelector('.gnb-plane canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }""")


def test_it_shows_everything_in_its_place(page):
    size = page.locator(".gnb-playground").evaluate("e => [e.clientHeight, e.scrollWidth - e.clientWidth]")
    assert size[0] <= 618 and size[1] <= 0
    assert page.locator(".gnb-flow-box").count() == 6 and page.locator(".gnb-choice").count() == 9
    assert is_painted(page) > 1000


def test_hover(page):
    x, y = place(page)(.5, .5)
    page.mouse.move(x, y)
    page.wait_for_function("() => /^\\(.*\\)[^]*real, says the discriminator/.test(document.querySelector('.gnb-plane .gnb-tip').textContent)")


def test_slow(page):
    page.locator(".gnb-pace .gnb-check").check()
    press(page, "Play")
    page.wait_for_function("() => document.querySelector('.gnb-flow-box.gnb-lit')")
    page.wait_for_function("() => document.querySelector('.gnb-flow-back').classList.contains('gnb-disc')")
    assert "Discriminator's turn" in text(page, ".gnb-foot")
    page.wait_for_function("() => document.querySelector('.gnb-flow-back').classList.contains('gnb-gen')")
    press(page, "Pause")
    page.get_by_role("button", name="Play", exact=True).wait_for()
    page.locator(".gnb-pace .gnb-check").uncheck()
    page.wait_for_function("() => !document.querySelector('.gnb-flow-box.gnb-lit')")


def test_layers(page):
    chip = page.get_by_role("button", name="manifold", exact=True)
    chip.click()
    page.wait_for_function("() => document.querySelector('.gnb-layer-mesh').getAttribute('aria-pressed') === 'true'")
    chip.click()
    page.wait_for_function("() => document.querySelector('.gnb-layer-mesh').getAttribute('aria-pressed') === 'false'")


def by_mouse(page, way):
    page.mouse.move(*way[0])
    page.mouse.down()
    for at in way[1:]: page.mouse.move(*at)
    page.mouse.up()


def by_finger(page, way):
    session = page.context.new_cdp_session(page)
    for kind, (x, y) in [("touchStart", way[0]), *(("touchMove", at) for at in way[1:])]:
        session.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=[dict(x=x, y=y)]))
    session.send("Input.dispatchTouchEvent", dict(type="touchEnd", touchPoints=[]))


def by_pen(page, way):
    session = page.context.new_cdp_session(page)
    for kind, (x, y) in [("mousePressed", way[0]), *(("mouseMoved", at) for at in way[1:]), ("mouseReleased", way[-1])]:
        session.send("Input.dispatchMouseEvent", dict(type=kind, x=x, y=y, button="left", buttons=int(kind != "mouseReleased"), clickCount=1, pointerType="pen", force=.5))


@pytest.mark.parametrize("draw, kind", [(by_mouse, "mouse"), (by_finger, "touch"), (by_pen, "pen")])
def test_draw(page, draw, kind):
    page.evaluate("() => { window.kinds = new Set(); document.querySelector('.gnb-plane .gnb-place').addEventListener('pointermove', e => window.kinds.add(e.pointerType)); }")
    page.locator(".gnb-choice").last.click()
    page.get_by_role("button", name="Done", exact=True).wait_for()
    at, scrolled = place(page), page.evaluate("() => document.querySelector('.gnb').getBoundingClientRect().top")
    draw(page, [at(.2 + .06*i, .7 - .04*i) for i in range(11)])
    page.wait_for_timeout(500)
    assert kind in page.evaluate("() => [...window.kinds]")
    assert page.evaluate("() => document.querySelector('.gnb').getBoundingClientRect().top") == scrolled   # the page keeps its place
    press(page, "Done")
    page.get_by_role("button", name="Done", exact=True).wait_for(state="hidden")
    press(page, "Play")
    page.wait_for_function("() => +document.querySelector('.gnb').dataset.round > 3")
    press(page, "Pause")
    page.get_by_role("button", name="Play", exact=True).wait_for()
    name, round, *_ = facts(page)
    assert name == "drawing" and round > 3
    run_cell(page, 2)                                                       # how long the stroke was that arrived
    length = page.wait_for_function("""() => { const all = [...document.querySelectorAll('.jp-CodeCell')][2].innerText.match(/length ([\\d.]+)/); return all && all[1]; }""").json_value()
    assert float(length) > .5


def test_morph(page):
    "The sheet grows out of its latents when the generator is pointed at."
    chip = page.get_by_role("button", name="manifold", exact=True)
    chip.click()
    page.wait_for_function("() => document.querySelector('.gnb').gnb.held.mesh_from")
    drawn = "document.querySelector('.gnb-plane canvas').toDataURL()"
    page.locator(".gnb-flow-generator").hover()
    seen = page.evaluate(f"""() => new Promise(done => {{ const seen = new Set(), panel = document.querySelector('.gnb').gnb;
        const look = now => {{ seen.add({drawn}); panel.morphed(now) < 1 ? requestAnimationFrame(look) : done(seen.size); }};
        requestAnimationFrame(look); }})""")
    assert seen >= 3
    chip.click()


def way(page, shown):
    "Where the portrait's way begins and ends, says Python, once the page shows that start."
    page.wait_for_function("([x, y]) => { const at = document.querySelector('.gnb-portrait').gnb.held.path.data; return Math.abs(at[0] - x) + Math.abs(at[1] - y) < .02; }", arg=shown)
    run_cell(page, 4)
    return page.wait_for_function("""([x, y]) => { const all = [...document.querySelectorAll('.jp-CodeCell')][4].innerText.match(/went (\\[.*\\])/), found = all && JSON.parse(all[1]);
        return found && Math.abs(found[0] - x) + Math.abs(found[1] - y) < .02 && found; }""", arg=shown).json_value()


def test_the_start_of_a_portrait_is_dragged_and_moved_by_keys(page):
    run_until_it_shows(page, 3, page.locator(".gnb-portrait[data-round='30']"))
    panel, start = page.locator(".gnb-portrait"), page.locator(".gnb-portrait .gnb-start")
    panel.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.gnb-portrait').gnb.held.region")
    before = way(page, [1, 1])
    panel.scroll_into_view_if_needed()
    box = panel.locator(".gnb-phase .gnb-place").bounding_box()
    place = lambda x, y: (box["x"] + box["width"]/2 + x*box["width"]/4.5, box["y"] + box["height"]/2 - y*box["width"]/4.5)
    by_mouse(page, [place(1, 1), place(.5, .5), place(-.5, -1)])
    after = way(page, [-.5, -1])
    assert max(abs(a - b) for a, b in zip(after[:2], after[2:4])) < 1e-9                     # the way begins there
    assert abs(after[4] - before[4]) > .5
    start.focus()
    page.keyboard.press("Shift+ArrowUp")
    assert way(page, [-.5, -1 + 4.5/20])[1] > after[1]
