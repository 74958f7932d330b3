"""The synthesiser speaks at once, in the voice it was asked for, and stops when nobody listens."""

from __future__ import annotations

import time

import numpy as np
import pytest

from conftest import Run
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError
from roomtone.core.sound import Audio, join
from roomtone.engines.tts import espeak, tone

SENTENCE = "The timer is set for nine minutes."


async def spoken(engine: espeak.Espeak, text: str, voice: Voice | None = None) -> Audio:
    return join([piece async for piece in engine.speak(text, voice or Voice())], 22_050)


def hertz(audio: Audio) -> float:
    """Return the pitch of a voice: where its autocorrelation peaks, over the loudest second."""
    x = audio.samples[: audio.rate].astype(np.float64)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * len(x))) ** 2)
    shortest, longest = audio.rate // 400, audio.rate // 60
    return audio.rate / float(shortest + np.argmax(correlation[shortest:longest]))


def test_a_sentence_comes_in_short_pieces(run: Run[None]) -> None:
    async def scenario() -> None:
        async with espeak.open(espeak.Settings()) as engine:
            pieces = [piece async for piece in engine.speak(SENTENCE, Voice())]
            assert len(pieces) > 10
            assert max(piece.seconds for piece in pieces) <= 0.061
            assert 1.2 < sum(piece.seconds for piece in pieces) < 3
            assert join(pieces).dbfs > -30
            assert [piece async for piece in engine.speak(" \n", Voice())] == []

    run(scenario())


def test_speed_and_pitch_and_voice_are_heard(run: Run[None]) -> None:
    async def scenario() -> None:
        async with espeak.open(espeak.Settings()) as engine:
            plain = await spoken(engine, SENTENCE)
            slow = await spoken(engine, SENTENCE, Voice(speed=0.5))
            high = await spoken(engine, SENTENCE, Voice(pitch=1.8))
            other = await spoken(engine, SENTENCE, Voice(voice_id="en-us+f3"))
            assert slow.seconds > 1.5 * plain.seconds
            assert hertz(high) > 1.2 * hertz(plain)
            assert hertz(other) > 1.3 * hertz(plain)
            again = await spoken(engine, SENTENCE)  # nothing sticks; espeak-ng itself varies a little
            assert again.seconds == pytest.approx(plain.seconds, rel=0.02)
            assert hertz(again) == pytest.approx(hertz(plain), rel=0.1)
            assert len(await spoken(engine, "Guten Tag", Voice(voice_id="de-AT")))

    run(scenario())


@pytest.mark.parametrize("voice", ["en-US", "de-de", "en-gb+Andrea", "en-GB+linda", "EN-US+F3"])
def test_a_voice_is_found_however_its_language_is_written(run: Run[None], voice: str) -> None:
    async def scenario() -> None:
        async with espeak.open(espeak.Settings(voice=voice)) as engine:
            assert len(await spoken(engine, SENTENCE))

    run(scenario())


@pytest.mark.parametrize("voice", ["klingonese", "en-us+nobody", "../../etc/passwd", "en_US-lessac-medium"])
def test_a_voice_that_is_not_there_is_spoken_by_the_nearest_unless_it_is_the_usual_one(
    run: Run[None], voice: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with espeak.open(espeak.Settings(voice="de")) as engine:
            espeak._library()._absent.clear()
            for _ in range(2):
                assert len(await spoken(engine, SENTENCE, Voice(voice_id=voice)))
        [line] = [record.getMessage() for record in caplog.records]
        kin = "en-us" if voice.lower().startswith("en") else "de"
        assert line == f"espeak-ng has no voice '{voice}', {kin} speaks instead"
        with pytest.raises(EngineError, match="no voice"):
            async with espeak.open(espeak.Settings(voice=voice)):
                pass

    run(scenario())


def test_closing_ends_the_work_at_once(run: Run[None]) -> None:
    async def scenario() -> None:
        async with espeak.open(espeak.Settings()) as engine:
            before = time.process_time()
            everything = await spoken(engine, "word " * 2_000)
            whole = time.process_time() - before
            before = time.process_time()
            stream = engine.speak("word " * 2_000, Voice())
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]
            assert time.process_time() - before < whole / 3
            assert everything.seconds > 100
            assert len(await spoken(engine, "Next."))

    run(scenario())


def test_it_may_be_opened_twice_and_closed_in_any_order(run: Run[None]) -> None:
    async def scenario() -> None:
        first, second = espeak.open(espeak.Settings()), espeak.open(espeak.Settings(voice="de", speed=2.0))
        one, two = await first.__aenter__(), await second.__aenter__()
        assert (await spoken(one, SENTENCE)).seconds > (await spoken(two, SENTENCE)).seconds
        await first.__aexit__(None, None, None)
        assert len(await spoken(two, SENTENCE))
        await second.__aexit__(None, None, None)

    run(scenario())


def test_the_tone_is_as_long_as_its_words_and_fails_when_told(run: Run[None]) -> None:
    async def scenario() -> None:
        async with tone.open(tone.Settings(fail_at=2)) as engine:
            assert sum([piece.seconds async for piece in engine.speak("one two three", Voice())]) == pytest.approx(
                0.9
            )
            with pytest.raises(EngineError, match="sentence 2"):
                [piece async for piece in engine.speak("four", Voice())]
            assert engine.spoken == ["one two three", "four"]
            assert sum([piece.seconds async for piece in engine.speak("five", Voice(speed=2))]) == pytest.approx(0.15)

    run(scenario())
