"""Where a session keeps the cache, and how its attention takes it: found from the open session.

What the kernels were seen to do, which no interface of ONNX Runtime tells:

    in place    past and present may be one buffer, longer than the text
    ragged      rows of one pass may hold texts of different lengths, and the mask may be as long
                as the buffer

The CPU does both, and so does CUDA by its documentation. WebGPU (1.27) appends in place, but at
the mask's end, whichever row it is. Of all others nothing is known: they get arrays of the exact
length, and rows of one length.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnxruntime as ort

from .contract import past_name
from .providers import CPU

CAPTURE_OPTIONS = ("enable_cuda_graph",)
_HOST_MEMORY = "Cpu"
# ONNX Runtime's names for memory, as a session tells and as a binding takes them.
_DEVICES = {"Cuda": "cuda", "DML": "dml", "WebGPU_Buf": "webgpu", "WebGPU_Buffer": "webgpu"}
_IN_PLACE = {"cuda", "webgpu"}
_RAGGED = {"cuda"}


@dataclass(frozen=True)
class Placement:
    """A place for keys and values, and what a fused graph's attention does there.

    Attributes:
        device: what a binding calls it; its number.
        apart: whether it is a device's own memory, which ONNX Runtime alone reads and writes.
        in_place: whether a pass may append to the buffers that it reads.
        ragged: whether the rows of a pass may hold texts of different lengths.
        captured: whether the session records steps as a CUDA graph, and plays them again.
    """

    device: str = "cpu"
    number: int = 0
    apart: bool = False
    in_place: bool = True
    ragged: bool = True
    captured: bool = False


HOST = Placement()
EXACT = Placement(in_place=False, ragged=False)


def read_placement(session: ort.InferenceSession) -> Placement:
    """Find where an open session wants keys and values."""
    provider = session.get_providers()[0]
    if provider == CPU:
        return HOST
    if not hasattr(session, "get_input_memory_infos"):  # before ONNX Runtime 1.24
        return EXACT
    past = [value.name for value in session.get_inputs()].index(past_name(0, "key"))
    memory = session.get_input_memory_infos()[past]
    if memory.name == _HOST_MEMORY:
        reader = session.get_input_epdevices()[past]  # None where a provider is no plugin's
        return HOST if reader is not None and reader.ep_name == CPU else EXACT
    device = _DEVICES.get(memory.name)
    if device is None:  # ONNX Runtime copies what is bound to it
        return EXACT
    options = session.get_provider_options().get(provider, {})
    return Placement(
        device,
        memory.device_id,
        apart=True,
        in_place=device in _IN_PLACE,
        ragged=device in _RAGGED,
        captured=any(options.get(name) in ("1", "true", "True") for name in CAPTURE_OPTIONS),
    )
