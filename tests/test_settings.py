"Settings say all about themselves, and the lists that are derived from it are those that were meant."
import dataclasses
import inspect
import random
from types import MappingProxyType

import pytest

from gan_nb import Run
from gan_nb.build import build_method, build_rule
from gan_nb.gan import Gan
from gan_nb.recipes import (Recipe, expand, fades_at_zero, live, local, methods, pairs, roles, round_numbers, setting,
                            settings, shorten, structure, whole)
from gan_nb.rules import rules
from helpers import tiny

everything = setting(1, whole(1), "a setting", role="value", live=False).keys() - {"default"}
fields = dataclasses.fields(Recipe)
each_field = pytest.mark.parametrize("field", fields, ids=lambda f: f.name)


def of_both(*names): return tuple(f"{name}_{player}" for name in names for player in ("gen", "disc"))


def faults(field):
    "What a field does not say about itself, or says wrongly."
    it = field.metadata
    if it.keys() != everything: return [f"does not say {sorted(everything - it.keys())}"]
    found = []
    if it["role"] not in roles: found.append("its role is unknown")
    if not callable(it["read"]) or it["read"].__annotations__.get("return") is not field.type: found.append("its type")
    if not it["about"] or "{" in it["about"]: found.append("what it is about")
    if not all(isinstance(it[name], bool) for name in ("live", "local")): found.append("live and local are yes or no")
    if it["local"] and (it["live"] or it["role"] != "none"): found.append("no operation knows the machine's settings")
    if it["short"] and field.name != f"{it['short']}_{it['player']}": found.append("whose it is")
    if unknown := set(it["taken_by"]) - {"game", *rules, *methods}: found.append(f"there is no {unknown}")
    return found


@each_field
def test_a_field_says_all_about_itself(field): assert faults(field) == []


def test_a_field_that_does_not_is_found():
    whole_one = next(f for f in fields if f.name == "lr_gen")
    assert faults(whole_one) == []
    for name in everything:
        field = dataclasses.field(default=1, metadata={k: v for k, v in whole_one.metadata.items() if k != name})
        assert name in faults(field)[0]
    assert faults(dataclasses.field(default=1))
    wrongs = dict(role="heavy"), dict(live=None), dict(short="rate"), dict(taken_by=("nobody",)), dict(local=True)
    for wrong in wrongs:
        field = dataclasses.field(default=1)
        field.name, field.type = whole_one.name, whole_one.type
        field.metadata = MappingProxyType({**whole_one.metadata, **wrong})
        assert faults(field), wrong
    with pytest.raises(TypeError, match="role"): setting(1, whole(1), "a setting", live=True)
    with pytest.raises(TypeError, match="live"): setting(1, whole(1), "a setting", role="value")


@each_field
def test_a_default_is_allowed_and_has_the_type_of_its_field(field):
    value = field.metadata["read"](field.name, field.default)
    assert value == field.default and (field.type is object or value is None or type(value) is field.type)
    role = field.metadata["role"]
    if role in ("number", "switch", "weight"): assert field.type in (int, float)
    if role == "weight": assert field.default == 0 == field.metadata["read"](field.name, 0)
    if role == "kind": assert field.default is None and field.metadata["read"](field.name, "none") is None


# What the derived lists are

def test_local_to_a_machine(): assert local == ("device", "threads", "timeout", "data_folder", "run_folder", "language")


def test_what_may_change_while_a_run_is_under_way():
    of_the_game = ("loss", "r1", "r2", "wgan_gp", "dragan", "l1", "noise", "augment", "smoothing")
    of_the_method = ("method", "n_gen", "n_disc", "order", "method_weight", "unroll", "lookahead", "lookahead_alpha")
    of_players = of_both("rule", "lr", "momentum", "nesterov", "weight_decay", "skip_not_finite", "centralize", "clip",
                         "early_momentum", "normalize", "project")
    others = ("schedule", "warmup", "rounds", "batch_size", "on_divergence")
    assert sorted(live) == sorted((*of_the_game, *of_the_method, *of_players, *others))


def test_short_names():
    short = ("hidden", "rule", "lr", "momentum", "nesterov", "weight_decay", "skip_not_finite", "centralize", "clip",
             "early_momentum", "normalize", "project")
    assert pairs == {name: of_both(name) for name in short}


weights = ("r1", "r2", "wgan_gp", "dragan", "l1", "noise", *of_both("momentum", "weight_decay", "early_momentum"))
switches = ("lookahead", "lookahead_alpha", "warmup", "rounds", "halflife")
bounds = ("augment", *of_both("clip", "normalize", "project"))
elsewhere = ("name", "data", "on_divergence", *local, "method_weight", *of_both("lr"))


def test_numbers_in_a_round():
    assert sorted(fades_at_zero) == sorted(weights)
    assert sorted(round_numbers) == sorted((*weights, *switches, "method_weight", *of_both("lr")))


def written_out(recipe):
    "The structure of a recipe, from lists that stand here."
    def of(name, value):
        if name in (*weights, *switches): return bool(value)
        return value and value[0] if name in bounds else value
    return tuple((name, of(name, value)) for name, value in recipe.settings().items() if name not in elsewhere)


choices = {
    bool: (True, False), int: (1, 2, 7), float: (0, .25, .3), tuple: (None, "none", (8,), "16 8"),
    "clip": (None, ("value", 1), ("value", 2), ("global_norm", 1)), "normalize": (None, ("sign", 1), ("block_rms", 2)),
    "augment": (None, ("fixed", .5), ("adaptive", .6)), "project": (None, ("box", 1), ("ball", 2), ("box", .1)), "hidden": ((8,), "16 8"), "model": ("mlp", "conv"),
    "loss": ("hinge", "r3"), "method": tuple(methods), "rule": tuple(rules), "lookahead": (0, 1, 5), "warmup": (0, 4)}


def some_recipe(rng):
    "Any settings, those included that cannot be built together."
    names, changes = rng.sample([*settings], rng.randrange(12)), {}
    for name in names:
        it, kind = settings[name], next(f.type for f in fields if f.name == name)
        known = choices.get(it["short"] or name, choices.get(kind, (Recipe.__dataclass_fields__[name].default,)))
        if name in ("lookahead_alpha", "timeout"): known = (.25, 1)
        changes[name] = rng.choice(known)
    return Recipe(**changes)


def test_the_structure_is_what_the_lists_say():
    rng = random.Random(0)
    made = [some_recipe(rng) for _ in range(300)]
    for recipe in made: assert structure(recipe) == written_out(recipe)
    assert len({*map(structure, made)}) > 150


# What is done with them

@pytest.mark.parametrize("name", settings)
def test_an_edit_takes_live_settings_alone(name):
    run = Run("ring", **tiny)
    if name in live: return run.edit(**{name: getattr(run.recipe, name)})
    with pytest.raises(ValueError, match=f"^{name}: cannot change while a run is under way"):
        run.edit(**{name: getattr(run.recipe, name)})


@pytest.mark.parametrize("name", [name for name, it in settings.items() if it["taken_by"]])
def test_who_takes_a_setting_knows_it(name):
    it = settings[name]
    called = it["taken_as"] or it["short"] or name
    for who in it["taken_by"]:
        takes = inspect.signature(Gan if who == "game" else {**rules, **methods}[who]).parameters
        other_words = {"betas"} if called == "momentum" else set() # Adam's
        assert takes.keys() & {called, "settings", *other_words}, (who, called) # `settings`: graft passes all on


@pytest.mark.parametrize("rule", rules)
def test_a_rule_refuses_the_settings_of_others(rule):
    of_some = [name for name, it in settings.items() if it["short"] and it["taken_by"]]
    for name in of_some:
        player = settings[name]["player"]
        on = {f"momentum_{player}": .5} if name.startswith("nesterov") and rule in settings[name]["taken_by"] else {}
        recipe = Recipe(**{f"rule_{player}": rule, name: .5 if settings[name]["role"] == "weight" else True, **on})
        if rule in settings[name]["taken_by"]: assert build_rule(recipe, player).name == rule
        else:
            with pytest.raises(ValueError, match=f"^{name}: .* came; the rule {rule} has no "): build_method(recipe)


def test_short_names_are_written_out_and_back():
    rng = random.Random(1)
    for _ in range(100):
        short = {name: rng.random() for name in rng.sample([*pairs], rng.randrange(5))}
        changes = {**expand(short), "n_gen": 1, "n_disc": 1, "step": "gen"}
        assert shorten(changes) == {**short, "n_gen": 1, "n_disc": 1, "step": "gen"}
        for name in short:
            apart = {**changes, f"{name}_disc": 2.0}
            assert shorten(apart)[f"{name}_disc"] == 2.0 and name not in shorten(apart)
