# Every target creates .venv when it is missing or older than what it is made from.
PYTHON ?= python3
BIN := .venv/bin
# More arguments for the demo, e.g. `make demo ARGS="rounds=5 seed=1"`.
ARGS ?=

.PHONY: help demo test chaos fuzz long soak examples pages test-floors test-wheel docs lint clean

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 8

demo: .venv/installed  ## Run DeltaMask on the embedded digits through Ray and show the result (about 2 minutes)
	$(BIN)/fedsim run pipelines/demo.yaml $(ARGS)

test: lint  ## Lint, type-check and run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/unit -m "not long"
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/ray tests/e2e tests/chaos -m "not long"

chaos: .venv/installed  ## Disturb runs in every way twice, on a disk and on S3, and record it (about 20 minutes)
	$(BIN)/python -m pytest tests/chaos --seeds 2 --record results/benchmarks/chaos

fuzz: .venv/installed  ## Give a million mutated messages to all that reads bytes, and record it (about 5 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --record results/benchmarks/fuzz

long: .venv/installed  ## Run the tests that `make test` leaves out: the paper's sweeps, autoscaling, large models (about 3 minutes)
	$(BIN)/python -m pytest tests/unit tests/ray tests/e2e -m long

soak: .venv/installed  ## Run 500 rounds and 50 runs in one process, and record memory and descriptors (about 15 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/soak --record results/benchmarks/soak

examples: .venv/installed  ## Run the examples in environments of their own, Flower's against the simulator (about 8 minutes)
	rm -rf .venv-library && $(PYTHON) -m venv .venv-library
	.venv-library/bin/python -m pip install --quiet --constraint constraints.txt .
	! .venv-library/bin/python -c "import ray" 2> .venv-library/ray
	examples/socket/run.sh .venv-library/bin/python 5
	PYTHON=$(PYTHON) SIMULATOR=$(BIN)/python examples/flower/run.sh 5

pages: .venv/installed  ## Look at the dashboard in a headless Chromium, and draw its picture (about 1 minute)
	$(BIN)/python -m pytest tests/pages

test-floors:  ## Run the unit tests and the command line with the lowest versions that setup.cfg allows
	rm -rf .venv-floors && $(PYTHON) -m venv .venv-floors
	$(PYTHON) tests/floors.py > .venv-floors/floors.txt
	.venv-floors/bin/python -m pip install --quiet --constraint .venv-floors/floors.txt --editable ".[test]"
	# Messages quote libraries, which word them differently from version to version.
	OMP_NUM_THREADS=1 .venv-floors/bin/python -m pytest -n 2 tests/unit --ignore tests/unit/fedsim/test_bad_inputs.py
	.venv-floors/bin/python -m pytest tests/e2e/test_cli.py -k "help or list or errors or report or shows"

test-wheel: .venv/installed  ## Install the wheel with the simulator in an empty environment, and run it there
	rm -rf .venv-wheel && $(PYTHON) -m venv .venv-wheel
	$(BIN)/python -m build --quiet --outdir .venv-wheel/dist .
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt \
		"deltamask[sim] @ file://$$(ls $(CURDIR)/.venv-wheel/dist/*.whl)"
	cd .venv-wheel && bin/fedsim run rounds=2 partition.clients=4 output=runs && bin/fedsim report runs

docs: .venv/installed  ## Build the documentation into site/, run its notebooks, and check it (about 2 minutes)
	$(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest tests/docs

lint: .venv/installed  ## Lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## Remove the environment and caches; results stay
	rm -rf .venv .venv-floors .venv-wheel .venv-library .venv-flower build site *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
