"""Fingers at a button: lists of changes with their times in, gestures out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone.core.presses import Gesture, Presses, Timing

PRESSED, TAPPED, TWICE = Gesture.PRESSED, Gesture.TAPPED, Gesture.TWICE
LONG, RELEASED = Gesture.LONG, Gesture.RELEASED


def gestures(*changes: tuple[float, bool], until: float = 100.0) -> list[tuple[float, Gesture]]:
    """Return what comes of a line's changes, each with the time at which it was known."""
    presses, found = Presses(), []
    for at, down in [*changes, (until, None)]:
        while presses.next_at is not None and presses.next_at <= at:
            due = presses.next_at
            found += [(due, gesture) for gesture in presses.tick(due)]
        if down is not None:
            found += [(at, gesture) for gesture in presses.feed(down, at)]
    return found


def test_a_tap_counts_when_the_finger_comes_down() -> None:
    assert gestures((1.0, True), (1.1, False)) == [(1.0, PRESSED), (1.1, TAPPED)]


def test_two_taps_are_known_when_the_second_begins() -> None:
    taps = gestures((1.0, True), (1.1, False), (1.3, True), (1.4, False))
    assert taps == [(1.0, PRESSED), (1.1, TAPPED), (1.3, TWICE)]


def test_a_third_tap_begins_anew() -> None:
    three = gestures(*((1.0 + tap / 10, tap % 2 == 0) for tap in range(6)))
    assert [what for _, what in three] == [PRESSED, TAPPED, TWICE, PRESSED, TAPPED]


def test_two_slow_taps_are_two_taps() -> None:
    slow = gestures((1.0, True), (1.1, False), (2.0, True), (2.1, False))
    assert [what for _, what in slow] == [PRESSED, TAPPED, PRESSED, TAPPED]


def test_who_holds_on_for_a_sentence_has_not_tapped() -> None:
    assert gestures((1.0, True), (3.0, False)) == [(1.0, PRESSED), (3.0, RELEASED)]


def test_a_press_after_a_held_one_is_no_second_tap() -> None:
    both = gestures((1.0, True), (2.0, False), (2.2, True), (2.3, False))
    assert [what for _, what in both] == [PRESSED, RELEASED, PRESSED, TAPPED]


def test_a_long_press_is_known_while_it_lasts() -> None:
    assert gestures((1.0, True), (9.0, False)) == [(1.0, PRESSED), (4.0, LONG), (9.0, RELEASED)]


def test_a_button_that_is_sat_on_is_let_go_after_a_minute() -> None:
    stuck = gestures((1.0, True), (2000.0, False), until=3000.0)
    assert stuck == [(1.0, PRESSED), (4.0, LONG), (61.0, RELEASED)]


def test_a_bouncing_contact_is_one_press_without_a_wait() -> None:
    bouncing = [(1.0, True), (1.001, False), (1.002, True), (1.004, False), (1.005, True)]
    letting_go = [(1.1, False), (1.101, True), (1.103, False)]
    assert gestures(*bouncing, *letting_go) == [(1.0, PRESSED), (1.1, TAPPED)]


def test_a_click_shorter_than_the_bounce_is_a_tap_all_the_same() -> None:
    assert gestures((1.0, True), (1.005, False)) == [(1.0, PRESSED), (pytest.approx(1.02), TAPPED)]


def test_a_button_that_is_down_at_the_start_does_nothing_until_it_was_let_go() -> None:
    presses = Presses(down=True)
    assert presses.next_at is None
    assert presses.feed(False, 1.0) == []
    assert presses.feed(True, 2.0) == [PRESSED]


def test_a_switch_has_neither_taps_nor_long_presses() -> None:
    switch = Presses(Timing(hold_s=0.0, twice_s=-1.0, long_s=math.inf, stuck_s=math.inf))
    assert switch.feed(True, 1.0) == [PRESSED]
    assert switch.next_at is None
    assert switch.feed(False, 5.0) == [RELEASED]
    assert switch.feed(True, 5.1) == [PRESSED]


@given(st.lists(st.tuples(st.floats(0.0005, 5.0), st.booleans()), max_size=40))
def test_whatever_the_line_does_each_press_ends_once(moves: list[tuple[float, bool]]) -> None:
    at, changes = 0.0, []
    for gap, down in moves:
        at += gap
        changes.append((at, down))
    found = [what for _, what in gestures(*changes, (at + 1, False), until=at + 100)]
    held = False
    for gesture in found:
        assert held is (gesture in (TAPPED, RELEASED, LONG))
        held = gesture in (PRESSED, LONG)
    assert not held


@given(st.lists(st.tuples(st.floats(0.0005, 5.0), st.booleans()), max_size=40))
def test_gestures_come_in_the_order_of_their_times(moves: list[tuple[float, bool]]) -> None:
    at, changes = 0.0, []
    for gap, down in moves:
        at += gap
        changes.append((at, down))
    times = [at for at, _ in gestures(*changes, until=at + 100)]
    assert times == sorted(times)
