"""Piper speaks clause by clause, in the voice it was asked for, and a broken voice is one clear line."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from roomtone import engines
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, EngineUnavailable
from roomtone.core.sound import Audio, join
from roomtone.engines.tts import piper
from roomtone.flow import close

MODELS = Path(__file__).parent / "models"
FIRST, SECOND = "en_US-fixture-x_low", "en_US-fixture2-x_low"
SENTENCE = "The timer is set for nine minutes."
LONG = (
    "I can tell the time, say something again, set timers and get louder or quieter; "
    "and when you ask me kindly, I sing, dance, and read the newspaper to you."
)

pytestmark = pytest.mark.skipif(engines.lacking("piper") is not None, reason="the extra 'piper' is not installed")


def settings(**keys: object) -> piper.Settings:
    return piper.Settings.model_validate({"models_dir": MODELS, **keys})


async def spoken(engine: piper.Piper, text: str, voice: Voice | None = None) -> Audio:
    sounds = [sound async for sound in engine.speak(text, voice or Voice())]
    return join(sounds, sounds[0].rate if sounds else 16_000)


def hertz(audio: Audio) -> float:
    """Return the pitch of a voice: where its autocorrelation peaks, over the first second."""
    x = audio.samples[: audio.rate].astype(np.float64)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(x, 2 * len(x))) ** 2)
    shortest, longest = audio.rate // 400, audio.rate // 60
    return audio.rate / float(shortest + np.argmax(correlation[shortest:longest]))


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """A models folder of one's own, to break."""
    shutil.copytree(MODELS / "piper", tmp_path / "piper")
    return tmp_path


# --------------------------------------------------------------------------------------------- speaking


def test_a_long_sentence_comes_clause_by_clause_and_joins_without_a_gap(run: Run[None]) -> None:
    async def scenario() -> None:
        async with piper.open(settings()) as engine:
            sounds = [sound async for sound in engine.speak(LONG, Voice())]
            assert len(sounds) == 3
            assert sounds[0].seconds < 0.2 * sum(sound.seconds for sound in sounds)
            assert len([sound async for sound in engine.speak(SENTENCE, Voice())]) == 1
            for before, after in itertools.pairwise(sounds):
                assert silence_s(before.samples[::-1], before.rate) + silence_s(after.samples, after.rate) <= 0.06

    run(scenario())


def silence_s(samples: np.ndarray, rate: int) -> float:
    return float(np.argmax(np.abs(samples) > 100)) / rate


def test_the_pause_behind_a_sentence_is_what_the_household_wants(run: Run[None]) -> None:
    async def scenario() -> None:
        lengths = []
        for pause_ms in (0, 500):
            async with piper.open(settings(pause_ms=pause_ms)) as engine:
                lengths.append((await spoken(engine, SENTENCE)).seconds)
        assert lengths[1] - lengths[0] == pytest.approx(0.5, abs=0.01)

    run(scenario())


def test_speed_and_pitch_and_voice_are_heard(run: Run[None]) -> None:
    async def scenario() -> None:
        async with piper.open(settings(voice=FIRST, pause_ms=0)) as engine:
            plain = await spoken(engine, SENTENCE)
            assert (await spoken(engine, SENTENCE, Voice(speed=0.5))).seconds == pytest.approx(
                2 * plain.seconds, rel=0.05
            )
            high = await spoken(engine, SENTENCE, Voice(pitch=1.5))
            assert high.seconds == pytest.approx(plain.seconds, rel=0.05)
            assert hertz(high) == pytest.approx(1.5 * hertz(plain), rel=0.1)
            other = await spoken(engine, SENTENCE, Voice(engine="piper", voice_id=SECOND))
            assert hertz(other) > 1.3 * hertz(plain)
            assert np.array_equal((await spoken(engine, SENTENCE)).samples, plain.samples)  # nothing sticks

    run(scenario())


def test_every_voice_and_sentence_is_about_as_loud(run: Run[None]) -> None:
    async def scenario() -> None:
        async with piper.open(settings()) as engine:
            levels = [
                (await spoken(engine, text, Voice(voice_id=name))).dbfs
                for name in (FIRST, SECOND)
                for text in ("Stop.", SENTENCE, LONG)
            ]
            assert max(levels) - min(levels) < 3
            assert -20 < min(levels) < max(levels) < -12

    run(scenario())


def test_a_persona_without_a_voice_here_speaks_with_the_default_one(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with piper.open(settings(voice=FIRST)) as engine:
            plain = await spoken(engine, SENTENCE)
            strangers = [
                Voice(voice_id="en_GB-nobody-medium"),
                Voice(voice_id="../../../etc/passwd"),
                Voice(voice_id="en-us+f3", engine="espeak"),
            ]
            for voice in strangers * 2:
                assert np.array_equal((await spoken(engine, SENTENCE, voice)).samples, plain.samples)
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2, "one line a voice, none for another engine's"
        assert lines[0] == (
            f"there is no Piper voice 'en_GB-nobody-medium' here, {FIRST} speaks instead; "
            "run: roomtone models pull en_GB-nobody-medium"
        )

    run(scenario())


def test_a_voice_of_espeaks_is_spoken_by_one_of_the_same_country_without_a_word_of_it(
    run: Run[None], voices: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (voices / "piper").glob(f"{SECOND}*"):
        shutil.copy(path, path.with_name(path.name.replace(SECOND, "en_GB-fixture-x_low")))

    async def scenario() -> None:
        async with piper.open(settings(models_dir=voices, voice=FIRST)) as engine:
            plain = await spoken(engine, SENTENCE)
            british = await spoken(engine, SENTENCE, Voice(voice_id="en-gb-x-rp+m4"))
            assert hertz(british) > 1.3 * hertz(plain)
            for stranger in ("en-us+f1", "de"):
                assert np.array_equal(
                    (await spoken(engine, SENTENCE, Voice(voice_id=stranger))).samples, plain.samples
                )
        assert not caplog.records

    run(scenario())


def test_only_so_many_voices_stay_in_memory(run: Run[None]) -> None:
    async def scenario() -> None:
        async with piper.open(settings(voice=FIRST, loaded=1)) as engine:
            for name in (SECOND, FIRST, SECOND):
                await spoken(engine, SENTENCE, Voice(voice_id=name))
                assert list(engine._voices._loaded) == [name]

    run(scenario())


def test_closing_interrupts_the_model_itself(run: Run[None]) -> None:
    async def scenario() -> None:
        async with piper.open(settings()) as engine:
            endless = "one two three four five six seven eight nine ten " * 400  # no clause to stop at
            stream = engine.speak(f"Now then, {LONG} {endless}", Voice())
            await anext(stream)
            await close(stream)  # waits for the work to end
            assert (await spoken(engine, SENTENCE)).seconds > 1

    run(scenario())


@pytest.mark.parametrize("text", ["...", "\0", "—", "🙂 \ud800", "[[ə]] [[", "1,000.50 °C", "你好", "a" * 500])
def test_odd_text_harms_nothing(run: Run[None], text: str) -> None:
    async def scenario() -> None:
        async with piper.open(settings()) as engine:
            await spoken(engine, text)
            assert (await spoken(engine, SENTENCE)).seconds > 1

    run(scenario())


@given(st.text(st.sampled_from('ab ,;:—.\n"”'), max_size=400))
def test_pieces_put_together_are_the_sentence(sentence: str) -> None:
    assert "".join(piper.pieces(sentence)) == sentence


# ---------------------------------------------------------------------------------------- choosing, missing


def test_auto_takes_piper_once_a_voice_is_on_disk(tmp_path: Path) -> None:
    assert engines.choose("tts", "auto", {}, {"models_dir": MODELS, "language": "en"})[0] == "piper"
    assert engines.choose("tts", "auto", {}, {"models_dir": tmp_path, "language": "en"})[0] == "espeak"
    assert engines.choose("tts", "auto", {}, {"models_dir": MODELS, "language": "de"})[0] == "espeak"


def test_without_a_name_the_household_s_language_and_the_quality_choose(voices: Path) -> None:
    for name in ("de_DE-thorsten-high", "de_DE-thorsten-medium", "en_GB-cori-high"):
        for ending in (".onnx", ".onnx.json"):
            shutil.copy(voices / "piper" / f"{FIRST}{ending}", voices / "piper" / f"{name}{ending}")
    assert piper.find_voice(settings(models_dir=voices)) == FIRST
    assert piper.find_voice(settings(models_dir=voices, language="de-AT")) == "de_DE-thorsten-medium"
    assert piper.find_voice(settings(models_dir=voices, language="fr")) is None


def test_a_broken_voice_is_named_with_what_mends_it_and_passed_over(voices: Path) -> None:
    model, config = voices / "piper" / f"{FIRST}.onnx", voices / "piper" / f"{FIRST}.onnx.json"
    whole, described = model.read_bytes(), config.read_text("utf-8")
    breaks = [
        (lambda: model.write_bytes(whole[:-1]), "is cut short"),
        (lambda: model.write_bytes(whole[: len(whole) // 2]), "is cut short"),
        (lambda: model.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is not an ONNX model"),
        (lambda: model.write_bytes(b""), "is empty"),
        (lambda: config.write_text(described[:-9]), "is not JSON, or is cut short"),
        (lambda: config.write_text('["audio"]'), "is not a Piper voice's configuration"),
        (config.unlink, "is missing"),
    ]
    for break_it, why in breaks:
        model.write_bytes(whole)
        config.write_text(described)
        assert piper.missing(settings(models_dir=voices, voice=FIRST)) is None
        break_it()
        reason = piper.missing(settings(models_dir=voices, voice=FIRST))
        assert reason is not None
        assert why in reason
        assert reason.endswith(f"; run: roomtone models pull {FIRST}")
        assert "\n" not in reason
        assert piper.find_voice(settings(models_dir=voices)) == SECOND
    (voices / "piper" / f"{SECOND}.onnx").unlink()
    assert (piper.missing(settings(models_dir=voices)) or "").endswith(f"run: roomtone models pull {FIRST}")
    assert "no voice for en in" in (piper.missing(settings(models_dir=voices / "elsewhere")) or "")


def test_what_only_loading_can_tell_is_one_line_too(run: Run[None], voices: Path) -> None:
    model, config = voices / "piper" / f"{FIRST}.onnx", voices / "piper" / f"{FIRST}.onnx.json"
    hollow = {**json.loads(config.read_text("utf-8")), "num_symbols": 1, "phoneme_type": "runes"}

    async def fails(*, opening: bool) -> str:
        with pytest.raises(EngineUnavailable) as failure:
            async with piper.open(settings(models_dir=voices, voice=FIRST if opening else SECOND)) as engine:
                await spoken(engine, SENTENCE, Voice(voice_id=FIRST))
        return failure.value.message

    async def scenario() -> None:
        for opening in (True, False):
            described = config.read_text("utf-8")
            config.write_text(json.dumps(hollow))
            message = await fails(opening=opening)
            assert message.startswith(f"the Piper voice '{FIRST}' cannot be loaded (")
            assert message.endswith(f"run: roomtone models pull {FIRST}")
            config.write_text(described)
        model.write_bytes(b"\x08\x08\x3a\x03abc")  # whole as a protocol buffer, but no model
        assert "\n" not in await fails(opening=True)

    run(scenario())


def test_a_voice_that_fails_in_mid_reply_is_an_error_and_the_next_call_works(run: Run[None]) -> None:
    async def scenario() -> None:
        async with piper.open(settings(voice=FIRST)) as engine:
            loaded = engine._voices._loaded[FIRST]
            loaded.piper.config.espeak_voice = "klingonese"
            with pytest.raises(EngineError, match=f"the Piper voice '{FIRST}' failed: "):
                await spoken(engine, SENTENCE)
            loaded.piper.config.espeak_voice = "en-us"
            assert (await spoken(engine, SENTENCE)).seconds > 1

    run(scenario())


def test_a_personas_voice_that_is_cut_short_is_not_loaded_and_another_speaks(
    run: Run[None], voices: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with piper.open(settings(models_dir=voices, voice=FIRST)) as engine:
            cut = voices / "piper" / f"{SECOND}.onnx"
            cut.write_bytes(cut.read_bytes()[:-1])
            assert await spoken(engine, SENTENCE, Voice(voice_id=SECOND))
            assert list(engine._voices._loaded) == [FIRST]

    run(scenario())
    (line,) = caplog.messages
    assert line.startswith(f"there is no whole Piper voice '{SECOND}' here, {FIRST} speaks instead; ")
    assert "is cut short" in line
    assert line.endswith(f"run: roomtone models pull {SECOND}")
