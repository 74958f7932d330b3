"""Engines elsewhere in the house, and this room's own offered to it; whoever is at the other end may be broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import ValidationError

from conftest import Run
from roomtone import engines
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, EngineTimeout
from roomtone.core.sound import RATE, Audio, join
from roomtone.engines.stt import Hints, Pause, Transcript
from roomtone.engines.stt import wyoming as stt_wyoming
from roomtone.engines.tts import wyoming as tts_wyoming
from roomtone.flow import close

if engines.lacking("wyoming") is not None:
    pytest.skip("the extra 'wyoming' is not installed", allow_module_level=True)

from wyoming.asr import Transcript as WyomingTranscript
from wyoming.asr import TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error

from wyoming_house import Behaviour, Guest, hears, house, hums, tone

SOUND = Audio.from_bytes(tone(1, RATE // 10))
SENTENCE = "The timer is set."


async def utterance(*parts: Audio | Pause, ends: bool = True) -> AsyncIterator[Audio | Pause]:
    for part in parts:
        yield part
    if not ends:
        await asyncio.Event().wait()


async def heard(uri: str, *parts: Audio | Pause, **keys: object) -> list[Transcript]:
    settings = stt_wyoming.Settings.model_validate({"uri": uri, **keys})
    async with stt_wyoming.open(settings) as stt:
        return [found async for found in stt.transcribe(utterance(*parts), Hints())]


async def spoken(uri: str, speaker: Voice | None = None, **keys: object) -> list[Audio]:
    settings = tts_wyoming.Settings.model_validate({"uri": uri, **keys})
    async with tts_wyoming.open(settings) as tts:
        return [sound async for sound in tts.speak(SENTENCE, speaker or Voice())]


# ----------------------------------------------------------------------------------- ears elsewhere


def test_a_server_hears_while_the_person_speaks(run: Run[None]) -> None:
    async def scenario() -> None:
        async with house(hears) as server:
            found = await heard(server.uri, SOUND, Pause(), SOUND, SOUND, model="small", language="de")
            assert [part.text for part in found] == ["what", "what time", "what time is it?"]
            assert [part.final for part in found] == [False, False, True]
            assert found[-1].language == "de"
            guest = server.guests[0]
            assert [event.type for event in guest.events] == [
                *("transcribe", "audio-start", "audio-chunk", "audio-chunk", "audio-chunk", "audio-stop")
            ]
            assert guest.events[0].data == {"name": "small", "language": "de"}
            assert guest.sound == join([SOUND] * 3).to_bytes()

    run(scenario())


def test_partials_come_before_the_utterance_has_ended(run: Run[None]) -> None:
    async def scenario() -> None:
        async with house(hears) as server, stt_wyoming.open(stt_wyoming.Settings(uri=server.uri)) as stt:
            source = utterance(SOUND, ends=False)
            stream = stt.transcribe(source, Hints())
            assert (await anext(stream)).text == "what"
            await close(stream)
            await close(source)
            await server.left.wait()  # the connection was cut: the server's own reading ended
            assert server.guests[0].events[-1].type == "audio-chunk"

    run(scenario())


def test_without_sound_nobody_is_asked(run: Run[None]) -> None:
    async def scenario() -> None:
        nowhere = "tcp://127.0.0.1:1"
        assert await heard(nowhere, Pause()) == [Transcript("")]
        assert await heard(nowhere) == [Transcript("")]

    run(scenario())


async def silent(guest: Guest) -> None:
    await guest.gone()


async def deaf(guest: Guest) -> None:
    """Takes nothing off the wire."""
    await asyncio.Event().wait()


async def slams_the_door(guest: Guest) -> None:
    guest.writer.transport.abort()


async def leaves_in_the_middle(guest: Guest) -> None:
    await guest.until("audio-chunk", "synthesize")
    await guest.send(TranscriptChunk("what"), AudioStart(RATE, 2, 1), AudioChunk(RATE, 2, 1, tone(1)))
    guest.writer.write(b'{"type": "audio-chunk", "data_length": 40, "payload_length": 400}\n{"rate"')


async def apologises(guest: Guest) -> None:
    await guest.until("audio-stop", "synthesize")
    await guest.send(Error("the model\nhas gone", code="gone"))
    await guest.gone()


def says(*raw: bytes) -> Behaviour:
    async def behaviour(guest: Guest) -> None:
        await guest.until("audio-stop", "synthesize")
        guest.writer.writelines(raw)
        await guest.gone()

    return behaviour


GARBAGE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "noise": bytes(range(256)) * 10,
    "a list": b"[1, 2]\n",
    "no type": b'{"data": {}}\n',
    "a type that is none": b'{"type": 5}\n',
    "data that are none": b'{"type": "transcript", "data": "x"}\n',
    "lengths that are none": b'{"type": "transcript", "data_length": "x"}\n',
    "a length without end": b'{"type": "audio-chunk", "payload_length": 99999999999}\n',
    "a line without end": b"x" * 3_000_000,
    "deep nesting": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_one_line_that_names_the_server(run: Run[None], raw: bytes) -> None:
    async def scenario() -> None:
        async with house(says(raw)) as server:
            for asking in (heard(server.uri, SOUND), spoken(server.uri)):
                with pytest.raises(EngineError) as failure:
                    await asking
                assert failure.value.message.startswith(
                    f"the Wyoming server {server.uri.removeprefix('tcp://')} sent "
                )
                assert "\n" not in failure.value.message

    run(scenario())


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (slams_the_door, "hung up"),
        (leaves_in_the_middle, "hung up"),
        (apologises, "says: the model has gone"),
    ],
)
def test_a_server_that_fails_is_an_error_at_once(run: Run[None], behaviour: Behaviour, why: str) -> None:
    async def scenario() -> None:
        async with house(behaviour) as server:
            for asking in (heard(server.uri, SOUND, SOUND), spoken(server.uri)):
                with pytest.raises(EngineError, match=why) as failure:
                    await asking
                assert server.uri.removeprefix("tcp://") in failure.value.message
                assert not isinstance(failure.value, EngineTimeout)

    run(scenario())


@pytest.mark.parametrize("behaviour", [silent, deaf])
def test_a_server_that_answers_nothing_is_given_up(run: Run[None], behaviour: Behaviour) -> None:
    async def scenario() -> None:
        loud = Audio.silence(30)  # more than the wires hold, so a deaf server is noticed while sending
        async with house(behaviour) as server:
            for asking in (heard(server.uri, *[loud] * 8, timeout_s=0.2), spoken(server.uri, timeout_s=0.2)):
                with pytest.raises(EngineTimeout, match=r"127\.0\.0\.1:\d+ did not answer within 0\.2 s"):
                    await asking

    run(scenario())


def test_nobody_there_is_said_and_the_next_call_finds_who_has_come(run: Run[None]) -> None:
    async def scenario() -> None:
        async with house(hears) as server:
            uri = server.uri
        settings = stt_wyoming.Settings(uri=uri)
        async with stt_wyoming.open(settings) as stt:
            with pytest.raises(EngineError, match=r"127\.0\.0\.1:\d+ cannot be reached \(.+\); is it running\?"):
                [found async for found in stt.transcribe(utterance(SOUND), Hints())]
        turns = iter([slams_the_door, hears])
        async with (
            house(lambda guest: next(turns)(guest)) as server,
            stt_wyoming.open(stt_wyoming.Settings(uri=server.uri)) as stt,
        ):
            with pytest.raises(EngineError):
                [found async for found in stt.transcribe(utterance(SOUND), Hints())]
            assert [found.final async for found in stt.transcribe(utterance(SOUND), Hints())] == [False, False, True]

    run(scenario())


def test_a_transcript_without_an_end_is_given_up(run: Run[None]) -> None:
    async def babbles(guest: Guest) -> None:
        while True:
            await guest.send(TranscriptChunk("blah " * 500))

    async def scenario() -> None:
        async with house(babbles) as server:
            with pytest.raises(EngineError, match="a transcript without an end"):
                await heard(server.uri, SOUND)
        async with house(says(b'{"type": "transcript", "data": {}}\n')) as server:
            with pytest.raises(EngineError, match="a 'transcript' without a text"):
                await heard(server.uri, SOUND)

    run(scenario())


def test_what_the_server_adds_of_its_own_is_passed_over(run: Run[None]) -> None:
    async def talkative(guest: Guest) -> None:
        await guest.until("audio-stop")
        await guest.send(AudioStop())
        guest.writer.write(b'{"type": "from-the-future", "data": {"x": 1}}\n')
        await guest.send(WyomingTranscript("Stop."))

    async def scenario() -> None:
        async with house(talkative) as server:
            assert await heard(server.uri, SOUND) == [Transcript("stop.")]

    run(scenario())


# --------------------------------------------------------------------------------- a mouth elsewhere


def test_a_server_speaks_and_its_sound_is_not_waited_for(run: Run[None]) -> None:
    first_heard = asyncio.Event()

    async def waits_for_the_listener(guest: Guest) -> None:
        await guest.until("synthesize")
        await guest.send(AudioStart(22_050, 2, 1), AudioChunk(22_050, 2, 1, tone(1)))
        await first_heard.wait()
        await guest.send(AudioChunk(22_050, 2, 2, tone(2) * 2), AudioStop())

    async def scenario() -> None:
        async with (
            house(waits_for_the_listener) as server,
            tts_wyoming.open(tts_wyoming.Settings(uri=server.uri)) as tts,
        ):
            sounds = tts.speak(SENTENCE, Voice())
            assert (await anext(sounds)).to_bytes() == tone(1)
            first_heard.set()
            stereo = [sound async for sound in sounds]
            assert [(sound.rate, len(sound)) for sound in stereo] == [(22_050, 2205)]

    run(scenario())


def test_a_persona_s_voice_is_asked_for_where_it_is_the_server_s(run: Run[None]) -> None:
    async def scenario() -> None:
        async with house(hums) as server:
            for voice in (Voice(), Voice(engine="wyoming", voice_id="amy"), Voice(engine="piper", voice_id="x")):
                assert len(await spoken(server.uri, voice)) == 10
            await spoken(server.uri, voice="joe")
            asked = [guest.events[0].data for guest in server.guests]
            assert [request["voice"] for request in asked] == [
                *({"language": "en"}, {"name": "amy"}, {"language": "en"}, {"name": "joe"})
            ]
            assert {request["text"] for request in asked} == {SENTENCE}

    run(scenario())


@pytest.mark.parametrize(
    "form", [(RATE, 1, 1), (RATE, 4, 1), (RATE, 2, 6), (1, 2, 1), (10**9, 2, 1), ("fast", 2, 1), (None, None, None)]
)
def test_sound_of_another_form_is_refused(run: Run[None], form: tuple[int, int, int]) -> None:
    async def odd(guest: Guest) -> None:
        await guest.until("synthesize")
        await guest.send(AudioStart(*form), AudioChunk(*form, tone(1)), AudioStop())
        await guest.gone()

    async def scenario() -> None:
        async with house(odd) as server:
            with pytest.raises(EngineError, match="16-bit mono is asked for"):
                await spoken(server.uri)

    run(scenario())


def test_a_sentence_without_an_end_is_given_up(run: Run[None]) -> None:
    async def drones(guest: Guest) -> None:
        await guest.until("synthesize")
        while True:
            await guest.send(AudioChunk(RATE, 2, 1, bytes(320_000)))

    async def scenario() -> None:
        async with house(drones) as server:
            with pytest.raises(EngineError, match="more than 120 s of sound"):
                await spoken(server.uri)

    run(scenario())


def test_leaving_in_mid_sentence_cuts_the_connection(run: Run[None]) -> None:
    async def scenario() -> None:
        async with house(hums) as server, tts_wyoming.open(tts_wyoming.Settings(uri=server.uri)) as tts:
            sounds = tts.speak(SENTENCE, Voice())
            await anext(sounds)
            await close(sounds)
            await server.left.wait()
            assert len([sound async for sound in tts.speak(SENTENCE, Voice())]) == 10

    run(scenario())


def test_an_address_is_checked_and_a_missing_one_asked_for() -> None:
    for engine in (stt_wyoming, tts_wyoming):
        assert "no server is named" in (engine.missing(engine.Settings()) or "")
        for good in ("tcp://nas.local:10300", "tcp://[::1]:10300", "unix:///run/piper.sock"):
            assert engine.missing(engine.Settings(uri=good)) is None
        for bad in ("nas.local:10300", "tcp://nas.local", "tcp://nas.local:99999", "http://nas:1", "unix://", ""):
            with pytest.raises(ValidationError, match="is no Wyoming server"):
                engine.Settings(uri=bad)
