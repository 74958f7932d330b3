"""The queue between what is said and the sound card."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roomtone.core.playback import DUCK_GAIN, RAMP_S, Playback
from roomtone.core.sound import RATE, Samples

RAMP = round(RATE * RAMP_S)
LOUD = 10_000


def loud(n: int) -> Samples:
    return np.full(n, LOUD, np.int16)


def counting(n: int, start: int = 1) -> Samples:
    return np.arange(start, start + n, dtype=np.int16)


def steps(samples: Samples) -> float:
    return float(np.abs(np.diff(samples.astype(np.int64))).max())


def test_what_is_pushed_is_pulled_as_it_was_with_zeros_behind_it() -> None:
    playback = Playback()
    playback.push(counting(100))
    playback.push(counting(100, start=101))
    first, second = playback.pull(150), playback.pull(150)
    assert np.array_equal(np.concatenate([first, second])[:200], counting(200))
    assert not second[50:].any()
    assert (playback.heard, playback.queued, playback.waiting) == (200, 200, 0)


def test_ducking_is_done_within_20_ms_and_18_db_deep() -> None:
    playback = Playback()
    playback.push(loud(4000))
    playback.pull(160)
    playback.duck()
    out = playback.pull(1000)
    assert out[320:].tolist() == [round(LOUD * DUCK_GAIN)] * 680
    assert steps(out) <= LOUD / RAMP + 1


def test_a_pause_is_silent_within_20_ms_and_loses_nothing() -> None:
    playback = Playback()
    playback.push(counting(2000))
    before = playback.pull(500)
    playback.pause()
    fading, held = playback.pull(320), playback.pull(4000)
    assert not fading[RAMP:].any()
    assert not held.any()
    assert playback.heard == 500 + RAMP
    assert playback.silent
    playback.resume()
    assert not playback.silent
    after = playback.pull(2000)
    assert np.array_equal(before, counting(500))
    assert np.array_equal(after[RAMP : 1500 - RAMP], counting(1500 - 2 * RAMP, start=501 + 2 * RAMP))


def test_stopping_fades_and_drops_and_what_follows_is_as_loud_as_ever() -> None:
    playback = Playback()
    playback.push(loud(5000))
    playback.pull(160)
    playback.duck()
    playback.pull(160)
    playback.stop()
    playback.push(loud(1000))
    out = playback.pull(1200)
    assert playback.queued == playback.heard == 320 + np.ceil(DUCK_GAIN * RAMP) + 1000
    assert (out == LOUD).sum() >= 1000 - RAMP
    assert steps(out[:1000]) <= LOUD / RAMP + 1


def test_stopping_while_paused_drops_everything_at_once() -> None:
    playback = Playback()
    playback.push(loud(5000))
    playback.pause()
    playback.pull(400)
    playback.stop()
    assert playback.waiting == 0
    assert not playback.pull(1000).any()


def test_half_the_volume_is_12_db_less_and_none_is_silence() -> None:
    playback = Playback()
    playback.set_volume(0.5)
    playback.push(loud(400))
    assert playback.pull(400)[-1] == LOUD // 4
    playback.set_volume(-1)
    assert playback.volume == 0
    assert not playback.pull(160).any()
    playback.push(loud(400))
    assert not playback.pull(400).any()
    assert playback.heard == 800


CHANGES = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 2000)),
    st.tuples(st.just("pull"), st.integers(0, 1000)),
    st.tuples(st.sampled_from(["duck", "pause", "resume", "stop"])),
    st.tuples(st.just("set_volume"), st.sampled_from([0.0, 0.3, 0.7, 1.0])),
)


@settings(max_examples=300)
@given(st.lists(CHANGES, max_size=40))
def test_whatever_happens_the_counts_agree(changes: list[tuple[Any, ...]]) -> None:
    playback = Playback()
    pushed = pulled = 0
    for name, *arguments in changes:
        queued = playback.queued
        if name == "push":
            playback.push(loud(arguments[0]))
            pushed += arguments[0]
        elif name == "pull":
            pulled += len(playback.pull(arguments[0]))
        else:
            getattr(playback, name)(*arguments)
        assert playback.queued == queued or name in ("push", "stop")
        assert playback.heard + playback.waiting == playback.queued <= pushed
        assert playback.heard <= pulled


@settings(max_examples=300)
@given(st.lists(CHANGES, max_size=40))
def test_no_change_clicks_while_there_is_sound(changes: list[tuple[Any, ...]]) -> None:
    playback = Playback()
    out: list[Samples] = [np.zeros(2, np.int16)]
    for name, *arguments in changes:
        if name in ("push", "pull"):
            playback.push(loud(1200))  # never quite empty: a sound may end as abruptly as it likes
            out.append(playback.pull(min(1000, *arguments)))
        else:
            getattr(playback, name)(*arguments)
    heard = np.concatenate(out)[2:]
    assert len(heard) < 2 or steps(heard) <= LOUD / RAMP + 1


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 700), st.sampled_from(["duck", "pause", "resume", "none"])), max_size=30))
def test_every_sample_is_played_once_and_in_order(changes: list[tuple[int, str]]) -> None:
    """A ramp of samples that tells which is which: what is played at full gain is where it should be."""
    playback = Playback()
    sound = counting(25_000)
    playback.push(sound)
    for n, name in changes:
        if name != "none":
            getattr(playback, name)()
        before = playback.heard
        out = playback.pull(n)
        source = sound[before : playback.heard]
        assert not out[len(source) :].any()
        assert (out[: len(source)] <= source).all()
    playback.resume()
    playback.pull(RAMP)
    place = playback.heard
    assert np.array_equal(playback.pull(500), sound[place : place + 500])


@pytest.mark.parametrize("change", ["duck", "pause", "resume", "stop"])
def test_a_callback_thread_may_pull_while_the_loop_changes_its_mind(change: str) -> None:
    playback = Playback()
    done = threading.Event()
    pulled: list[Samples] = []

    def callback() -> None:
        while not done.is_set() or playback.waiting:
            playback.resume()
            pulled.append(playback.pull(160))

    thread = threading.Thread(target=callback)
    thread.start()
    for _ in range(300):
        playback.push(loud(200))
        getattr(playback, change)()
    done.set()
    thread.join()
    assert playback.heard == playback.queued
    assert playback.heard <= 160 * len(pulled)
