"""ONNX Runtime without what its Linux wheel holds twice, and without its tools.

The wheel has all of ONNX Runtime in Python's extension, and once more in libonnxruntime.so*, some
35 MB, for programs in C. What the extension does need of it PyInstaller finds by itself.
"""

from pathlib import Path

from PyInstaller.utils.hooks import collect_dynamic_libs

binaries = [
    (source, target)
    for source, target in collect_dynamic_libs("onnxruntime")
    if not Path(source).name.startswith("libonnxruntime.so")
]
excludedimports = [
    "onnxruntime.backend",
    "onnxruntime.datasets",
    "onnxruntime.quantization",
    "onnxruntime.tools",
    "onnxruntime.transformers",
    # What those, and numpy, import where it is there.
    "onnx",
    "sympy",
    "torch",
    "transformers",
]
