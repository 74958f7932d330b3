"""Engines in line: a turn is answered by the next engine where the first fails, and a failing one is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from roomtone import engines
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, EngineUnavailable
from roomtone.core.sound import Audio
from roomtone.engines.stt import Hints, Pause, Stt, Transcript
from roomtone.engines.stt import script as script_engine
from roomtone.engines.tts import Tts, espeak
from roomtone.engines.tts import tone as tone_engine
from roomtone.failover import PATIENCE_S, REST_S, SttLine, TtsLine, open_stt, open_tts
from roomtone.settings import Settings
from roomtone.utterance import Utterance

WORDS = "what time is it"
MODELS = Path(__file__).parent / "models"


async def scripted(stack: AsyncExitStack, **settings: Any) -> Stt:
    return await stack.enter_async_context(script_engine.open(script_engine.Settings(**settings)))


async def humming(stack: AsyncExitStack, **settings: Any) -> Tts:
    return await stack.enter_async_context(tone_engine.open(tone_engine.Settings(**settings)))


def spoken() -> Utterance:
    utterance = Utterance(0.0)
    utterance.add(Audio.silence(0.5))
    utterance.pause()
    utterance.add(Audio.silence(0.5))
    utterance.end(0.4, 1.0)
    return utterance


async def heard(line: SttLine, utterance: Utterance | None = None) -> list[str]:
    transcripts = [one async for one in line.transcribe(utterance or spoken(), Hints())]
    assert [one.final for one in transcripts].count(True) == 1
    return [one.text for one in transcripts if one.final]


class Listener:
    """A recogniser that keeps what it was given, and fails after so many parts."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.parts: list[Audio | Pause] = []
        self._fails_after = fails_after

    async def transcribe(self, utterance: AsyncIterator[Audio | Pause], hints: Hints) -> AsyncIterator[Transcript]:
        async for part in utterance:
            self.parts.append(part)
            if self._fails_after is not None and len(self.parts) >= self._fails_after:
                raise RuntimeError("a fault in the library")
        yield Transcript(WORDS)


def test_the_next_recogniser_answers_the_turn_in_which_the_first_fails(run: Run[None]) -> None:
    failures: list[tuple[str, str]] = []

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = await scripted(stack, texts=["never heard"], fail_at=1)
            second = await scripted(stack, texts=[WORDS])
            line = SttLine(
                [("first", first), ("second", second)], lambda seam, name, _: failures.append((seam, name))
            )
            assert await heard(line) == [WORDS]
            assert line.served_by == "second"
            assert "told to fail" in line.health

    run(scene())
    assert failures == [("stt", "first")]


def test_the_next_recogniser_hears_the_utterance_from_its_beginning(run: Run[None]) -> None:
    async def scene() -> None:
        broken, whole = Listener(fails_after=2), Listener()
        line = SttLine([("broken", broken), ("whole", whole)])
        assert await heard(line) == [WORDS]
        assert sum(len(part) for part in whole.parts if isinstance(part, Audio)) == sum(map(len, spoken().sound()))

    run(scene())


def test_a_recogniser_that_failed_once_is_asked_again_at_once(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = await scripted(stack, texts=["lost", "well again"], fail_at=1)
            second = await scripted(stack, texts=[WORDS])
            line = SttLine([("first", first), ("second", second)])
            assert await heard(line) == [WORDS]
            assert await heard(line) == ["well again"]
            assert line.health == "ok"

    run(scene())


def test_a_recogniser_that_fails_twice_running_rests_and_is_asked_again_later(run: Run[None]) -> None:
    async def scene() -> None:
        first, second = Listener(fails_after=1), Listener()
        line = SttLine([("first", first), ("second", second)])
        for _ in range(2):
            await heard(line)
        asked = len(first.parts)
        await heard(line)
        assert len(first.parts) == asked, "a resting engine costs nobody time"
        await asyncio.sleep(REST_S + 1)
        await heard(line)
        assert len(first.parts) > asked

    run(scene())


def test_where_all_fail_the_last_reason_is_told(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            only = SttLine([("one", Listener(fails_after=1)), ("two", await scripted(stack, texts=["x"], fail_at=1))])
            with pytest.raises(EngineError, match="told to fail"):
                await heard(only)

    run(scene())


async def said(line: TtsLine, voice: Voice | None = None) -> int:
    return sum([len(sound) async for sound in line.speak("one two three", voice or Voice())])


def test_a_sentence_is_begun_again_by_the_next_synthesiser(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first, second = await humming(stack, fail_at=1), await humming(stack)
            line = TtsLine([("first", first), ("second", second)])
            whole = sum([len(sound) async for sound in second.speak("one two three", Voice())])
            assert await said(line) > whole
            assert line.served_by == "second"

    run(scene())


def test_a_synthesiser_that_gives_no_sound_is_not_waited_for_long(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            slow, quick = await humming(stack, delay_s=60.0), await humming(stack)
            began = asyncio.get_running_loop().time()
            assert await said(TtsLine([("slow", slow), ("quick", quick)]))
            assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE_S)

    run(scene())


def test_the_engine_that_a_voice_names_speaks_first_and_others_do_not_get_its_id(run: Run[None]) -> None:
    class Voices:
        def __init__(self) -> None:
            self.asked: list[Voice] = []

        async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
            self.asked.append(voice)
            if voice.engine != "mine":
                yield Audio.silence(0.1)
                return
            raise EngineError("hoarse")

    async def scene() -> None:
        plain, mine = Voices(), Voices()
        line = TtsLine([("plain", plain), ("mine", mine)])
        assert await said(line)
        assert not mine.asked
        with pytest.raises(EngineError, match="hoarse"):
            await said(line, Voice(engine="mine", voice_id="deep"))
        assert mine.asked[0].voice_id == "deep"
        assert plain.asked[-1].voice_id is None

    run(scene())


def test_a_voice_of_no_engine_is_given_to_whichever_speaks(run: Run[None]) -> None:
    class Hoarse:
        async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
            yield Audio.silence(0.1)
            raise EngineError("hoarse")

    class Spare:
        asked: Voice | None = None

        async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
            self.asked = voice
            yield Audio.silence(0.1)

    async def scene() -> None:
        spare = Spare()
        await said(TtsLine([("first", Hoarse()), ("spare", spare)]), Voice(voice_id="en-gb", pitch=0.8))
        assert spare.asked == Voice(voice_id="en-gb", pitch=0.8)

    run(scene())


def test_nothing_stands_in_for_an_engine_that_does_as_it_is_told(run: Run[None]) -> None:
    async def scene() -> None:
        settings = Settings.model_validate({"stt": {"engine": "script"}, "tts": {"engine": "tone"}})
        async with open_stt(settings) as stt, open_tts(settings) as tts:
            assert [place.name for place in stt.places] == ["script"]
            assert [place.name for place in tts.places] == ["tone"]

    run(scene())


def test_a_voice_that_only_the_first_engine_has_is_not_asked_of_what_stands_in_for_it(tmp_path: Path) -> None:
    keys = {"voice": "en_US-fixture2-x_low", "models_dir": str(MODELS), "speed": 1.2}
    for engine in ("auto", "piper"):
        settings = Settings.model_validate({"tts": {"engine": engine, **keys}, "state_dir": tmp_path})
        name, own = settings.engine("tts")
        [(spare, theirs)] = settings.spares("tts", name)
        assert (name, spare) == ("piper", "espeak")
        assert own.model_dump()["voice"] == "en_US-fixture2-x_low"
        assert theirs == espeak.Settings(speed=1.2)


def test_an_engine_that_is_named_and_absent_is_refused_with_what_mends_it(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        settings = Settings.model_validate({"stt": {"engine": "whisper"}, "state_dir": tmp_path})
        with pytest.raises(EngineUnavailable, match="roomtone models"):
            async with open_stt(settings):
                pass

    run(scene())


def test_where_no_engine_can_be_opened_the_first_ones_reason_is_told(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def fails(seam: str, name: str, settings: Any) -> AsyncIterator[None]:
        raise EngineError(f"{name} is broken")
        yield

    async def scenario() -> None:
        monkeypatch.setattr(engines, "open_engine", fails)
        with pytest.raises(EngineUnavailable, match="espeak is broken"):
            async with open_tts(Settings(state_dir=tmp_path)):
                raise AssertionError

    run(scenario())
