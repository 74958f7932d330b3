"""What leaves this machine: how far a host is, and that nothing goes farther than it may."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from rooms import room, scripted
from roomtone import engines, outbound
from roomtone.clock import run_skipping
from roomtone.core.dialog import Ended, Source, Voice
from roomtone.core.errors import EgressRefused, EngineError, EngineUnavailable
from roomtone.core.persona import Egress
from roomtone.core.signals import Prompt
from roomtone.core.sound import RATE, Audio
from roomtone.engines.stt import Hints, Pause
from roomtone.engines.stt import script as script_engine
from roomtone.engines.stt import wyoming as stt_wyoming
from roomtone.engines.tts import tone as tone_engine
from roomtone.engines.tts import wyoming as tts_wyoming
from roomtone.failover import SttLine, TtsLine
from roomtone.flow import beside, close, keep_trying
from roomtone.outbound import Sent, allows, declare, leaving, look_up, reach, sending, within
from roomtone.outbound.receipt import entries
from roomtone.settings import Settings
from speech import said

needs_wyoming = pytest.mark.skipif(
    engines.lacking("wyoming") is not None, reason="the extra 'wyoming' is not installed"
)

SOUND = Audio.silence(0.1)
LONG_AGO = datetime(2019, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "_declared", {})
    monkeypatch.setattr(outbound, "_looked_up", {})
    monkeypatch.setattr(socket, "gethostname", lambda: "Kitchen")


# ---------------------------------------------------------------------------------------------- how far


@pytest.mark.parametrize(
    "host",
    [None, "localhost", "LOCALHOST:8080", "localhost.", "api.localhost", "127.0.0.1", "127.8.9.10:1", "::1", "[::1]",
     "[::1]:8080", "::ffff:127.0.0.1", "[::ffff:7f00:1]:80", "kitchen"],
)  # fmt: skip
def test_this_machine_is_nowhere_else(host: str | None) -> None:
    assert reach(host) is Egress.NONE


@pytest.mark.parametrize(
    "host",
    ["192.168.1.5", "10.0.0.1:11434", "172.16.0.1", "172.31.255.255", "169.254.3.4", "fd12::1", "[fd12::1]:80",
     "fe80::1%eth0", "[fe80::1%eth0]:80", "::ffff:10.1.2.3", "nas.local", "NAS.local.:11434", "nas.home.arpa"],
)  # fmt: skip
def test_the_house_is_its_own_addresses_and_the_names_that_never_leave_it(host: str) -> None:
    assert reach(host) is Egress.LAN


@pytest.mark.parametrize(
    "host",
    ["api.openai.com", "8.8.8.8", "172.32.0.1", "192.169.0.1", "100.64.0.1", "2001:db8::1", "64:ff9b::c0a8:101",
     "2002:c0a8:101::1", "0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "nas", "nas.lan", "nas.internal", "local",
     "nas.local.example", "localhost.example", "192.168.1.5.example",
     "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.0x1", "192.168.1", "10.0.0.1.", "127.0.0.01",
     "", " ", ".", ":", "::1:", "[::1", "::1]", "[localhost]", "[::1]x", "localhost:", "localhost:x",
     "localhost:123456", "user@localhost", "localhost#@example.com", "localhost/x", "http://localhost", "local host",
     "localhost\x00", "127\u30020\u30020\u30021", "\uff11\uff12\uff17.0.0.1", "nas.lo\u0441al", "\u212aitchen",
     "-.local", "a" * 64 + ".local"],
)  # fmt: skip
def test_what_is_public_or_not_understood_is_beyond_the_house(host: str) -> None:
    assert reach(host) is Egress.ANY


@given(st.text(max_size=40) | st.from_regex(r"[\[\]0-9a-fx:.%@/-]{0,30}", fullmatch=True))
def test_any_text_is_a_host_or_none_and_never_waits(host: str) -> None:
    far = reach(host)
    if far is Egress.ANY:
        return
    bare = outbound._bare(host)
    assert bare is not None
    is_name = bare == "localhost" or bare.endswith((".localhost", ".local", ".home.arpa")) or bare == "kitchen"
    assert is_name or outbound._address(bare) is not None


@given(st.ip_addresses())
def test_an_address_that_the_whole_world_can_reach_is_beyond_the_house(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_global:
        assert reach(str(address)) is Egress.ANY
    if reach(str(address)) is Egress.NONE:
        assert address.is_loopback or getattr(address, "ipv4_mapped", None)


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_a_port_or_ipv6_around_an_address_changes_nothing(address: ipaddress.IPv4Address, port: int) -> None:
    far = reach(str(address))
    assert {reach(f"{address}:{port}"), reach(f"::ffff:{address}"), reach(f"[::ffff:{address}]:{port}")} == {far}


@given(st.ip_addresses(v=4, network="127.0.0.0/8") | st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_an_address_written_as_only_some_programs_read_it_is_not_trusted(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for odd in (str(number), hex(number), f"0{number:o}", f"{number >> 24}.{number & 0xFFFFFF}", f"0{address}"):
        assert reach(odd) is Egress.ANY


# --------------------------------------------------------------------------------------------- looked up


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Stand in for the name server: a table of names and their addresses."""
    table: dict[str, list[str]] = {}

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in table[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table


@pytest.mark.parametrize(
    ("name", "addresses", "far"),
    [
        ("nas", ["192.168.1.5"], Egress.LAN),
        ("nas.lan", ["192.168.1.5", "fd00::5"], Egress.LAN),
        ("nas.internal:11434", ["10.0.0.7"], Egress.LAN),
        ("nas.lan", ["192.168.1.5", "93.184.215.14"], Egress.ANY),
        ("nas.local", ["93.184.215.14"], Egress.ANY),
        ("nas", ["127.0.0.1"], Egress.NONE),
        ("nas", [], Egress.ANY),
        ("api.example.com", ["192.168.1.5"], Egress.ANY),
        ("kitchen", ["127.0.1.1"], Egress.NONE),
        ("kitchen", ["192.168.77.77"], Egress.LAN),
        ("kitchen", ["93.184.215.14"], Egress.ANY),
        ("localhost", ["93.184.215.14"], Egress.NONE),
    ],
)
def test_a_name_is_as_far_as_its_farthest_address(
    names: dict[str, list[str]], name: str, addresses: list[str], far: Egress
) -> None:
    names[name.partition(":")[0]] = addresses
    assert asyncio.run(look_up(name)) is far
    assert reach(name) is far


def test_a_name_that_does_not_resolve_stays_as_it_was_known(names: dict[str, list[str]]) -> None:
    assert asyncio.run(look_up("nas.local")) is Egress.LAN
    assert asyncio.run(look_up("nas")) is Egress.ANY
    names["nas"] = ["192.168.1.5"]
    asyncio.run(look_up("nas"))
    names.clear()
    assert asyncio.run(look_up("nas")) is Egress.LAN


def test_a_name_that_moves_out_of_the_house_is_noticed(names: dict[str, list[str]]) -> None:
    async def scene() -> None:
        names["nas"] = ["192.168.1.5"]
        assert await look_up("nas") is Egress.LAN
        names["nas"] = ["93.184.215.14"]
        async with beside(outbound.keep_looking_up(), "names"):
            await asyncio.sleep(outbound.LOOK_AGAIN_S - 1)
            assert reach("nas") is Egress.LAN
            await keep_trying(lambda: _is("nas", Egress.ANY), on=AssertionError)

    run_skipping(scene(), counts_work=False)


async def _is(host: str, far: Egress) -> None:
    assert reach(host) is far


def test_the_households_word_goes_before_all_else(names: dict[str, list[str]]) -> None:
    names["gateway"] = ["192.168.1.1"]
    declare("gateway", Egress.ANY)
    declare("llm.example.com", Egress.LAN)
    declare("localhost:4000", Egress.ANY)
    assert asyncio.run(look_up("gateway:80")) is Egress.ANY
    assert reach("LLM.example.com:443") is Egress.LAN
    assert reach("localhost:4000") is Egress.ANY
    assert reach("localhost:8080") is Egress.NONE


# ----------------------------------------------------------------------------------------- the checkpoint


@pytest.mark.parametrize("limit", list(Egress))
@pytest.mark.parametrize(
    ("host", "far"), [("127.0.0.1", Egress.NONE), ("10.0.0.1", Egress.LAN), ("8.8.8.8", Egress.ANY)]
)
def test_what_may_not_travel_so_far_is_refused_and_no_row_is_left(
    run: Run[None], limit: Egress, host: str, far: Egress
) -> None:
    order = [Egress.NONE, Egress.LAN, Egress.ANY]

    async def scene() -> None:
        notes: list[Sent] = []
        with within(limit, notes.append):
            if order.index(far) <= order.index(limit):
                leaving(host, 100, "text", "answer")
                assert [(sent.host, sent.reach, sent.bytes) for sent in notes] == (
                    [(host, far, 100)] if far is not Egress.NONE else []
                )
            else:
                assert not allows(host)
                with pytest.raises(EgressRefused, match=f"nothing may be sent to {host}"):
                    leaving(host, 100, "text", "answer")
                assert not notes

    run(scene())


def test_within_a_limit_nothing_goes_further_and_every_call_is_noted(run: Run[None]) -> None:
    async def scene() -> None:
        notes: list[Sent] = []
        with within(Egress.LAN, notes.append):
            with within(Egress.ANY):
                assert not allows("8.8.8.8")
                leaving("10.0.0.1", 1, "text", "inner")
            with within(Egress.NONE):
                assert not allows("10.0.0.1")
            assert allows("10.0.0.1")
        assert allows("8.8.8.8")
        leaving("8.8.8.8", 1, "text", "outside")
        assert [sent.why for sent in notes] == ["inner"]

    run(scene())


def test_a_task_has_the_limit_of_who_started_it(run: Run[None]) -> None:
    async def scene() -> None:
        refused = asyncio.Event()
        ready = asyncio.Event()

        async def work() -> None:
            await ready.wait()
            with pytest.raises(EgressRefused):
                leaving("10.0.0.1", 1, "text", "answer")
            refused.set()

        async with asyncio.TaskGroup() as tasks:
            with within(Egress.NONE):
                tasks.create_task(work())
            ready.set()
        assert refused.is_set()

    run(scene())


@pytest.mark.parametrize("ending", [ValueError, asyncio.CancelledError, GeneratorExit])
def test_what_is_sent_in_pieces_is_one_row_however_it_ends(run: Run[None], ending: type[BaseException]) -> None:
    async def scene() -> None:
        notes: list[Sent] = []
        with within(Egress.ANY, notes.append):
            with pytest.raises(ending), sending("8.8.8.8:443", "audio", "hearing") as sent:
                sent.count(3)
                sent.count(4)
                assert not notes
                raise ending
            with sending("8.8.8.8", "audio", "hearing"):
                pass
        assert [(one.host, one.bytes, one.kind) for one in notes] == [("8.8.8.8", 7, "audio")]

    run(scene())


# --------------------------------------------------------------------------------------------- engines


@dataclass
class Ear:
    """Whoever listens on an address that is not this machine's by the household's word; what came is kept."""

    port: int = 0
    connections: int = 0
    bytes: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)


FAR = "127.0.0.2"


@asynccontextmanager
async def far_away(hangs_up_after: int | None = None) -> AsyncIterator[Ear]:
    """Listen as somebody beyond the house who says nothing, and hangs up after so many bytes."""
    ear = Ear()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ear.connections += 1
        while data := await reader.read(65_536):
            ear.bytes += len(data)
            if hangs_up_after is not None and ear.bytes >= hangs_up_after:
                break
        ear.left.set()
        writer.close()

    declare(FAR, Egress.ANY)
    async with await asyncio.start_server(take, FAR, 0) as server:
        ear.port = server.sockets[0].getsockname()[1]
        yield ear


async def spoken(seconds: int = 1, *, ends: bool = True) -> AsyncIterator[Audio | Pause]:
    for _ in range(seconds * 10):
        yield SOUND
    if not ends:
        await asyncio.Event().wait()


@needs_wyoming
def test_a_persona_that_tells_nobody_opens_no_connection_and_is_heard_and_spoken_for_all_the_same(
    run: Run[None],
) -> None:
    async def scene() -> None:
        notes: list[Sent] = []
        async with far_away() as ear:
            uri = f"tcp://{FAR}:{ear.port}"
            async with (
                stt_wyoming.open(stt_wyoming.Settings(uri=uri)) as far_ears,
                script_engine.open(script_engine.Settings(texts=("what time is it",), loop=True)) as near_ears,
                tts_wyoming.open(tts_wyoming.Settings(uri=uri)) as far_voice,
                tone_engine.open(tone_engine.Settings()) as near_voice,
            ):
                hears = SttLine([("wyoming", far_ears), ("script", near_ears)])
                says = TtsLine([("wyoming", far_voice), ("tone", near_voice)])
                for limit in (Egress.NONE, Egress.LAN):
                    with within(limit, notes.append):
                        texts = [one.text async for one in hears.transcribe(spoken(), Hints()) if one.final]
                        sounds = [sound async for sound in says.speak("It is noon.", Voice(engine="wyoming"))]
                        assert texts == ["what time is it"]
                        assert sounds
                        with pytest.raises(EgressRefused):
                            await anext(far_ears.transcribe(spoken(), Hints()))
                        with pytest.raises(EgressRefused):
                            await anext(far_voice.speak("It is noon.", Voice()))
                assert hears.health == says.health == "ok", "who may not be asked has not failed"
            assert ear.connections == 0
        assert not notes

    run(scene())


@needs_wyoming
def test_where_only_a_far_engine_is_there_one_line_says_so(run: Run[None]) -> None:
    async def scene() -> None:
        async with far_away() as ear, tts_wyoming.open(tts_wyoming.Settings(uri=f"tcp://{FAR}:{ear.port}")) as voice:
            with (
                within(Egress.NONE),
                pytest.raises(EngineUnavailable, match=r"sent to 127\.0\.0\.2 here, and no tts"),
            ):
                await anext(TtsLine([("wyoming", voice)]).speak("It is noon.", Voice()))
            assert ear.connections == 0

    run(scene())


@needs_wyoming
def test_an_utterance_is_one_row_of_the_bytes_that_went_out_also_where_it_breaks_off(run: Run[None]) -> None:
    async def scene() -> None:
        notes: list[Sent] = []
        async with (
            far_away() as ear,
            stt_wyoming.open(stt_wyoming.Settings(uri=f"tcp://{FAR}:{ear.port}")) as ears,
        ):
            with within(Egress.ANY, notes.append):
                hearing = ears.transcribe(spoken(2, ends=False), Hints())
                async with asyncio.TaskGroup() as tasks:
                    task = tasks.create_task(_first(hearing))
                    await keep_trying(
                        lambda: _has(ear, 2 * RATE * 2), on=AssertionError, first_s=0.01, longest_s=0.01
                    )
                    assert not notes
                    task.cancel()
                await close(hearing)
        [sent] = notes
        assert (sent.host, sent.reach, sent.kind, sent.why) == (FAR, Egress.ANY, "audio", "hearing")
        assert sent.bytes == ear.bytes > 2 * RATE * 2

    run_skipping(scene())


async def _first(hearing: AsyncIterator[Any]) -> None:
    await anext(hearing)


async def _has(ear: Ear, size: int) -> None:
    assert ear.bytes > size


@needs_wyoming
def test_a_sentence_that_nobody_answered_is_a_row_and_a_server_that_is_not_there_is_none(run: Run[None]) -> None:
    async def scene() -> None:
        notes: list[Sent] = []
        async with far_away(hangs_up_after=20) as ear:
            port = ear.port
            async with tts_wyoming.open(tts_wyoming.Settings(uri=f"tcp://{FAR}:{port}")) as voice:
                with within(Egress.ANY, notes.append), pytest.raises(EngineError, match="hung up"):
                    await anext(voice.speak("It is noon.", Voice()))
        [sent] = notes
        assert (sent.bytes, sent.kind, sent.why) == (ear.bytes, "text", "speaking")
        async with tts_wyoming.open(tts_wyoming.Settings(uri=f"tcp://{FAR}:{port}")) as voice:
            with within(Egress.ANY, notes.append), pytest.raises(EngineError, match="cannot be reached"):
                await anext(voice.speak("It is noon.", Voice()))
        assert notes == [sent]

    run(scene())


# ----------------------------------------------------------------------------------------------- a room


def settings_with(uri: str, state_dir: Path, egress: Egress) -> Settings:
    """Return a room that is to hear and speak by a server, as a persona whose words may travel so far."""
    folder = state_dir / "personas" / "secret"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: Secret\negress: {egress}\nvoice: {{engine: wyoming}}\n")
    (folder / "system_prompt.md").write_text("Tell nobody.")
    server = {"engine": "wyoming", "uri": uri}
    listen, personas = {"mode": "open"}, {"default": "secret"}
    return Settings.model_validate({"stt": server, "tts": server, "listen": listen, "personas": personas})


@needs_wyoming
@pytest.mark.parametrize("egress", [Egress.NONE, Egress.LAN, Egress.ANY])
def test_a_room_hears_and_speaks_through_who_may_know_and_the_receipt_says_so(
    run: Run[None], tmp_path: Path, egress: Egress
) -> None:
    from wyoming.audio import AudioChunk, AudioStart, AudioStop

    from wyoming_house import Guest, hears, house, tone

    async def serves(guest: Guest) -> None:
        if (await guest.until("transcribe", "synthesize")).type == "transcribe":
            await hears(guest)
        else:
            await guest.send(AudioStart(22_050, 2, 1), AudioChunk(22_050, 2, 1, tone(1)), AudioStop())
            await guest.gone()

    async def scene() -> None:
        async with house(serves) as server:
            declare("127.0.0.1", Egress.LAN)
            async with room(settings_with(server.uri, tmp_path, egress), tmp_path) as rehearsal:
                rehearsal.device.visit(await said("what time is it", "en-us+m3", lead_s=0, tail_s=0))
                (turn,) = await rehearsal.at_rest()
                assert turn.heard.startswith("what time is it")
                assert turn.ended is Ended.COMPLETED
                assert turn.spoken
                parts = rehearsal.room.parts
                found = [each for each in await entries(parts.minds.ledger, LONG_AGO) if each.trace == turn.trace]
                served = parts.stt.served_by, rehearsal.room.synthesiser.served_by
        if egress is Egress.NONE:
            assert not server.guests
            assert not found
            assert served == ("pocketsphinx", "espeak")
        else:
            assert served == ("wyoming", "wyoming")
            assert {(each.sent.kind, each.sent.why) for each in found} == {("audio", "hearing"), ("text", "speaking")}
            assert {(each.persona, each.turn, each.session) for each in found} == {("secret", 1, turn.session)}

    run(scene())


def test_who_takes_over_in_mid_turn_is_heard_by_nobody_who_may_not_know(run: Run[None], tmp_path: Path) -> None:
    folder = tmp_path / "personas" / "hermit"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: Hermit\negress: none\n")
    (folder / "system_prompt.md").write_text("Tell nobody.")
    routines = tmp_path / "routines"
    routines.mkdir()
    (routines / "diary.yaml").write_text('{persona: hermit, steps: {tell: {say: "Dear diary."}}}')

    async def scene() -> None:
        async with room(scripted(routines={"dir": str(routines)}), tmp_path) as rehearsal:
            [voice] = rehearsal.room.synthesiser.places
            voice.engine.host = "voices.example.com"  # type: ignore[attr-defined]
            converse = rehearsal.room.conversation
            turn = await converse.answer(Prompt("", Source.CLI, routine="diary"))
            assert (turn.spoken, turn.ended) == ("", Ended.FAILED)
            assert voice.engine.spoken == []  # type: ignore[attr-defined]

    run(scene())
