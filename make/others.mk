# What stands on other packages, each in an environment of its own: other runtimes, signatures, real clients, clusters.

INTEROP := .venv-interop
SIGNING := .venv-signing
SERVER := .venv-server
BULK := .venv-bulk

.PHONY: test-interop test-signing test-server test-bulk bench-bulk

test-interop: $(INTEROP)/.packages build/interop/.made ## run a folder in Optimum, ONNX Runtime GenAI, transformers.js and others
	HF_HUB_OFFLINE=1 $(INTEROP)/bin/python -m pytest -m interop tests/interop $(ARGS)

$(INTEROP)/.installed: pyproject.toml constraints.txt tests/interop/requirements.txt
	$(install) -c constraints.txt -r tests/interop/requirements.txt \
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
	$(install) pytest -e '.[cli,signing]'
	@touch $@

test-server: build/pocket-tales/onnx/model.onnx $(SERVER)/.installed ## serve the bundled checkpoint to real clients: openai, langchain, llm, lm-evaluation-harness, curl, Schemathesis
	$(SERVER)/bin/python -m pytest tests/clients $(ARGS)

$(SERVER)/.installed: pyproject.toml
	$(install) openai langchain-openai llm playwright schemathesis \
		'lm_eval[api]' 'transformers==4.57.6' pytest -e '.[chat,cli,constraints,server]'

# A cluster's processes stay by themselves when its test is stopped: `ray stop` ends them.
test-bulk: build/pocket-tales/onnx/model.onnx $(BULK)/.installed ## answer rows on a Ray cluster of three nodes, killing a node, an actor and the driver; on Spark; Parquet
	RAY_USAGE_STATS_ENABLED=0 $(BULK)/bin/python -m pytest -p no:cacheprovider tests/cluster $(ARGS)

bench-bulk: build/pocket-tales/onnx/model_q4.onnx build/gpt2 $(BULK)/.installed ## rows a second by one and two Ray actors of a thread each, and what a million rows cost; write docs/howto/bulk.md
	RAY_USAGE_STATS_ENABLED=0 $(BULK)/bin/python benchmarks/bulk.py build/pocket-tales build/pocket-tales@q8 build/gpt2@q8 \
		--write docs/howto/bulk.md $(ARGS)

$(BULK)/.installed: pyproject.toml
	$(install) 'pyspark>=4,<5' pytest -e '.[bulk,cli]'
	@touch $@
