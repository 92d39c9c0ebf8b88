# Speed, memory and quality, ours and other tools': what writes the tables and plots of the docs.

BENCH := .venv-bench
SYSTEMS := $(patsubst benchmarks/systems/requirements/%.txt,$(BENCH)/%/.installed,$(wildcard benchmarks/systems/requirements/*.txt)) \
	$(BENCH)/transformersjs/.packages
MEASURED := build/gpt2 build/pocket-tales/onnx/model_q4.onnx
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF # llama.cpp without its half that sees and hears

.PHONY: bench bench-quick bench-large bench-quality bench-runtime bench-server bench-boards

bench: $(MEASURED) $(SYSTEMS) ## measure our speed, memory and quality and other systems', side by side; write docs/benchmarks.md
	$(BIN)/python benchmarks/speed.py build/speed $(ARGS)
	$(BIN)/python benchmarks/report.py build/speed --docs docs --readme README.md

bench-quick: build/gpt2 $(SYSTEMS) ## a few of its figures, once, in build/speed-quick
	$(BIN)/python benchmarks/speed.py build/speed-quick --quick $(ARGS)
	$(BIN)/python benchmarks/report.py build/speed-quick

bench-large: $(MEASURED) build/gpt2-medium $(SYSTEMS) ## add gpt2-medium's shape to what `make bench` found
	$(BIN)/python benchmarks/speed.py build/speed --resume --large $(ARGS)
	$(BIN)/python benchmarks/report.py build/speed --docs docs --readme README.md

bench-quality: build/pocket-tales/onnx/model.onnx build/portable/onnx/model.onnx $(SYSTEMS) ## measure what every way of rounding loses, and other tools', on the bundled checkpoint
	$(BIN)/python benchmarks/peers.py models/pocket-tales build/pocket-tales build/peers.json
	$(BIN)/python benchmarks/quality.py build/pocket-tales --portable build/portable \
		--peers build/peers.json --table build/quality.md --plot docs/quality.svg

bench-runtime: build/gpt2 ## the runtime's overhead, chunks of prefill, waiting, guessing, attention, start, choosing and workers' memory, on GPT-2's shape
	$(BIN)/python benchmarks/overhead.py build/gpt2
	$(BIN)/python benchmarks/prefill.py build/gpt2
	$(BIN)/python benchmarks/spin.py build/gpt2
	$(BIN)/python benchmarks/low_memory.py build/gpt2
	$(BIN)/python benchmarks/packages.py build/gpt2
	$(BIN)/python benchmarks/speculation.py build/gpt2
	$(BIN)/python benchmarks/attention.py build/gpt2
	$(BIN)/python benchmarks/workers.py build/gpt2
	$(BIN)/python benchmarks/start.py build/gpt2
	$(BIN)/python benchmarks/head.py

bench-server: $(MEASURED) $(BENCH)/llama/.server ## many clients at once, against llama-cpp-python's server and llama.cpp's (LLAMA_SERVER=PATH); write docs/serving.md
	test -e build/serving/Q8_0.gguf || $(BENCH)/llama/bin/python benchmarks/systems/worker.py llama prepare \
		--checkpoint build/gpt2-checkpoint --folder build/gpt2 --work build/serving
	$(BIN)/python benchmarks/serving.py build/gpt2 --exact build/pocket-tales --gguf build/serving/Q8_0.gguf \
		--llama $(BENCH)/llama/bin/python $(LLAMA_SERVER:%=--llama-server %) --write docs/serving.md $(ARGS)

bench-boards: build/pocket-tales/onnx/model_q4.onnx ## instructions, memory and wheels: write docs/boards.md
	$(BIN)/python benchmarks/boards.py build/pocket-tales build/boards.json
	$(BIN)/python benchmarks/boards.py build/pocket-tales build/boards.json --wheels
	$(BIN)/python benchmarks/boards.py build/pocket-tales build/boards.json --write docs/boards.md

build/gpt2: | setup
	$(BIN)/python benchmarks/gpt2_shape.py $@ --keep $@-checkpoint $(VARIANTS:%=--variant %)

build/gpt2-medium: | setup
	$(BIN)/python benchmarks/gpt2_shape.py $@ --keep $@-checkpoint $(VARIANTS:%=--variant %) --medium

# optimum-intel asks for torchvision, which no text needs and which fails beside another build of torch.
$(BENCH)/%/.installed: benchmarks/systems/requirements/%.txt
	$(install) -r $< && \
		$(BENCH)/$*/bin/python -m pip uninstall --disable-pip-version-check -q -y torchvision || \
		echo "$* cannot be installed: its rows in the table will say so" >&2
	@touch $@

$(BENCH)/transformersjs/.packages: benchmarks/systems/requirements/transformersjs.json $(BENCH)/transformersjs/.installed
	cp $< $(@D)/package.json
	PATH="$(CURDIR)/$(@D)/bin:$$PATH" ONNXRUNTIME_NODE_INSTALL=skip npm install --prefix $(@D) --no-audit --no-fund || \
		echo "transformers.js cannot be installed: its rows in the table will say so" >&2
	@touch $@

$(BENCH)/llama/.server: $(BENCH)/llama/.installed
	$(BENCH)/llama/bin/python -m pip install --disable-pip-version-check 'llama-cpp-python[server]==0.3.36'
	@touch $@
