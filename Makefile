# Everything that a developer runs. `make` alone lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Its version of transformers is not ours. Where bench looks for it by itself; else ADAPTERHUB_PYTHON names a Python.
ADAPTERHUB := .cache/adapterhub

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format bench bench-page bench-adapterhub-env docs docs-serve docs-files build clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make a virtual environment with all that is needed

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("mmadapters needs Python 3.10 or newer, this is %d.%d; set PYTHON=python3.x" % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

demo: $(STAMP) ## Train adapters on real movies and compare them (some minutes)
	$(BIN)/mmadapters demo

test: $(STAMP) ## Run the tests, one process a core
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-slow: $(STAMP) ## Run the tests that take long
	$(BIN)/python -m pytest -m slow

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Bring the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Run the experiments under benchmarks/ that have no result yet
	$(BIN)/python benchmarks/run_all.py

bench-page: $(STAMP) ## Make the tables and pictures of docs/speed.md and docs/results.md from the results
	$(BIN)/python benchmarks/pages.py
	$(BIN)/python benchmarks/quality_page.py

bench-adapterhub-env: $(ADAPTERHUB)/.installed ## Make the environment of AdapterHub's contender, for make bench

$(ADAPTERHUB)/.installed: benchmarks/adapterhub-requirements.txt
	test -x $(ADAPTERHUB)/bin/python || $(PYTHON) -m venv $(ADAPTERHUB)
	$(ADAPTERHUB)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

docs: $(STAMP) ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

docs-serve: $(STAMP) ## Show the documentation site while you write, on http://127.0.0.1:8000
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

docs-files: $(STAMP) ## Make the pages and pictures of docs/ that are made by code
	for script in docs/draw_*.py docs/write_*.py; do $(BIN)/python $$script || exit 1; done

build: $(STAMP) ## Build the wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## Remove what was built; runs/ and the virtual environment stay
	rm -rf dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
