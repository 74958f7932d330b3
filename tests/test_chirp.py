"""A chirp is found in what a microphone heard: how late, how loud; and never where there was none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import Run
from roomtone.core.chirp import SECONDS, chirp, find
from roomtone.core.room import Room, Shape
from roomtone.core.sound import HOP, RATE, Audio, Samples, to_int16
from speech import said

BEFORE, AFTER = RATE // 2, round(1.2 * RATE)


def given(volume: float = 1.0) -> Samples:
    """What the loudspeaker is given: silence, the chirp, silence."""
    sound = to_int16(chirp().samples * volume)
    return np.concatenate((np.zeros(BEFORE, np.int16), sound, np.zeros(AFTER, np.int16)))


def echoed(far: Samples, delay_s: float, level_db: float, noise: float = 0.0) -> Samples:
    near = np.random.default_rng(1).normal(0, 1, len(far)) * noise
    late = round(delay_s * RATE)
    near[late:] += far[: len(far) - late] * 10 ** (level_db / 20)
    return to_int16(near)


@pytest.mark.parametrize("delay_s", [0.0, 0.0125, 0.2, 0.9])
@pytest.mark.parametrize("level_db", [6.0, -12.0, -40.0])
def test_an_echo_is_found_with_its_delay_and_its_level(delay_s: float, level_db: float) -> None:
    far = given(0.5)
    echo = find(echoed(far, delay_s, level_db, noise=3), far)
    assert (echo.played, echo.heard) == (True, True)
    assert echo.delay_ms == pytest.approx(delay_s * 1000, abs=0.5)
    assert echo.level_db == pytest.approx(level_db, abs=1.5)


def test_an_echo_six_decibels_below_the_noise_of_the_room_is_heard() -> None:
    far = given()
    loudness = float(np.sqrt(np.mean(chirp().samples.astype(float) ** 2)))
    assert find(echoed(far, 0.05, 0.0, noise=2 * loudness), far).heard


@pytest.mark.parametrize("noise", [0.0, 1.0, 300.0, 10_000.0])
def test_where_only_noise_is_heard_there_was_no_echo(noise: float) -> None:
    far = given()
    echo = find(echoed(far, 0.0, -200.0, noise=noise), far)
    assert (echo.played, echo.heard, echo.delay_ms, echo.level_db) == (True, False, None, None)


async def speech() -> Audio:
    return await said("the quick brown fox jumps over the lazy dog again and again", "en-gb+f3")


def test_talk_is_not_taken_for_it_and_does_not_hide_it(run: Run[Any]) -> None:
    talk = run(speech()).samples.astype(np.float64)
    far = given()
    near = np.resize(talk, len(far))
    assert not find(to_int16(near), far).heard
    assert find(to_int16(near / 4 + echoed(far, 0.04, -12.0)), far).heard


def test_what_was_never_played_is_told_from_what_was_not_heard() -> None:
    silence = np.zeros(3 * RATE, np.int16)
    echo = find(given(), np.zeros(len(given()), np.int16))
    assert (echo.played, echo.heard) == (False, False)
    assert not find(silence[:100], silence[:100]).played
    assert find(silence[:0], silence[:0]).sure_db is None


def test_in_a_room_with_walls_the_reverberation_belongs_to_the_echo() -> None:
    room = Room(Shape(rt60_s=0.5, leak_db=-12.0, delay_s=0.04, drive=0.0))
    far = given(0.5)
    far = far[: len(far) // HOP * HOP]
    hops = range(0, len(far), HOP)
    near = np.concatenate([room.hear(step, far[at : at + HOP], None) for step, at in enumerate(hops)])
    echo = find(near, far)
    assert echo.heard
    assert echo.delay_ms is not None
    assert 35 <= echo.delay_ms <= 60
    assert echo.level_db == pytest.approx(-12, abs=3)


def test_the_sound_is_short_and_soft_and_does_not_click() -> None:
    sound = chirp()
    assert sound.seconds == SECONDS
    assert sound.dbfs == pytest.approx(-24, abs=0.5)
    assert np.abs(sound.samples[[0, -1]]).max() < 50
