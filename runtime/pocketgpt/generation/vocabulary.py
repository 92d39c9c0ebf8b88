"""A model's tokens as text: what grammars and sequence breakers are compiled against, once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any

from ..errors import OptionError
from ..extras import needs_extra
from ..text.tokenizer import Tokenizer
from .options import GenerationOptions
from .processors.constraint import Constraint
from .processors.dry import Breakers

_KEPT = 32  # compiled grammars and breakers
_LONGEST_BREAKER, _LONGEST_TAIL = 40, 20  # characters and tokens, as in llama.cpp

# At most one space between JSON's tokens: small models left free to would write nothing else.
_JSON_SPACE = "[ ]?"


class Vocabulary:
    """The tokens of one model. Threads may share it; it holds what was compiled lately."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """Describe the `size` tokens that the model has logits for."""
        self.size = size
        self._tokenizer = tokenizer
        self._compiled: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def constraint(self, options: GenerationOptions) -> Constraint | None:
        """Return what the options constrain a text to, at its beginning; None for nothing.

        Raises:
            OptionError: the schema, regular expression or grammar cannot be followed.
            MissingExtraError: llguidance is not installed.
        """
        if options.constraint is None:
            return None
        name, text = options.constraint
        matcher = self._once((name, text), lambda: self._matcher(name, text))
        with self._lock:
            matcher = matcher.deep_copy()
        # An end of text that stands for some text would be junk behind what the grammar asks for.
        ends = [i for i in options.eos_token_ids if i < self.size]
        silent = [i for i in ends if not self._tokenizer.token_bytes(i)]
        if self._grammar_eos < self.size:
            ends.append(self._grammar_eos)
        return Constraint(matcher, silent, ends, name)

    def breakers(self, strings: Sequence[str]) -> Breakers:
        """Return the tokens that hold one of `strings`, or begin it, and what then has to follow.

        llama.cpp's `get_overlapping_token_sequences`.
        """
        key = ("breakers", tuple(strings))
        breakers: Breakers = self._once(key, lambda: self._find_breakers(strings))
        return breakers

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = make()
                if len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
            return self._compiled[key]

    @cached_property
    def _grammar_eos(self) -> int:
        """A token that llguidance may take for the end of text: one that stands for no text."""
        return min(self._tokenizer.special_ids, default=self._tokenizer.vocab_size - 1)

    @cached_property
    def _grammar_tokenizer(self) -> Any:
        with needs_extra("constraints"):
            import llguidance
        size = max(self.size, self._tokenizer.vocab_size)
        if not self._tokenizer.is_byte_level:
            raise OptionError(
                "json_schema, regex and grammar need a byte-level tokenizer, as GPT-2's is, and "
                f"this model's is {self._tokenizer.kind}"
            )
        return llguidance.LLTokenizer(
            self._tokenizer.to_json(), n_vocab=size, eos_token=self._grammar_eos
        )

    def _matcher(self, name: str, text: str) -> Any:
        with needs_extra("constraints"):
            from llguidance import LLMatcher, LLParserLimits
        try:
            if name == "json_schema":
                grammar = LLMatcher.grammar_from_json_schema(
                    text, defaults={"whitespace_pattern": _JSON_SPACE}
                )
            elif name == "regex":
                grammar = LLMatcher.grammar_from_regex(text)
            else:
                grammar = LLMatcher.grammar_from_lark(text)
        except ValueError as error:  # a schema that its own JSON reader does not take
            raise OptionError(f"{name} cannot be followed: {error}") from None
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(self._grammar_tokenizer, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            reason = " ".join(matcher.get_error().split())
            raise OptionError(f"{name} cannot be followed: {reason[:300]}")
        return matcher

    def _find_breakers(self, strings: Sequence[str]) -> Breakers:
        found: dict[int, list[tuple[int, ...]]] = {}
        breakers = [string[:_LONGEST_BREAKER].encode("utf-8", "replace") for string in strings]
        for token_id in range(self.size):
            text = self._tokenizer.token_bytes(token_id)
            for breaker in breakers:
                for tail in self._tails(text, breaker):
                    if tail not in found.setdefault(token_id, []):
                        found[token_id].append(tail)
        return found

    def _tails(self, text: bytes, breaker: bytes) -> Sequence[tuple[int, ...]]:
        """Return what has to follow a token so that both hold the breaker, way by way."""
        if breaker in text:
            return [()]
        rests = [
            breaker[length:]
            for length in range(1, min(len(text) + 1, len(breaker)))
            if text.endswith(breaker[:length])
        ]
        return [tuple(self._encode(rest)[:_LONGEST_TAIL]) for rest in rests]

    def _encode(self, text: bytes) -> list[int]:
        # A breaker cut within a character has no text of its own: nothing can follow to match it.
        return self._tokenizer.encode(text.decode("utf-8", "replace"))
