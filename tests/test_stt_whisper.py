"""Whisper hears commands while they are spoken, believes nothing that no voice said, and may fall ill at any time."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from roomtone.child import child
from roomtone.core.errors import EngineCrashed, EngineError, EngineTimeout, EngineUnavailable
from roomtone.core.sound import RATE, Audio, Samples, join, to_int16
from roomtone.engines.stt import Hints, Pause, Transcript, _whisper_models, whisper
from roomtone.engines.stt._silence import spoken_since
from roomtone.engines.stt._whisper_child import Decoded, plain
from roomtone.engines.stt._whisper_evidence import confidence, refusal, repeats
from speech import room_noise, said

MODELS = Path(__file__).parent / "models"
SETTINGS = whisper.Settings(models_dir=MODELS, threads=1)
ANY = Hints()
QUIET = Audio(to_int16(room_noise(RATE // 4, -60, seed=5)))


async def stream(*parts: Audio | Pause, live: bool = False) -> AsyncIterator[Audio | Pause]:
    """Give sound in frames: all at once, or as it comes from a microphone."""
    for part in parts:
        if isinstance(part, Pause):
            yield part
            continue
        for start in range(0, len(part), 320):
            if live:
                await asyncio.sleep(0.02)
            yield part.cut(start, start + 320)


async def heard(
    stt: whisper.Whisper, *parts: Audio | Pause, hints: Hints = ANY, live: bool = False
) -> list[Transcript]:
    return [transcript async for transcript in stt.transcribe(stream(*parts, live=live), hints)]


# ------------------------------------------------------------------------------------ the real model


@pytest.mark.parametrize("text", ["Set a timer for five minutes.", "Add bread to the shopping list."])
def test_a_command_is_heard_at_the_pause_and_that_is_the_final_text_too(run: Run[None], text: str) -> None:
    async def scenario() -> None:
        async with whisper.open(SETTINGS) as stt:
            partial, final = await heard(stt, await said(text, tail_s=0.15), Pause(), QUIET)
            assert (partial.text, partial.final) == (plain(text), False)
            assert replace(partial, final=True) == final
            assert final.language == "en"
            assert final.confidence > 0.5

    run(scenario())


def music() -> Audio:
    """Return two seconds of a chord that is struck four times."""
    t = np.arange(2 * RATE) / RATE
    chord = np.sum([np.sin(2 * np.pi * pitch * t) for pitch in (440, 554, 659)], axis=0)
    return Audio(to_int16(3000 * chord * (np.sin(4 * np.pi * t) > 0)))


@pytest.mark.parametrize(
    "sound",
    [Audio.silence(2), Audio(to_int16(room_noise(2 * RATE, -30))), music(), Audio.silence(0.05)],
    ids=["silence", "noise", "music", "next to nothing"],
)
def test_where_nobody_speaks_nothing_is_heard(run: Run[None], sound: Audio) -> None:
    async def scenario() -> None:
        async with whisper.open(SETTINGS) as stt:
            assert [t.text for t in await heard(stt, sound, Pause(), QUIET)] == ["", ""]

    run(scenario())


def test_an_empty_utterance_loads_the_model(run: Run[None]) -> None:
    async def scenario() -> None:
        async with whisper.open(SETTINGS) as stt:
            assert stt.pid is None
            assert [(t.text, t.final) for t in await heard(stt)] == [("", True)]
            assert stt.pid is not None
            assert 0 < stt.seconds < 60

    run(scenario())


def test_a_child_killed_in_mid_utterance_costs_that_utterance(run: Run[None]) -> None:
    async def scenario() -> None:
        async with whisper.open(SETTINGS) as stt:
            utterance = stt.transcribe(
                stream(await said("Stop."), Pause(), QUIET, Pause(), await said("No.")), Hints()
            )
            await anext(utterance)
            assert stt.pid is not None
            os.kill(stt.pid, 9)
            with pytest.raises(EngineCrashed, match="want of memory"):
                _ = [found async for found in utterance]
            *_, final = await heard(stt, await said("What time is it?"))
            assert final.text == "what time is it"

    run(scenario())


# ------------------------------------------------------------------------------- what is wrong with it


def copied(models: Path, *names: str) -> Path:
    for name in names:
        shutil.copytree(MODELS / "whisper" / "fixture", models / "whisper" / name)
    return models


def altered(models: Path, change: bytes | int) -> whisper.Settings:
    """Return settings for a copy of the model, cut to a number of bytes or with other content."""
    file = copied(models, "tiny.en") / "whisper" / "tiny.en" / "model.bin"
    content = file.read_bytes()
    file.write_bytes(content[:change] if isinstance(change, int) else change)
    return whisper.Settings(models_dir=models)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [(500_000, "cut short"), (0, "empty"), (b"PK\3\4 a file of PyTorch's", "PyTorch"), (b"GGUF" * 9, "CTranslate2")],
)
def test_a_broken_model_says_what_is_wrong_and_what_mends_it(
    run: Run[None], tmp_path: Path, change: bytes | int, complaint: str
) -> None:
    settings = altered(tmp_path, change)
    for chosen in (settings, whisper.Settings(models_dir=tmp_path, model="whisper-tiny.en")):
        reason = whisper.missing(chosen) or ""
        assert complaint in reason
        assert "roomtone models pull whisper-tiny.en" in reason

    async def opened() -> None:
        async with whisper.open(settings):
            pass

    with pytest.raises(EngineUnavailable, match="roomtone models pull"):
        run(opened())


def test_a_model_that_looks_whole_and_cannot_be_loaded_says_so_too(run: Run[None], tmp_path: Path) -> None:
    content = (MODELS / "whisper" / "fixture" / "model.bin").read_bytes()
    settings = altered(tmp_path, content.replace(b"encoder/conv1", b"encoder/conv9"))
    assert whisper.missing(settings) is None

    async def scenario() -> None:
        async with whisper.open(settings) as stt:
            for _ in range(2):
                with pytest.raises(
                    EngineError, match=r"cannot be loaded .*run: roomtone models pull whisper-tiny\.en"
                ):
                    await heard(stt, QUIET)

    run(scenario())


def test_a_model_that_is_taken_away_while_it_is_in_use_is_one_line(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with whisper.open(whisper.Settings(models_dir=copied(tmp_path, "fixture"))) as stt:
            shutil.rmtree(tmp_path / "whisper")
            with pytest.raises(EngineError, match="fixture is gone; run: roomtone models pull whisper-fixture"):
                await heard(stt)

    run(scenario())


def test_a_model_that_was_cut_short_after_the_engine_was_opened_is_not_loaded(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with whisper.open(whisper.Settings(models_dir=copied(tmp_path, "fixture"))) as stt:
            file = tmp_path / "whisper" / "fixture" / "model.bin"
            file.write_bytes(file.read_bytes()[:-1])
            with pytest.raises(
                EngineError, match=r"model\.bin is cut short; run: roomtone models pull whisper-fixture"
            ):
                await heard(stt)

    run(scenario())


def test_without_a_model_for_the_language_the_command_that_gets_one_is_told(tmp_path: Path) -> None:
    copied(tmp_path, "base.en")
    assert whisper.missing(whisper.Settings(models_dir=tmp_path)) is None
    reason = whisper.missing(whisper.Settings(models_dir=tmp_path, language="de-AT")) or ""
    assert reason.endswith("run: roomtone models pull whisper-base")
    assert (whisper.missing(whisper.Settings(models_dir=tmp_path / "none")) or "").endswith("pull whisper-base.en")


def test_the_largest_model_that_fits_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = copied(tmp_path, "tiny", "base.en", "base", "mine", "distil-small.en", "small")
    assert _whisper_models.best(models, "en") == "distil-small.en"
    assert _whisper_models.best(models, "de") == "small"
    shutil.rmtree(models / "whisper" / "distil-small.en")
    shutil.rmtree(models / "whisper" / "small")
    assert _whisper_models.best(models, "en") == "base.en"
    monkeypatch.setattr(_whisper_models, "SHARE", 1e9)
    assert _whisper_models.best(models, "en") is None


class Unwell:
    """A recogniser that hangs on its first decode, dies on its second process's first, and then is well."""

    def __init__(self, marks: str) -> None:
        self.marks = marks

    def ready(self) -> float:
        return 0.1

    def decode(self, pcm: bytes, language: str | None, names: str) -> Decoded:
        with open(self.marks, "a+") as marks:
            marks.seek(0)
            before = len(marks.read())
            marks.write("x")
        if before == 0:
            time.sleep(60)
        if before == 1:
            os._exit(11)
        return decoded("well")


def test_a_hang_and_a_crash_cost_one_utterance_each(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))

    async def scenario() -> None:
        async with child("whisper", "test_stt_whisper:Unwell", str(tmp_path / "marks")) as process:
            await process.call("ready", timeout=30)
            stt = whisper.Whisper(process, whisper.Settings(timeout_s=0.5))
            with pytest.raises(EngineTimeout):
                await heard(stt, Audio.silence(1))
            stt = whisper.Whisper(process, whisper.Settings(timeout_s=30))
            with pytest.raises(EngineCrashed):
                await heard(stt, Audio.silence(1))
            assert [t.text for t in await heard(stt, Audio.silence(1))] == ["well"]

    run(scenario())


class OutOfMemory(Unwell):
    """A recogniser that runs out of memory in its first process, in every decode."""

    def decode(self, pcm: bytes, language: str | None, names: str) -> Decoded:
        with open(self.marks, "a+") as marks:
            marks.seek(0)
            first = marks.read() or str(os.getpid())
            marks.truncate(0)
            marks.write(first)
        if first == str(os.getpid()):
            raise MemoryError("none left")
        return decoded("well")


def test_who_runs_out_of_memory_begins_anew(run: Run[None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))

    async def scenario() -> None:
        async with child("whisper", "test_stt_whisper:OutOfMemory", str(tmp_path / "marks")) as process:
            stt = whisper.Whisper(process, SETTINGS)
            with pytest.raises(EngineError, match="none left"):
                await heard(stt, Audio.silence(1))
            assert [t.text for t in await heard(stt, Audio.silence(1))] == ["well"]

    run(scenario())


def test_a_hang_is_found_out_the_sooner_the_quicker_the_machine_is(run: Run[None]) -> None:
    async def patience(seconds: float) -> float:
        script = Script("well", seconds=seconds)
        await heard(scripted(script, timeout_s=8), Audio(to_int16(room_noise(RATE, -20))))
        return script.patience

    async def scenario() -> None:
        quick, slow, slowest = [await patience(seconds) for seconds in (0.05, 0.5, 5.0)]
        assert quick < slow < slowest == 8

    run(scenario())


def test_a_glance_at_silence_does_not_count_as_a_quick_decode(run: Run[None]) -> None:
    async def scenario() -> None:
        stt = scripted(Script(Decoded(seconds=0.001), seconds=2.0))
        await heard(stt, Audio(to_int16(room_noise(RATE, -20))))
        assert stt.seconds == 2.0

    run(scenario())


# ----------------------------------------------------------------------------- while somebody speaks


def decoded(text: str, **about: float | str) -> Decoded:
    return Decoded(text, -0.1, language="en", voiced_s=9.0)._replace(**about)  # type: ignore[arg-type]


class Script:
    """Stands in for the child: gives texts in order, the last again and again, and keeps what it was asked."""

    def __init__(self, *texts: str | Decoded, seconds: float = 0.1) -> None:
        self.asked: list[tuple[float, str | None, str]] = []
        self.patience = 0.0
        self._texts = [text if isinstance(text, Decoded) else decoded(text, seconds=seconds) for text in texts]
        self._seconds = seconds

    async def call(self, method: str, *args: object, timeout: float, start_timeout: float) -> object:
        if method == "ready":
            return self._seconds
        self.patience = timeout
        pcm, language, names = args
        await asyncio.sleep(self._seconds)
        self.asked.append((len(pcm) / 2 / RATE, language, names))  # type: ignore[arg-type]
        return self._texts.pop(0) if len(self._texts) > 1 else self._texts[0]


def scripted(script: Script, **settings: float | str) -> whisper.Whisper:
    return whisper.Whisper(script, whisper.Settings(**settings))  # type: ignore[arg-type]


def syllables(count: int) -> Audio:
    """Return loud sounds of 0.5 s with gaps of 80 ms after them."""
    loud, gap = (to_int16(room_noise(round(s * RATE), dbfs)) for s, dbfs in ((0.5, -20), (0.08, -60)))
    return join([Audio(loud), Audio(gap)] * count)


def test_the_sure_beginning_grows_while_somebody_speaks(run: Run[None]) -> None:
    async def scenario() -> None:
        script = Script("set", "set a tie", "set a timer for", "set a timer for nine", "set a timer for nine minutes")
        found = await heard(scripted(script), syllables(9), QUIET, Pause(), QUIET, live=True)
        growing = [t.text for t in found if t.growing]
        kept = ["set", "set a", "set a timer for", "set a timer for nine", "set a timer for nine minutes"]
        assert growing == kept
        assert [(t.text, t.final) for t in found if not t.growing] == [
            ("set a timer for nine minutes", False),
            ("set a timer for nine minutes", True),
        ]
        lengths = [seconds for seconds, *_ in script.asked]
        assert lengths == sorted(lengths)

    run(scenario())


def test_a_machine_that_is_slow_decodes_at_pauses_only(run: Run[None]) -> None:
    async def scenario() -> None:
        script = Script("stop", seconds=1.0)
        found = await heard(scripted(script), syllables(9), QUIET, Pause(), QUIET, live=True)
        assert [t.growing for t in found] == [False, False]
        assert len(script.asked) == 1

    run(scenario())


def test_what_was_said_before_anybody_listened_is_decoded_once(run: Run[None]) -> None:
    async def scenario() -> None:
        script = Script("stop")
        assert [t.text for t in await heard(scripted(script), syllables(9), QUIET)] == ["stop"]
        assert len(script.asked) == 1

    run(scenario())


def test_words_after_a_pause_are_decoded_and_silence_is_not(run: Run[None]) -> None:
    async def scenario() -> None:
        script = Script("one", "one two")
        stt = scripted(script, partial_s=30)
        found = await heard(stt, syllables(1), QUIET, Pause(), QUIET, Pause(), syllables(1), QUIET)
        assert [t.text for t in found] == ["one", "one", "one two"]
        assert len(script.asked) == 2

    run(scenario())


def test_a_long_speech_is_decoded_in_windows_that_are_cut_where_it_is_quiet(run: Run[None]) -> None:
    async def scenario() -> None:
        script = Script("one", "two", "three")
        (final,) = await heard(scripted(script), syllables(110))
        lengths = [seconds for seconds, *_ in script.asked]
        assert final.text == "one two three"
        assert max(lengths) <= 30
        assert sum(lengths) == pytest.approx(110 * 0.58)
        position = np.cumsum(lengths)[:-1] % 0.58
        assert all(0.49 < at < 0.58 for at in position)

    run(scenario())


def test_a_language_that_is_found_once_is_kept_for_the_utterance(run: Run[None]) -> None:
    async def scenario() -> None:
        parts: list[Audio | Pause] = [syllables(1), QUIET, Pause()]
        sure = [decoded("ja", language="de", language_probability=odds) for odds in (0.5, 0.95, 1.0)]
        script = Script(*sure)
        found = await heard(scripted(script, language="auto", partial_s=30), *parts * 3)
        assert [language for _, language, _ in script.asked] == [None, None, "de"]
        assert {t.language for t in found} == {"de"}
        script = Script("yes")
        await heard(scripted(script, language="de-AT"), syllables(1))
        assert [language for _, language, _ in script.asked] == ["de"]

    run(scenario())


def test_names_reach_the_model_as_many_as_may_be(run: Run[None]) -> None:
    async def scenario() -> None:
        script = Script("yes")
        await heard(scripted(script), syllables(1), hints=Hints(names=("kitchen", "Ada", "kitchen")))
        await heard(scripted(script), syllables(1), hints=Hints(names=tuple(f"name{n}" for n in range(999))))
        (_, _, few), (_, _, many) = script.asked
        assert few == "kitchen, Ada"
        assert len(many) <= whisper.NAMES_LENGTH
        assert many.endswith(", name25")

    run(scenario())


# --------------------------------------------------------------------------------- what is believed


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (decoded("set a timer for nine minutes", voiced_s=1.5), None),
        (decoded("stop", voiced_s=0.1), None),
        (decoded("thanks for watching", voiced_s=0.0), "no voice"),
        (decoded("thanks for watching and please subscribe", voiced_s=0.3), "letters"),
        (decoded("thank you thank you thank you"), "repeats"),
        (decoded("the same again and more", compression=3.0), "repeats"),
        (decoded("thank you", log_probability=-0.4, no_speech=0.7), "confidence"),
        (decoded("mumble", log_probability=-1.5), "confidence"),
        (decoded("no no no"), None),
    ],
)
def test_what_nobody_can_have_said_is_not_believed(found: Decoded, reason: str | None) -> None:
    refused = refusal(found, 0.3)
    assert refused is None if reason is None else refused is not None and reason in refused


def test_who_shouts_stop_again_and_again_is_believed() -> None:
    stop = decoded("stop it stop it stop it")
    assert refusal(stop, 0.3) is not None
    assert refusal(stop, 0.3, ("stop", "it", "quiet")) is None


def test_what_is_not_believed_is_nothing_heard(run: Run[None]) -> None:
    async def scenario() -> None:
        found = await heard(scripted(Script(decoded("thank you", no_speech=0.9))), syllables(2), QUIET, Pause())
        assert [(t.text, t.confidence) for t in found] == [("", 0.0), ("", 0.0)]

    run(scenario())


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=2, max_size=4), st.integers(3, 6))
def test_words_said_three_times_over_repeat_themselves(words: list[str], times: int) -> None:
    assert repeats([*words * times, "end"]) or len(set(words)) == 1


@given(st.floats(-9, 0.1), st.floats(0, 1))
def test_confidence_is_a_probability(log_probability: float, no_speech: float) -> None:
    assert 0 <= confidence(decoded("x", log_probability=log_probability, no_speech=no_speech)) <= 1


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (" Set a timer for 5 minutes.", "set a timer for 5 minutes"),
        (" What’s on the to-do list?", "what's on the to-do list"),
        (" Wake me at 7:30 a.m., please!", "wake me at 7:30 am please"),
        (" [Music] ♪ (applause) ", ""),
        (" 10% of 2.5 – that is?", "10% of 2.5 that is"),
        (" Schön, ja.", "schön ja"),
    ],
)
def test_a_text_loses_its_marks(written: str, text: str) -> None:
    assert plain(written) == text


def test_the_soft_end_of_a_word_behind_a_dip_is_news_and_silence_is_not() -> None:
    random = np.random.default_rng(1)

    def noise(seconds: float, dbfs: float) -> Samples:
        return to_int16(random.standard_normal(round(seconds * RATE)) * 32768 * 10 ** (dbfs / 20))

    to_the_dip = np.concatenate([noise(0.3, -70), noise(1.0, -20), noise(0.08, -42)])  # the closure of a "t"
    soft_end = np.concatenate([to_the_dip, noise(0.04, -45), noise(0.4, -70)])
    silence = np.concatenate([to_the_dip, noise(0.44, -70)])
    assert spoken_since(soft_end, len(to_the_dip), in_dip=True)
    assert not spoken_since(silence, len(to_the_dip), in_dip=True)
