"""Steps that a device records once and plays again: CUDA graphs (`enable_cuda_graph`).

What is recorded holds for the memory that it was recorded over: so ids, positions, mask and logits
have values of their own on the device, which are written and read in place, and the mask is as
long as the buffers. ONNX Runtime records a session's first run of each `gpu_graph_id`, keeps the
recording for as long as the session lives, and plays it in every later run of that id.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .contract import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS
from .ort_session import run_bound
from .placement import Placement

_GRAPH_ID = "gpu_graph_id"
_NEVER = "-1"
_ids = count(1)


def uncaptured() -> ort.RunOptions:
    """Return what a run is told that is neither to be recorded nor played."""
    return _options(_NEVER)


class CapturedStep:
    """One token for each of some rows, over buffers that stay where they are."""

    fixed = True

    def __init__(
        self,
        session: ort.InferenceSession,
        binding: ort.IOBinding,
        shape: tuple[int, int, int],
        placement: Placement,
    ) -> None:
        """Bind what a step takes and gives, but for the cache, which is bound.

        Args:
            session: of a provider that records.
            binding: of the session, with past and present.
            shape: rows, the buffers' capacity, and how many logits a row has.
            placement: where the cache lies.
        """
        rows, capacity, logits = shape
        where = placement.device, placement.number
        self._session = session
        self._binding = binding
        self._options = _options(str(next(_ids)))
        self._inputs = {
            name: ort.OrtValue.ortvalue_from_numpy(np.zeros((rows, columns), np.int64), *where)
            for name, columns in ((INPUT_IDS, 1), (POSITION_IDS, 1), (ATTENTION_MASK, capacity))
        }
        for name, value in self._inputs.items():
            binding.bind_ortvalue_input(name, value)
        self._logits = ort.OrtValue.ortvalue_from_shape_and_type(
            (rows, 1, logits), np.float32, *where
        )
        binding.bind_ortvalue_output(LOGITS, self._logits)

    def run(
        self, ids: NDArray[np.int64], positions: NDArray[np.int64], mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return `[rows, 1, logits]` after a step.

        Raises:
            InferenceError: ONNX Runtime could not.
        """
        self._inputs[INPUT_IDS].update_inplace(ids)
        self._inputs[POSITION_IDS].update_inplace(positions)
        self._inputs[ATTENTION_MASK].update_inplace(mask)
        run_bound(self._session, self._binding, self._options)
        logits: NDArray[np.float32] = self._logits.numpy()
        return logits


def _options(graph_id: str) -> ort.RunOptions:
    options = ort.RunOptions()
    options.add_run_config_entry(_GRAPH_ID, graph_id)
    return options
