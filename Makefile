# `make` alone lists the targets. Every target sets up its own environment: the first ones .venv, those in make/ others.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS := .venv-docs
VARIANTS := int8 q8 q4
# What tests/runtime/hand_over.py makes, for environments without PyTorch.
HANDED := $(CURDIR)/build/handed
# In a rule for ENVIRONMENT/.installed: makes it, and installs into it what follows.
install = test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D); $(@D)/bin/python -m pip install --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow soak docs docs-serve test-docs lint format types check build clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "  %-16s %s\n", $$1, $$2 }'

setup: $(STAMP) ## install everything, pinned, into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "PocketGPT needs Python 3.11 or newer, and '$(PYTHON)' is not: try 'make setup PYTHON=python3.11'" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## export, quantize and run the bundled checkpoint
	$(BIN)/python examples/demo.py

test: setup ## run the tests, on every core
	$(BIN)/python -m pytest -n logical --maxprocesses 8 $(ARGS)

test-slow: setup ## run the slow tests only
	$(BIN)/python -m pytest -m slow

soak: setup ## 10,000 generations of random options in one process: memory must stay flat
	$(BIN)/python -m pytest -m slow tests/runtime/test_soak.py

build/portable/onnx/model.onnx: | setup
	$(BIN)/pocketgpt export models/pocket-tales build/portable --graph portable

build/pocket-tales/onnx/model.onnx: | setup
	$(BIN)/pocketgpt export models/pocket-tales build/pocket-tales

build/pocket-tales/onnx/model_q4.onnx: build/pocket-tales/onnx/model.onnx
	$(BIN)/pocketgpt quantize build/pocket-tales $(VARIANTS)

docs: $(DOCS)/.installed ## build the documentation site into build/site, and check every link of it
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build
	$(DOCS)/bin/python docs/site/check.py build/site

docs-serve: $(DOCS)/.installed ## show the site on port 8000 while you write
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs serve

$(DOCS)/.installed: constraints-docs.txt
	$(install) -r constraints-docs.txt
	@touch $@

test-docs: docs build/pocket-tales/onnx/model_q4.onnx ## build the site, and run every command and every example of the pages
	$(BIN)/python -m pytest -m docs tests/docs $(ARGS)

lint: setup ## check style and formatting with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## sort imports, fix what ruff can fix, format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## check types with mypy, strictly
	$(BIN)/mypy

check: lint types test ## lint, types and test: what a change must pass

build: setup ## build the sdist and the wheel into dist/
	$(BIN)/python -m build --no-isolation

clean: ## remove build outputs and caches; .venv stays
	rm -rf dist build .mypy_cache .pytest_cache .ruff_cache
	find runtime exporter quantize tests models/recipe -name __pycache__ -type d -prune -exec rm -rf {} +

include $(wildcard make/*.mk)
