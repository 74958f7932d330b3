from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Run
from echo_rooms import frames, heard_in, judge, replies, silence, visitors
from roomtone import engines
from roomtone.bench.barge_in import room_of, simulate
from roomtone.core.echo_gate import BANDS, Doubt, EchoGate, GateSettings, Outcome, Verdict
from roomtone.core.sound import HOP, RATE, Audio, Samples, join, level
from roomtone.engines import choose, open_engine
from roomtone.engines.echo import EchoFrame

ROOMS = range(40, 43)


@pytest.mark.parametrize("seed", ROOMS)
def test_a_person_as_loud_as_the_leak_ducks_the_reply_and_is_confirmed(seed: int) -> None:
    run = simulate(room_of(seed), replies(), visitors(), over_db=0.0, seconds=30.0)
    in_time = [ms for ms in run.ducked_ms if ms <= 250]
    assert len(in_time) >= 0.8 * len(run.ducked_ms) > 0
    assert len(run.confirmed_ms) >= 0.8 * len(run.ducked_ms)


@pytest.mark.parametrize("seed", ROOMS)
def test_roomtones_own_voice_stops_no_reply(seed: int) -> None:
    run = simulate(room_of(seed), replies(), (), over_db=0.0, seconds=30.0)
    assert run.self_stops == 0
    assert run.self_ducks <= 1


def test_a_reply_that_begins_before_the_room_was_heard_is_not_taken_for_a_person() -> None:
    far = frames(*replies())
    assert max(v.person for v in judge(EchoGate(), heard_in(room_of(40), far), far)) < 0.5


def test_with_nothing_played_the_room_is_left_to_the_voice_detector() -> None:
    voice = frames(visitors()[0])
    assert set(judge(EchoGate(), voice, frames(silence(len(voice) / 100)))) == {Verdict(0.0, playing=False)}


def test_the_tail_of_a_reply_still_counts_as_playing_and_then_no_more() -> None:
    far = frames(silence(1), replies()[0], silence(1))
    playing = [verdict.playing for verdict in judge(EchoGate(), heard_in(room_of(40), far), far)]
    last_sound = max(i for i, block in enumerate(far) if block.any())
    assert all(playing[last_sound - 20 : last_sound + 30])
    assert not any(playing[last_sound + 60 :])


def test_a_conversation_before_the_reply_does_not_deafen_the_gate() -> None:
    talk = frames(silence(1), *visitors(), *visitors(), silence(0.3))
    noise = np.random.default_rng(0).normal(0, 20, (len(talk), HOP)).astype(np.int16)
    gate = EchoGate(GateSettings(gain_db=(-20.0,) * BANDS, delay_s=0.04))
    judge(gate, [near + hiss for near, hiss in zip(talk, noise, strict=True)], frames(silence(len(talk) / 100)))
    person = frames((visitors()[0] // 4).astype(np.int16))
    far = frames(replies()[0])[: len(person)]
    assert max(verdict.person for verdict in judge(gate, person[: len(far)], [block // 100 for block in far])) >= 0.5


def test_the_delay_of_the_echo_is_found() -> None:
    shape = room_of(42)
    gate = EchoGate()
    far = frames(silence(1), *replies())
    judge(gate, heard_in(shape, far), far)
    assert gate.known
    assert math.isclose(gate.delay_s, shape.delay_s, abs_tol=0.015)


@pytest.mark.parametrize("seed", [201, 203])
def test_a_long_delay_is_found_within_the_first_replies(seed: int) -> None:
    shape, far = replace(room_of(seed), delay_s=0.3), frames(silence(1), *replies())
    gate = EchoGate()
    judge(gate, heard_in(shape, far), far)
    assert math.isclose(gate.delay_s, 0.3, abs_tol=0.015)


def test_relearning_forgets_what_was_known() -> None:
    gate = EchoGate(GateSettings(gain_db=(-12.0,) * BANDS))
    assert gate.known
    gate.relearn()
    assert not gate.known


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(-32768, 32767), st.integers(-32768, 32767)), max_size=60), st.integers(0, 99))
def test_whatever_is_fed_the_person_is_between_nobody_and_certain(levels: list[tuple[int, int]], seed: int) -> None:
    gate, draw = EchoGate(), np.random.default_rng(seed)
    for near, far in levels:
        shape = draw.uniform(-1, 1, HOP)
        verdict = gate.feed((near * shape).astype(np.int16), np.full(HOP, far, np.int16))
        assert 0.0 <= verdict.person <= 1.0


# ------------------------------------------------------------------------------------------------ doubt


def settled(doubt: Doubt, persons: list[float]) -> tuple[int, Outcome] | None:
    for frame, person in enumerate(persons, start=1):
        if (outcome := doubt.feed(person)) is not None:
            return frame, outcome
    return None


def test_a_sound_that_goes_on_is_confirmed_a_quarter_of_a_second_after_the_duck() -> None:
    assert settled(Doubt(), [0.9] * 100) == (25, Outcome.CONFIRMED)


def test_a_tap_is_not_confirmed_however_loud() -> None:
    assert settled(Doubt(), [1.0] * 15 + [0.0] * 100) == (55, Outcome.UNCONFIRMED)


def test_words_with_a_gap_between_them_are_confirmed() -> None:
    assert settled(Doubt(), [0.8] * 20 + [0.1] * 15 + [0.8] * 5) == (40, Outcome.CONFIRMED)


def test_a_doubt_is_open_until_it_is_settled() -> None:
    assert settled(Doubt(), [0.0] * 54) is None


# ---------------------------------------------------------------------------------------------- engines


def here() -> list[str]:
    found = []
    for name in engines.names("echo"):
        engine = engines.load("echo", name)
        if engine.missing(engine.Settings()) is None:
            found.append(name)
    return found


@pytest.mark.parametrize("name", here())
def test_every_engine_refuses_frames_of_another_length(name: str, run: Run[Any]) -> None:
    async def refuse() -> None:
        async with open_engine("echo", *choose("echo", name, {})) as echo:
            with pytest.raises(ValueError, match="160 samples"):
                echo.process(Audio.silence(0.02), Audio.silence(0.02))

    run(refuse())


@pytest.mark.parametrize("name", here())
def test_every_engine_lets_the_microphone_through_untouched_while_nothing_is_played(name: str, run: Run[Any]) -> None:
    heard = frames(visitors()[0])

    async def through() -> None:
        async with open_engine("echo", *choose("echo", name, {})) as echo:
            for near in heard:
                frame = echo.process(Audio(near), Audio.silence(0.01))
                assert (frame.near.samples == near).all()
                assert not frame.playing

    run(through())


BLOCK = 8
"""Frames of 10 ms."""


def seen(frames_of: list[EchoFrame]) -> list[tuple[float, bool, bytes]]:
    return [(frame.person, frame.playing, frame.near.to_bytes()) for frame in frames_of]


@pytest.mark.parametrize("name", here())
def test_every_engine_that_passes_blocks_over_judges_as_if_it_had_not(name: str, run: Run[Any]) -> None:
    quiet = frames(silence(20 * BLOCK / 100))
    played = [*quiet, *frames(*replies())[: 20 * BLOCK], *quiet, *quiet]  # a reply in the middle, and its tail
    heard = (frames(*visitors()) * 9)[: len(played)]

    async def both_ways() -> int:
        passed_over = 0
        chosen = choose("echo", name, {})
        async with open_engine("echo", *chosen) as one, open_engine("echo", *chosen) as other:
            for at in range(0, len(played), BLOCK):
                near, far = ([Audio(hop) for hop in stream[at : at + BLOCK]] for stream in (heard, played))
                judged = [one.process(*both) for both in zip(near, far, strict=True)]
                if not join(far).samples.any() and other.rest(join(near)):
                    passed_over += 1
                    assert seen(judged) == [(0.0, False, hop.to_bytes()) for hop in near]
                else:
                    assert seen(judged) == seen([other.process(*both) for both in zip(near, far, strict=True)])
        return passed_over

    assert run(both_ways()) >= 40


def cleaned(name: str, near: list[Samples], far: list[Samples], run: Run[Any]) -> list[Samples]:
    async def clean() -> list[Samples]:
        async with open_engine("echo", *choose("echo", name, {})) as echo:
            return [
                echo.process(Audio(mic), Audio(played)).near.samples for mic, played in zip(near, far, strict=True)
            ]

    return run(clean())


def test_webrtc_takes_the_echo_out_of_what_is_listened_to(run: Run[Any]) -> None:
    pytest.importorskip("livekit.rtc", reason="the extra 'echo' is not installed")
    far = frames(silence(1), *replies())
    near = heard_in(room_of(41), far)
    out = cleaned("webrtc", near, far, run)
    assert level(np.concatenate(out[300:])) < level(np.concatenate(near[300:])) - 12


@pytest.mark.parametrize("seed", ROOMS)
def test_the_gate_takes_the_echo_out_of_what_is_listened_to(seed: int, run: Run[Any]) -> None:
    far = frames(silence(1), *replies())
    near = heard_in(room_of(seed), far)
    out = cleaned("gate", near, far, run)
    assert level(np.concatenate(out[300:])) < level(np.concatenate(near[300:])) - 15


def test_what_is_left_of_the_echo_is_no_quieter_than_the_room(run: Run[Any]) -> None:
    far = frames(silence(1), *replies())
    out = cleaned("gate", heard_in(room_of(41), far), far, run)
    quietest = np.percentile([level(np.concatenate(out[at : at + 5])) for at in range(300, len(out) - 5)], 2)
    assert quietest > room_of(41).noise_dbfs - 6


def test_a_person_is_left_in_what_the_gate_cleans(run: Run[Any]) -> None:
    """With the reply ducked, as it is from the first words on, they come through as they are, 10 ms late."""
    far = frames(silence(1), *replies())
    echo = heard_in(room_of(41), far)
    words = frames(visitors()[0] // 2)
    ducked = [block // 8 for block in far[600 : 600 + len(words)]]
    near = echo[:600] + [mic // 8 + word for mic, word in zip(echo[600:], words, strict=False)]
    out = cleaned("gate", near, far[:600] + ducked, run)
    heard, said = np.concatenate(out[601:]), np.concatenate(words[:-1])
    assert np.corrcoef(heard, said)[0, 1] > 0.95
    assert math.isclose(level(heard), level(said), abs_tol=1.0)


def test_the_cleaned_sound_joins_the_untouched_one_without_a_click(run: Run[Any]) -> None:
    hum = (3000 * np.sin(2 * np.pi * 120 * np.arange(3 * RATE) / RATE)).astype(np.int16)
    far = frames(silence(1), np.ones(RATE // 2, np.int16), silence(1.5))
    out = np.concatenate(cleaned("gate", frames(hum), far, run)).astype(np.float64)
    steepest = np.abs(np.diff(hum.astype(np.float64))).max()
    assert np.abs(np.diff(out)).max() < 2 * steepest
