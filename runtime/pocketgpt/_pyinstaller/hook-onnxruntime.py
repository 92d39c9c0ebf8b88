"""Leave out of a program what ONNX Runtime's wheel holds twice, and its tools.

The wheel has the library by itself too, `libonnxruntime.so.VERSION` (34.8 MB of 1.32 on Linux),
for programs in C and C++; Python's extension is linked with all of it and opens no second one. Were
the extension linked against the library instead, PyInstaller would add it by following that link.
"""

from pathlib import Path

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs

TWICE = ("libonnxruntime.", "onnxruntime.dll")


def without_twice(binaries: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return `(path, folder in the program)` of all libraries but the one that is there twice."""
    return [(path, to) for path, to in binaries if not Path(path).name.startswith(TWICE)]


# What other providers need stays: `libonnxruntime_providers_*`.
binaries = without_twice(collect_dynamic_libs("onnxruntime"))
datas = collect_data_files("onnxruntime", includes=["LICENSE", "ThirdPartyNotices.txt"])
excludedimports = [
    "onnxruntime.backend",
    "onnxruntime.datasets",
    "onnxruntime.quantization",
    "onnxruntime.tools",
    "onnxruntime.training",
    "onnxruntime.transformers",
]
