"""Wake words: which are heard, when, and what is said of those that cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from conftest import Run
from roomtone.core.errors import EngineUnavailable
from roomtone.core.sound import FRAME, RATE, Audio, join
from roomtone.engines.wake import Detection, microwakeword
from roomtone.engines.wake.microwakeword import Settings, Word, shipped_models
from roomtone.overhearing import Watchword
from speech import room_noise, said

pytestmark = pytest.mark.skipif(not shipped_models(), reason="pip install 'roomtone[wake]'")

QUIET = Audio(room_noise(RATE).astype(np.int16))


def listening(*words: Any, **keys: Any) -> Settings:
    """Return settings as they are written in a configuration."""
    return Settings.model_validate({"words": words, **keys})


async def heard(settings: Settings, *sounds: Audio, step: int = FRAME) -> list[Detection]:
    """Return what is detected in sounds with a second of quiet around each."""
    sound = join([QUIET, *(part for sound in sounds for part in (sound, QUIET))])
    async with microwakeword.open(settings) as wake:
        found = [wake.feed(sound.cut(start, start + step)) for start in range(0, len(sound), step)]
    return [detection for detection in found if detection is not None]


def calls(found: list[Detection]) -> list[Detection]:
    return [detection for detection in found if detection.sure]


def test_a_word_is_heard_once_and_nothing_else_is(run: Run[None]) -> None:
    async def scenario() -> None:
        [detection] = calls(await heard(Settings(), await said("okay nabu")))
        assert detection.word == "okay_nabu"
        assert 0.85 < detection.score <= 1
        assert calls(await heard(Settings(), await said("what time is it"), await said("and what is new?"))) == []

    run(scenario())


def test_several_words_are_told_apart_each_with_its_persona(run: Run[None]) -> None:
    async def scenario() -> None:
        settings = listening("okay_nabu", {"model": "alexa", "persona": "butler"}, "hey_mycroft")
        said_ = [await said(text, "en-gb") for text in ("alexa", "okay nabu", "hey mycroft")]
        found = [(detection.word, detection.persona) for detection in calls(await heard(settings, *said_))]
        assert found == [("alexa", "butler"), ("okay_nabu", None), ("hey_mycroft", None)]

    run(scenario())


def test_a_word_is_found_however_the_sound_is_cut(run: Run[None]) -> None:
    async def scenario() -> None:
        word = await said("alexa", "en-gb")
        for step in (7, 160, 1000, 16_000):
            [detection] = calls(await heard(listening("alexa"), word, step=step))
            assert detection.word == "alexa"

    run(scenario())


def test_nobody_is_heard_twice_within_the_refractory_time(run: Run[None]) -> None:
    async def scenario() -> None:
        word = await said("alexa", "en-gb")
        for seconds, times in ((0.0, 2), (10.0, 1)):
            settings = listening("alexa", refractory_s=seconds)
            assert len(calls(await heard(settings, word, word))) == times

    run(scenario())


def test_a_stop_word_is_told_from_a_call(run: Run[None]) -> None:
    async def scenario() -> None:
        settings = listening("okay_nabu", stop="alexa")
        said_ = [await said(text, "en-gb") for text in ("alexa", "okay nabu")]
        assert [detection.stops for detection in calls(await heard(settings, *said_))] == [True, False]

    run(scenario())


@given(st.floats(0, 1), st.floats(0.05, 0.999))
def test_who_is_more_sensitive_hears_more_and_half_is_the_models_own(sensitivity: float, own: float) -> None:
    thresholds = [
        Word(model="alexa", sensitivity=value).threshold(own) for value in (0.0, sensitivity * 0.5, 0.5, 1.0)
    ]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[2] == pytest.approx(max(own, microwakeword.LEAST_THRESHOLD))
    assert all(0 < threshold < 1 for threshold in thresholds)


# ------------------------------------------------------------------------------------------- own models


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A model of one's own: its two files in a folder, under another name."""
    for ending in (".json", ".tflite"):
        shutil.copy(shipped_models()["alexa"].with_suffix(ending), tmp_path)
    return tmp_path / "alexa.json"


def test_a_model_of_ones_own_is_named_by_either_of_its_files(run_in_real_time: Run[None], own: Path) -> None:
    async def scenario() -> None:
        for path in (own, own.with_suffix(".tflite")):
            [detection] = calls(await heard(listening(str(path)), await said("alexa", "en-gb")))
            assert detection.word == "alexa"

    run_in_real_time(scenario())


def refusal(*words: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        listening(*words)
    [error] = refused.value.errors()
    return str(error["msg"])


def test_a_word_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    told = refusal("hey_computer")
    assert "there is no wake word 'hey_computer'" in told
    for name in ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu"):
        assert name in told


def test_a_model_that_is_none_is_refused_with_its_file(own: Path) -> None:
    network = own.with_suffix(".tflite")
    network.write_bytes(b"not a model")
    assert f"{network} is no TensorFlow Lite model" in refusal(str(own))
    network.unlink()
    assert str(network) in refusal(str(own))
    for text in ("{", "[]", '{"model": "alexa.tflite"}', '{"model": 1, "micro": {}}'):
        own.write_text(text)
        assert f"{own} does not describe" in refusal(str(own))
    own.unlink()
    assert f"{own} cannot be read" in refusal(str(own))


def test_a_model_that_was_cut_short_is_one_clear_line(run_in_real_time: Run[None], own: Path) -> None:
    async def scenario() -> None:
        network = own.with_suffix(".tflite")
        network.write_bytes(network.read_bytes()[:2000])
        settings = listening(str(own))
        with pytest.raises(EngineUnavailable, match="cannot be loaded") as refused:
            async with microwakeword.open(settings):
                pass
        assert "\n" not in refused.value.message

    run_in_real_time(scenario())


# ------------------------------------------------------------------------------------ a quiet room


class Counting:
    """A wake engine that counts the samples it was fed."""

    def __init__(self) -> None:
        self.fed = 0

    def feed(self, audio: Audio) -> Detection | None:
        self.fed += len(audio)
        return None


def watch(wake: Counting, speech: Sequence[bool]) -> None:
    """Let a watchword hear frames of 20 ms, of some of which the voice detector says that they are speech."""
    watchword, recent = Watchword(wake), [QUIET.cut(0, FRAME // 2)] * 100
    for number, voiced in enumerate(speech, 1):
        watchword.hear(float(voiced), QUIET.cut(0, FRAME), recent, number * FRAME)


def test_a_quiet_room_costs_nothing_and_the_beginning_of_a_word_is_not_lost() -> None:
    wake = Counting()
    watch(wake, [False] * 500)
    assert wake.fed == 0
    watch(wake, [False] * 100 + [True] * 10 + [False] * 500)
    assert wake.fed == RATE // 2 + 10 * FRAME + RATE // 2


def test_a_word_is_heard_from_quiet_as_it_is_in_one_piece(run: Run[None]) -> None:
    async def scenario() -> None:
        word = await said("alexa", "en-gb", lead_s=0, tail_s=0)
        sound = join([QUIET, QUIET, word, QUIET])
        async with microwakeword.open(listening("alexa")) as wake:
            watchword, hops, found = Watchword(wake), [], []
            for start in range(0, len(sound) - FRAME, FRAME):
                hops += [sound.cut(start, start + FRAME // 2), sound.cut(start + FRAME // 2, start + FRAME)]
                voiced = 2.1 * RATE < start < 2.5 * RATE
                found.append(watchword.hear(float(voiced), sound.cut(start, start + FRAME), hops, start + FRAME))
        assert [detection.word for detection in found if detection] == ["alexa"]

    run(scenario())


def test_what_is_almost_the_word_calls_nobody_but_is_told(run: Run[None]) -> None:
    async def scenario() -> None:
        strict, missed = listening({"model": "okay_nabu", "sensitivity": 0}), await said("okay nabu", "en-us+f2")
        found = await heard(strict, missed)
        assert found
        assert not any(detection.sure for detection in found)
        assert await heard(strict, await said("what time is it")) == []

    run(scenario())
