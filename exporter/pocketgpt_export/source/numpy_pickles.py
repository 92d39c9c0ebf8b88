"""What a pickle may name beside tensors: NumPy's numbers and arrays of them, which are no code."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

_MAJOR = int(np.__version__.split(".")[0])
_KINDS = "?bhilqBHILQefdFD"  # truth values, whole numbers, floats, complex ones: no objects


def _made_by(name: str) -> list[tuple[Callable[..., Any], str]]:
    """Return one of NumPy's functions under each name that a version of it pickles."""
    packages = ("numpy.core", "numpy._core")
    made = getattr(import_module(f"{packages[_MAJOR >= 2]}.multiarray"), name)
    return [(made, f"{package}.multiarray.{name}") for package in packages]


NUMPY_NUMBERS: tuple[Any, ...] = (
    *_made_by("scalar"),
    *_made_by("_reconstruct"),
    (np.ndarray, "numpy.ndarray"),
    (np.dtype, "numpy.dtype"),
    *{type(np.dtype(kind)) for kind in _KINDS},
    (codecs.encode, "_codecs.encode"),  # what Python's older pickles spell bytes with
)
