"""Every error PocketGPT raises on purpose; a message is one line: what is wrong, what to do.

    PocketGPTError
    ├── OptionError (and ValueError)  the call was wrong: an unknown option, a bad value, a prompt
    │                                 longer than the context
    ├── ModelFolderError              a model folder is missing, damaged or from another version
    │   └── VariantNotFoundError      the folder has no such variant (an OptionError too)
    ├── AdapterError                  a LoRA adapter is damaged, of another kind, or another model's
    ├── SessionError                  a session cannot be saved or restored
    ├── InferenceError                a graph that was loaded could not be run
    ├── ProviderError                 an execution provider is unavailable, not active or wrong
    ├── CheckpointError               a checkpoint cannot be exported (pocketgpt_export)
    ├── ProofError                    a graph differs from its checkpoint (pocketgpt_export)
    ├── QuantizationError             a variant cannot be made (pocketgpt_quantize)
    └── MissingExtraError             an optional dependency is not installed

A ProviderWarning is none: it says that a variant is slow on a provider, or cannot be tested there.
The command line exits with 2 for an OptionError and with 1 for every other one.
"""

from __future__ import annotations


class PocketGPTError(Exception):
    """Root of the tree: catch it to catch everything that PocketGPT raises on purpose."""


class OptionError(PocketGPTError, ValueError):
    """The call was wrong: an unknown option, a bad value, a prompt that cannot fit."""


class ModelFolderError(PocketGPTError):
    """A model folder is missing, damaged, or written by a version this one cannot read."""


class VariantNotFoundError(ModelFolderError, OptionError):
    """The call named a variant that the model folder does not have."""


class AdapterError(PocketGPTError):
    """A LoRA adapter is damaged, of a kind that cannot be used, or does not fit the model."""


class SessionError(PocketGPTError):
    """A session's file cannot be written, is damaged, or another model's or variant's."""


class InferenceError(PocketGPTError):
    """A loaded graph could not be run: weights or inputs that do not fit, or memory gave out."""


class ProviderError(PocketGPTError):
    """An execution provider is unavailable, did not become active, or computes wrongly."""


class ProviderWarning(UserWarning):
    """A variant is known to be slow on a provider, or cannot be tested there."""


class CheckpointError(PocketGPTError):
    """A checkpoint cannot be exported."""


class ProofError(PocketGPTError):
    """An exported graph differs from its checkpoint by more than the tolerance."""


class QuantizationError(PocketGPTError):
    """A variant cannot be made from this folder."""


class MissingExtraError(PocketGPTError):
    """An optional dependency is not installed; the message has the pip command."""


def one_line(error: Exception) -> str:
    """Return another library's error as one line of bearable length."""
    return " ".join(str(error).split())[:300] or type(error).__name__
