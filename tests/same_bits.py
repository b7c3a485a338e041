"""Do two versions of the project make the same bits?

    python tests/same_bits.py OLD NEW               two checkouts' folders, or revisions of git
    python tests/same_bits.py OLD NEW --only WORD   the cases whose name has WORD in it; --skip WORD leaves some out
    python tests/same_bits.py --list                what is played, without playing it

Both versions play the same generated runs (`same_bits_cases.py`) on this machine, each in a process of its own with
one thread. Final states (as objects and as saved), records (all but the seconds), samples, edits, roll backs and
divergences are then compared to the last bit. What OLD saves in the middle, both go on with. A member of a population
is also compared with the run that it stands for, within each version. Nothing is kept: bits differ between processors,
so there are no digests to compare with.

What differs without being counted is told apart: words of errors and warnings, and members of populations in which a
setting is off for one and on for another, as long as the new version's are not farther from their runs than the old's.

Exit status: 0 the same, 1 something differs.
"""
import argparse
import json
import os
import pickle
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

from same_bits_cases import cases

here = Path(__file__).resolve().parent
rounding = 1e-4     # a member adds up in another order than its run; more than this, of the largest entry, is marked


# Playing: in a process of its own, in an empty folder, with one version's gan_nb

def own_data(settings) -> dict:
    "The settings with the pictures in the place of their name."
    if settings.get("data") != "pictures": return settings
    return {**settings, "data": np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)}

def mean_sample(run): return float(run.samples(8).mean())

class Played:
    "A run as it is driven through a script, and what was noted on the way. What was handed over, the script loads."
    def __init__(self, case, run=None):
        from gan_nb import Run
        settings = own_data(case["settings"])
        self.case, self.noted, self.told, self.words = case, {}, [], []
        self.data = {"data": settings["data"]} if case["settings"].get("data") == "pictures" else {}
        self.place = Path("played", "".join(c if c.isalnum() else "-" for c in case["name"]))
        self.file = self.place.with_suffix(".safetensors")
        is_there = self.place.exists() or self.file.exists() or case["script"][0][0] == "load file"
        compile = {"compile": True} if case["compile"] else {}
        self.run = run if run or is_there else Run(case["of"], case["seed"], **compile, **settings)

    def play(self, script):
        for i, move in enumerate(script):
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                try: self.move(i, *move)
                except Exception as error: self.tell(i, error)
            self.words += [(i, str(w.message)) for w in warned if w.category is UserWarning]

    def tell(self, i, error):
        "A divergence counts word by word; of other errors, what kind they are."
        known = [name for name in ("player", "layer", "round", "seen", "norms") if hasattr(error, name)]
        parts = {name: getattr(error, name) for name in known}
        self.told.append((i, type(error).__name__, *([str(error), repr(parts)] if parts else [])))
        if not parts: self.words.append((i, str(error)))

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
            self.note(f"after move {i}")
        elif what == "folder fit":
            run.folder = self.place
            run.fit(given[0], progress=False, autosave=1e9, metric=mean_sample, every=given[1])
        elif what == "load":
            if run: run.save(self.file)
            self.run = Run.load(self.file, **self.data)
        elif what == "load folder": self.run = Run.load(self.place, **self.data)
        elif what == "load best": self.run = Run.load(self.place, best=True, **self.data)
        elif what == "load file": self.run = Run.load(here/given[0])
        else: raise AssertionError(what)

    def note(self, when):
        self.noted |= {f"{when}: {name}": value for name, value in looked_at(self.run, self.place).items()}

    def result(self) -> dict:
        self.note("end")
        if self.place.is_dir():
            self.noted |= {f"folder {name}": value for name, value in folder_content(self.place).items()}
        return dict(name=self.case["name"], noted=self.noted, told=self.told, words=self.words)


def looked_at(run, place) -> dict:
    "All that can be seen of a run, by name: arrays and plain values."
    seen = {f"state {path}": value for path, value in leaves(vars(run.state))}
    seen |= records_of(run.records) | {"moves": np.asarray(run.records.moves), "total": run.records.total}
    seen |= {name: getattr(run, name) for name in ("rollbacks", "divergence", "skipped", "round", "seed")}
    seen["edits"] = [(e.round, e.moves, e.changes) for e in run.edits]
    seen |= {"samples": as_array(run.samples(16)), "samples of another seed": as_array(run.samples(5, seed=3))}
    seen |= {"real": as_array(run.real(6)), "score": as_array(run.score(run.real(6, seed=1)))}
    file = place.with_name(f"{place.name}-look.safetensors")
    try: seen |= {f"saved {name}": value for name, value in checkpoint_content(run.save(file)).items()}
    except Exception as error: seen["saved"] = type(error).__name__
    file.unlink(missing_ok=True)
    return seen

def records_of(records) -> dict:
    return {f"records {name}": np.asarray(records[name]) for name in records if name != "seconds"}

def leaves(tree, path="") -> list:
    "(path, value) of all that is in dicts and lists."
    if isinstance(tree, (list, tuple)): tree = dict(enumerate(tree))
    if not isinstance(tree, dict): return [(path.lstrip("/"), as_array(tree))]
    return [leaf for name, part in tree.items() for leaf in leaves(part, f"{path}/{name}")]

def as_array(value): return value.detach().cpu().numpy().copy() if hasattr(value, "detach") else value

says_nothing = ("seconds", "gan_nb", "torch", "sha256", "version")    # these differ between checkpoints of like runs

def checkpoint_content(file) -> dict:
    "A checkpoint's tensors and words, read without the help of what is tested."
    from safetensors.numpy import load
    content = Path(file).read_bytes()
    header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
    about, tensors = json.loads(header["__metadata__"]["gan_nb"]), load(content)
    tensors["records"] = np.delete(tensors["records"], 1, axis=1)    # the seconds
    return {**tensors, **{f"about {name}": value for name, value in about.items() if name not in says_nothing}}

def folder_content(folder) -> dict:
    "Of each file what does not depend on the clock."
    found = {}
    for file in sorted(path for path in folder.iterdir() if path.is_file()): # the states that a run keeps lie in a folder of their own
        if file.suffix == ".safetensors":
            found |= {f"{file.name} {name}": value for name, value in checkpoint_content(file).items()}
        elif file.suffix == ".csv":
            rows = [line.split(",") for line in file.read_text().splitlines()]
            found[file.name] = [[row[0], *row[2:]] for row in rows]
        else: found[file.name] = file.read_text()
    return found


def play_population(case) -> dict:
    "Its members as they end, how far each is from the run that it stands for, and how the last one goes on."
    from gan_nb.population import Population
    many = Population(case["of"], seeds=2, grid=case["grid"], compile=case["compile"], **own_data(case["settings"]))
    for _, n in case["script"]: many.fit(n)
    points = [dict(zip(case["grid"], values)) for values in product(*case["grid"].values())]
    noted, apart = {"all samples": as_array(many.all_samples(4))}, {}
    for i, (point, seed) in enumerate(product(points, range(2))):
        alone = play_alone(dict(case, seed=seed, settings=case["settings"] | point))
        member = looked_at(many.run(i), Path("played", f"member-{i}")) | records_of(many.records(i))
        noted |= {f"member {i}: {name}": value for name, value in member.items()}
        apart[f"{', '.join(f'{k}={v}' for k, v in point.items())} seed {seed}"] = how_far(alone, member)
    last = Played(case, many.run(i))
    last.play([("fit", 5), ("edit", dict(lr=.02)), ("fit", 5), ("fork", None, {}), ("fit", 2)])
    result = last.result()
    return {**result, "noted": noted | result["noted"], "apart": apart}

def play_alone(case) -> dict:
    "A member's run by itself, up to where it diverges."
    played = Played(dict(case, compile=False))
    for move in case["script"]:
        if not played.told: played.play([move])
    return looked_at(played.run, played.place)

def how_far(alone, member) -> dict:
    "{name: distance} for what is not the same to the last bit."
    begins = ("state params", "state buffers", "state average", "state round", "records", "samples")
    names = [name for name in alone if name.startswith(begins)]
    return {name: distance(alone[name], member.get(name)) for name in names if not same(alone[name], member.get(name))}


def play_all(phase, todo, out, version):
    "Play cases one after the other, and write what came of each as soon as it is known."
    import torch
    import gan_nb
    came_from = Path(gan_nb.__file__).resolve().parents[1]
    if came_from != Path(version).resolve(): sys.exit(f"gan_nb was imported from {came_from}, not from {version}")
    torch.set_num_threads(1)
    Path("played").mkdir(exist_ok=True)
    with open(out, "wb") as file:
        for i, case in enumerate(todo, 1):
            pickle.dump(write(case) if phase == "write" else play(case), file)
            if i % 50 == 0: print(f"{Path.cwd().name} version: {i} of {len(todo)} played", flush=True)

def play(case) -> dict:
    try:
        if case["kind"] == "population": return play_population(case)
        played = Played(case)
        played.play(case["script"])
        return played.result()
    except Exception: # a case that cannot begin or end; what both refuse alike is said in the report
        return dict(name=case["name"], noted={}, told=[("refused",)], words=[(0, traceback.format_exc())], apart={})

def write(case) -> dict:
    "The first half of what is handed over, left where the second half looks for it."
    played = Played(case)
    played.play(case["before"])
    played.run.save(played.place if case["script"][0] == ("load folder",) else played.file)
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
    is_finite = np.isfinite(a)
    rest = np.where(is_finite, 0, a), np.where(np.isfinite(b), 0, b)
    if not np.array_equal(*rest, equal_nan=True): return float("inf")
    if not is_finite.any(): return 0.0
    return float(np.abs(a - b)[is_finite].max() / (np.abs(a[is_finite]).max() or 1.0))

def differences(old, new) -> list:
    "What differs between two results of a case, a line each."
    found = [f"told: {a} then, {b} now" for a, b in zip(old["told"], new["told"]) if a != b]
    if len(old["told"]) != len(new["told"]): found.append(f"told: {old['told']} then, {new['told']} now")
    a, b = old["noted"], new["noted"]
    found += [f"{name}: only {'then' if name in a else 'now'}" for name in sorted(a.keys() ^ b.keys())]
    return found + [f"{name}: {how(a[name], b[name])}" for name in a if name in b and not same(a[name], b[name])]

def how(a, b) -> str:
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return f"{as_text(a)[:300]} then, {as_text(b)[:300]} now"
    if a.dtype != b.dtype or a.shape != b.shape: return f"{a.dtype} {a.shape} then, {b.dtype} {b.shape} now"
    a, b = a.reshape(-1), b.reshape(-1)
    at = [i for i in range(len(a)) if a[i].tobytes() != b[i].tobytes()]
    first = f"number {at[0]} is {a[at[0]]!r} then, {b[at[0]]!r} now"
    return f"{len(at)} of {len(a)}: {first}; distance {distance(a, b):.2g}"

def farthest(result, member=None) -> float:
    "The largest distance of a population's member from its run; of one member, or of all."
    chosen = result["apart"].values() if member is None else [result["apart"][member]]
    return max((d for of_member in chosen for d in of_member.values()), default=0.0)

def what_counts(case, old, new) -> list:
    "The differences of a case, without those that are told apart."
    found = differences(old, new)
    is_expected = case.get("is_mixed") and farthest(new) <= max(farthest(old), rounding)
    return [] if is_expected else found


# Reporting

def report(todo, old, new, most_lines) -> bool:
    "Print what differs; is all that counts the same?"
    played = [case for case in todo if case["name"] in old and case["name"] in new]
    pairs = [(case, old[case["name"]], new[case["name"]]) for case in played]
    wrong = 0
    for case, a, b in pairs:
        found = what_counts(case, a, b)
        wrong += bool(found)
        if found: report_case(case, found, most_lines)
    report_words(pairs)
    report_members([pair for pair in pairs if pair[0]["kind"] == "population"])
    kinds = Counter(told[1] for _, a, _ in pairs for told in a["told"] if len(told) > 1)
    refused = [case["name"] for case, a, _ in pairs if not a["noted"]]
    print(f"\n{len(todo)} cases, {len(todo) - len(pairs)} of them not played to the end, {wrong} of them different.")
    print(f"In the old version: errors {dict(kinds) or 'none'}; refused {refused or 'none'}.")
    return not wrong and len(pairs) == len(todo)

def report_case(case, found, most_lines):
    print(f"\n{case['name']}: {len(found)} differences\n    {case['of']}, {case['settings']} {case.get('grid', '')}")
    print(f"    {case.get('before', '')} {case['script']}")
    for line in found[:most_lines]: print(f"  {line}")
    if len(found) > most_lines: print(f"  and {len(found) - most_lines} more (--lines)")

def report_words(pairs):
    for case, a, b in pairs:
        if a["words"] == b["words"]: continue
        print(f"\n{case['name']}: other words (not counted)")
        for when, one, other in (("then", a, b), ("now ", b, a)):
            print(f"  {when} {[words for words in one['words'] if words not in other['words']]}")

def report_members(pairs):
    if not pairs: return
    print("\nHow far members of populations are from the runs that they stand for, then and now: the largest distance,")
    print(f"relative to the largest entry. * is more than rounding ({rounding:g}); = are the same bits in both versions.")
    mark = lambda d: f"{d:9.2g}{'*' if d > rounding else ' '}"
    for case, a, b in pairs:
        print(f"{mark(farthest(a))}{mark(farthest(b))} {' ' if differences(a, b) else '='} {case['name']}")
        for member in (name for name in a["apart"] if name in b["apart"]):
            far = farthest(a, member), farthest(b, member)
            if max(far) > rounding: print(f"{mark(far[0])}{mark(far[1])}     {member}")


# Command line

def checkout(given, temporary) -> Path:
    "The folder of a version: as given, or a new worktree of that revision."
    if (Path(given)/"gan_nb"/"__init__.py").is_file(): return Path(given).resolve()
    folder = temporary/f"revision-{given.replace('/', '-')}"
    command = ["git", "worktree", "add", "--detach", folder, given]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    if done.returncode: sys.exit(f"{given}: neither a folder with gan_nb in it nor a revision: {done.stderr.strip()}")
    return folder

def started(phase, place, version, arguments) -> subprocess.Popen:
    "A process that plays with one version, in a folder of its own."
    place.mkdir(exist_ok=True)
    (place/"settings.ini").touch()    # so that nobody looks for one further up
    command = [sys.executable, __file__, version, version, "--phase", phase, "--out", place/f"{phase}.pickle"]
    chosen = ["--only", arguments.only, *(["--skip", arguments.skip] if arguments.skip else [])]
    own = {"PYTHONPATH": str(version), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "IN_TEST": "1",
           "TORCHINDUCTOR_CACHE_DIR": str(place/"compiled")}
    return subprocess.Popen(command + chosen, cwd=place, env={**os.environ, **own})

def results(file) -> dict:
    "{case's name: what came of it}, as far as it was played."
    found = {}
    with open(file, "rb") as f:
        while True:
            try: result = pickle.load(f)
            except EOFError: return found
            found[result["name"]] = result

def compare(arguments, temporary) -> bool:
    begun, places = time.monotonic(), [temporary/"old", temporary/"new"]
    versions = [checkout(given, temporary) for given in (arguments.old, arguments.new)]
    if started("write", places[0], versions[0], arguments).wait(): return False
    shutil.copytree(places[0]/"played", places[1]/"played")
    running = [started("play", place, version, arguments) for place, version in zip(places, versions)]
    statuses = [process.wait() for process in running]
    played = [results(place/"play.pickle") for place in places]
    is_good = report(cases(arguments.only, arguments.skip), *played, arguments.lines)
    print(f"Old is {versions[0]}, new is {versions[1]}; {time.monotonic() - begun:.0f} seconds.")
    return is_good and not any(statuses)

def show(todo):
    for case in todo:
        print(f"{case['name']}\n    {case['of']}, {case['settings']} {case.get('grid', '')}")
        print(f"    {case.get('before', '')} {case['script']}")
    print(f"{len(todo)} cases")

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
    if arguments.list: return show(todo) or 0
    if arguments.new is None: parser.error("two versions are compared: OLD and NEW")
    if arguments.phase == "write": todo = [case for case in todo if "before" in case]
    if arguments.phase: return play_all(arguments.phase, todo, arguments.out, arguments.new) or 0
    temporary = Path(tempfile.mkdtemp(prefix="same-bits-"))
    try: return 0 if compare(arguments, temporary) else 1
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        subprocess.run(["git", "worktree", "prune"], cwd=here, capture_output=True)

if __name__ == "__main__": sys.exit(main())
