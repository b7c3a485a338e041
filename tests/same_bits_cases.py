"""The runs that `same_bits.py` plays: generated, plain data, and the same at every call.

A case has settings of a recipe, a seed, and a script: moves such as `("fit", 30)`, which `same_bits.Played.move` makes.
"""
import random
from itertools import product


def run_case(name, settings, script, seed=0, of="ring", compile=False):
    return dict(kind="run", name=name, of=of, seed=seed, settings=settings, compile=compile, script=script)

def population_case(name, settings, grid, is_mixed=False, compile=False):
    return dict(kind="population", name=name, of="ring", seed=0, settings=settings, grid=grid, is_mixed=is_mixed,
                compile=compile, script=[("fit", 11), ("fit", 14)])

def cases(only="", skip=None) -> list:
    "Those whose names have `only` in them, and not `skip`."
    families = (methods_cases, single_cases, recipe_cases, edit_cases, carry_cases, by_hand_cases, fork_cases,
                divergence_cases, roll_back_cases, folder_cases, population_cases, mixed_population_cases,
                hand_over_cases, compiled_cases)
    made = [case for family in families for case in family()]
    return [case for case in made if only in case["name"] and not (skip and skip in case["name"])]


# What there is to choose from

plain = dict(rule="sgd", lr=.05, momentum=0, schedule="constant", halflife=0)
small = dict(plain, data="ring", z_dim=2, hidden=(8,), batch_size=12, rounds=60)
pictures = dict(data="pictures", z_dim=3, batch_size=8, rounds=40)     # made where they are needed
convolutions = dict(pictures, model="conv", width=2)
squares = dict(small, loss="least_squares")                            # diverges where logistic losses only get stuck

networks = [
    {}, {}, dict(hidden=(6, 5)), dict(spectral=True), dict(gn=True), dict(pack=2), dict(spectral=True, pack=3),
    dict(pictures, hidden=(6,)), convolutions, dict(convolutions, spectral=True),
]
rules = {     # with learning rates that suit them
    "sgd": [dict(lr=.05), dict(lr=.1, momentum=.5), dict(lr=.1, momentum=.9, nesterov=True),
            dict(lr=.1, weight_decay=.01), dict(lr=.05, momentum=-.3)],
    "adam": [dict(lr=.002), dict(lr=.005, momentum=.5)],
    "rmsprop": [dict(lr=.002), dict(lr=.002, momentum=.5)],
    "adagrad": [dict(lr=.02)],
    "optimistic_adam": [dict(lr=.002), dict(lr=.002, momentum=.5)],
    "graft": [dict(lr=.005), dict(lr=.005, momentum=.5)],
}
clips = [None, ("value", .02), ("global_norm", .3), ("block_norm", .1), ("adaptive", .05), ("quantile", .5)]
normalizers = [None, ("global_norm", .5), ("block_norm", .2), ("block_rms", .1), ("trust_ratio", .1),
               ("orthogonal", .2), ("sign", .05)]
projections = [None, None, ("box", .3), ("ball", 2.)]
losses = ["minimax", "non_saturating", "r3", "least_squares", "hinge", "wasserstein"]
with_labels = ("minimax", "non_saturating", "least_squares")
penalties = [{}, {}, dict(r1=.1), dict(r2=.1), dict(r1=.1, r2=.05), dict(wgan_gp=1.), dict(dragan=1.),
             dict(r1=.1, wgan_gp=.5)]
averages = [{}, dict(halflife=5), dict(average="uniform"), dict(average="tail", rounds=24)]
schedules = ["constant", "inverse_sqrt", "inverse", "linear", "cosine", "polyak"]
counts = [(1, 1), (1, 3), (2, 2), (3, 1), (0, 1), (1, 0)]
methods = {
    "alternating": [dict(n_gen=n_gen, n_disc=n_disc, order=order)
                    for (n_gen, n_disc), order in product(counts, ["disc_first", "gen_first"])],
    "simultaneous": [{}],
    "extragradient": [{}],
    "past_extragradient": [{}],
    "optimistic": [{}],
    "consensus": [dict(method_weight=.1), dict(method_weight=.02), dict(method_weight=0)],
    "symplectic": [dict(method_weight=.1), dict(method_weight=.02)],
    "unrolled": [dict(unroll=1), dict(unroll=3)],
}
more = [{}] * 6 + [
    dict(noise=.1), dict(smoothing=.1), dict(lookahead=4), dict(warmup=10), dict(centralize=True),
    dict(lookahead=3, lookahead_alpha=.8), dict(early_momentum=.4), dict(skip_not_finite=True),
    dict(noise=.05, lookahead=5), dict(centralize=True, early_momentum=.5, warmup=5),
]
edits = [
    dict(lr=.03), dict(lr_gen=.001), dict(lr_disc=.2), dict(clip=("global_norm", .2)), dict(clip_disc=None),
    dict(clip_gen=("block_norm", .3)), dict(normalize=("global_norm", .3)), dict(normalize_disc=None), dict(r1=.05),
    dict(r1=0, r2=0), dict(dragan=.5), dict(noise=.1), dict(noise=0), dict(batch_size=24), dict(rounds=200),
    dict(loss="hinge", smoothing=0), dict(loss="r3", smoothing=0), dict(method="extragradient"),
    dict(method="alternating", n_disc=2), dict(method="optimistic"), dict(method="simultaneous"),
    dict(method="consensus", method_weight=.05), dict(n_gen=2, order="gen_first"), dict(schedule="cosine"),
    dict(schedule="inverse_sqrt"), dict(warmup=9), dict(lookahead=3), dict(lookahead=0), dict(lookahead_alpha=.8),
    dict(project_disc=("box", .2)), dict(project=None), dict(centralize=True), dict(early_momentum=.3),
    dict(rule="adam", momentum=.5, nesterov=False, weight_decay=0, lr=.003), dict(early_momentum_gen=0),
    dict(rule="sgd", momentum=0, nesterov=False), dict(skip_not_finite=True), dict(on_divergence="roll back"),
    dict(rule_gen="rmsprop", momentum_gen=0, nesterov_gen=False, weight_decay_gen=0, lr_gen=.002),
]


class Deck:
    "Deals its cards in a shuffled order, again and again, so that each comes up equally often."
    def __init__(self, rng, cards): self.rng, self.cards, self.left = rng, list(cards), []

    def deal(self):
        if not self.left: self.left = self.rng.sample(self.cards, len(self.cards))
        return self.left.pop()

    def seldom(self):
        "The first card, which is the usual one, or any."
        return self.deal() if self.rng.random() < .6 else self.cards[0]


class Drawer:
    "Deals settings and scripts of runs."
    def __init__(self, seed):
        self.rng = random.Random(seed)
        deck = lambda cards: Deck(self.rng, cards)
        self.networks, self.penalties, self.averages, self.more = map(deck, (networks, penalties, averages, more))
        self.losses, self.schedules, self.edits = map(deck, (losses, schedules, edits))
        self.clips, self.normalizers, self.projections = map(deck, (clips, normalizers, projections))
        self.rules = deck([(rule, own) for rule in rules for own in rules[rule]])
        self.kinds = deck(["fit", "fit", "edit", "edit", "step", "fork", "load", "rounds"])

    def settings(self, method, own) -> dict:
        "Of a run by that method, with `own` settings of it."
        s = {**small, **self.networks.deal(), **self.penalties.deal(), **self.averages.deal(), **self.more.deal()}
        s |= dict(method=method, loss=self.losses.deal(), schedule=self.schedules.seldom(), **own)
        for player in ("gen", "disc"):
            rule, numbers = self.rules.deal()
            chosen = dict(numbers, rule=rule, clip=self.clips.seldom(), normalize=self.normalizers.seldom(),
                          project=self.projections.seldom())
            s |= {f"{name}_{player}": value for name, value in chosen.items() if value is not None}
        goes_together = not s.get("smoothing") or s["loss"] in with_labels
        return s if goes_together else self.settings(method, own)

    def some(self): return self.rng.randrange(3, 30)
    def edit(self): return ("edit", self.edits.deal())

    def script(self) -> list:
        "What is done with a run."
        some, kind = self.some, self.kinds.deal()
        if kind == "fit": return [("fit", 20 + some())]
        if kind == "rounds": return [("rounds", some()), ("several", some())]
        if kind == "edit": return [("fit", some()), self.edit(), ("rounds", some()), self.edit(), ("fit", some())]
        if kind == "load": return [("fit", some()), self.edit(), ("rounds", some()), ("load",), ("fit", some())]
        if kind == "step":
            by_hand = [("step", "disc"), ("step", "gen"), ("rounds", some()), ("step", "gen")]
            return [("fit", some()), *by_hand, ("fit", 3)]
        branch = ("fork", self.rng.randrange(26), self.edits.deal())
        return [("fit", 25), self.edit(), ("fit", some()), branch, ("fit", some())]


# Families of cases

def methods_cases():
    "Every method with a spread of everything else."
    drawer = Drawer(1)
    for method, choices in methods.items():
        for i in range(24 if method == "alternating" else 14):
            settings = drawer.settings(method, choices[i % len(choices)])
            yield run_case(f"{method} {i}", settings, drawer.script(), seed=i % 3)

def single_cases():
    "One setting at a time, so that a difference says where it is."
    each = [dict(clip=c) for c in clips[1:]] + [dict(normalize=n) for n in normalizers[1:]]
    each += [dict(project=p) for p in projections[2:]] + [dict(loss=loss) for loss in losses]
    each += [dict(loss=loss, smoothing=.2) for loss in with_labels] + [dict(schedule=s) for s in schedules]
    each += [p for p in penalties if p] + [a for a in averages if a] + networks[2:]
    each += [dict(own, rule=rule) for rule in rules for own in rules[rule]] + [m for m in more if m]
    each += [dict(precision="bf16"), dict(convolutions, precision="bf16"), dict(data="grid"), dict(data="digits"),
             dict(schedule="linear", n_disc=3), dict(schedule="polyak", lookahead=3)]
    for i, s in enumerate(each):
        said = ", ".join(f"{k}={v}" for k, v in s.items() if small.get(k) != v)
        yield run_case(f"single {i}: {said}", small | s, [("fit", 30)])

def recipe_cases():
    "The recipes that come with the project."
    few = dict(batch_size=32)
    played = [("article", 4, {}), ("article-normalized", 3, {}), ("article-plain", 3, {}), ("recommended", 4, {}),
              ("adam", 4, {}), ("dcgan", 2, dict(batch_size=8, width=4)), ("ring", 20, few), ("grid", 20, few)]
    for of, n, s in played:
        yield run_case(f"recipe {of}", s, [("fit", n), ("edit", dict(lr=.01)), ("fit", 2)], of=of)

def edit_cases():
    "Many edits of one run, edits of how long it is, and everything once more after `reset`."
    drawer = Drawer(2)
    for i, method in enumerate([*methods, *methods]):
        settings = drawer.settings(method, methods[method][0])
        script = [move for _ in range(5) for move in (("fit", drawer.rng.randrange(2, 15)), drawer.edit())]
        yield run_case(f"edits {i}, {method}", settings, [*script, ("fit", 10)])
    halfway = [("fit", 20), ("edit", dict(rounds=30)), ("fit", 15), ("edit", dict(rounds=90)), ("fit", 10)]
    for average in averages:
        yield run_case(f"edits of rounds, {average}", dict(small, schedule="linear", **average), halfway)
    for i in range(3):
        script = [("fit", 10), drawer.edit(), ("fit", 5), ("reset",), ("fit", 12)]
        yield run_case(f"reset {i}", drawer.settings("alternating", {}), script)

def carry_cases():
    "What one method, rule or chain of transforms remembers when another takes over."
    counts = [("edit", dict(n_gen=1)), ("fit", 7), ("edit", dict(method="extragradient")), ("fit", 7),
              ("edit", dict(method="alternating", n_gen=3, n_disc=2)), ("fit", 7)]
    looks = [("edit", dict(lookahead=4)), ("fit", 7), ("edit", dict(method="optimistic")), ("fit", 7),
             ("edit", dict(lookahead=0)), ("fit", 7), ("edit", dict(method="past_extragradient", lookahead=3)), ("fit", 7)]
    for schedule in schedules:
        s = dict(small, schedule=schedule, n_gen=5, n_disc=5, rounds=100, warmup=20)
        yield run_case(f"carry counts, {schedule}", s, [("fit", 15), *counts, *looks])
    names = [*rules, *rules]
    for step in (1, 2):
        changes = [dict(rule=names[i * step], lr=.002) for i in range(6)]
        script = [move for change in changes for move in (("edit", change), ("fit", 9))]
        yield run_case(f"carry rules {step}", small, [("fit", 9), *script])
    chained = [dict(momentum=.5), dict(clip=("quantile", .5)), dict(early_momentum=.4), dict(skip_not_finite=True),
               dict(centralize=True), dict(normalize=("sign", .01)), dict(clip=None), dict(early_momentum=.6),
               dict(clip=("quantile", .2)), dict(momentum=0)]
    script = [move for changes in chained for move in (("edit", changes), ("fit", 6))]
    for i, method in enumerate(["alternating", "optimistic", "consensus"]):
        yield run_case(f"carry transforms {i}, {method}", dict(small, method=method), [("fit", 6), *script])

def by_hand_cases():
    "Steps of one player, which count as moves and not as rounds."
    drawer = Drawer(3)
    by_hand = [("step", "disc"), ("step", "disc"), ("step", "gen"), ("step", "round"), ("step", "gen")]
    script = [*by_hand, ("fit", 8), *by_hand, ("edit", dict(lr=.01)), ("step", "disc"), ("load",), ("fit", 9)]
    for i, method in enumerate(methods):
        yield run_case(f"by hand {i}, {method}", drawer.settings(method, methods[method][0]), script)

def fork_cases():
    "Branches: from here, from the past, across edits and steps by hand, from branches, from a long past."
    drawer = Drawer(4)
    for i, at in enumerate([None, 0, 7, 30, 51, 52, 60, 61, 55, 72]):
        method = drawer.rng.choice(list(methods))
        past = [("fit", 30), drawer.edit(), ("fit", 21), ("step", "disc"), ("fit", 9), drawer.edit(), ("fit", 12)]
        branch = [("fork", at, drawer.edits.deal() if i % 2 else {}), ("fit", 15)]
        again = [("fork", 5 if at == 0 else 7, {}), ("fit", 5)]
        yield run_case(f"fork {i}, {method}", drawer.settings(method, methods[method][0]), past + branch + again)
    long = [("fit", 930), ("edit", dict(lr=.01)), ("fit", 170), ("fork", 333, dict(lr=.02)), ("fit", 40),
            ("fork", 350, {}), ("fit", 120)]
    for back in ("stop", "roll back"):
        settings = dict(small, hidden=(4,), halflife=20, rounds=2000, on_divergence=back)
        yield run_case(f"fork of a long run, {back}", settings, long)

def growing(settings, each_round):
    "A rate that grows by that much with each step, until it is too much."
    return dict(settings, lr=each_round * 1e6, warmup=10**6)

def divergence_cases():
    "Numbers that are not finite: where that is said to be, and what comes after."
    wild = [
        dict(small, lr=1e6), dict(small, lr=1e20), dict(small, lr_gen=1e30), dict(small, lr_disc=1e30),
        dict(small, lr=3e3, loss="wasserstein"), dict(small, lr=1e5, loss="hinge", r1=10.),
        dict(squares, lr=1e5, n_disc=3), dict(squares, lr=1e4, method="extragradient"),
        dict(squares, lr=1e4, method="optimistic"),
        dict(small, lr=1e3, loss="r3", method="consensus", method_weight=10.),
        dict(squares, lr=1e4, method="unrolled", unroll=2), dict(squares, lr=1e6, order="gen_first", halflife=5),
        dict(squares, lr=1e6, skip_not_finite=True), dict(squares, lr_disc=1e6, skip_not_finite_disc=True),
        dict(squares, **convolutions, lr=1e8), dict(squares, lr=1e5, lookahead=4)]
    calm = [("edit", dict(lr=.01)), ("fit", 10)]
    for i, s in enumerate(wild):
        yield run_case(f"stop {i}", s, [("fit", 60), *calm])
        yield run_case(f"stop late {i}", growing(s, 1), [("fit", 120), ("fit", 5), *calm])
        yield run_case(f"roll back {i}", dict(s, on_divergence="roll back"), [("fit", 60), *calm])

def roll_back_cases():
    "Roll backs to states after the beginning, and what comes after: saving, branches, steps by hand, edits."
    slow = [{}, dict(method="extragradient"), dict(method="optimistic", lookahead=3), dict(method="unrolled", unroll=2),
            dict(order="gen_first", halflife=5), dict(lookahead=4, average="tail"), dict(loss="wasserstein", r1=10.),
            dict(method="simultaneous", noise=.1), dict(momentum=.9)]
    scripts = [[("rounds", 130), ("load",), ("fit", 60), ("fork", 140, {}), ("fit", 90)],
               [("several", 100), ("step", "disc"), ("several", 80), ("fork", 20, {}), ("fit", 150)],
               [("fit", 70), ("edit", dict(noise=.05)), ("fit", 130), ("fork", None, {}), ("load",), ("fit", 60)]]
    for i, s in enumerate(slow):
        s = growing({**squares, **s, "on_divergence": "roll back"}, .02)
        yield run_case(f"roll back late {i}", s, scripts[i % 3])
    sudden = [("fit", 60), ("step", "gen"), ("fit", 62), ("edit", dict(lr_disc=1e25)), ("fit", 40), ("load",),
              ("fit", 20), ("fork", 50, {}), ("fit", 9)]
    edited = [squares, dict(small, loss="wasserstein", halflife=4), dict(small, rule="adam", lr=.001),
              dict(small, clip=("global_norm", 1.))]
    for i, s in enumerate(edited):
        yield run_case(f"roll back after an edit {i}", dict(s, on_divergence="roll back"), sudden)

def folder_cases():
    "What `fit` leaves in a folder."
    script = [("folder fit", 25, 10), ("edit", dict(r1=.05)), ("folder fit", 31, 10), ("load folder",),
              ("folder fit", 40, 10), ("load best",), ("fit", 5)]
    back = growing(dict(squares, on_divergence="roll back"), .05)
    for i, s in enumerate([small, dict(small, halflife=5, rule="adam", lr=.002), growing(squares, .2), back]):
        yield run_case(f"folder {i}", s, script)

def compiled_cases():
    "Few, since each takes half a minute to compile, and an edit or a branch may compile anew."
    script = [("fit", 30), ("edit", dict(lr=.02)), ("several", 75), ("step", "disc"), ("fit", 20), ("load",),
              ("fit", 12), ("fork", 60, dict(lr=.01)), ("fit", 10)]
    sgd = dict(small, momentum=.5, clip=("global_norm", .3), r1=.1, halflife=5)
    adam = dict(small, rule="adam", lr=.002, method="extragradient", noise=.1, schedule="linear", rounds=200)
    conv = dict(small, **convolutions | dict(normalize=("block_rms", .1), loss="r3"))
    for name, s in (("sgd", sgd), ("adam", adam), ("conv", conv)):
        yield run_case(f"compiled {name}", s, script, compile=True)
    back = growing(dict(squares, on_divergence="roll back"), .02)
    yield run_case("compiled roll back", back, [("fit", 130), ("fork", 100, {}), ("fit", 80)], compile=True)
    grid = dict(lr=[.01, .03])
    yield population_case("population compiled", dict(small, hidden=(4,), clip=("global_norm", .3)), grid, compile=True)

def hand_over_cases():
    "What the old version saves, both go on with."
    drawer = Drawer(5)
    for i, method in enumerate([*methods] * 3):
        settings, before = drawer.settings(method, methods[method][i % len(methods[method])]), drawer.script()
        way = ("load folder",) if i % 2 else ("load",)
        then = [("fit", 15), drawer.edit(), ("fit", 20), ("fork", 9, {}), ("fit", 5), ("load",), ("fit", 4)]
        yield dict(run_case(f"hand over {i}, {method}", settings, [way, *then], seed=i), before=before)
    back = growing(dict(squares, on_divergence="roll back"), .02)
    for i, n in enumerate((55, 105, 140)):
        then = [("load",), ("fit", 100), ("fork", 50, {}), ("fit", 20)]
        yield dict(run_case(f"hand over, roll back {i}", back, then), before=[("rounds", n)])
    stop = run_case("hand over, diverged", growing(squares, .05), [("load folder",), ("fit", 9)])
    yield dict(stop, before=[("fit", 200)])
    yield dict(run_case("hand over, compiled", small, [("load",), ("fit", 9)], compile=True), before=[("fit", 60)])
    for version in (1, 2, 3):
        file = ("load file", f"checkpoint_v{version}.safetensors")
        then = [("fit", 30), ("edit", dict(lr=.02)), ("fit", 5), ("fork", 8, {}), ("fit", 5), ("load",), ("fit", 5)]
        yield run_case(f"hand over, format {version}", {}, [file, *then])


calm = dict(small, rounds=40, lr=.03)

def population_cases():
    "Grids whose members differ in numbers alone."
    grids = [
        ("seeds", {}, {}),
        ("lr", {}, dict(lr=[.01, .03])),
        ("clip", {}, dict(clip=[("global_norm", .2), ("global_norm", 1.)])),
        ("momentum", {}, dict(momentum=[.3, .6])),
        ("halflife", {}, dict(halflife=[3, 10])),
        ("tail", dict(average="tail"), dict(rounds=[20, 40])),
        ("r1 and noise", dict(r1=.1, noise=.1), dict(r1=[.05, .2], noise=[.05, .1])),
        ("adam", dict(rule="adam", lr=.002), dict(momentum_disc=[.3, .6])),
        ("normalize", {}, dict(normalize=[("block_rms", .1), ("block_rms", .05)])),
        ("project", {}, dict(project=[("box", .2), ("box", .5)])),
        ("consensus", dict(method="consensus"), dict(method_weight=[0, .1])),
        ("extragradient", dict(method="extragradient", lookahead=3), dict(lookahead_alpha=[.5, .8])),
        ("optimistic", dict(method="optimistic"), {}),
        ("unrolled", dict(method="unrolled", unroll=2), dict(lr_gen=[.01, .02])),
        ("past_extragradient", dict(method="past_extragradient", gn=True), {}),
        ("symplectic", dict(method="symplectic", pack=2), {}),
        ("conv", convolutions, dict(lr=[.01, .02])),
        ("linear", dict(schedule="linear", warmup=5, n_disc=2), dict(lr=[.01, .02])),
        ("diverging", dict(loss="least_squares"), dict(lr=[.01, 1e7])),
    ]
    for name, s, grid in grids: yield population_case(f"population: {name}", calm | s, grid)

def mixed_population_cases():
    "A setting is off in one member and on in another."
    sign = dict(normalize=("sign", .01))
    settled = dict(n_gen=0, loss="hinge", lr=.3, hidden=(16, 16), normalize_disc=("sign", .1))  # gradients of exactly 0
    steep = dict(n_gen=0, loss="wasserstein", lr=1, normalize=("block_rms", 1e10))      # slopes whose squares overflow
    grids = [
        ("r1", {}, dict(r1=[0, .1])),
        ("r2", {}, dict(r2=[.1, 0])),
        ("wgan_gp", {}, dict(wgan_gp=[0, 1.])),
        ("dragan", {}, dict(dragan=[0, 1.])),
        ("noise", {}, dict(noise=[0, .1])),
        ("clip", {}, dict(clip=[None, ("global_norm", .2)])),
        ("clip value", {}, dict(clip=[("value", .01), None])),
        ("clip block", {}, dict(clip_disc=[None, ("block_norm", .05)])),
        ("clip adaptive", {}, dict(clip=[None, ("adaptive", .05)])),
        ("momentum", {}, dict(momentum=[0, .5])),
        ("beta1 of adam", dict(rule="adam", lr=.002), dict(momentum_disc=[0, .5])),
        ("early momentum", {}, dict(early_momentum=[0, .5])),
        ("decay", {}, dict(weight_decay=[0, .01])),
        ("two", {}, dict(r1=[0, .1], clip=[None, ("global_norm", .2)])),
        ("r1 and sign", sign, dict(r1=[0, .1])),
        ("decay and sign", sign, dict(weight_decay=[0, .01])),
        ("penalty, sign and no gradient", settled, dict(r1=[0, .1])),
        ("memory, sign and no gradient", settled, dict(early_momentum_disc=[0, .5])),
        ("penalty that overflows", steep, dict(wgan_gp=[0, 1.])),
        ("clip of large gradients", dict(loss="least_squares", lr=1e7), dict(clip=[None, ("global_norm", .2)])),
    ]
    for name, s, grid in grids: yield population_case(f"population mixed: {name}", calm | s, grid, is_mixed=True)
