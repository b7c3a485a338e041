# make lab     JupyterLab on index.ipynb           make test    everything that CI runs
# make train   the article's run, without a screen  make sync    modules and README.md from the notebooks
# make clean   remove what is built; .venv and runs/ stay
# make bench   how fast a round is, beside plain PyTorch, Lightning, Keras and JAX; wants an idle machine, ten minutes
# make fuzz    a million inputs for everything that reads a file (FUZZ_RUNS=; an hour or two)
# make pairs   every triple of choices of a run that is told a condition (make test covers every pair; half an hour)
# make shards  60 combinations of settings in shards, by one process, two and four: the same bits (half an hour)
# make sweeps  a sweep of 100 trials, of whose workers three are killed, and one on Ray (TRIALS=; two minutes)
# make soak    an hour of everything that a person does to a panel, in a real browser (SOAK= seconds)
# make window  how fast the panels move in a real browser, and what it costs the training; wants an idle machine
# make kills   a run killed at 200 random moments (KILLS=; half a minute); make test does it 20 times
#
# PYTHON=python3.10 chooses the interpreter. The environment is always .venv; it is renewed when pyproject.toml or
# constraints.txt changes, or when PYTHON names another version than the one it holds.

PYTHON ?= $(or $(wildcard .venv/bin/python),python3)
ROUNDS ?= 1800
FUZZ_RUNS ?= 1000000
KILLS ?= 200
SOAK ?= 3600
TRIALS ?= 100
LAB_ARGS ?=

bin := .venv/bin
version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
lab := .venv/.lab-$(version)
dev := .venv/.dev-$(version)

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help lab train test fuzz kills pairs shards sweeps soak window bench sync clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

# A Python that is new enough, an environment of that version with a working pip, then the package.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "gan_nb needs Python 3.10 or newer; $(PYTHON) is $(or $(version),not a Python that runs). Choose one: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@$(bin)/python -c 'import sys, pip; sys.exit("%d.%d" % sys.version_info[:2] != "$(version)")' 2>/dev/null || \
	  $(PYTHON) -m venv --clear .venv
	@echo "Installing into .venv; the first time takes some minutes."
endef

$(lab): pyproject.toml constraints.txt
	$(environment)
	@$(bin)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(dev): pyproject.toml constraints.txt
	$(environment)
	@$(bin)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(lab)

lab: $(lab)
	$(bin)/gan-nb lab index.ipynb -- $(LAB_ARGS)

train: $(lab)
	@echo "The article trains for 10,000 rounds; this is $(ROUNDS). All of them: make train ROUNDS=10000"
	$(bin)/gan-nb train article --out runs/article --rounds $(ROUNDS)

# One thread: on a busy machine more of them are many times slower. Three workers for two cores, since who waits for a
# browser computes nothing; in the order of their names, so that the longest files do not come last. A machine without
# the font of emoji lends the notebooks one that only has their number and their names.
test: export OMP_NUM_THREADS := 1
test: export MPLBACKEND := Agg
test: export GAN_NB_FONTS := $(CURDIR)/.venv/stand_in
test: $(dev)
	$(bin)/python tests/notebooks.py check
	$(bin)/python tests/odd_files.py $(GAN_NB_FONTS)
	$(bin)/nbdev-test --skip-file-re "$$($(bin)/python tests/notebooks.py kernels)"
	$(bin)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

fuzz: export OMP_NUM_THREADS := 1
fuzz: $(dev)
	$(bin)/python -m pip install -q -c constraints.txt -e '.[fuzz]'
	$(bin)/python tests/fuzz/parsers.py -runs=$(FUZZ_RUNS) -timeout=20
	$(bin)/python tests/fuzz/parsers.py -runs=$$(($(FUZZ_RUNS) / 100)) -max_len=1048576 -timeout=60

kills: export OMP_NUM_THREADS := 1
kills: export MPLBACKEND := Agg
kills: $(dev)
	KILLS=$(KILLS) $(bin)/python -m pytest -s tests/test_kill_9.py

pairs: export OMP_NUM_THREADS := 1
pairs: export MPLBACKEND := Agg
pairs: $(dev)
	-$(bin)/python -m pip install -q -c constraints.txt triton # there is none for some systems
	STRENGTH=3 $(bin)/python -m pytest -n 2 tests/test_conditions.py tests/test_compiled.py tests/test_population.py tests/test_networks.py tests/test_accelerator.py tests/test_cuda_code.py tests/test_costs.py

shards: export OMP_NUM_THREADS := 1
shards: export MPLBACKEND := Agg
shards: $(dev)
	SHARDS_ROUNDS=50 SHARDS_SOME=60 $(bin)/python -m pytest tests/test_processes.py

sweeps: export OMP_NUM_THREADS := 1
sweeps: export MPLBACKEND := Agg
sweeps: $(dev)
	TRIALS=$(TRIALS) $(bin)/python -m pytest -s tests/test_sweeps.py

soak: export OMP_NUM_THREADS := 1
soak: $(dev)
	SOAK=$(SOAK) $(bin)/python -m pytest -s tests/test_soak.py

window: export OMP_NUM_THREADS := 1
window: $(dev)
	$(bin)/python tests/window_speed.py

bench: $(dev)
	$(bin)/python -m pip install -q -c constraints.txt -e '.[peers]'
	GAN_NB_SLOW=1 $(bin)/jupyter nbconvert --to notebook --execute --inplace nbs/benchmarks/speed.ipynb
	$(bin)/python tests/notebooks.py sync

sync: $(dev)
	$(bin)/python tests/notebooks.py sync

clean:
	rm -rf build dist *.egg-info _proc _docs .pytest_cache .hypothesis
	find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +
