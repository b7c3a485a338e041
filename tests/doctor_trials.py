"""The doctor tried on runs that nobody has tuned: data and recipes drawn at random, the truth measured without it.

    python tests/doctor_trials.py play OUT --first 0 --last 300      train runs 0 to 299, and measure the truth
    python tests/doctor_trials.py play OUT --first 0 --last 300 --only averaged,still      those of them that are of these kinds
    python tests/doctor_trials.py judge OUT                          what the doctor says of each
    python tests/doctor_trials.py treat OUT --step 3                 what its first remedy does to every third of the ill
    python tests/doctor_trials.py widen OUT                          would wider layers have healed those whose generator is narrow?
    python tests/doctor_trials.py table OUT FILE                     all of it as a table

Run `i` is decided by `i` alone. Runs 0 to 200 and 1 to 477 were there to find rules by; those from 801 on were looked at
once, after the rules were fixed: the odd ones up to 1239, and of those from 1240 on some kinds, so that there are more of
what was rare (`kinds`: what a run is chosen by is its recipe, never its truth nor its verdict). The rule of oscillation was
changed once more after that, on the runs up to 1760; of it only those behind count. What is measured is defined here:

What the samples are like at the end, from 4,000 of them:

- *not learning*: the generator's samples have moved by less than 2 % of the data's radius since round 0;
- *healthy*: 80 % of the samples lie within three deviations of a mode, and 95 % of the modes are reached;
- *mode collapse*: at most 70 % of the modes are reached, and 60 % of the samples lie at modes; or all samples have
  hardly any spread, less than 10 % of the data's radius;
- *between modes*: 90 % of the modes are reached, and less than 40 % of the samples lie within three deviations of one;
- *not converged*: at most 70 % are reached, less than 40 % of the samples lie near one, and they do have spread;
- *memorisation*: 60 % of the samples lie at modes, and in more than 80 % of all cases a sample is nearer to the training
  data than to held-out ones, as many of each mode;
- *no variety*: the data have hardly any spread themselves;
- *low capacity*, a matter of treatment: the samples are not healthy, the narrowest of the generator's layers has at most
  20 units, and the same run with at least 100 in each is healthy;
- *diverged*: training raised `Diverged`.

How it came, from the last ten of forty looks on the way, and only where the samples are not healthy:

- *oscillation*: from look to look the samples' mean moves by a quarter of the data's radius, at the median;
- *discriminator saturated*: it ranks more than 99 % of all pairs right, in at least half of the looks;
- *generator gradient vanished*: it ranks more than 90 % right, and the norm of the generator's gradient is below 2 % of
  that in the first five rounds, or below 5 % of what it would be with the non-saturating loss, in at least half;
- *exploding gradient*: the norm of either player's is above a hundred times that in the first five rounds, in at least half.

A mode is reached if it gets a tenth of its share."""
import argparse
import builtins
import csv
import json
import multiprocessing
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from gan_nb import Run
from gan_nb.core import Diverged, global_norm, stream
from gan_nb.data import Data
from gan_nb.doctor import apply, diagnose, steady
from gan_nb.gan import gradient
from gan_nb.losses import loss
from gan_nb.models import draw_latents
from gan_nb.recipes import Recipe

families = { # name -> its weight; chosen by recipe, never by verdict
    'any': 5, 'settled': 9, 'careless': 2, 'ahead': 3, 'still': 2, 'narrow': 3, 'few data': 3, 'same data': 2}
n_seen = 4000 # Samples that the truth is measured from


# -- what is drawn --
def drawn(i):
    "Family, data, recipe and seed of run `i`, and the mixture behind its data."
    rng = np.random.default_rng([20261125, i])
    family = rng.choice(list(families), p=np.array(list(families.values())) / sum(families.values()))
    mix = mixture(rng)
    recipe = Recipe(name=f'trial {i}').replace(**globals()[family.replace(' ', '_')](rng), device='cpu', threads=1)
    data = data_of(family, mix, rng)
    return str(family), data, recipe.replace(data=data), int(rng.integers(2**31)), mix


kinds = { # what a run may be chosen by: its family, or more of its recipe
    **{name: (lambda family, recipe, name=name: family == name) for name in families},
    'averaged': lambda family, recipe: family == 'settled' and len(recipe.hidden_gen) > 1 and recipe.halflife > 0
                                       and not (recipe.rule_gen == 'adam' and recipe.loss == 'non_saturating')}


def is_of(i, only):
    family, _, recipe, _, _ = drawn(i)
    return not only or builtins.any(kinds[kind](family, recipe) for kind in only)


def mixture(rng):
    "Centres (k, 2) and a deviation: 3 to 16 modes that are at least eight deviations apart."
    k = int(rng.integers(3, 17))
    layout = rng.choice(['anywhere', 'grid', 'ellipse', 'line', 'two rings'])
    angle = np.linspace(0, 2 * np.pi, k, endpoint=False)
    if layout == 'grid':
        side = int(np.ceil(k**.5))
        centers = np.array([(x, y) for x in range(side) for y in range(side)], float)[:k]
    elif layout == 'ellipse': centers = np.stack([np.cos(angle), rng.uniform(.3, 1) * np.sin(angle)], 1)
    elif layout == 'line': centers = np.stack([np.linspace(-1, 1, k), rng.uniform(-1, 1) * np.linspace(-1, 1, k)**2], 1)
    elif layout == 'two rings': centers = np.stack([np.cos(angle), np.sin(angle)], 1) * np.where(np.arange(k) % 2, 1, .5)[:, None]
    else:
        centers = rng.normal(size=(400, 2))
        kept = [centers[0]]
        for c in centers:
            if len(kept) < k and min(np.hypot(*(c - o)) for o in kept) > 1.6 / k**.5: kept.append(c)
        centers = np.array(kept)
    turn = rng.uniform(0, 2 * np.pi)
    centers = (centers - centers.mean(0)) @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centers /= np.sqrt((centers**2).sum(1).mean()) # the data's radius is 1, as that of the shipped ones
    apart = min(np.hypot(*(a - b)) for j, a in enumerate(centers) for b in centers[:j])
    return centers, float(apart * rng.uniform(.04, .12))


def sampled(mix, n, rng):
    centers, sigma = mix
    return centers[rng.integers(len(centers), size=n)] + sigma * rng.normal(size=(n, 2))


def data_of(family, mix, rng):
    "Half of the data come with their centres, half as an array of numbers."
    if family == 'same data':
        x = np.tile(rng.normal(size=(1, 2)), (int(rng.integers(20, 2000)), 1))
        if rng.random() < .5: x += 1e-7 * rng.normal(size=x.shape)
        return x.astype(np.float32)
    if family == 'few data': return sampled(mix, len(mix[0]) * int(rng.integers(2, 7)), rng).astype(np.float32)
    if rng.random() < .5: return sampled(mix, int(rng.integers(600, 4000)), rng).astype(np.float32)
    centers = torch.tensor(mix[0], dtype=torch.float32)
    return Data('mixture', (2,), centers=centers, sigma=mix[1])


def log(rng, low, high): return float(f'{np.exp(rng.uniform(np.log(low), np.log(high))):.3g}')


def layers(rng, low=16, high=128): return (int(log(rng, low, high)),) * int(rng.integers(1, 4))


def common(rng):
    return dict(z_dim=int(rng.choice([1, 2, 2, 2, 4, 8])), hidden=layers(rng), batch_size=int(log(rng, 16, 256)),
                rounds=int(rng.integers(400, 2001)), halflife=float(rng.choice([0, 0, 50, 200])),
                schedule=str(rng.choice(['constant', 'linear', 'cosine'])))


def settled(rng):
    "What is known to work on points, varied."
    penalty = log(rng, .02, 2)
    shared = common(rng) | dict(rounds=int(rng.integers(1500, 4001)), hidden=layers(rng, 32, 160),
        batch_size=int(log(rng, 64, 256)), schedule='linear', z_dim=int(rng.choice([2, 2, 4])), r1=penalty, r2=penalty)
    loss = dict(loss=str(rng.choice(['r3', 'r3', 'non_saturating'])))
    if rng.random() < .5: return shared | loss | dict(rule='adam', momentum=.5, lr=log(rng, 2e-3, 1e-2))
    return shared | loss | dict(normalize=('orthogonal', 1.), lr=log(rng, .008, .04), momentum=.5)


def any(rng):
    "From wide ranges."
    made = common(rng) | dict(loss=str(rng.choice(['non_saturating', 'minimax', 'hinge', 'wasserstein', 'least_squares', 'r3'])))
    rule = str(rng.choice(['sgd', 'sgd', 'adam', 'adam', 'rmsprop']))
    for p in ('gen', 'disc'):
        made |= {f'rule_{p}': rule, f'lr_{p}': log(rng, *((1e-3, 1.) if rule == 'sgd' else (1e-5, 2e-2)))}
        if rule != 'rmsprop': made[f'momentum_{p}'] = float(rng.choice([0, .5, .9]))
        if rng.random() < .3: made[f'clip_{p}'] = (str(rng.choice(['global_norm', 'value'])), log(rng, .01, 10))
        if rule == 'sgd' and rng.random() < .3: made[f'normalize_{p}'] = (str(rng.choice(['orthogonal', 'global_norm', 'block_rms'])), 1.)
    if rng.random() < .5: made |= dict(r1=log(rng, .01, 10), r2=float(rng.choice([0, log(rng, .01, 10)])))
    return made | dict(n_disc=int(rng.choice([1, 1, 1, 2, 5])), method=str(rng.choice(['alternating'] * 4 + ['simultaneous', 'extragradient'])))


def careless(rng):
    "No penalty, heavy momentum, a generator that runs ahead, rates that end early."
    return common(rng) | dict(loss=str(rng.choice(['non_saturating', 'hinge', 'least_squares'])), rule='adam', momentum=float(rng.choice([.5, .9])),
        lr=log(rng, 1e-3, 5e-3), n_gen=int(rng.choice([1, 2, 3])), schedule='linear', rounds=int(rng.integers(400, 1001)))


def still(rng):
    "A rate, of one player or both, at which nothing moves."
    tiny = log(rng, 1e-10, 1e-7)
    return settled(rng) | dict(lr_gen=tiny) | (dict(lr_disc=tiny) if rng.random() < .5 else {})


def ahead(rng):
    "A generator that is much faster than its discriminator."
    lr = log(rng, 2e-3, 1e-2)
    return common(rng) | dict(loss=str(rng.choice(['non_saturating', 'hinge', 'least_squares'])), rule='adam', momentum=float(rng.choice([.5, .9])),
        lr_gen=lr, lr_disc=lr / log(rng, 4, 30), n_gen=int(rng.choice([1, 2, 3])), r1=float(rng.choice([0, .1, 1])))


def narrow(rng):
    "A generator with a layer of a few units."
    width = int(log(rng, 1, 20))
    return {**settled(rng), 'hidden_gen': (width,) * int(rng.integers(1, 3))}


def few_data(rng): return settled(rng) | dict(rounds=int(rng.integers(2000, 4001)), r1=log(rng, .005, .1), r2=log(rng, .005, .1))


def same_data(rng): return settled(rng) | dict(rounds=int(rng.integers(400, 1000)))


# -- what is measured --
def measured(run, mix, data, rng, diverged):
    "The truth about a run, from samples of its own."
    centers, sigma = mix
    x = run.samples(n_seen, seed=20261125).double().numpy()
    real = sampled(mix, n_seen, rng) if not isinstance(data, np.ndarray) else np.asarray(data, float)
    radius = float(np.sqrt(((real - real.mean(0))**2).sum(1).mean()))
    found = dict(diverged=diverged, finite=bool(np.isfinite(x).all()), radius=radius)
    if not found['finite']: return found
    distance = np.hypot(*(x[:, None] - centers).transpose(2, 0, 1))
    near = distance.min(1) < 3 * sigma
    counts = np.bincount(distance.argmin(1)[near], minlength=len(centers))
    z_start = Run(run.start_recipe, run.seed).samples(1000, seed=5).double().numpy()
    moved = np.hypot(*(run.samples(1000, seed=5).double().numpy() - z_start).T).mean()
    found |= dict(modes=len(centers), reached=int((counts >= .1 * max(near.sum(), .2 * n_seen) / len(centers)).sum()), near=float(near.mean()),
                  spread=float(x.std(0).max()), moved=float(moved / max(radius, 1e-12)))
    if isinstance(data, np.ndarray) and len(data) < 500:
        own = np.asarray(data, float)
        held = centers[np.hypot(*(own[:, None] - centers).transpose(2, 0, 1)).argmin(1)] + sigma * rng.normal(size=own.shape)
        to = lambda y: np.hypot(*(x[:, None] - y).transpose(2, 0, 1)).min(1)
        found['nearer_to_training'] = float((to(own) < to(held)).mean())
    found['first'] = [float(np.median(run.records[f'grad_norm_{p}'][:5])) for p in ('gen', 'disc')]
    return found


def looked(run):
    "What an observer notes on the way."
    fake, real = run.samples(1000, seed=101), run.real(1000, seed=102)
    at_real, at_fake = (np.sort(run.score(x).flatten().double().numpy()) for x in (real, fake))
    batch = run.game.draw(stream(103), ('gen', 'disc'))
    norms = [float(global_norm(gradient(run.game, p, run.state.params, run.state.buffers, batch)[0])) for p in ('gen', 'disc')]
    smooth = run.game.changed(loss=loss('non_saturating'))
    unsaturated = float(global_norm(gradient(smooth, 'gen', run.state.params, run.state.buffers, batch)[0]))
    z = draw_latents(run.game.pair, 1000, stream(104))
    with torch.no_grad(): own = run.experiment.evaluate('gen', run.state.params['gen'], run.state.buffers['gen'], z)
    return dict(mean=own.double().mean(0).tolist(), wins=float(np.searchsorted(at_fake, at_real).mean() / 1000), norms=norms, unsaturated=unsaturated)


def is_sharp_everywhere(seen): return seen['near'] >= .8 and seen['reached'] >= .95 * seen['modes']


def truths(seen):
    "Every name that the criteria give."
    if seen['diverged'] or not seen['finite']: return ['diverged']
    if seen['radius'] < 1e-5: return ['no_variety']
    names = []
    share, spread = seen['reached'] / seen['modes'], seen['spread'] / seen['radius']
    if seen.get('nearer_to_training', 0) > .8 and seen['near'] >= .6: names.append('memorisation')
    if is_sharp_everywhere(seen): return names or ['healthy']
    if seen.get('wide') == 'healthy': names.append('low_capacity')
    if seen['moved'] < .02: names.append('not_learning')
    elif share <= .7 and seen['near'] >= .6 or spread < .1: names.append('mode_collapse')
    elif share >= .9 and seen['near'] < .4: names.append('between_modes')
    elif share <= .7 and seen['near'] < .4: names.append('not_converged')
    first, last = seen['first'], seen['looks'][-10:]
    mostly = lambda sign: np.mean([sign(look) for look in last]) >= .5
    ways = np.hypot(*np.diff([look['mean'] for look in last], axis=0).T) / seen['radius']
    if np.median(ways) > .25: names.append('oscillation')
    if mostly(lambda look: look['wins'] > .99): names.append('discriminator_saturated')
    def is_vanishing(look): return look['wins'] > .9 and (look['norms'][0] < .02 * first[0] or look['norms'][0] < .05 * look['unsaturated'])
    if mostly(is_vanishing): names.append('generator_gradient_vanished')
    if mostly(lambda look: max(a / b for a, b in zip(look['norms'], first)) > 100): names.append('exploding_gradient')
    return names


# -- playing --
def play(i, out):
    family, data, recipe, seed, mix = drawn(i)
    warnings.simplefilter('ignore')
    began, diverged = time.perf_counter(), False
    torch.set_num_threads(1)
    run = Run(recipe, seed)
    looks, ends = [looked(run)], np.linspace(0, run.recipe.rounds, 41).astype(int)[1:]
    try:
        for end in ends:
            run.fit(int(end) - run.round, progress=False)
            looks.append(looked(run))
    except Diverged: diverged = True
    seen = measured(run, mix, data, np.random.default_rng([1, i]), diverged) | dict(looks=looks)
    run.save(out/f'{i:04}')
    about = dict(i=i, family=family, rounds=run.round, kind='array' if isinstance(data, np.ndarray) else 'centers', seconds=round(time.perf_counter() - began, 2), **seen)
    (out/f'{i:04}.json').write_text(json.dumps(about))
    return about


def opened(i, out):
    family, data, recipe, seed, mix = drawn(i)
    run = Run.load(out/f'{i:04}', data=data)
    run.folder = None # what is tried on it is not kept
    return run, mix, data


def judge(i, out):
    "What the doctor says of a run."
    run, _, _ = opened(i, out)
    names = [finding.name for finding in diagnose(run)]
    _note(i, out, doctor=names)
    return dict(i=i, doctor=names)


def treat(i, out):
    "The first remedy; and, for reference, the same settings from round 0 on. What is true afterwards."
    about = json.loads((out/f'{i:04}.json').read_text())
    run, mix, data = opened(i, out)
    found = diagnose(run)[0]
    if not found.remedy or 'healthy' in truths(about): return dict(i=i)
    after = {'after': _after(apply(run, found), found.rounds, mix, data, i), 'reference': _after(_anew(opened(i, out)[0], found.rounds), found.rounds, mix, data, i)}
    _note(i, out, **after)
    return dict(i=i, found=found.name, **after)


def widen(i, out):
    "The same run with a hundred units or more in each of the generator's layers. What is true of it."
    about = json.loads((out/f'{i:04}.json').read_text())
    _, data, recipe, seed, mix = drawn(i)
    if min(recipe.hidden_gen) > 20 or 'healthy' in truths(about): return dict(i=i)
    wide = _after(Run(recipe.replace(hidden_gen=tuple(max(n, 100) for n in recipe.hidden_gen)), seed), recipe.rounds, mix, data, i)
    _note(i, out, wide=wide)
    return dict(i=i, wide=wide)


def _anew(run, rounds):
    fork = run.fork(round=0)
    fork.edit(**steady(fork, rounds=rounds))
    return fork


def _after(run, rounds, mix, data, i):
    try: run.fit(rounds, progress=False)
    except Diverged: return 'diverged'
    seen = measured(run, mix, data, np.random.default_rng([2, i]), False)
    return 'healthy' if is_sharp_everywhere(seen) else f"{seen['reached']}/{seen['modes']} {seen['near']:.2f}"


def _note(i, out, **more):
    file = out/f'{i:04}.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def table(out, file):
    "A line for each run."
    columns = 'i', 'family', 'given', 'rounds', 'modes', 'reached', 'near', 'spread', 'moved', 'truth', 'doctor', 'after', 'reference', 'wide'
    with open(file, 'w', newline='') as f:
        writer = csv.DictWriter(f, columns, lineterminator='\n', extrasaction='ignore')
        writer.writeheader()
        for path in sorted(out.glob('*.json')):
            about = json.loads(path.read_text())
            short = {k: f'{v:.4g}' for k, v in about.items() if isinstance(v, float)}
            writer.writerow({**about, **short, 'given': about['kind'], 'truth': ' '.join(truths(about)), 'doctor': ' '.join(about.get('doctor', []))})


does = {'play': play, 'judge': judge, 'treat': treat, 'widen': widen}


def _job(job):
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    what, i, out = job
    try: return does[what](i, out)
    except Exception as error: return dict(i=i, failed=f'{type(error).__name__}: {error}')


def main():
    read = argparse.ArgumentParser()
    read.add_argument('what', choices=[*does, 'table'])
    read.add_argument('out', type=Path)
    read.add_argument('file', nargs='?', type=Path)
    for name, default in dict(first=0, last=10_000, step=1, workers=2).items(): read.add_argument(f'--{name}', type=int, default=default)
    read.add_argument('--only', type=lambda text: text.split(','), default=[], help=f'kinds of runs: {", ".join(kinds)}')
    given = read.parse_args()
    if given.what == 'table': return table(given.out, given.file)
    given.out.mkdir(parents=True, exist_ok=True)
    there = {int(path.stem) for path in given.out.glob('*.json')}
    wanted = range(given.first, given.last, given.step)
    numbers = [i for i in wanted if i not in there and is_of(i, given.only)] if given.what == 'play' else sorted(there)[::given.step]
    with multiprocessing.get_context('spawn').Pool(given.workers) as pool:
        for about in pool.imap_unordered(_job, [(given.what, i, given.out) for i in numbers]):
            if 'looks' in about: about = dict(i=about['i'], family=about['family'], given=about['kind'], seconds=about['seconds'], truth=truths(about))
            print(*about.values(), flush=True)


if __name__ == '__main__': main()
