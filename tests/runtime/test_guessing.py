"""What is guessed, how many tokens, and when none: lookups, records and the pace by themselves."""

from __future__ import annotations

import pytest

from pocketgpt.generation.guessing.lookup import PromptLookup
from pocketgpt.generation.guessing.pace import FIRST_GUESS, MOST_CHECKED, PASSES_AGAIN, Pace
from pocketgpt.generation.guessing.record import Record
from pocketgpt.generation.guessing.worth import SHARE, Worth


def test_what_followed_the_newest_tokens_last_is_guessed() -> None:
    text = PromptLookup([1, 2, 3, 4, 5, 9, 1, 2, 3, 7, 8, 6, 1, 2, 3], most=4)
    assert text.room == 4
    assert text.guess(4) == [7, 8, 6, 1]
    assert text.guess(2) == [7, 8]
    text.accept(4)
    assert text.guess(4) == [5, 9, 1, 2]  # behind 2, 3, 4: not the newest, but three tokens alike
    text.accept(77)
    assert (text.room, text.guess(4)) == (0, [])


def test_a_text_in_a_circle_is_guessed_to_stay_in_it() -> None:
    assert PromptLookup([5, 6, 7, 5, 6, 7, 5], most=9).guess(4) == [6, 7, 5, 6]


def test_a_record_follows_what_it_sees_and_forgets() -> None:
    record = Record()
    first = record.likely
    record.checked(4, 4)
    assert record.likely > first
    for _ in range(9):
        record.checked(1, 0)
    assert (record.guessed, record.accepted) == (13, 4)
    assert record.likely < 0.3
    for _ in range(200):
        record.forget()
    assert record.likely == pytest.approx(first, abs=0.05)


def new_pace() -> Pace:
    pace = Pace()
    pace.admit(200, True)
    for rows in (1, 8):
        pace.stepped(rows, 9.0)  # the first one meets cold caches
        pace.stepped(rows, 1.0)
    return pace


def checked(pace: Pace, count: int, accepted: int, seconds: float, rows: int = 1) -> None:
    pace.checked(rows, count, accepted, seconds, drafted=False)


def test_nothing_is_guessed_before_steps_to_compare_with() -> None:
    pace = Pace()
    pace.admit(200, True)
    assert not pace.affordable(1)
    pace.stepped(1, 5.0)
    assert not pace.affordable(1)
    pace.stepped(1, 1.0)
    assert pace.affordable(1)
    assert not pace.affordable(2)
    assert pace.count([99], [0.8], False) == FIRST_GUESS
    assert pace.count([2], [0.8], False) == 2
    for _ in range(PASSES_AGAIN):
        assert pace.affordable(1)
        checked(pace, 3, 3, 1.2)
    assert not pace.affordable(1)  # what a step takes may be another by now
    pace.stepped(1, 1.0)
    assert pace.affordable(1)


def test_guesses_are_as_long_as_pays_best() -> None:
    """A pass costs 1.2 steps and 0.1 for every token, as measured at two lengths."""
    pace = new_pace()
    for count in (4, 8, 4, 8):
        checked(pace, count, count, 1.2 + 0.1 * count)

    def expected(likely: float, count: int) -> float:
        tokens = sum(likely**power for power in range(count + 1))
        return tokens / (1.2 + 0.1 * count)

    for likely in (0.5, 0.8, 0.95):
        best = max(expected(likely, count) for count in range(1, 21))
        assert expected(likely, pace.count([20], [likely], False)) > 0.98 * best
    assert pace.count([20], [0.1], False) == 0


def test_a_row_that_repeats_itself_does_not_slow_down_seven_that_do_not() -> None:
    pace = new_pace()
    for count in (4, 8):
        checked(pace, count, 8 * count, 1.0 + 0.2 * count, rows=8)
    assert pace.count([20] + [0] * 7, [1.0] * 8, False) == 0
    assert pace.count([20] * 8, [1.0] * 8, False) == 20
    assert pace.count([200] * 8, [1.0] * 8, False) == MOST_CHECKED // 8 - 1


def test_what_guesses_cost_is_bounded() -> None:
    """Whatever a pass is said to pay: a little at first, then half a hundredth, and one pass."""
    pace, lost, steps = new_pace(), 0.0, 0
    pace.stepped(1, 1.0)
    for _ in range(2000):
        if pace.affordable(1):
            checked(pace, 4, 0, 1.8)
            lost += 0.8
        else:
            pace.stepped(1, 1.0)
        steps += 1
    assert lost <= 1.5 + 0.005 * steps + 0.8
    pace.stepped(1, 1.0)
    checked(pace, 4, 0, 1000.0)  # the machine slept
    pauses = 0
    while not pace.affordable(1):
        pace.stepped(1, 1.0)
        pauses += 1
    assert pauses <= 260


def test_many_short_texts_cost_no_more_than_a_long_one() -> None:
    """Each brings less than a hundredth of its steps."""
    pace, lost, steps = Pace(), 0.0, 0
    for _ in range(500):
        pace.admit(20, False)
        for _ in range(20):
            steps += 1
            if steps > 1 and pace.affordable(1):
                checked(pace, 3, 0, 1.6)
                lost += 0.6
            else:
                pace.stepped(1, 1.0)
    assert lost <= 0.009 * steps + 0.7


def test_a_hiccup_is_forgotten() -> None:
    pace = new_pace()
    checked(pace, 4, 4, 50.0)
    for _ in range(60):
        checked(pace, 1, 1, 1.1)
        checked(pace, 3, 3, 1.3)
    assert pace.count([20], [0.95], False) > 8


def test_a_draft_that_fails_is_tried_as_often_as_a_share_of_all_steps_pays_for() -> None:
    worth, steps, loss = Worth(), 100, 9.0
    tried = 0
    for _ in range(1_000):
        if worth.admit(steps):
            tried += 1
            worth.ended(-loss)
    assert tried >= 150
    assert tried * loss <= SHARE * 1_000 * steps + 2 * loss


def test_a_draft_that_gains_reads_every_text_and_one_that_recovers_again() -> None:
    worth = Worth()
    for _ in range(10):
        assert worth.admit(20)
        worth.ended(5.0)
    worth.ended(-1_000.0)
    assert not worth.admit(100)
    while not worth.admit(100):
        pass
    worth.ended(500.0)
    assert worth.admit(1)
