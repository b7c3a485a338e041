"""The pictures of the front page, made from real runs in a real browser: the lab in motion, and one of each panel.

    python tests/front_pictures.py          all of them, into images/
    python tests/front_pictures.py lab      those whose name begins so
"""
import io
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from browser import chromium, flags, jupyter, notebook, run_until_it_shows

folder = Path(__file__).resolve().parents[1]/"images"
panels = { # name: (the cell, the rounds to play, picture taken in motion?)
    "lab": ("from gan_nb import Run\nfrom gan_nb.lab import Lab\nlab = Lab(Run('ring', clip_disc=('global_norm', .5), threads=1))\nlab", 2400, True),
    "lab_digits": ("from gan_nb import Run\nfrom gan_nb.lab import Lab\nlab = Lab(Run('article'))\nlab", 250, False),
    "playground": ("from gan_nb.playground import Playground\nlab = Playground()\nlab", 900, False),
    "population_lab": ("from gan_nb.population import Population\nfrom gan_nb.population_lab import PopulationLab\n"
        "lab = PopulationLab(Population('ring', seeds=8, grid={'lr': [1e-4, 3e-4, 1e-3, 3e-3]}, hidden=(32, 32), batch_size=64))\nlab", 400, False),
    "sweep_lab": ("from gan_nb.sweeps import Sweep\nfrom gan_nb.sweep_lab import SweepLab\n"
        "lab = SweepLab(Sweep('ring', {'lr': '1e-3..0.1:log', 'r1': '0.1..10:log'}, 'swept', rounds=1500, hidden=(32, 32), batch_size=64))\nlab", 24, False), # of 40 trials
}
most_bytes = 1_000_000


def shot(panel): return Image.open(io.BytesIO(panel.screenshot())).convert("RGB")


def rounds(page): return page.evaluate("() => +document.querySelector('.gnb').dataset.round")


def film(page, panel, until):
    "Pictures of the panel while it plays."
    taken = []
    while rounds(page) < until: taken.append((rounds(page), shot(panel)))
    return taken


def moving(taken, name, width, frames):
    "A GIF of some of them, evenly spread over the rounds."
    last = taken[-1][0]
    chosen = [min(taken, key=lambda t: abs(t[0] - last * (i / (frames - 1)) ** 1.5))[1] for i in range(frames)]
    small = [image.resize((width, round(image.height * width / image.width)), Image.LANCZOS) for image in chosen]
    some = small[:: max(1, frames // 6)] # colours of early and late frames
    together = Image.new("RGB", (width, sum(image.height for image in some)))
    for i, image in enumerate(some): together.paste(image, (0, i * image.height))
    palette = together.quantize(128, Image.Quantize.MAXCOVERAGE)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in small]
    flat[0].save(folder/f"{name}.gif", save_all=True, append_images=flat[1:], duration=[120] * (frames - 1) + [2500], loop=0, optimize=True)
    return (folder/f"{name}.gif").stat().st_size


def take(browser, name):
    cell, until, in_motion = panels[name]
    with tempfile.TemporaryDirectory() as place, jupyter(Path(place)) as server, notebook(browser, server, name, [cell], size=(1366, 1000)) as page:
        run_until_it_shows(page, 0, page.get_by_role("button", name="Play", exact=True))
        panel = page.locator(".gnb")
        panel.evaluate("e => e.scrollIntoView()")
        page.mouse.move(2, 2)
        page.get_by_role("button", name="Play", exact=True).click()
        if in_motion: taken = film(page, panel, until)
        page.wait_for_function("n => +document.querySelector('.gnb').dataset.round >= n", arg=until)
        page.get_by_role("button", name="Pause", exact=True).click()
        time.sleep(3) # the doctor has a last look
        shot(panel).quantize(128).save(folder/f"{name}.png", optimize=True)
        if not in_motion: return
        for width, frames in ((700, 40), (640, 32), (600, 24), (520, 18)):
            if moving(taken, name, width, frames) < most_bytes: return


def main(names):
    folder.mkdir(exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=flags)
        for name in panels:
            if not names or any(name.startswith(word) for word in names): take(browser, name)
        browser.close()
    for file in sorted(folder.iterdir()): print(file.name, f"{file.stat().st_size:,} bytes")


if __name__ == "__main__": main(sys.argv[1:])
