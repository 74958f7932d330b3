"""Engines elsewhere in the house, and this room's own offered to it; whoever is at the other end may be broken."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from conftest import Run
from roomtone import daemon, discovery, engines
from roomtone.clock import engine_working
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, EngineTimeout
from roomtone.core.sound import RATE, Audio, join
from roomtone.discovery import Service
from roomtone.edges import lending, wyoming
from roomtone.engines.stt import Hints, Pause, Transcript
from roomtone.engines.stt import wyoming as stt_wyoming
from roomtone.engines.tts import wyoming as tts_wyoming
from roomtone.flow import beside, close, keep_trying

if engines.lacking("wyoming") is not None:
    pytest.skip("the extra 'wyoming' is not installed", allow_module_level=True)

from wyoming.asr import Transcribe, TranscriptChunk
from wyoming.asr import Transcript as WyomingTranscript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.tts import Synthesize, SynthesizeVoice
from zeroconf.asyncio import AsyncZeroconf

from rooms import room, scripted, speaks
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
        return [found async for found in stt.transcribe(utterance(*parts), Hints(words=("pasta",), names=("Anna",)))]


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
            assert [part.growing for part in found] == [True, True, False]
            assert found[-1].language == "de"
            guest = server.guests[0]
            assert [event.type for event in guest.events] == [
                *("transcribe", "audio-start", "audio-chunk", "audio-chunk", "audio-chunk", "audio-stop")
            ]
            assert guest.events[0].data == {
                "name": "small",
                "language": "de",
                "transcript_names": ["Anna"],
                "transcript_terms": ["pasta"],
            }
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


# --------------------------------------------------------------------- this room's engines for the house

HINTS = Hints(grammar="#JSGF V1.0; grammar test; public <command> = what time is it | stop;")


@dataclass
class Served:
    """A running server of the room's: where it listens, and how often guests' engines were opened."""

    uri: str = ""
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)


@asynccontextmanager
async def served(**offer: Any) -> AsyncIterator[Served]:
    """Offer a scripted recogniser and a humming synthesiser on a free port."""
    it = Served()

    def opening(seam: str, name: str, **keys: Any) -> Callable[[], Any]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Any]:
            async with engines.open_engine(seam, name, engines.load(seam, name).Settings(**keys)) as engine:
                it.opened.append(seam)
                try:
                    yield engine
                finally:
                    it.closed.append(seam)

        return opened

    given: dict[str, Any] = {
        "open_stt": opening("stt", "script", texts=("what time is it", "stop"), loop=True),
        "open_tts": opening("tts", "tone"),
        **offer,
    }
    with free_port() as port:
        listen = f"127.0.0.1:{port}"
    it.uri = f"tcp://{listen}"
    whole = wyoming.Offer("Kitchen", "en", HINTS, "script", "tone", **given)
    async with beside(wyoming.serve(listen, whole, announced=False), "wyoming server"):
        _, writer = await keep_trying(partial(asyncio.open_connection, "127.0.0.1", port), on=ConnectionError)
        writer.close()
        yield it


@contextmanager
def free_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        yield probe.getsockname()[1]


@asynccontextmanager
async def client(server: Served) -> AsyncIterator[AsyncClient]:
    async with AsyncClient.from_uri(server.uri) as it:
        yield it


async def answers(it: AsyncClient, *nouns: Any) -> list[Event]:
    """Send events; return what comes back, up to something that ends an answer."""
    for noun in nouns:
        await it.write_event(noun.event())
    found = []
    with engine_working():
        while (event := await it.read_event()) is not None:
            found.append(event)
            if event.type in ("info", "pong", "transcript", "audio-stop", "error"):
                break
    return found


def sound(seconds: float, rate: int = RATE) -> list[Any]:
    piece = AudioChunk(rate, 2, 1, bytes(2 * round(rate * seconds / 10)))
    return [Transcribe(language="en"), AudioStart(rate, 2, 1), *[piece] * 10, AudioStop()]


def test_the_house_is_told_what_this_room_can_do(run: Run[None]) -> None:
    async def scenario() -> None:
        voices = ("en_US-amy-medium", "de_DE-eva-low")
        async with served(voices=voices) as server, client(server) as it:
            told = Info.from_event((await answers(it, Describe()))[0])
            assert (told.asr[0].models[0].name, told.asr[0].models[0].languages) == ("script", ["en"])
            assert [(voice.name, voice.languages) for voice in told.tts[0].voices] == [
                ("en_US-amy-medium", ["en_US"]),
                ("de_DE-eva-low", ["de_DE"]),
            ]
            assert "Kitchen" in (told.asr[0].description or "")
            assert (await answers(it, Ping("you?")))[0].data == {"text": "you?"}
            assert server.opened == [], "nothing is loaded before it is needed"
        async with served() as server, client(server) as it:
            assert Info.from_event((await answers(it, Describe()))[0]).tts[0].voices[0].name == "tone"

    run(scenario())


def test_the_house_hears_and_speaks_with_this_room_s_engines(run: Run[None]) -> None:
    async def scenario() -> None:
        async with served() as server, client(server) as it:
            for rate in (RATE, 48_000):
                found = await answers(it, *sound(1.0, rate))
                assert [event.type for event in found] == ["transcript"]
            assert WyomingTranscript.from_event(found[0]).text == "stop"
            found = await answers(it, Synthesize("One two three. Four."))
            assert [event.type for event in found[:2]] == ["audio-start", "audio-chunk"]
            spoken_s = sum(AudioChunk.from_event(event).seconds for event in found[1:-1])
            assert spoken_s == pytest.approx(4 * 0.3, abs=0.01)
            assert max(AudioChunk.from_event(event).seconds for event in found[1:-1]) <= 0.1
            assert [event.type for event in await answers(it, Synthesize(""))] == ["audio-start", "audio-stop"]
            assert server.closed == []
        assert server.opened == sorted(server.closed) == ["stt", "tts"], "each opened once, and closed in the end"

    run(scenario())


def test_our_own_clients_understand_our_own_server(run: Run[None]) -> None:
    async def scenario() -> None:
        async with served() as server:
            assert await heard(server.uri, SOUND) == [Transcript("what time is it")]
            assert sum(piece.seconds for piece in await spoken(server.uri)) == pytest.approx(4 * 0.3, abs=0.01)

    run(scenario())


def test_guests_take_turns_and_an_idle_engine_is_closed(run: Run[None]) -> None:
    async def scenario() -> None:
        async with served() as server:
            async with AsyncExitStack() as stack:
                crowd = [await stack.enter_async_context(client(server)) for _ in range(wyoming.CLIENTS)]
                for it in crowd:
                    for noun in sound(0.5):
                        await it.write_event(noun.event())
                texts = [(await answers(it))[0].data["text"] for it in crowd]
                assert sorted(texts) == sorted(["what time is it", "stop"] * (wyoming.CLIENTS // 2))
                async with client(server) as one_too_many:
                    with pytest.raises(ConnectionError):
                        assert await answers(one_too_many, Describe()) == []
                        raise ConnectionError
            await asyncio.sleep(lending.IDLE_S + 1)
            assert (server.opened, server.closed) == (["stt"], ["stt"])
            assert await heard(server.uri, SOUND) == [Transcript("what time is it")]
            assert server.opened == ["stt", "stt"]

    run(scenario())


@pytest.mark.parametrize(
    ("nouns", "why"),
    [
        ([Synthesize("x" * 2_001)], "a text of at most 2000 characters"),
        (sound(31.0), "an utterance of more than 30 s"),
        ([AudioChunk(RATE, 1, 1, b"x")], "16-bit mono is asked for"),
        ([AudioChunk(RATE, 2, 1, b"xx"), AudioChunk(8_000, 2, 1, b"xx")], "sound that changes its rate"),
    ],
    ids=["a book", "an opera", "8 bits", "two rates"],
)
def test_too_much_or_the_wrong_thing_is_refused_with_a_reason(run: Run[None], nouns: list[Any], why: str) -> None:
    async def scenario() -> None:
        async with served() as server, client(server) as it:
            error = Error.from_event((await answers(it, *nouns))[-1])
            assert why in error.text
            assert error.code == "BAD_REQUEST"
            assert await heard(server.uri, SOUND) == [Transcript("what time is it")], "others are served as before"

    run(scenario())


def test_sound_in_crumbs_takes_no_more_memory_than_in_one_piece() -> None:
    recording = wyoming.Recording()
    tracemalloc.start()
    for _ in range(RATE):
        recording.add(Audio.silence(0))
        recording.add(Audio.silence(1 / RATE))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 10 * RATE


@pytest.mark.parametrize("raw", [*GARBAGE.values(), b'{"type": "synthesize", "data": {"text": "on"'], ids=repr)
def test_a_broken_client_disturbs_nobody(run: Run[None], raw: bytes) -> None:
    async def scenario() -> None:
        async with served() as server:
            for _ in range(wyoming.CLIENTS + 1):  # so a place that is not given back is missed
                _, writer = await asyncio.open_connection("127.0.0.1", int(server.uri.rpartition(":")[2]))
                writer.write(raw[:100_000])
                writer.close()
            assert await heard(server.uri, SOUND) == [Transcript("what time is it")]

    run(scenario())


def test_who_hangs_up_in_mid_answer_frees_the_engine(run: Run[None]) -> None:
    async def scenario() -> None:
        async with served() as server:
            for _ in range(3):
                async with client(server) as it:
                    await it.write_event(Synthesize("one two three four five " * 50).event())
                    with engine_working():
                        assert (await it.read_event()) is not None
            assert len(await spoken(server.uri)) > 3

    run(scenario())


def test_who_says_nothing_is_hung_up_on(run: Run[None]) -> None:
    async def scenario() -> None:
        async with served() as server, client(server) as it:
            await asyncio.sleep(wyoming.IDLE_S + 1)
            assert await it.read_event() is None

    run(scenario())


def test_an_engine_that_fails_or_cannot_be_opened_is_told_and_the_guest_may_ask_again(run: Run[None]) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[Any]:
        raise EngineError("there is no recogniser")
        yield

    async def scenario() -> None:
        script = engines.load("stt", "script")
        async with served(open_stt=broken) as server, client(server) as it:
            for _ in range(2):
                assert Error.from_event((await answers(it, *sound(1.0)))[0]).text == "there is no recogniser"
            assert (await answers(it, Synthesize("On."))).pop().type == "audio-stop"
        failing = partial(script.open, script.Settings(texts=("a", "b"), fail_at=1))
        async with served(open_stt=failing) as server, client(server) as it:
            assert "told to fail" in Error.from_event((await answers(it, *sound(1.0)))[0]).text
            assert (await answers(it, *sound(1.0)))[0].data["text"] == "b"

    run(scenario())


def test_a_voice_that_is_offered_is_used_and_any_other_is_the_room_s_own(run: Run[None]) -> None:
    asked: list[Voice] = []

    class Mouth:
        async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
            asked.append(voice)
            yield Audio.silence(0.1)

    @asynccontextmanager
    async def mouth() -> AsyncIterator[Mouth]:
        yield Mouth()

    async def scenario() -> None:
        async with served(open_tts=mouth, voices=("amy",)) as server, client(server) as it:
            for name in ("amy", "../amy", None):
                await answers(it, Synthesize("On.", SynthesizeVoice(name=name)))
            assert asked == [Voice(engine="tone", voice_id="amy"), Voice(), Voice()]

    run(scenario())


def test_a_port_that_is_taken_is_waited_for(run: Run[None], caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        offer = wyoming.Offer("Kitchen", "en", HINTS, "script", "tone", nothing, nothing)
        with free_port() as port:
            async with beside(wyoming.serve(f"127.0.0.1:{port}", offer, announced=False), "server"):
                await asyncio.sleep(20)
            assert "see wyoming.listen" in caplog.text

    run(scenario())


@asynccontextmanager
async def nothing() -> AsyncIterator[Any]:
    raise EngineError("nothing is there")
    yield


def test_a_room_is_announced_by_its_name_as_home_assistant_looks_for_it() -> None:
    told = discovery.record(Service(wyoming.SERVICE, "Kitchen", 10_300, {}), "192.168.1.5")
    assert (told.type, told.name) == ("_wyoming._tcp.local.", "Kitchen._wyoming._tcp.local.")
    assert (told.parsed_addresses(), told.port) == (["192.168.1.5"], 10_300)
    assert discovery.own_address("192.168.1.5") == "192.168.1.5"
    assert not ipaddress.ip_address(discovery.own_address("127.0.0.1")).is_unspecified


@given(st.text(max_size=100))
def test_any_name_can_be_announced(name: str) -> None:
    told = discovery.record(Service(wyoming.SERVICE, name, 10_300, {}), "127.0.0.1")
    assert len(discovery.label(name).encode()) <= discovery.LONGEST_LABEL
    assert told.name.endswith("._wyoming._tcp.local.")


def multicast() -> bool:
    """Tell whether the loopback interface carries multicast: containers may have it switched off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
        try:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, group[4:])
            probe.bind(("", 0))
            probe.settimeout(0.5)
            probe.sendto(b"?", ("224.0.0.251", probe.getsockname()[1]))
            return probe.recv(1) == b"?"
        except OSError:
            return False


@pytest.mark.skipif(not multicast(), reason="no multicast on the loopback interface")
def test_a_room_is_found_on_the_network(run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        async with (
            beside(
                discovery.announce(Service(wyoming.SERVICE, "Küche 1.2", 10_300, {}), "127.0.0.1"), "announcement"
            ),
            AsyncZeroconf(interfaces=["127.0.0.1"]) as network,
        ):
            name = f"Küche 1 2.{wyoming.SERVICE}"
            found = await network.async_get_service_info(wyoming.SERVICE, name, timeout=5_000)
            assert found is not None
            assert (found.parsed_addresses(), found.port) == (["127.0.0.1"], 10_300)

    run_in_real_time(scenario())


def test_a_guest_who_hogs_an_engine_does_not_keep_the_room_waiting(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        with free_port() as port:
            offered = {"listen": f"127.0.0.1:{port}", "announce": False}
        settings = scripted("what time is it", stt={"hang_at": 2}, wyoming=offered)
        async with (
            room(settings, tmp_path) as rehearsal,
            beside(daemon.offer_to_the_house(rehearsal.room), "wyoming server"),
        ):
            (_, writer) = await keep_trying(
                partial(asyncio.open_connection, "127.0.0.1", port), on=ConnectionError, first_s=0.01
            )
            writer.close()
            server = Served(f"tcp://127.0.0.1:{port}")
            async with client(server) as guest, client(server) as hog:
                assert (await answers(guest, *sound(1.0)))[0].data["text"] == "what time is it"
                for noun in sound(1.0):
                    await hog.write_event(noun.event())
                (turn,) = await speaks(rehearsal)
                assert (turn.heard, turn.ended) == ("what time is it", "completed")
                assert (await answers(guest, Synthesize("One two.")))[-1].type == "audio-stop"

    run(scenario())


def test_nothing_is_offered_unless_the_household_says_so(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            assert rehearsal.room.settings.wyoming.listen == "none"
            await daemon.offer_to_the_house(rehearsal.room)  # returns at once

    run(scenario())
