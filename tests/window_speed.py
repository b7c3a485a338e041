"""How fast the window moves, and what it costs the training: measured in a real browser, alternating with the same
rounds without a window, in the same process. Prints a table; wants an idle machine, some minutes.

    python tests/window_speed.py            all rows
    python tests/window_speed.py ring       those whose name contains the word
"""
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from browser import cell, chromium, flags, jupyter, notebook, run_cell, run_until_it_shows

turns, seconds, alone = 4, 10, 4 # turns of play with the window, and seconds of each; seconds of play without

bounds = "{'clip_disc': [None, ('global_norm', 1.), ('global_norm', .1), ('global_norm', .01)]}"
cases = { # name: (the panel, by our server?, is another process busy?)
    "lab, ring": ("Lab(run := Run('ring', threads=1))", True, False),
    'lab, ring, 60 asked for': ("Lab(run := Run('ring', threads=1), fps=60)", True, False),
    'lab, ring, a server of Jupyter': ("Lab(run := Run('ring', threads=1))", False, False),
    'lab, ring, another process busy': ("Lab(run := Run('ring', threads=1))", True, True),
    'lab, 64 digits': ("Lab(run := Run('article', threads=1))", True, False),
    'lab, 64 digits, another process busy': ("Lab(run := Run('article', threads=1))", True, True),
    'playground, ring': ("Playground()", True, False),
    'playground, ring, another process busy': ("Playground()", True, True),
    'compare, four on ring': (f"Compare.of('ring', {bounds}, seeds=1, threads=1)", True, False),
}

setup = """from gan_nb import Run
from gan_nb.compare import Compare, InStep
from gan_nb.lab import Lab
from gan_nb.playground import Playground

lab = {panel}
lab"""
headless = """import time
twin = globals().get('twin') or (InStep([run.fork() for run in lab.player.runs]) if isinstance(lab, Compare) else lab.run.fork())
begun, first = time.perf_counter(), twin.round
while time.perf_counter() - begun < {alone}: twin.several(1)
print('alone', (twin.round - first) / (time.perf_counter() - begun))"""
said = "print('share of frames', round(lab.draw_share(), 3), 'bytes a frame', lab.bytes_sent // max(lab.frames_sent, 1))"
watch = """seconds => new Promise(done => {
    const panel = document.querySelector('.gnb'), times = [], rounds = new Set(), begun = performance.now(), first = +panel.dataset.round;
    const look = now => {
        if (!rounds.has(panel.dataset.round)) { rounds.add(panel.dataset.round); times.push(now); }
        if (now - begun < 1000 * seconds) return requestAnimationFrame(look);
        done([times, (+panel.dataset.round - first) / (performance.now() - begun) * 1000]); };
    requestAnimationFrame(look); })"""
click = """name => new Promise(done => {
    const panel = document.querySelector('.gnb'), before = panel.dataset.doing, begun = performance.now();
    [...panel.querySelectorAll('button')].find(b => b.textContent.trim() === name).click();
    const look = () => panel.dataset.doing !== before ? done(performance.now() - begun) : setTimeout(look, 1); look(); })"""


def burn():
    while True: pass


def measure(browser, folder, panel, ours):
    fps, ratios, clicks, gaps = [], [], [], []
    with jupyter(folder, ours) as server, notebook(browser, server, "speed", [setup.format(panel=panel), headless.format(alone=alone), said]) as page:
        run_until_it_shows(page, 0, page.get_by_role("button", name="Play", exact=True))
        page.locator(".gnb").scroll_into_view_if_needed()
        for turn in range(turns + 1):
            run_cell(page, 1)
            page.wait_for_function("n => { const t = document.querySelectorAll('.jp-CodeCell')[1].textContent; return t.includes('alone') && /\\[\\d+\\]/.test(t) }", arg=0)
            time.sleep(alone + 1.5)
            own = float(re.search(r"alone ([\d.]+)", cell(page, 1).locator(".jp-OutputArea-output pre").first.inner_text())[1])
            page.evaluate("() => document.querySelector('.gnb').scrollIntoView()")
            clicks.append(page.evaluate(click, "Play"))
            time.sleep(1)
            times, speed = page.evaluate(watch, seconds)
            clicks.append(page.evaluate(click, "Pause"))
            if not turn: continue # the first warms up
            fps.append((len(times) - 1) / seconds)
            gaps += [b - a for a, b in zip(times, times[1:])]
            ratios.append(speed / own)
        run_cell(page, 2)
        time.sleep(2)
        print("   ", cell(page, 2).locator(".jp-OutputArea-output pre").first.inner_text().strip())
    gaps.sort()
    print(f"    gaps of frames: median {statistics.median(gaps):.1f} ms, 90 % below {gaps[int(.9 * len(gaps))]:.1f} ms; headless {own:.0f} rounds/s")
    return statistics.median(fps), statistics.median(ratios), statistics.median(clicks), max(clicks)


def main(words):
    print("| panel | frames a second | of the headless speed | a click, median and worst |\n|---|---|---|---|")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=flags)
        for name, (panel, ours, busy) in cases.items():
            if not all(word in name for word in words): continue
            other = multiprocessing.Process(target=burn, daemon=True)
            if busy: other.start()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    fps, ratio, middle, worst = measure(browser, Path(folder), panel, ours)
                print(f"| {name} | {fps:.1f} | {ratio:.2f} | {middle:.0f} ms, {worst:.0f} ms |", flush=True)
            finally:
                if busy: other.terminate()
        browser.close()


if __name__ == "__main__": main(sys.argv[1:])
