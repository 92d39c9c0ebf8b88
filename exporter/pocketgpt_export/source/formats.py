"""What lies where weights should be: placeholders and other programs' formats, told by name."""

from __future__ import annotations

import re
from pathlib import Path

from pocketgpt import CheckpointError

from .locate import WEIGHTS

_POINTER = b"version https://git-lfs.github.com/spec/"
_FROM = "GPT2LMHeadModel.from_pretrained({folder!r}, {how}).save_pretrained({folder!r})"
# Files by pattern: whose they are, and the way out. The first that is there is told.
_FORMATS = (
    ("tf_model*.h5", "TensorFlow", f"convert it: {_FROM} in transformers 4", "from_tf=True"),
    (
        "*.ckpt*.index",
        "TensorFlow",
        "convert it: 'transformers-cli convert --model_type gpt2' of transformers 4",
        "",
    ),
    ("flax_model*.msgpack", "Flax", f"convert it: {_FROM} in transformers 4", "from_flax=True"),
    ("*.gguf", "llama.cpp", f"export the checkpoint it was made from, or {_FROM}", "gguf_file="),
    ("rust_model.ot", "rust-bert", "export the PyTorch checkpoint it was made from", ""),
    ("*.onnx", "ONNX", "export the checkpoint it was made from", ""),
    ("onnx/*.onnx", "ONNX", "export the checkpoint it was made from", ""),
    ("openvino_model*.xml", "OpenVINO", "export the checkpoint it was made from", ""),
)
_SHARD = re.compile(r"-\d+-of-\d+\.")
_OTHER_NAMES = ("*.safetensors", "*.bin", "*.pt", "*.pth")
_NO_MODEL = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt")
_NO_MODEL_PATTERNS = ("adapter_model.*", "rng_state*", "random_states*")


def check_no_pointer(path: Path) -> None:
    """Check that a file is itself, and not what git keeps of it where git-lfs is not installed.

    Raises:
        CheckpointError: it is a pointer.
    """
    try:
        if not path.is_file():
            return
        with path.open("rb") as file:
            beginning = file.read(len(_POINTER))
    except OSError:  # whoever reads it says so
        return
    if beginning == _POINTER:
        raise CheckpointError(
            f"{path} is a placeholder of git-lfs, not the file: run 'git lfs install' and "
            f"'git lfs pull' in {path.parent}, or download it again"
        )


def no_weights(folder: Path) -> CheckpointError:
    """Return the refusal of a folder that has none of the weights' files, saying what it has."""
    return CheckpointError(
        f"{folder} has no weights: none of {', '.join(WEIGHTS)}{what_is_there(folder)}"
    )


def what_is_there(folder: Path) -> str:
    """Return what a folder holds in the place of weights and the way out; nothing for nothing."""
    for form in _FORMATS:
        found = sorted(folder.glob(form[0]))
        if found:
            name = found[0].relative_to(folder).as_posix()
            return f"; {name} is in {_way_out(form, folder, name)}"
    named = sorted({path for pattern in _OTHER_NAMES for path in folder.glob(pattern)})
    named = [path for path in named if not _is_no_model(path)]
    shards = [path for path in named if _SHARD.search(path.name)]
    if shards:
        what = f"{shards[0].name} is one of several, and the index that names them is missing"
        return f"; {what}: copy the checkpoint again, all of it"
    if named:
        wanted = "model.safetensors" if named[0].suffix == ".safetensors" else "pytorch_model.bin"
        return f"; {named[0].name} has another name: if it is the model, copy it to {wanted}"
    inner = sorted(path.parent for name in WEIGHTS for path in folder.glob(f"*/{name}"))
    return f"; {inner[-1]} has some: export that" if inner else ""


def what_file_is(path: Path) -> str:
    """Return what a single file that is no checkpoint is, and the way out; nothing for others."""
    for form in _FORMATS:
        if path.match(form[0]):
            return f"; it is in {_way_out(form, path.parent, path.name)}"
    weights = path.suffix in (".safetensors", ".bin")
    return f"; give the folder it lies in, {path.parent}" if weights else ""


def _way_out(form: tuple[str, str, str, str], folder: Path, name: str) -> str:
    _, whose, way_out, how = form
    how = f"{how}{name!r}" if how.endswith("=") else how
    return f"{whose}'s format: {way_out.format(folder=str(folder), how=how)}"


def _is_no_model(path: Path) -> bool:
    return path.name in _NO_MODEL or any(path.match(pattern) for pattern in _NO_MODEL_PATTERNS)
