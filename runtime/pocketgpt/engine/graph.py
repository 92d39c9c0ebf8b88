"""An open graph: a session that keeps the contract, and decoders over it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ..errors import InferenceError
from ..folder.config import ModelConfig
from ..folder.files import StoredFile, stored
from ..folder.opening import OpenFolder
from .adapters import Adapter, read_adapter
from .assignment import Assignment, check_used, read_assignment
from .buffers import DeviceBuffers, HostBuffers
from .captured import uncaptured
from .contract import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    QUERY_LENGTHS,
    Array,
    Contract,
    read_contract,
)
from .decoder import SMALL_CHUNK, Decoder
from .exact import ExactPasses
from .form import form_of
from .fused import FusedPasses
from .mover import Mover, Value, bind_input
from .on_device import DevicePasses
from .ort_session import open_session, run_bound, run_feeds
from .paired import PairedPasses
from .passes import Passes
from .placement import Placement, read_placement
from .portable import PortablePasses
from .providers import Provider, find_provider
from .ragged import takes_query_lengths
from .running import Running
from .trust import check_provider

KERNELS_OWN = 8  # bits at most: such weights are laid out anew, or other kernels compute


class Graph:
    """A variant's graph, opened and found to be what config.json says. Threads may share it.

    Attributes:
        config: the model's shape.
        contract: what kind of graph it is.
        assignment: where its nodes are; None on the CPU, or where ONNX Runtime does not tell.
        chunks: another variant's, which long chunks of a decoder's texts are to go through.
        chunk: how many tokens its decoders take at once, at most; None for as many as is fastest.
        placement: where the session keeps keys and values.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        config: ModelConfig,
        where: object,
        *,
        adapters: bool = False,
        provider: Provider = "auto",
    ) -> None:
        """Check an open session; `open_graph` opens one.

        Raises:
            ModelFolderError: it is not what `config` says.
        """
        self.config = config
        self.contract: Contract = read_contract(session, config, where, adapters=adapters)
        self.assignment: Assignment | None = read_assignment(session)
        self.chunks: Graph | None = None
        self.chunk: int | None = None
        self.placement: Placement = read_placement(session)
        self._session = session
        self._provider = provider
        self._mover: Mover | None = None
        self._idle: dict[int, tuple[DeviceBuffers, Passes]] = {}

    def read_adapter(self, folder: Path) -> Adapter:
        """Read a PEFT LoRA folder in the form that this graph takes.

        Raises:
            AdapterError: the folder is damaged, of another kind, or does not fit the model; or the
                graph has no places for adapters.
            MissingExtraError: safetensors is not installed.
        """
        return read_adapter(folder, self._session)

    def decoder(self, slots: int = 1, adapter: Adapter | None = None) -> Decoder:
        """Return a decoder of so many texts, all empty, all with one adapter or without.

        Raises:
            InferenceError: there is no memory for so many.
        """
        if self.placement.captured and self._appends_on_device and not (adapter or self.chunks):
            return self._captured_decoder(slots)
        cache = self._buffers(slots)
        try:
            passes = self._passes(cache, adapter)
            if self.chunks is not None:
                passes = PairedPasses(passes, self.chunks._passes(cache, None))
        except (MemoryError, ValueError) as error:  # NumPy's, of a size that no array has
            raise InferenceError(
                f"there is no memory for the logits of {slots} texts; decode fewer at once "
                "(batch_size, num_beams)"
            ) from error
        return Decoder(passes, self.config, cache, self.chunk)

    def _captured_decoder(self, slots: int) -> Decoder:
        """Return a decoder over buffers that an earlier one has left: recordings are never freed.

        What they hold from it is behind the lengths of the new one.
        """
        left_over = self._idle.pop(slots) if slots in self._idle else self._fixed(slots)
        cache, passes = left_over
        decoder = Decoder(passes, self.config, cache, self.chunk)
        end = weakref.finalize(decoder, self._idle.__setitem__, slots, left_over)
        end.atexit = False
        return decoder

    def _fixed(self, slots: int) -> tuple[DeviceBuffers, Passes]:
        cache = self._buffers(slots)
        assert isinstance(cache, DeviceBuffers)
        cache.fixed = True
        return cache, self._passes(cache, None)

    def _buffers(self, slots: int) -> HostBuffers | DeviceBuffers:
        dtype = self.contract.cache_dtype
        if not self._appends_on_device:
            return HostBuffers(self.config, dtype, slots)
        if self._mover is None:
            self._mover = Mover(dtype, self.placement, self._provider)
        return DeviceBuffers(self.config, dtype, slots, self._mover)

    def _passes(self, cache: HostBuffers | DeviceBuffers, adapter: Adapter | None) -> Passes:
        if isinstance(cache, DeviceBuffers):
            return DevicePasses(self._session, self.config, cache, self.placement, adapter)
        fused = self.contract.kind == "fused"
        if fused and (self.placement.in_place or self._eight_bits):
            ragged = self.contract.ragged
            return FusedPasses(self._session, self.config, cache, adapter, ragged=ragged)
        exact = ExactPasses if fused else PortablePasses
        return exact(self._run_apart if self.placement.apart else self.run, self.config, cache)

    @property
    def _eight_bits(self) -> bool:
        return self.contract.cache_dtype == np.int8

    @property
    def _appends_on_device(self) -> bool:
        """Whether a fused graph appends to buffers in a device's memory."""
        apart = self.placement.apart and self.placement.in_place and not self._eight_bits
        return apart and self.contract.kind == "fused"

    def _run_apart(self, outputs: Sequence[str], feeds: Mapping[str, Value]) -> list[Value]:
        """Run the graph; leave all that it gives but logits on the device.

        Raises:
            InferenceError: ONNX Runtime could not.
        """
        binding = self._session.io_binding()
        for name, value in feeds.items():
            bind_input(binding, name, value)
        for name in outputs:
            if name == LOGITS:
                binding.bind_output(name)
            else:
                binding.bind_output(name, self.placement.device, self.placement.number)
        run_bound(self._session, binding, uncaptured() if self.placement.captured else None)
        made: list[Value] = binding.get_outputs()
        return made

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """Run the graph over arrays and return arrays: for proofs, and for portable graphs.

        Raises:
            InferenceError: ONNX Runtime could not.
        """
        if self.contract.ragged and QUERY_LENGTHS not in feeds:
            filled = feeds[ATTENTION_MASK].sum(axis=1)
            lengths = np.minimum(filled, feeds[INPUT_IDS].shape[1]).astype(np.int32)
            feeds = {**feeds, QUERY_LENGTHS: lengths}
        return run_feeds(self._session, outputs, feeds)

    def end_profiling(self) -> Path:
        """End the profile that `open_graph` was told to write; return its file."""
        return Path(self._session.end_profiling())


def open_variant(
    opened: OpenFolder,
    running: Running,
    chunks: OpenFolder | None = None,
    begun: Callable[[], object] | None = None,
) -> Graph:
    """Open a variant's graph for decoding, and test what runs it, if that is not the CPU.

    Args:
        opened: the folder and the variant.
        running: how to run it; with `low_memory` float weights have no second copy laid out for
            speed, and chunks are small.
        chunks: the variant that computes long chunks, if any.
        begun: as for `open_graph`.

    Raises:
        ProviderError: the provider is not in this ONNX Runtime, did not become active, or is wrong.
        ModelFolderError: ONNX Runtime cannot load a graph, or it is not what the folder says.
    """
    graph = open_graph(
        opened.graph,
        opened.config,
        weights=opened.weights,
        provider=running.provider,
        threads=running.threads,
        sparing=running.low_memory and min(opened.record.bits.values(), default=32) > KERNELS_OWN,
        adapters=opened.adapters,
        tuned=True,
        strict=running.strict,
        begun=begun,
    )
    opened.check_kind(graph.contract.kind)
    graph.chunk = SMALL_CHUNK if running.low_memory else None
    if running.selftest:
        found = find_provider(running.provider)
        check_provider(opened, found, graph.decoder, graph.assignment, running.progress)
    if chunks is not None:
        graph.chunks = open_variant(chunks, running)
        chunks.check_unchanged()
    return graph


def open_graph(
    path: Path | StoredFile,
    config: ModelConfig,
    *,
    weights: StoredFile | None = None,
    provider: Provider = "auto",
    threads: int | None = None,
    sparing: bool = False,
    profile: Path | None = None,
    adapters: bool = False,
    tuned: bool = False,
    weights_folder: Path | None = None,
    strict: bool = False,
    begun: Callable[[], object] | None = None,
) -> Graph:
    """Open a graph, in a model folder or bare.

    Args:
        path: the .onnx file.
        config: the model's shape, which the graph has to have.
        weights: the file of its weights; None for the one beside it.
        provider: as for `pocketgpt.load`.
        threads: as for `pocketgpt.load`.
        sparing: whether to take less memory rather than less time.
        profile: where to write ONNX Runtime's profile, as the beginning of a file's name.
        adapters: whether the graph has places for adapters.
        tuned: whether to let rows have chunks of different lengths, and attention go the faster
            way, where that can be: in memory, and on the CPU.
        weights_folder: where the file of its weights lies, by the name that the graph has for it,
            if not beside it.
        strict: as for `pocketgpt.load`.
        begun: called as ONNX Runtime begins, which soon goes on without Python's lock.

    Raises:
        OptionError: `threads` is no whole number above 0, or the provider cannot be read.
        ProviderError: the provider is not in this ONNX Runtime, or did not become active.
        ModelFolderError: ONNX Runtime cannot load the graph, or it is not what `config` says.
    """
    file = stored(path)
    tuned = tuned and takes_query_lengths(provider)
    content, folder = form_of(file, weights, tuned, config)
    if weights_folder is not None:
        content, folder = content or file.path.read_bytes(), weights_folder
    if begun:
        begun()
    session = open_session(
        content or file.path,
        provider=provider,
        threads=threads,
        sparing=sparing,
        profile=profile,
        weights_folder=folder,
        name=file.label,
        strict=strict,
    )
    graph = Graph(session, config, file, adapters=adapters, provider=provider)
    check_used(graph.assignment, find_provider(provider).name, config.n_layer, file)
    return graph
