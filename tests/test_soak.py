"""An hour of everything a person does to a panel, in a real browser; in `make test` it takes half a minute.

`make soak` plays the hour: memory of the kernel and of the page must stay flat, no thread may be left, and no message
may be lost."""
import json
import os
import random
import time

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

from browser import cell, chromium, flags, jupyter, notebook, press, prompt, run_cell, run_until_it_shows

pytestmark = pytest.mark.skipif(chromium is None, reason="needs chromium: apt install chromium")
seconds = float(os.environ.get("SOAK", 15))
is_long = seconds >= 600

cells = ["from gan_nb import Run\nfrom gan_nb.lab import Lab\nrun = Run('ring', batch_size=64, hidden=(32, 32), threads=1)\nrun.step()",
         "lab = Lab(run)\ndisplay(lab)", # what a cell ends with is kept by IPython, for as long as it runs
         "import gc, json, threading; gc.collect()\n"
         "print('facts', json.dumps({'rss': int(open('/proc/self/statm').read().split()[1]) * 4096, 'threads': [t.name for t in threading.enumerate() if 'gan_nb' in t.name], 'round': lab.run.round, 'edits': len(lab.run.edits), 'stills': len(lab.reel), 'labs': sum(type(o).__name__ == 'Lab' for o in gc.get_objects())}))",
         "lab.close(); run.history.records.table(); print('closed')"]


def facts(page):
    "What the kernel says now: the output of this run of the cell, not of the one before, which stands until then."
    before = prompt(page, 2)
    run_cell(page, 2)
    page.wait_for_function("before => { const now = document.querySelectorAll('.jp-CodeCell')[2].querySelector('.jp-InputPrompt').textContent.trim(); return /\\[\\d+\\]:/.test(now) && now !== before; }", arg=before)
    time.sleep(.5)
    return json.loads(cell(page, 2).locator(".jp-OutputArea-output pre").first.inner_text().split("facts ")[1])


def heap(page, session):
    session.send("HeapProfiler.collectGarbage")
    return session.send("Runtime.getHeapUsage")["usedSize"]


def nodes(session): return {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}["Nodes"]


def hide(page, hidden): page.evaluate("hidden => { document.querySelector('.gnb').style.display = hidden ? 'none' : ''; }", hidden)


def drag(page):
    slider = page.get_by_role("slider", name="rate", exact=True).first
    slider.focus()
    for _ in range(8): page.keyboard.press(random.choice(["ArrowLeft", "ArrowRight"]))


def scrub(page):
    "To three rounds that were kept, one after the other."
    for part in (.2, .7, .4):
        before = page.evaluate("() => document.querySelector('.gnb').gnb.held.sought")
        page.locator(".gnb-time input").evaluate("(s, part) => { s.value = Math.floor(part * s.max); s.dispatchEvent(new Event('input')); }", part)
        page.wait_for_function("before => { const { held } = document.querySelector('.gnb').gnb; return held.sought !== before && held.is_past && held.round < held.newest; }", arg=before)


def go_on_from_there(page, turn):
    "Back to the present, or on with a fork."
    if turn % 2: return press(page, "Now")
    press(page, "Fork here")
    page.wait_for_function("() => { const { held } = document.querySelector('.gnb').gnb; return !held.is_past && held.round === held.newest; }")


def test_nothing_grows_and_nothing_is_left(tmp_path_factory):
    random.seed(0)
    with playwright.sync_playwright() as p, jupyter(tmp_path_factory.mktemp("soak")) as server:
        browser = p.chromium.launch(executable_path=chromium, args=flags)
        with notebook(browser, server, "soak", cells) as page:
            run_cell(page, 0)
            play = page.get_by_role("button", name="Play", exact=True)
            run_until_it_shows(page, 1, play)
            session, seen = page.context.new_cdp_session(page), []
            page.evaluate("() => { window.lost = 0; document.querySelector('.gnb').gnb.greet = (own => function() { window.lost++; return own.call(this); })(document.querySelector('.gnb').gnb.greet); }")
            session.send("Performance.enable")
            until, turn = time.monotonic() + seconds, 0
            while time.monotonic() < until:
                turn += 1
                press(page, "Play")
                time.sleep(2 if not is_long else 10)
                drag(page)
                hide(page, True); time.sleep(.5); hide(page, False)
                press(page, "Pause")
                page.wait_for_function("() => document.querySelector('.gnb').dataset.doing === 'paused'")
                press(page, "Step round")
                press(page, "Back")
                page.get_by_text("undone:").wait_for()                       # it ends in the present, wherever one has scrubbed to meanwhile
                scrub(page)
                go_on_from_there(page, turn)
                if turn % 3 == 0: press(page, "Reset")
                if turn % 5 == 0: run_until_it_shows(page, 1, play)
                if turn % 12 == 0 or not is_long: # seldom: a notebook keeps a fifth of a MiB whenever another cell is run
                    seen.append((heap(page, session), facts(page)))
                    if is_long: print(f"turn {turn}: page {seen[-1][0] / 2**20:.1f} MiB, kernel {seen[-1][1]['rss'] / 2**20:.1f}", flush=True)
            run_until_it_shows(page, 1, play)                                # as it is after that: what it says of a run that was played has hundreds of nodes
            heap(page, session)
            before = nodes(session)
            for _ in range(3): run_until_it_shows(page, 1, play)
            heap(page, session)
            assert nodes(session) - before < 300                             # a panel has a thousand, and its page lets them go
            said = facts(page)
            rows = page.evaluate("() => document.querySelector('.gnb').gnb.held.round")
            assert rows == said["round"]                                     # the page shows where the run is
            assert said["labs"] == 1, said                                   # those whose cell was run anew are gone
            run_cell(page, 3)
            page.locator(".jp-CodeCell").nth(3).get_by_text("closed", exact=True).wait_for()
            assert page.locator(".gnb").count() == 0 and facts(page)["threads"] == []
        browser.close()
    late, early = seen[-len(seen) // 3:], seen[len(seen) // 3:2 * len(seen) // 3]
    for name, of in {"page": lambda s: s[0], "kernel": lambda s: s[1]["rss"]}.items():
        before, after = (sorted(map(of, part))[len(part) // 2] for part in (early, late)) if len(seen) > 2 else (1, 1)
        print(f"{name}: {before / 2**20:.1f} MiB in the middle, {after / 2**20:.1f} at the end, {after / before - 1:+.1%}; {turn} turns")
        assert after <= before * (1.05 if is_long else 1.5), name
