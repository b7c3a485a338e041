"""Do two versions of the project make the same bits?

    python tests/same_bits.py OLD NEW               two checkouts' folders, or revisions of git
    python tests/same_bits.py OLD NEW --only WORD   the cases whose name has WORD in it; --skip WORD leaves some out
    python tests/same_bits.py --list                what is played, without playing it

Both versions play the same generated runs on this machine, each in a process of its own with one thread. Final states
(as objects and as saved), records (all but the seconds) and samples are then compared to the last bit. What OLD saves
in the middle, both go on with. A member of a population is also compared with the run that it stands for, within
each version. Nothing is kept: bits differ between processors, so there are no digests to compare with.

Exit status: 0 the same, 1 something differs.
"""
import argparse
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np

here = Path(__file__).resolve().parent
noise_of_sums = 1e-4    # a member and its run add up in another order; more than this, relative to the largest entry, is said


# Cases: plain data, the same at every call

class Deck:
    "Deals its cards in a shuffled order, again and again, so that each comes up equally often."
    def __init__(self, rng, cards): self.rng, self.cards, self.left = rng, list(cards), []

    def deal(self):
        if not self.left: self.left = self.rng.sample(self.cards, len(self.cards))
        return self.left.pop()


plain = dict(rule="sgd", lr=.05, momentum=0, schedule="constant", halflife=0)
small = dict(plain, data="ring", z_dim=2, hidden=(8,), batch_size=12, rounds=60)
pictures = dict(data="pictures", z_dim=3, batch_size=8, rounds=40)     # made in `own_data`

networks = [
    {}, {}, dict(hidden=(6, 5)), dict(spectral=True), dict(gn=True), dict(pack=2), dict(spectral=True, pack=3),
    dict(pictures, hidden=(6,)), dict(pictures, model="conv", width=2), dict(pictures, model="conv", width=2, spectral=True),
]
rules = {     # with learning rates that suit them
    "sgd": [dict(lr=.05), dict(lr=.1, momentum=.5), dict(lr=.1, momentum=.9, nesterov=True), dict(lr=.1, weight_decay=.01),
            dict(lr=.05, momentum=-.3)],
    "adam": [dict(lr=.002), dict(lr=.005, momentum=.5)],
    "rmsprop": [dict(lr=.002), dict(lr=.002, momentum=.5)],
    "adagrad": [dict(lr=.02)],
    "optimistic_adam": [dict(lr=.002), dict(lr=.002, momentum=.5)],
    "graft": [dict(lr=.005), dict(lr=.005, momentum=.5)],
}
clips = [None, ("value", .02), ("global_norm", .3), ("block_norm", .1), ("adaptive", .05), ("quantile", .5)]
normalizers = [None, ("global_norm", .5), ("block_norm", .2), ("block_rms", .1), ("trust_ratio", .1), ("orthogonal", .2),
               ("sign", .05)]
projections = [None, None, ("box", .3), ("ball", 2.)]
losses = ["minimax", "non_saturating", "r3", "least_squares", "hinge", "wasserstein"]
with_labels = ("minimax", "non_saturating", "least_squares")
penalties = [{}, {}, dict(r1=.1), dict(r2=.1), dict(r1=.1, r2=.05), dict(wgan_gp=1.), dict(dragan=1.), dict(r1=.1, wgan_gp=.5)]
averages = [{}, dict(halflife=5), dict(average="uniform"), dict(average="tail")]
schedules = ["constant", "inverse_sqrt", "inverse", "linear", "cosine", "polyak"]
methods = {
    "alternating": [dict(n_gen=g, n_disc=d, order=order) for (g, d), order in
                    product([(1, 1), (1, 3), (2, 2), (3, 1), (0, 1), (1, 0)], ["disc_first", "gen_first"])],
    "simultaneous": [{}],
    "extragradient": [{}],
    "past_extragradient": [{}],
    "optimistic": [{}],
    "consensus": [dict(method_weight=.1), dict(method_weight=.02), dict(method_weight=0)],
    "symplectic": [dict(method_weight=.1), dict(method_weight=.02)],
    "unrolled": [dict(unroll=1), dict(unroll=3)],
}
edits = [
    dict(lr=.03), dict(lr_gen=.001), dict(lr_disc=.2), dict(clip=("global_norm", .2)), dict(clip_disc=None),
    dict(clip_gen=("block_norm", .3)), dict(normalize=("global_norm", .3)), dict(normalize_disc=None), dict(r1=.05),
    dict(r1=0, r2=0), dict(dragan=.5), dict(noise=.1), dict(noise=0), dict(batch_size=24), dict(loss="hinge", smoothing=0),
    dict(loss="r3", smoothing=0), dict(method="extragradient"), dict(method="alternating", n_disc=2), dict(method="optimistic"),
    dict(method="simultaneous"), dict(method="consensus", method_weight=.05), dict(n_gen=2, order="gen_first"),
    dict(schedule="cosine"), dict(schedule="inverse_sqrt"), dict(warmup=9), dict(rounds=200), dict(lookahead=3),
    dict(lookahead=0), dict(lookahead_alpha=.8), dict(project_disc=("box", .2)), dict(project=None),
    dict(rule="adam", momentum=.5, nesterov=False, weight_decay=0, lr=.003), dict(rule="sgd", momentum=0, nesterov=False),
    dict(rule_gen="rmsprop", momentum_gen=0, nesterov_gen=False, weight_decay_gen=0, lr_gen=.002), dict(centralize=True),
    dict(early_momentum=.3), dict(early_momentum_gen=0), dict(skip_not_finite=True), dict(on_divergence="roll back"),
]


def is_refused(s):
    "Settings that do not go together."
    return bool(s.get("smoothing") and s["loss"] not in with_labels
                or (s.get("data") == "pictures" and s.get("pack", 1) == 3))


class Drawer:
    "Deals settings and scripts of runs."
    def __init__(self, seed):
        self.rng = random.Random(seed)
        deck = lambda cards: Deck(self.rng, cards)
        self.networks, self.clips, self.normalizers, self.projections = map(deck, (networks, clips, normalizers, projections))
        self.losses, self.penalties, self.averages, self.schedules = map(deck, (losses, penalties, averages, schedules))
        self.rules, self.edits = deck([(rule, own) for rule in rules for own in rules[rule]]), deck(edits)
        self.kinds = deck(["fit", "fit", "edit", "edit", "step", "fork", "load", "rounds"])
        self.more = deck([{}] * 6 + [dict(noise=.1), dict(smoothing=.1), dict(lookahead=4), dict(warmup=10), dict(centralize=True),
                                     dict(lookahead=3, lookahead_alpha=.8), dict(early_momentum=.4), dict(skip_not_finite=True),
                                     dict(noise=.05, lookahead=5), dict(centralize=True, early_momentum=.5, warmup=5)])

    def seldom(self, deck): return deck.deal() if self.rng.random() < .6 else deck.cards[0]

    def settings(self, method, own):
        s = {**small, **self.networks.deal(), **self.penalties.deal(), **self.averages.deal(), **self.more.deal()}
        s |= dict(method=method, loss=self.losses.deal(), schedule=self.seldom(self.schedules), **own)
        for player in ("gen", "disc"):
            rule, numbers = self.rules.deal()
            chosen = dict(numbers, rule=rule, clip=self.seldom(self.clips), normalize=self.seldom(self.normalizers))
            chosen["project"] = self.seldom(self.projections)
            s |= {f"{name}_{player}": value for name, value in chosen.items() if value is not None}
        if is_refused(s): return self.settings(method, own)
        return s

    def edit(self): return ("edit", self.edits.deal())

    def script(self):
        "What is done with a run, in moves that `play_move` knows."
        some, kind = lambda: self.rng.randrange(3, 30), self.kinds.deal()
        if kind == "fit": return [("fit", 20 + some())]
        if kind == "rounds": return [("rounds", some()), ("several", some())]
        if kind == "step": return [("fit", some()), ("step", "disc"), ("step", "gen"), ("rounds", some()), ("step", "gen"), ("fit", 3)]
        if kind == "edit": return [("fit", some()), self.edit(), ("rounds", some()), self.edit(), ("fit", some())]
        if kind == "load": return [("fit", some()), self.edit(), ("rounds", some()), ("load",), ("fit", some())]
        return [("fit", 25), self.edit(), ("fit", some()), ("fork", self.rng.randrange(26), self.edits.deal()), ("fit", some())]


def methods_cases():
    "Every method with a spread of everything else."
    drawer = Drawer(1)
    for method, choices in methods.items():
        for i in range(24 if method == "alternating" else 14):
            yield run_case(f"{method} {i}", drawer.settings(method, choices[i % len(choices)]), drawer.script(), seed=i % 3)

def single_cases():
    "One setting at a time, so that a difference says where it is."
    base = small
    each = [dict(clip=c) for c in clips[1:]] + [dict(normalize=n) for n in normalizers[1:]] + [dict(project=p) for p in projections[2:]]
    each += [dict(loss=loss) for loss in losses] + [dict(loss=loss, smoothing=.2) for loss in with_labels]
    each += [p for p in penalties if p] + [a for a in averages if a] + [dict(schedule=s) for s in schedules]
    each += [dict(own, rule=rule) for rule in rules for own in rules[rule]] + networks[2:]
    each += [dict(centralize=True), dict(early_momentum=.5), dict(skip_not_finite=True), dict(noise=.1), dict(warmup=10),
             dict(lookahead=4), dict(precision="bf16"), dict(precision="bf16", **networks[-2]), dict(data="grid"),
             dict(data="digits", hidden=(8,)), dict(schedule="linear", n_disc=3), dict(schedule="polyak", lookahead=3)]
    for i, s in enumerate(each):
        said = ", ".join(f"{k}={v}" for k, v in s.items() if small.get(k) != v)
        yield run_case(f"single {i}: {said}", base | s, [("fit", 30)])

def recipe_cases():
    "The recipes that come with the project."
    for of, n, s in (("article", 4, {}), ("article-normalized", 3, {}), ("article-plain", 3, {}), ("recommended", 4, {}), ("adam", 4, {}),
                     ("dcgan", 2, dict(batch_size=8, width=4)), ("ring", 20, dict(batch_size=32)), ("grid", 20, dict(batch_size=32))):
        yield run_case(f"recipe {of}", s, [("fit", n), ("edit", dict(lr=.01)), ("fit", 2)], of=of)

def edit_cases():
    "Many edits of one run; steps by hand; everything once more after `reset`."
    drawer = Drawer(2)
    for i, method in enumerate([*methods, *methods]):
        s = drawer.settings(method, methods[method][0])
        script = [m for _ in range(5) for m in (("fit", drawer.rng.randrange(2, 15)), drawer.edit())]
        yield run_case(f"edits {i}, {method}", s, [*script, ("fit", 10)])
    halfway = [("edit", dict(rounds=30)), ("fit", 15), ("edit", dict(rounds=90)), ("fit", 10)]
    for average in averages: yield run_case(f"edits of rounds, {average}", dict(small, schedule="linear", **average), [("fit", 20), *halfway])
    by_hand = [("step", "disc"), ("step", "disc"), ("step", "gen"), ("step", "round"), ("step", "gen")]
    for i, method in enumerate(methods):
        s = drawer.settings(method, methods[method][0])
        yield run_case(f"by hand {i}, {method}", s, [*by_hand, ("fit", 8), *by_hand, ("edit", dict(lr=.01)), ("step", "disc"), ("load",), ("fit", 9)])
    for i in range(3): yield run_case(f"reset {i}", drawer.settings("alternating", {}), [("fit", 10), drawer.edit(), ("fit", 5), ("reset",), ("fit", 12)])

def fork_cases():
    "Branches: from here, from the past, across edits and steps by hand, from branches, from a long past."
    drawer = Drawer(3)
    for i in range(10):
        method = drawer.rng.choice(list(methods))
        past = [("fit", 30), drawer.edit(), ("fit", 21), ("step", "disc"), ("fit", 9), drawer.edit(), ("fit", 12)]
        at = [None, 0, 7, 30, 51, 52, 60, 61, 55, 72][i]
        script = [*past, ("fork", at, drawer.edits.deal() if i % 2 else {}), ("fit", 15), ("fork", 5 if at == 0 else 7, {}), ("fit", 5)]
        yield run_case(f"fork {i}, {method}", drawer.settings(method, methods[method][0]), script)
    for back in ("stop", "roll back"):
        long = [("fit", 930), ("edit", dict(lr=.01)), ("fit", 170), ("fork", 333, dict(lr=.02)), ("fit", 40), ("fork", 350, {}), ("fit", 120)]
        yield run_case(f"fork of a long run, {back}", dict(small, hidden=(4,), halflife=20, rounds=2000, on_divergence=back, lr=.05), long)

def divergence_cases():
    "Numbers that are not finite: where that is said to be, what is rolled back, what comes after."
    wild = [dict(lr=1e6), dict(lr=1e20), dict(lr_gen=1e30), dict(lr_disc=1e30), dict(lr=3e3, loss="wasserstein"), dict(lr=1e5, loss="hinge", r1=10.),
            dict(lr=1e5, loss="least_squares", n_disc=3), dict(lr=1e4, loss="least_squares", method="extragradient"),
            dict(lr=1e4, loss="least_squares", method="optimistic"), dict(lr=1e3, loss="r3", method="consensus", method_weight=10.),
            dict(lr=1e4, loss="least_squares", method="unrolled", unroll=2), dict(lr=1e6, loss="least_squares", order="gen_first", halflife=5),
            dict(lr=1e6, loss="least_squares", skip_not_finite=True), dict(lr_disc=1e6, loss="least_squares", skip_not_finite_disc=True),
            dict(pictures, model="conv", width=2, lr=1e8, loss="least_squares"), dict(lr=1e5, loss="least_squares", lookahead=4)]
    calm = [("edit", dict(lr=.01)), ("fit", 10)]
    for i, s in enumerate(wild):
        s = {**small, **s}
        yield run_case(f"stop {i}", s, [("fit", 60), *calm])
        yield run_case(f"stop late {i}", growing(s, 1), [("fit", 120), ("fit", 5), *calm])
        yield run_case(f"roll back {i}", dict(s, on_divergence="roll back"), [("fit", 60), *calm])
    slow = [{}, dict(method="extragradient"), dict(method="optimistic", lookahead=3), dict(method="unrolled", unroll=2), dict(order="gen_first", halflife=5),
            dict(lookahead=4, average="tail"), dict(loss="wasserstein", r1=10.), dict(method="simultaneous", noise=.1), dict(rule="sgd", momentum=.9)]
    scripts = [[("rounds", 130), ("load",), ("fit", 60), ("fork", 140, {}), ("fit", 90)],
               [("several", 100), ("step", "disc"), ("several", 80), ("fork", 20, {}), ("fit", 150)],
               [("fit", 70), ("edit", dict(noise=.05)), ("fit", 130), ("fork", None, {}), ("load",), ("fit", 60)]]
    for i, s in enumerate(slow):
        s = growing({**small, "loss": "least_squares", **s}, .02)
        yield run_case(f"roll back late {i}", dict(s, on_divergence="roll back"), scripts[i % 3])
    sudden = [("fit", 60), ("step", "gen"), ("fit", 62), ("edit", dict(lr_disc=1e25)), ("fit", 40), ("load",), ("fit", 20), ("fork", 50, {}), ("fit", 9)]
    for i, s in enumerate([dict(loss="least_squares"), dict(loss="wasserstein", halflife=4), dict(rule="adam", lr=.001), dict(clip=("global_norm", 1.))]):
        yield run_case(f"roll back after an edit {i}", {**small, **s, "on_divergence": "roll back"}, sudden)

def growing(settings, each_round): return dict(settings, lr=each_round * 1e6, warmup=10**6)    # until the rate is too much

def folder_cases():
    "What `fit` leaves in a folder."
    for i, s in enumerate([{}, dict(halflife=5, rule="adam", lr=.002), growing(dict(loss="least_squares"), .2),
                           growing(dict(loss="least_squares", on_divergence="roll back"), .05)]):
        script = [("folder fit", 25, 10), ("edit", dict(r1=.05)), ("folder fit", 31, 10), ("load folder",), ("folder fit", 40, 10)]
        yield run_case(f"folder {i}", {**small, **s}, [*script, ("load best",), ("fit", 5)])

def compiled_cases():
    moves = [("fit", 30), ("edit", dict(lr=.02)), ("several", 75), ("step", "disc"), ("fit", 20), ("load",), ("fit", 12), ("fork", 60, dict(lr=.01)), ("fit", 10)]
    for name, s in (("sgd", dict(rule="sgd", lr=.05, momentum=.5, clip=("global_norm", .3), r1=.1, halflife=5)),
                    ("adam", dict(rule="adam", lr=.002, method="extragradient", noise=.1, schedule="linear", rounds=200)),
                    ("conv", dict(pictures, model="conv", width=2, rule="sgd", lr=.05, normalize=("block_rms", .1), loss="r3"))):
        yield run_case(f"compiled {name}", small | s, moves, compile=True)
    wild = growing(dict(small, loss="least_squares", on_divergence="roll back"), .02)
    yield run_case("compiled roll back", wild, [("fit", 130), ("fork", 100, {}), ("fit", 80)], compile=True)

def hand_over_cases():
    "What the old version saves, both go on with."
    drawer = Drawer(4)
    for i, method in enumerate([*methods] * 3):
        s, first = drawer.settings(method, methods[method][i % len(methods[method])]), drawer.script()
        ways = [("load",), ("load folder",)]
        then = [ways[i % 2], ("fit", 15), drawer.edit(), ("fit", 20), ("fork", 9, {}), ("fit", 5), ("load",), ("fit", 4)]
        yield dict(run_case(f"hand over {i}, {method}", s, then, seed=i), before=first)
    wild = growing(dict(small, loss="least_squares", on_divergence="roll back"), .02)
    for i, n in enumerate((55, 105, 140)): yield dict(run_case(f"hand over, roll back {i}", wild, [("load",), ("fit", 100), ("fork", 50, {}), ("fit", 20)]), before=[("rounds", n)])
    yield dict(run_case("hand over, diverged", dict(wild, on_divergence="stop"), [("load folder",), ("fit", 9)]), before=[("fit", 200)])
    yield dict(run_case("hand over, compiled", small, [("load",), ("fit", 9)], compile=True), before=[("fit", 60)])
    for version in (1, 2, 3):
        then = [("fit", 30), ("edit", dict(lr=.02)), ("fit", 5), ("fork", 8, {}), ("fit", 5), ("load",), ("fit", 5)]
        yield run_case(f"hand over, format {version}", {}, [("load file", f"checkpoint_v{version}.safetensors"), *then])

def run_case(name, settings, script, seed=0, of="ring", compile=False):
    return dict(kind="run", name=name, of=of, seed=seed, settings=settings, compile=compile, script=script)

def population_cases():
    "Grids of numbers; `mixed` ones have a setting that is off in one member and on in another."
    calm = dict(small, rounds=40, lr=.03)
    settled = dict(n_gen=0, loss="hinge", lr=.3, hidden=(16, 16))    # a discriminator that is sure soon, and whose gradient is then exactly zero
    alike = [
        ("seeds", {}, {}), ("lr", {}, dict(lr=[.01, .03])), ("clip", {}, dict(clip=[("global_norm", .2), ("global_norm", 1.)])),
        ("momentum", {}, dict(momentum=[.3, .6])), ("halflife", {}, dict(halflife=[3, 10])), ("tail", dict(average="tail"), dict(rounds=[20, 40])),
        ("r1 and noise", dict(r1=.1, noise=.1), dict(r1=[.05, .2], noise=[.05, .1])), ("adam", dict(rule="adam", lr=.002), dict(momentum_disc=[0, .5])),
        ("normalize", {}, dict(normalize=[("block_rms", .1), ("block_rms", .05)])), ("project", dict(project=("box", .3)), dict(project=[("box", .2), ("box", .5)])),
        ("consensus", dict(method="consensus"), dict(method_weight=[0, .1])), ("extragradient", dict(method="extragradient", lookahead=3), dict(lookahead_alpha=[.5, .8])),
        ("optimistic", dict(method="optimistic"), {}), ("unrolled", dict(method="unrolled", unroll=2), dict(lr_gen=[.01, .02])),
        ("past_extragradient", dict(method="past_extragradient", gn=True), {}), ("symplectic", dict(method="symplectic", pack=2), {}),
        ("conv", dict(pictures, model="conv", width=2), dict(lr=[.01, .02])), ("linear", dict(schedule="linear", warmup=5, n_disc=2), dict(lr=[.01, .02])),
        ("diverging", dict(loss="least_squares"), dict(lr=[.01, 1e7])),
    ]
    mixed = [
        ("r1", {}, dict(r1=[0, .1])), ("r2", {}, dict(r2=[.1, 0])), ("wgan_gp", {}, dict(wgan_gp=[0, 1.])), ("dragan", {}, dict(dragan=[0, 1.])),
        ("noise", {}, dict(noise=[0, .1])), ("clip", {}, dict(clip=[None, ("global_norm", .2)])), ("clip value", {}, dict(clip=[("value", .01), None])),
        ("clip block", {}, dict(clip_disc=[None, ("block_norm", .05)])), ("clip adaptive", {}, dict(clip=[None, ("adaptive", .05)])),
        ("momentum", {}, dict(momentum=[0, .5])), ("early momentum", {}, dict(early_momentum=[0, .5])), ("decay", {}, dict(weight_decay=[0, .01])),
        ("two", {}, dict(r1=[0, .1], clip=[None, ("global_norm", .2)])), ("r1 and sign", dict(normalize=("sign", .01)), dict(r1=[0, .1])),
        ("r1, sign and hinge", dict(normalize=("sign", .1), loss="hinge"), dict(r1=[0, .1])), ("decay and sign", dict(normalize=("sign", .01)), dict(weight_decay=[0, .01])),
        ("penalty that overflows", dict(n_gen=0, loss="wasserstein", normalize=("block_rms", 1e10), lr=1), dict(wgan_gp=[0, 1.])),
        ("penalty, sign and no gradient", dict(settled, normalize_disc=("sign", .1)), dict(r1=[0, .1])),
        ("memory, sign and no gradient", dict(settled, normalize_disc=("sign", .1)), dict(early_momentum_disc=[0, .5])),
        ("clip of large gradients", dict(loss="least_squares", lr=1e7), dict(clip=[None, ("global_norm", .2)])),
    ]
    for mix, group in ((False, alike), (True, mixed)):
        for name, s, grid in group: yield population_case(f"population{' mixed' if mix else ''}: {name}", calm | s, grid, mix)
    yield population_case("population compiled", dict(calm, hidden=(4,), clip=("global_norm", .3)), dict(lr=[.01, .03]), False, compile=True)

def population_case(name, settings, grid, mixed, compile=False):
    return dict(kind="population", name=name, of="ring", settings=settings, grid=grid, mixed=mixed, compile=compile, script=[("fit", 11), ("fit", 14)])

def cases(only="", skip=None):
    families = (methods_cases, single_cases, recipe_cases, edit_cases, fork_cases, divergence_cases, folder_cases, population_cases, hand_over_cases, compiled_cases)
    return [case for family in families for case in family() if only in case["name"] and not (skip and skip in case["name"])]


# Playing: in a process of its own, in an empty folder, with one version's gan_nb

def own_data(settings):
    "The settings with the pictures in the place of their name."
    if settings.get("data") != "pictures": return settings
    return {**settings, "data": np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)}

def mean_sample(run): return float(run.samples(8).mean())

class Played:
    "A run as it is driven through its script, and what was noted on the way."
    def __init__(self, case, run=None):
        from gan_nb import Run
        settings = own_data(case["settings"])
        self.case, self.noted, self.told, self.words = case, {}, [], []
        self.data = {"data": settings["data"]} if case["settings"].get("data") == "pictures" else {}
        self.place = Path("played", "".join(c if c.isalnum() else "-" for c in case["name"]))
        self.file = self.place.with_suffix(".safetensors")
        begins = run is None and case["script"][0][0] != "load file" and not (self.place.exists() or self.file.exists())
        compile = {"compile": True} if case["compile"] else {}
        self.run = Run(case["of"], case["seed"], **compile, **settings) if begins else run

    def play(self, script):
        for i, move in enumerate(script):
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                try: self.move(i, *move)
                except Exception as error: self.tell(i, error)
            self.words += [(i, str(w.message)) for w in warned if "gan_nb" in str(w.filename) or w.category is UserWarning]

    def tell(self, i, error):
        "A divergence counts word by word; of other errors, what kind they are."
        parts = {name: getattr(error, name) for name in ("player", "layer", "round", "seen", "norms") if hasattr(error, name)}
        if parts: self.told.append((i, type(error).__name__, str(error), repr(parts)))
        else:
            self.told.append((i, type(error).__name__))
            self.words.append((i, str(error)))

    def move(self, i, what, *given):
        from gan_nb import Run
        run = self.run
        if what == "fit": run.fit(*given, progress=False)
        elif what == "rounds":
            for _ in run.rounds(*given): pass
        elif what == "several":
            until = run.round + given[0]
            while run.round < until: run.several(until - run.round)
        elif what == "step": run.step(*given)
        elif what == "edit": run.edit(**given[0])
        elif what == "reset": run.reset()
        elif what == "fork":
            self.note(f"before move {i}")
            self.run = run.fork(given[0], **given[1])
        elif what == "load":
            if run: run.save(self.file)
            self.run = Run.load(self.file, **self.data)
        elif what == "load folder":
            if run and not self.place.exists(): run.save(self.place)
            self.run = Run.load(self.place, **self.data)
        elif what == "folder fit":
            run.folder = self.place
            run.fit(given[0], progress=False, autosave=1e9, metric=mean_sample, every=given[1])
        elif what == "load best": self.run = Run.load(self.place, best=True, **self.data)
        elif what == "load file": self.run = Run.load(here/given[0])
        else: raise AssertionError(what)

    def note(self, when): self.noted |= {f"{when}: {name}": value for name, value in looked_at(self.run, self.place).items()}

    def result(self):
        if self.run: self.note("end")
        if self.place.is_dir(): self.noted |= {f"folder {name}": value for name, value in folder_content(self.place).items()}
        return dict(name=self.case["name"], noted=self.noted, told=self.told, words=self.words)


def looked_at(run, place) -> dict:
    "All that can be seen of a run, by name: arrays and plain values."
    seen = {f"state {path}": value for path, value in leaves(vars(run.state))}
    seen |= {f"records {name}": np.asarray(run.records[name]) for name in run.records if name != "seconds"}
    seen |= {"records moves": np.asarray(run.records.moves), "records total": run.records.total}
    seen["edits"] = [(e.round, e.moves, e.changes) for e in run.edits]
    seen |= {name: getattr(run, name) for name in ("rollbacks", "divergence", "skipped", "round", "seed")}
    seen |= {"samples": as_array(run.samples(16)), "samples of another seed": as_array(run.samples(5, seed=3))}
    seen["real"] = as_array(run.real(6))
    seen["score"] = as_array(run.score(run.real(6, seed=1)))
    file = place.with_name(f"{place.name}-look.safetensors")
    try: seen |= {f"saved {name}": value for name, value in checkpoint_content(run.save(file)).items()}
    except Exception as error: seen["saved"] = type(error).__name__
    file.unlink(missing_ok=True)
    return seen

def leaves(tree, path=""):
    if isinstance(tree, dict): return [leaf for name, part in tree.items() for leaf in leaves(part, f"{path}/{name}")]
    if isinstance(tree, (list, tuple)): return [leaf for i, part in enumerate(tree) for leaf in leaves(part, f"{path}/{i}")]
    return [(path.lstrip("/"), as_array(tree))]

def as_array(value): return value.detach().cpu().numpy().copy() if hasattr(value, "detach") else value

says_nothing = ("seconds", "gan_nb", "torch", "sha256", "version")    # of what a checkpoint says: it differs between two good runs

def checkpoint_content(file) -> dict:
    "A checkpoint's tensors and words, read without the help of what is tested."
    from safetensors.numpy import load
    content = Path(file).read_bytes()
    header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header["__metadata__"]["gan_nb"])
    tensors = load(content)
    if "records" in tensors: tensors["records"] = np.delete(tensors["records"], 1, axis=1)    # the seconds
    return {**tensors, **{f"about {name}": value for name, value in about.items() if name not in says_nothing}}

def folder_content(folder) -> dict:
    found = {}
    for file in sorted(folder.iterdir()):
        if file.suffix == ".safetensors": found |= {f"{file.name} {name}": value for name, value in checkpoint_content(file).items()}
        elif file.suffix == ".csv": found[file.name] = [line.split(",")[:1] + line.split(",")[2:] for line in file.read_text().splitlines()]
        else: found[file.name] = file.read_text()
    return found


def play_population(case) -> dict:
    "Its members as they end, and how far each is from the run that it stands for."
    from gan_nb.population import Population
    many = Population(case["of"], seeds=2, grid=case["grid"], compile=case["compile"], **own_data(case["settings"]))
    for _, n in case["script"]: many.fit(n)
    played = Played(dict(case, seed=0), many.run(0))
    played.noted["all samples"] = as_array(many.all_samples(4))
    points = [dict(zip(case["grid"], values)) for values in product(*case["grid"].values())]
    apart = {}
    for i, (point, seed) in enumerate(product(points, range(2))):
        member = looked_at(many.run(i), played.place)
        played.noted |= {f"member {i}: {name}": value for name, value in member.items()}
        table = many.records(i)
        played.noted |= {f"member {i}: own records {name}": np.asarray(table[name]) for name in table if name != "seconds"}
        apart[f"{', '.join(f'{k}={v}' for k, v in point.items())} seed {seed}".strip()] = from_its_run(case, point, seed, member)
    going_on = many.run(len(points) * 2 - 1)
    played.run = going_on
    played.play([("fit", 5), ("edit", dict(lr=.02)), ("fit", 5), ("fork", None, {}), ("fit", 2)])
    return {**played.result(), "apart": apart}

def from_its_run(case, point, seed, member) -> dict:
    "How far a member is from the run that it stands for, by name; empty where all is the same to the last bit."
    run = Played(dict(case, seed=seed, settings=case["settings"] | point, compile=False))
    run.play(case["script"][:1])
    if not run.told: run.play(case["script"][1:])
    alone = looked_at(run.run, run.place)
    of_state = [name for name in alone if name.startswith(("state params", "state buffers", "state average", "records", "samples", "state round"))]
    return {name: distance(alone[name], member.get(name)) for name in of_state if not same(alone[name], member.get(name))}


def play(phase, only, skip, out, checkout):
    import torch
    import gan_nb
    assert Path(gan_nb.__file__).resolve().parents[1] == Path(checkout).resolve(), gan_nb.__file__
    torch.set_num_threads(1)
    Path("played").mkdir(exist_ok=True)
    todo = [case for case in cases(only, skip) if phase == "play" or "before" in case]
    with open(out, "wb") as file:
        for i, case in enumerate(todo):
            pickle.dump(write(case) if phase == "write" else play_case(case), file)
            if (i + 1) % 50 == 0: print(f"{Path.cwd().name}: {i + 1} of {len(todo)}", flush=True)

def play_case(case) -> dict:
    try:
        if case["kind"] == "population": return play_population(case)
        played = Played(case)
        played.play(case["script"])
        return played.result()
    except Exception:
        error = traceback.format_exc()
        return dict(name=case["name"], noted={}, told=[("refused",)], words=[(0, error)], apart={})

def write(case) -> dict:
    "The first half of what is handed over, left where the second half looks for it."
    played = Played(case)
    played.play(case["before"])
    way, = case["script"][0]
    played.run.save(played.place if way == "load folder" else played.file)
    return dict(name=case["name"])


# Comparing

def same(a, b) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and as_text(a) == as_text(b)

def as_text(value): return json.dumps(value, sort_keys=True, default=repr)

def distance(a, b) -> float:
    "The largest difference, relative to the largest entry; inf where something else differs."
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.shape != b.shape: return float("inf")
    a, b = a.astype(np.float64), b.astype(np.float64)
    fine = np.isfinite(a)
    if not np.array_equal(fine, np.isfinite(b)) or not np.array_equal(a[~fine], b[~fine], equal_nan=True): return float("inf")
    if not fine.any(): return 0.0
    return float(np.abs(a - b)[fine].max() / (np.abs(a[fine]).max() or 1.0))

def differences(old, new) -> list:
    "What differs between two results of a case, a line each."
    found = [f"told: {a} then, {b} now" for a, b in zip(old["told"], new["told"]) if a != b]
    if len(old["told"]) != len(new["told"]): found.append(f"told: {len(old['told'])} errors then, {len(new['told'])} now: {old['told'] or new['told']}")
    a, b = old["noted"], new["noted"]
    for name in sorted(a.keys() ^ b.keys()): found.append(f"{name}: only {'then' if name in a else 'now'}")
    for name in a:
        if name in b and not same(a[name], b[name]): found.append(f"{name}: {how(a[name], b[name])}")
    return found

def how(a, b) -> str:
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray): return f"{as_text(a)[:200]} then, {as_text(b)[:200]} now"
    if a.dtype != b.dtype or a.shape != b.shape: return f"{a.dtype} {a.shape} then, {b.dtype} {b.shape} now"
    at = np.flatnonzero(np.array([x.tobytes() != y.tobytes() for x, y in zip(a.reshape(-1), b.reshape(-1))]))
    return f"{len(at)} of {a.size} numbers, first number {at[0]}: {a.reshape(-1)[at[0]]!r} then, {b.reshape(-1)[at[0]]!r} now; distance {distance(a, b):.2g}"

def farthest(result) -> float: return max((d for member in result["apart"].values() for d in member.values()), default=0.0)

def report(todo, old, new, most_lines) -> bool:
    "Print what differs; is all the same?"
    wrong = []
    for case in todo:
        name, kind = case["name"], case["kind"]
        if name not in old or name not in new: wrong.append((case, ["not played to the end"])); continue
        found = differences(old[name], new[name])
        is_expected = case.get("mixed") and farthest(new[name]) <= max(farthest(old[name]), noise_of_sums)
        if found and not is_expected: wrong.append((case, found))
    for case, found in wrong:
        print(f"\n{case['name']}: {len(found)} differences\n    {case['of']} {case['settings']} {case.get('grid', '')}\n    {case['script']}")
        for line in found[:most_lines]: print(f"  {line}")
        if len(found) > most_lines: print(f"  and {len(found) - most_lines} more; --lines says how many are shown")
    both = [case for case in todo if case["name"] in old and case["name"] in new]
    report_words(both, old, new)
    report_members([case for case in both if case["kind"] == "population"], old, new)
    errors = Counter(told[-1 if len(told) == 1 else 1] for case in both for told in old[case["name"]]["told"])
    for case in both:
        if not old[case["name"]]["noted"]: print(f"\n{case['name']}: refused: {old[case['name']]['words'][0][1]}")
    print(f"\n{len(todo)} cases, {len(wrong)} of them differ. Errors on the way, in the old version: {dict(errors) or 'none'}.")
    return not wrong

def report_words(todo, old, new):
    "Messages that read otherwise are no other bits: they are told apart."
    for case in todo:
        a, b = old[case["name"]]["words"], new[case["name"]]["words"]
        if a != b: print(f"\n{case['name']}: other words (not counted)\n  then {[w for w in a if w not in b]}\n  now  {[w for w in b if w not in a]}")

def report_members(todo, old, new):
    "How far members are from their runs. Sums in another order make 1e-7 to 1e-5, a mask or a sentinel at work much more."
    if not todo: return
    print("\nThe largest distance of a population's member from the run that it stands for, in each version; "
          f"* more than rounding ({noise_of_sums:g}); = the same bits in both versions")
    for case in todo:
        a, b = old[case["name"]], new[case["name"]]
        mark = lambda d: f"{d:9.2g}{'*' if d > noise_of_sums else ' '}"
        print(f"  {mark(farthest(a))}{mark(farthest(b))}  {'=' if not differences(a, b) else ' '} {case['name']}")
        for member in a["apart"]:
            far = [max((d for d in result["apart"][member].values()), default=0.0) for result in (a, b)]
            if max(far) > noise_of_sums: print(f"  {mark(far[0])}{mark(far[1])}      {member}")


# Command line

def checkout(given, temporary) -> Path:
    "The folder of a version: as given, or a new worktree of that revision."
    if (Path(given)/"gan_nb"/"__init__.py").is_file(): return Path(given).resolve()
    folder = temporary/f"revision-{given.replace('/', '-')}"
    done = subprocess.run(["git", "worktree", "add", "--detach", folder, given], cwd=here, capture_output=True, text=True)
    if done.returncode: sys.exit(f"{given}: neither a folder with gan_nb in it nor a revision: {done.stderr.strip()}")
    return folder

def started(phase, place, version, arguments) -> subprocess.Popen:
    place.mkdir(exist_ok=True)
    (place/"settings.ini").touch()    # so that nobody looks for one further up
    command = [sys.executable, __file__, "--phase", phase, "--out", place/f"{phase}.pickle", version, version, "--only", arguments.only]
    command += ["--skip", arguments.skip] if arguments.skip else []
    paths = {"PYTHONPATH": str(version), "TORCHINDUCTOR_CACHE_DIR": str(place/"compiled")}
    return subprocess.Popen(command, cwd=place, env={**os.environ, **paths, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "IN_TEST": "1"})

def results(file) -> dict:
    found = {}
    with open(file, "rb") as f:
        while True:
            try: result = pickle.load(f)
            except EOFError: return found
            found[result["name"]] = result

def compare(arguments, temporary) -> bool:
    versions = [checkout(given, temporary) for given in (arguments.old, arguments.new)]
    places, begun, failed = [temporary/"old", temporary/"new"], time.monotonic(), []
    failed.append(started("write", places[0], versions[0], arguments).wait())
    places[1].mkdir()
    shutil.copytree(places[0]/"played", places[1]/"played")
    running = [started("play", place, version, arguments) for place, version in zip(places, versions)]
    failed += [process.wait() for process in running]
    good = report(cases(arguments.only, arguments.skip), *(results(place/"play.pickle") for place in places), arguments.lines)
    print(f"Old is {versions[0]}, new is {versions[1]}; {time.monotonic() - begun:.0f} seconds.")
    return good and not any(failed)

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", metavar="OLD")
    parser.add_argument("new", nargs="?", metavar="NEW")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--skip", metavar="WORD")
    parser.add_argument("--lines", type=int, default=6, help="differences shown of a case")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--phase", help=argparse.SUPPRESS)    # of the processes that this one starts
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    todo = cases(arguments.only, arguments.skip)
    if arguments.list:
        for case in todo: print(f"{case['name']}\n    {case['of']} {case['settings']} {case.get('grid', '')}\n    {case.get('before', '')} {case['script']}")
        print(f"{len(todo)} cases")
        return 0
    if arguments.new is None: parser.error("two versions are compared: OLD and NEW")
    if arguments.phase: return play(arguments.phase, arguments.only, arguments.skip, arguments.out, arguments.new) or 0
    temporary = Path(tempfile.mkdtemp(prefix="same-bits-"))
    try: return 0 if compare(arguments, temporary) else 1
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        subprocess.run(["git", "worktree", "prune"], cwd=here, capture_output=True)

if __name__ == "__main__": sys.exit(main())
