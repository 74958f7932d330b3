"""A device becomes part of the house by a short code, and nobody does without it."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import Run
from roomtone.core.errors import HubGone, PayloadError, RegistrationError, RoomtoneError, UsageError
from roomtone.enrolling import Half, Sealed, Shared, join, known, new_code, read_code, receive, send, shown
from roomtone.flow import beside
from roomtone.hub.authority import Authority, make_authority
from roomtone.hub.enrolment import CLIENTS, GUESSES, Terms, enroll
from roomtone.settings import Device, Hub

CODE = "481233"
WRONG = "481234"
URL = "mqtts://hub.local:8883"


@dataclass
class Door:
    """An enrolment that runs: its port, and how it ended."""

    port: int = 0
    came: str | None = None
    failed: str | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def join(self, folder: Path, id_: str = "kitchen", code: str = CODE) -> None:
        await join("127.0.0.1", self.port, code, Device(id=id_, room="kitchen"), folder)


@asynccontextmanager
async def a_door(authority: Authority, *, replace: bool = False, open_s: float = 60.0) -> AsyncIterator[Door]:
    door, opened = Door(), asyncio.Event()

    def is_open(port: int) -> None:
        door.port = port
        opened.set()

    async def run() -> None:
        try:
            terms = Terms("ours", URL, CODE, replace)
            wish = await enroll(authority, terms, host="127.0.0.1", port=0, open_s=open_s, opened=is_open)
            door.came = wish.id
        except RoomtoneError as error:
            door.failed = error.message
        door.over.set()

    async with beside(run(), "an open door"):
        await opened.wait()
        yield door


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "authority", "ours")


def test_the_right_code_makes_a_device(authority: Authority, tmp_path: Path, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            await door.join(tmp_path)
            await door.over.wait()
            assert door.came == "kitchen"

    run_in_real_time(scene())
    hub = known(Hub(), tmp_path)
    assert (hub.url, hub.home) == (URL, "ours")
    assert hub.cert is not None
    cert = x509.load_pem_x509_certificate(hub.cert.read_bytes())
    assert cert.subject.rfc4514_string() == "CN=kitchen"
    cert.verify_directly_issued_by(authority.ca)
    assert authority.issued() == {"kitchen"}


def test_what_a_device_keeps_is_its_own_users_alone(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            await door.join(tmp_path)

    run_in_real_time(scene())
    for folder in (tmp_path / "hub", tmp_path / "authority"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = [file for file in folder.rglob("*") if file.is_file() and file.name != "lock"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_what_was_configured_goes_before_what_joining_left(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            await door.join(tmp_path)

    run_in_real_time(scene())
    hub = known(Hub(url="mqtts://nas.local:8883", share_texts=True), tmp_path)
    assert (hub.url, hub.home, hub.share_texts) == ("mqtts://nas.local:8883", "ours", True)
    assert known(Hub(), tmp_path / "elsewhere") == Hub()


def test_a_wrong_code_is_told_to_the_device_and_the_right_one_still_works(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            with pytest.raises(RegistrationError, match=f"the code was wrong; {GUESSES - 1} tries are left"):
                await door.join(tmp_path, code=WRONG)
            assert not (tmp_path / "hub" / "cert.pem").exists()
            await door.join(tmp_path)

    run_in_real_time(scene())


def test_five_wrong_codes_shut_the_door_for_the_right_one_too(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            for _ in range(GUESSES):
                with pytest.raises(RegistrationError):
                    await door.join(tmp_path, code=WRONG)
            await door.over.wait()
            assert door.failed == "5 wrong codes came, so nobody was enrolled; run it again for a new code"
            with pytest.raises(HubGone, match="nobody enrolls devices"):
                await door.join(tmp_path)

    run_in_real_time(scene())
    assert authority.issued() == set()


def test_wrong_codes_that_come_at_once_are_counted_one_by_one(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def guess(door: Door, n: int, outcomes: list[str]) -> None:
        try:
            await door.join(tmp_path / str(n), code=CODE if n == CLIENTS - 1 else WRONG)
            outcomes.append("in")
        except (RegistrationError, HubGone) as error:
            outcomes.append(str(error.details.get("why", "gone")))

    async def scene() -> None:
        outcomes: list[str] = []
        async with a_door(authority) as door:
            held = [await _as_far_as_its_proof(door, CODE if n == GUESSES else WRONG) for n in range(GUESSES + 1)]
            for writer, proof in held:  # the right one is the sixth
                writer.write(proof)
            await door.over.wait()
            assert door.failed is not None
            assert door.came is None
            for writer, _ in held:
                writer.close()
            async with asyncio.TaskGroup() as group:
                for n in range(CLIENTS):
                    group.create_task(guess(door, n, outcomes), name="a guess")
        assert outcomes == ["gone"] * CLIENTS

    run_in_real_time(scene())
    assert authority.issued() == set()


async def _as_far_as_its_proof(door: Door, code: str) -> tuple[asyncio.StreamWriter, bytes]:
    """Go as far as the sealed wish, and return it instead of sending it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    shared = Shared(code, device=True)
    await send(writer, shared.half)
    shared.meet(await receive(reader, Half))
    return writer, shared.seal(Half(pake="00")).model_dump_json().encode() + b"\n"


def test_the_door_is_shut_after_one_device(authority: Authority, tmp_path: Path, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            await door.join(tmp_path / "one")
            await door.over.wait()
            with pytest.raises(HubGone):
                await door.join(tmp_path / "two", "bath")

    run_in_real_time(scene())
    assert authority.issued() == {"kitchen"}


def test_of_two_devices_at_once_one_comes_in_and_the_other_is_told(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def come(door: Door, id_: str, refused: list[str]) -> None:
        try:
            await door.join(tmp_path / id_, id_)
        except (RegistrationError, HubGone) as error:
            refused.append(error.message)

    async def scene() -> None:
        refused: list[str] = []
        async with a_door(authority) as door, asyncio.TaskGroup() as group:
            for id_ in ("bath", "attic"):
                group.create_task(come(door, id_, refused), name=id_)
        assert len(refused) == 1

    run_in_real_time(scene())
    assert len(authority.issued()) == 1


def test_the_door_shuts_when_nobody_comes(authority: Authority, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        async with a_door(authority, open_s=0.01) as door:
            await door.over.wait()
            assert door.failed is not None
            assert "no device came" in door.failed

    run_in_real_time(scene())


def test_an_id_that_is_in_use_is_refused_unless_it_is_to_be_replaced(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            await door.join(tmp_path / "mine")
        async with a_door(authority) as door:
            with pytest.raises(RegistrationError, match="there is a kitchen already"):
                await door.join(tmp_path / "pretender")
            assert door.came is None
        number = authority.number
        async with a_door(authority, replace=True) as door:
            await door.join(tmp_path / "successor")
        assert authority.number == number + 1

    run_in_real_time(scene())
    crl = x509.load_pem_x509_crl(authority.crl_pem)
    old, new = (_serial(tmp_path / who / "hub" / "cert.pem") for who in ("mine", "successor"))
    assert crl.get_revoked_certificate_by_serial_number(old) is not None
    assert crl.get_revoked_certificate_by_serial_number(new) is None
    assert authority.shut_out() == set()


def _serial(cert: Path) -> int:
    return x509.load_pem_x509_certificate(cert.read_bytes()).serial_number


def test_the_same_device_may_come_again(authority: Authority, tmp_path: Path, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        for _ in range(2):
            async with a_door(authority) as door:
                await door.join(tmp_path)

    run_in_real_time(scene())


@pytest.mark.parametrize("name", ["hub", "homeassistant", "broker"])
def test_no_device_gets_a_name_of_the_houses_own(
    name: str, authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with a_door(authority, replace=True) as door:
            with pytest.raises(RegistrationError, match="is a name of the house's own"):
                await door.join(tmp_path, name)

    run_in_real_time(scene())
    assert authority.issued() == set()


GARBAGE = [
    b"\n",
    b"hello\n",
    b"\xff\xfe\x00\n",
    b"[" * 10_000 + b"\n",
    b"x" * 40_000 + b"\n",
    b'{"pake": "00"}\n',
    b'{"pake": "42' + b"00" * 32 + b'"}\n',
    b'{"v": 2, "pake": "41"}\n',
    b'{"sealed": "x"}\n',
    b"GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_gets_one_line_back_and_costs_no_guess(
    garbage: bytes, authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            for _ in range(GUESSES + 1):
                reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
                writer.write(garbage)
                answer = await _all_of(reader)
                if answer:  # a reset may overtake it, where more was sent than was read
                    assert json.loads(answer)["code"] == "PAYLOAD_ERROR"
                writer.close()
            await door.join(tmp_path)

    run_in_real_time(scene())


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def test_what_was_recorded_from_another_cannot_be_said_again(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    sent: list[bytes] = []

    async def listen_in(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            sent.append(await reader.readline())
            hub_writer.write(sent[-1])
            writer.write(await hub_reader.readline())
        hub_writer.close()
        writer.close()

    async def scene() -> None:
        async with a_door(authority) as door:
            server = await asyncio.start_server(lambda *io: listen_in(door.port, *io), "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                await join("127.0.0.1", port, CODE, Device(id="bath"), tmp_path)
        assert CODE.encode() not in b"".join(sent)
        async with a_door(authority) as door:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(sent[0])
            await reader.readline()
            writer.write(sent[1])
            assert json.loads(await reader.readline())["code"] == "WRONG_CODE"
            writer.close()
            assert door.came is None

    run_in_real_time(scene())


def test_slow_clients_keep_nobody_out(authority: Authority, tmp_path: Path, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        async with a_door(authority) as door:
            slow = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(CLIENTS - 1)]
            await door.join(tmp_path)
            for _, writer in slow:
                writer.close()

    run_in_real_time(scene())


def test_a_silent_hub_is_given_up(run: Run[None]) -> None:
    async def scene() -> None:
        with pytest.raises(HubGone, match="does not answer"):
            await receive(asyncio.StreamReader(), Half)

    run(scene())


def test_what_the_hub_sends_never_costs_what_was_there(
    authority: Authority, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    """A hub that sends the certificate of another key leaves the old one in place."""

    async def scene() -> None:
        async with a_door(authority) as door:
            await door.join(tmp_path / "a")
        async with a_door(authority, replace=True) as door:
            await door.join(tmp_path / "b", "bath")
        (tmp_path / "a" / "hub" / "key.pem").write_bytes((tmp_path / "b" / "hub" / "key.pem").read_bytes())
        before = (tmp_path / "a" / "hub" / "cert.pem").read_bytes()
        _issue_for_another_key(authority, tmp_path)
        async with a_door(authority, replace=True) as door:
            with pytest.raises(RegistrationError, match="for another key"):
                await door.join(tmp_path / "a")
        assert (tmp_path / "a" / "hub" / "cert.pem").read_bytes() == before

    run_in_real_time(scene())


def _issue_for_another_key(authority: Authority, folder: Path) -> None:
    _, cert = authority.pair("other")
    object.__setattr__(authority, "issue", lambda csr, name: cert)


# ------------------------------------------------------------------------------------------------ codes


def test_codes_are_six_digits_and_differ() -> None:
    codes = {new_code() for _ in range(200)}
    assert len(codes) > 150
    assert all(read_code(shown(code)) == code for code in codes)


@pytest.mark.parametrize("text", ["", "12345", "123456789", "abcdef", "12 34", "１２３４５６"])
def test_what_is_no_code_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError, match="6 to 8 digits"):
        read_code(text)


@given(st.binary(max_size=200) | st.binary(min_size=32, max_size=32).map(b"A".__add__))
@example(b"A5")
@example(b"A\x01")
@example(b"A" + b"5" * 32)
def test_no_half_of_a_key_breaks_the_exchange(half: bytes) -> None:
    shared = Shared(CODE, device=False)
    try:
        shared.meet(Half.model_construct(v=1, pake=half.hex()))
    except PayloadError:
        return
    assert len(half) == 33, "some random bytes are a point of the curve; the code still decides"
    assert half[:1] == b"A"


@cache
def two_sides() -> tuple[Shared, Shared]:
    """Return device and hub once both have the key."""
    one, other = Shared(CODE, device=True), Shared(CODE, device=False)
    one.meet(other.half)
    other.meet(one.half)
    return one, other


@given(st.text(max_size=200))
def test_nothing_that_is_not_sealed_with_the_key_opens(text: str) -> None:
    _, other = two_sides()
    with pytest.raises(RegistrationError, match="the code was wrong"):
        other.unseal(Half, Sealed.model_construct(sealed=text))


def test_a_side_does_not_take_its_own_words_for_the_others() -> None:
    one, other = two_sides()
    mine = one.seal(Half(pake="00"))

    with pytest.raises(RegistrationError):
        one.unseal(Half, mine)
    assert other.unseal(Half, mine) == Half(pake="00")
