# Other execution providers than ONNX Runtime's own for the CPU.

PLUGINS := .venv-plugins
# What `make test-DEVICE` installs in the place of onnxruntime, in .venv-DEVICE.
WHEELS_webgpu := onnxruntime-webgpu==1.27.0
WHEELS_openvino := onnxruntime-openvino==1.24.1 openvino==2025.4.1
WHEELS_cuda := onnxruntime-gpu[cuda,cudnn]
on-device = POCKETGPT_DEVICE=$(1) POCKETGPT_FOLDERS=build/devices $(2) .venv-$(1)/bin/python -m pytest -m device tests/devices

.PHONY: test-webgpu test-openvino test-cuda test-plugins

test-webgpu: .venv-webgpu/.installed build/devices/.made ## test the cache on WebGPU, without a GPU by Chromium's SwiftShader
	$(call on-device,webgpu,.venv-webgpu/bin/python tests/devices/swiftshader.py build/devices)

test-openvino: .venv-openvino/.installed build/devices/.made ## test decoding by OpenVINO on the CPU
	$(call on-device,openvino)

test-cuda: .venv-cuda/.installed build/devices/.made ## test decoding on an Nvidia GPU
	@nvidia-smi >/dev/null 2>&1 || echo "no Nvidia GPU here (nvidia-smi finds none): these tests are skipped" >&2
	$(call on-device,cuda)

.venv-webgpu/.installed .venv-openvino/.installed .venv-cuda/.installed: .venv-%/.installed: pyproject.toml
	$(install) $(WHEELS_$*) numpy tokenizers typer rich pytest
	$(@D)/bin/python -m pip install --disable-pip-version-check --no-deps -e .
	@touch $@

build/devices/.made: tests/devices/folders.py | setup
	$(BIN)/python tests/devices/folders.py $(@D)
	@touch $@

test-plugins: build/portable/onnx/model.onnx $(PLUGINS)/.installed ## run a model on providers that are libraries of their own, ggml's and OpenVINO's
	$(PLUGINS)/bin/python -m pytest tests/plugins

$(PLUGINS)/.installed: pyproject.toml
	$(install) \
		onnxruntime-ggml==0.2.0 onnxruntime-ep-openvino==1.8.1 pytest -e '.[cli]'
	@touch $@
