"""What every engine of a seam keeps to, whichever it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Run
from roomtone import engines, flow
from roomtone.core.dialog import Message, Role, Voice
from roomtone.core.errors import EngineError
from roomtone.core.sound import FRAME, HOP, RATE, Audio
from roomtone.engines.llm import Options, Piece, Text, Usage
from roomtone.engines.stt import Hints, Pause
from roomtone.flow import close
from roomtone.scripted_provider import Reply, provider
from speech import room_noise

CLOSING_BOUND_S = 1.0
MODELS = Path(__file__).parent / "models"
HINTS = Hints(grammar="#JSGF V1.0; grammar test; public <command> = what time is it | stop;")
ANSWER = "and then there was another one. " * 20
NOISE = Audio(room_noise(RATE, -40).astype(np.int16))


def usable(seam: str) -> list[Any]:
    """List a seam's engines; those that cannot be opened here are skipped by name."""
    found = []
    for name in engines.names(seam):
        engine = engines.load(seam, name)
        reason = engine.missing(settings(engine))
        found.append(pytest.param(seam, name, marks=[pytest.mark.skip(reason=reason)] if reason else [], id=name))
    return found


def settings(
    engine: engines.EngineFile, uri: str = "tcp://127.0.0.1:1", base_url: str = "http://127.0.0.1:1/v1"
) -> engines.EngineSettings:
    """Return an engine's own defaults, with the fixture models, words or a server for those that need them."""
    given: dict[str, Any] = {"models_dir": MODELS, "uri": uri, "base_url": base_url, "texts": [ANSWER], "loop": True}
    if "base_url" in engine.Settings.model_fields:
        given |= {"model": "scripted", "api_key": "secret"}
    elif "gpu_layers" in engine.Settings.model_fields:
        given |= {"model": str(MODELS / "llama" / "fixture-chat-q8_0.gguf")}
    return engine.Settings(**{key: given[key] for key in given.keys() & engine.Settings.model_fields.keys()})


@asynccontextmanager
async def opened(seam: str, name: str) -> AsyncIterator[Any]:
    engine = engines.load(seam, name)
    if "base_url" in engine.Settings.model_fields:
        with provider([Reply(ANSWER)]) as served:
            async with engines.open_engine(seam, name, settings(engine, base_url=served.url)) as it:
                yield it
        return
    if "uri" not in engine.Settings.model_fields:
        async with engines.open_engine(seam, name, settings(engine)) as it:
            yield it
        return
    from wyoming_house import hears, house, hums

    async with (
        house(hears if seam == "stt" else hums) as server,
        engines.open_engine(seam, name, settings(engine, server.uri)) as it,
    ):
        yield it


async def utterance(*parts: Audio | Pause, ends: bool = True) -> AsyncIterator[Audio | Pause]:
    for part in parts:
        yield part
    if not ends:
        await asyncio.Event().wait()


@pytest.mark.parametrize(("seam", "name"), usable("stt"))
def test_a_recogniser_ends_every_utterance_with_one_final(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        for _ in range(2):  # reopened
            async with opened(seam, name) as stt:
                for parts in ((NOISE, Pause(), NOISE), (NOISE,), (Pause(),), ()):
                    transcripts = [found async for found in stt.transcribe(utterance(*parts), HINTS)]
                    assert [found.final for found in transcripts] == [False] * (len(transcripts) - 1) + [True]
                    assert all(
                        0 <= found.confidence <= 1 and found.text == found.text.lower() for found in transcripts
                    )

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("stt"))
def test_a_recogniser_can_be_left_in_mid_utterance(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        async with opened(seam, name) as stt:
            async for _ in stt.transcribe(utterance(), HINTS):
                pass  # what is slow the first time is done
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(CLOSING_BOUND_S):
                    async for _ in stt.transcribe(utterance(NOISE, ends=False), HINTS):
                        pass
            source = utterance(NOISE, Pause(), ends=False)
            stream = stt.transcribe(source, HINTS)
            await anext(stream)
            async with asyncio.timeout(CLOSING_BOUND_S):
                await close(stream)
            await close(source)
            finals = [found.final async for found in stt.transcribe(utterance(NOISE), HINTS)]
            assert finals == [False] * (len(finals) - 1) + [True]

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("tts"))
def test_a_synthesiser_speaks_and_is_silent_where_there_is_nothing_to_say(
    run: Run[None], seam: str, name: str
) -> None:
    async def scenario() -> None:
        for _ in range(2):  # reopened
            async with opened(seam, name) as tts:
                pieces = [piece async for piece in tts.speak("One two three.", Voice())]
                assert 0.3 < sum(piece.seconds for piece in pieces) < 5
                assert len({piece.rate for piece in pieces}) == 1
                assert max(piece.dbfs for piece in pieces) > -40
                for empty in ("", "  \n"):
                    assert [piece async for piece in tts.speak(empty, Voice())] == []

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("tts"))
def test_a_synthesiser_can_be_left_in_mid_sentence(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        async with opened(seam, name) as tts:
            stream = tts.speak("A long sentence. " * 50, Voice())
            await anext(stream)
            async with asyncio.timeout(CLOSING_BOUND_S):
                await close(stream)
            assert [piece async for piece in tts.speak("And on.", Voice())]

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("vad"))
def test_a_voice_detector_gives_a_probability_a_frame(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        for _ in range(2):  # reopened
            async with opened(seam, name) as vad:
                for frame in (Audio.silence(0.02), NOISE.cut(0, FRAME)):
                    assert 0 <= vad.probability(frame) <= 1
                for wrong in (0, HOP, FRAME + 1):
                    with pytest.raises(ValueError, match=r"\d"):
                        vad.probability(NOISE.cut(0, wrong))

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("echo"))
def test_an_echo_engine_takes_frames_of_ten_milliseconds(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        for _ in range(2):  # reopened
            async with opened(seam, name) as echo:
                for start in range(0, RATE, HOP):
                    frame = echo.process(NOISE.cut(start, start + HOP), Audio.silence(0.01))
                    assert len(frame.near) == HOP
                    assert 0 <= frame.person <= 1
                echo.relearn()
                with pytest.raises(ValueError, match=r"\d"):
                    echo.process(NOISE.cut(0, FRAME), Audio.silence(0.02))

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("wake"))
def test_a_wake_word_engine_takes_sound_of_any_length(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        for _ in range(2):  # reopened
            async with opened(seam, name) as wake:
                for length in (0, 1, HOP, 1280, RATE):
                    assert wake.feed(NOISE.cut(0, length)) is None

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("embed"))
def test_an_embedder_gives_a_row_of_length_one_a_text(run: Run[None], seam: str, name: str) -> None:
    texts = ["the cat is called Minka", "", "  ", "\U0001f408 \x00", "words " * 2000]

    async def scenario() -> None:
        for _ in range(2):  # reopened
            async with opened(seam, name) as embed:
                assert embed.name
                rows = await embed.embed(texts)
                assert rows.shape[0] == len(texts)
                assert rows.dtype == np.float32
                assert np.allclose(np.linalg.norm(rows[[0, 3, 4]], axis=1), 1, atol=1e-3)
                assert not np.isnan(rows).any()
                assert np.allclose(rows[0], (await embed.embed(texts[:1]))[0], atol=1e-4), "it depends on its company"
                assert (await embed.embed([])).shape == (0, rows.shape[1])

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("embed"))
def test_an_embedder_can_be_left_in_mid_work(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        async with opened(seam, name) as embed:
            async with flow.beside(_dropped(embed), "embedding"):
                await asyncio.sleep(0)
            async with asyncio.timeout(CLOSING_BOUND_S):
                assert len(await embed.embed(["and on"])) == 1

    run(scenario())


async def _dropped(embed: Any) -> None:
    await embed.embed(["a text"] * 64)


def said(text: str, role: Role = Role.PERSON) -> Message:
    return Message(session="evening", role=role, text=text)


TALK = (said("You are the voice of a room.", Role.SYSTEM), said("Tell me a story, and let it be a long one."))
BRIEF = Options(max_tokens=64)


async def pieces_of(llm: Any, messages: tuple[Message, ...]) -> list[Piece]:
    return [piece async for piece in llm.reply(messages, BRIEF)]


@pytest.mark.parametrize(("seam", "name"), usable("llm"))
def test_a_language_model_says_something_and_then_what_it_took(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        for _ in range(2):  # reopened
            async with opened(seam, name) as llm:
                assert llm.model
                assert llm.host is None or llm.host.startswith("127.0.0.1:")
                for _ in range(2):
                    *told, usage = await pieces_of(llm, TALK)
                    assert isinstance(usage, Usage)
                    assert usage.output_tokens > 0
                    assert told
                    assert all(isinstance(piece, Text) and piece.text for piece in told)

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("llm"))
@pytest.mark.parametrize("nothing", [(), (said(""),), (said(" \n"),)], ids=["no message", "no letter", "only space"])
def test_a_language_model_that_is_told_nothing_answers_or_says_why_not(
    run: Run[None], seam: str, name: str, nothing: tuple[Message, ...]
) -> None:
    async def scenario() -> None:
        async with opened(seam, name) as llm:
            try:
                *_, usage = await pieces_of(llm, nothing)
                assert isinstance(usage, Usage)
            except EngineError as error:
                refusal = error.message
            else:
                refusal = "not refused"
            assert refusal
            assert await pieces_of(llm, TALK)

    run(scenario())


@pytest.mark.parametrize(("seam", "name"), usable("llm"))
def test_a_language_model_can_be_left_in_mid_reply(run: Run[None], seam: str, name: str) -> None:
    async def scenario() -> None:
        async with opened(seam, name) as llm:
            reply = llm.reply(TALK, BRIEF)
            assert isinstance(await anext(reply), Text)
            async with asyncio.timeout(CLOSING_BOUND_S):
                await close(reply)
            assert isinstance((await pieces_of(llm, TALK))[-1], Usage)

    run(scenario())
