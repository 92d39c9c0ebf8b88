"""examples/autocomplete without its terminal: what is suggested, and what that costs."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from completer import Completer, whole_words
from healing import split

import pocketgpt

TOKENS = 10
TEXT = "Once upon a time there was a king who lived in a castle"


@pytest.fixture(scope="module")
def model(bundled_folder: Path) -> pocketgpt.Model:
    return pocketgpt.load(bundled_folder, "fp32")


@pytest.fixture
def completer(model: pocketgpt.Model) -> Completer:
    return Completer(model, TOKENS)


@pytest.mark.parametrize(
    ("text", "prompt", "typed"),
    [
        ("Once upon a ti", "Once upon a", " ti"),
        ("Once upon ", "Once upon", " "),
        ("On", "", "On"),
        ("", "", ""),
        ("two  ", "two ", " "),
        ("a\nlin", "a\n", "lin"),
        ("a\n", "a\n", ""),
        ("a\u00a0b", "a", "\u00a0b"),
    ],
)
def test_the_last_word_is_made_anew(text: str, prompt: str, typed: str) -> None:
    assert split(text) == (prompt, typed)


def expected(model: pocketgpt.Model, text: str) -> str:
    """What follows by one call that shares nothing: held to the word by a regular expression."""
    prompt, typed = split(text)
    budget = TOKENS + len(model.tokenizer.encode(typed))
    made = model.generate(
        prompt, max_new_tokens=budget, stop_strings=["\n"], regex=f"{re.escape(typed)}(.|\n)*"
    )
    assert made.text.startswith(typed)
    new = made.text.removeprefix(typed)
    return (re.sub(r"\S*\Z", "", new) if made.finish_reason == "length" else new).rstrip()


def test_suggestions_are_plain_generate_s_at_every_keystroke(
    model: pocketgpt.Model, completer: Completer
) -> None:
    """Typed, corrected, and typed again; with characters of several bytes; on two lines."""
    typed = [TEXT[:end] for end in range(1, len(TEXT) + 1)]
    corrected = ["Once upon a tim", "Once upon a ", "Once upon a prin", "Once upon a princess\n"]
    others = ["“Wh", "“Who is there?” cr", "Größ", "a\n\nThe ", "It was dark ,", "  The", "x1"]
    for text in typed + corrected + others:
        assert completer.begin(text).result().text == expected(model, text), text


def test_no_half_typed_word_is_offered(model: pocketgpt.Model, completer: Completer) -> None:
    """Where the length cuts a text, the model's next token shows whether the word was whole."""
    for end in range(4, len(TEXT), 3):
        text = TEXT[:end]
        suggested = completer.begin(text).result().text
        longer = Completer(model, 3 * TOKENS).begin(text).result().text
        assert longer.startswith(suggested)
        if suggested != longer:
            assert longer[len(suggested)].isspace()


@pytest.mark.parametrize(
    ("text", "words"),
    [("me there was", "me there"), ("me", ""), ("", ""), ("me ", "me"), ("a b\tc", "a b")],
)
def test_words_are_cut_at_the_last_space(text: str, words: str) -> None:
    assert whole_words(text) == words


def test_only_what_is_new_is_computed(completer: Completer) -> None:
    """A keystroke within a word computes the prompt's last token and the suggestion's own."""
    completer.begin(TEXT[:30]).result()
    within = completer.begin(TEXT[:31]).result()
    assert within.computed <= 1 + TOKENS + 2
    # A suggestion that is taken is in the cache: a word of two tokens is new, not the rest.
    taken = TEXT[:31] + within.text
    assert completer.begin(taken).result().computed <= TOKENS + 4


def test_a_keystroke_cancels_within_one_step(model: pocketgpt.Model) -> None:
    completer = Completer(model, tokens=400)
    for _ in range(5):
        pending = completer.begin("Once upon a time")
        found: list[object] = []
        thread = threading.Thread(target=lambda p=pending, f=found: f.append(p.result()))
        before = completer.evaluated_tokens
        thread.start()
        while completer.evaluated_tokens < before + 8:
            pass
        completer.cancel()
        at = completer.evaluated_tokens
        thread.join(30)
        assert not thread.is_alive()
        assert completer.evaluated_tokens - at <= 1
        (suggestion,) = found
        assert suggestion.text == ""  # type: ignore[attr-defined]
    # And the text is what it would be without all that.
    assert Completer(model).begin(TEXT).result().text == completer_after(completer)


def completer_after(completer: Completer) -> str:
    completer.tokens = 10
    return completer.begin(TEXT).result().text


def test_a_text_longer_than_the_context(model: pocketgpt.Model, completer: Completer) -> None:
    """Its beginning is left out, in blocks: most keystrokes compute a few tokens all the same."""
    long = " ".join([TEXT + "."] * 100)
    assert len(model.tokenizer.encode(long)) > model.config.n_positions
    completer.begin(long + " T").result()
    assert completer.begin(long + " Th").result().computed <= TOKENS + 4


def test_a_model_of_other_tokens_is_refused(model: pocketgpt.Model) -> None:
    class Words:
        is_byte_level = False

    from healing import Healer

    with pytest.raises(pocketgpt.OptionError, match="byte-level"):
        Healer(Words())
