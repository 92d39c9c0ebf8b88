"""/tokenize and /detokenize: a model's tokenizer over HTTP, in the form that vLLM's server has."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from .errors import wrong
from .fields import Fields
from .logprobs import shown
from .served import Served


def tokenize(fields: Fields, served: Served) -> dict[str, Any]:
    """Return the ids of a prompt, or of a conversation as the chat template writes it.

    Raises:
        ApiError: a field is wrong, or the text cannot be tokenized.
    """
    prompt = fields.text("prompt")
    special = fields.switch("add_special_tokens", default=True)
    named = fields.switch("return_token_strs")
    fields.finish()
    if prompt is None:
        raise wrong("prompt should be a string, and there is none", "prompt")
    tokenizer = served.model.tokenizer
    try:
        ids = tokenizer.encode(prompt, add_special_tokens=special)
    except OptionError as error:
        raise wrong(str(error), "prompt") from None
    return {
        "count": len(ids),
        "max_model_len": served.model.config.n_positions,
        "tokens": ids,
        "token_strs": [shown(tokenizer, token_id) for token_id in ids] if named else None,
    }


def detokenize(fields: Fields, served: Served) -> dict[str, Any]:
    """Return the text of token ids, special ones left out.

    Raises:
        ApiError: a field is wrong, or an id is no token's.
    """
    ids = fields.any("tokens")
    fields.finish()
    most = served.model.config.vocab_size
    if not isinstance(ids, list) or not all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one < most for one in ids
    ):
        raise fields.refused("tokens", f"a list of token ids below {most}", ids)
    return {"prompt": served.model.tokenizer.decode(ids)}
