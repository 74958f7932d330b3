"""What systemd is told of the daemon and the hub, over the socket that it listens on."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from rooms import room, scripted, until
from roomtone.control import ask_daemon
from roomtone.core.dialog import Source
from roomtone.core.machine import Mode
from roomtone.core.signals import Beat, Prompt
from roomtone.edges import service
from roomtone.engines.audio import Capture
from roomtone.flow import beside
from roomtone.hub.serve import serve
from roomtone.link.subscription import Inbound, Subscription
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings
from test_daemon import BOUND_S, running

WATCHDOG_S = 15.0


class Systemd:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.setblocking(False)
        self.env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}

    def told(self) -> list[str]:
        """Return what it was told since it was asked last."""
        said = []
        while True:
            try:
                said.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return said

    def waits_for(self, start: str) -> str:
        """Return the next message that begins so."""
        self._socket.settimeout(BOUND_S)
        while not (said := self._socket.recv(4096).decode()).startswith(start):
            pass
        self._socket.setblocking(False)
        return said

    def close(self) -> None:
        self._socket.close()


@contextmanager
def systemd_at(address: str) -> Iterator[Systemd]:
    manager = Systemd(address)
    try:
        yield manager
    finally:
        manager.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with systemd_at(str(tmp_path / "notify")) as manager:
        yield manager


def as_a_service(rehearsal: Rehearsal, env: Mapping[str, str]) -> Any:
    conversation = rehearsal.room.conversation
    return beside(service.run(lambda taken: conversation.post(Beat(taken)), lambda: "Listening", env), "service")


# ----------------------------------------------------------------------------------------- the protocol


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_systemd_is_told_over_a_socket_with_or_without_a_file(kind: str, tmp_path: Path) -> None:
    address = str(tmp_path / "notify") if kind == "file" else f"@roomtone-{os.getpid()}"
    with systemd_at(address) as manager:
        service.tell("READY=1\nSTATUS=Listening", manager.env)
        assert manager.told() == ["READY=1\nSTATUS=Listening"]


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "vsock:2:1234", "rubbish"])
def test_a_service_manager_that_is_not_there_harms_nobody(address: str) -> None:
    service.tell("READY=1", {"NOTIFY_SOCKET": address})


def test_who_was_not_started_by_systemd_is_not_watched(run: Run[None]) -> None:
    async def scene() -> None:
        async with asyncio.timeout(1):
            await service.run(lambda _: pytest.fail("nobody asked"), lambda: "", {})

    run(scene())


@pytest.mark.parametrize(
    ("env", "limit"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_it_names(env: dict[str, str], limit: float | None) -> None:
    assert service.watchdog_s(env) == limit


def test_a_service_says_that_it_is_ready_that_it_lives_how_it_stands_and_that_it_stops(
    run: Run[None], systemd: Systemd
) -> None:
    status = ["Listening"]

    async def scene() -> None:
        async with beside(service.run(lambda taken: taken(), lambda: status[0], systemd.env), "service"):
            await asyncio.sleep(0)
            assert systemd.told() == ["READY=1\nSTATUS=Listening", "WATCHDOG=1"]
            status[0] = "audio: microphone lost"
            await asyncio.sleep(WATCHDOG_S)
            assert systemd.told() == ["STATUS=audio: microphone lost", "WATCHDOG=1", "WATCHDOG=1"]
        assert systemd.told() == ["STOPPING=1"]

    run(scene())


def test_a_machine_that_was_slow_to_start_is_given_that_long_for_a_beat_and_only_for_as_long_again(
    run: Run[None], systemd: Systemd
) -> None:
    usual = f"WATCHDOG_USEC={WATCHDOG_S * 1e6:.0f}"

    async def scene(took_s: float) -> list[str]:
        with_it = service.run(lambda taken: taken(), lambda: "", systemd.env, took_s=took_s)
        told = []
        async with beside(with_it, "service"):
            for _ in range(6):
                await asyncio.sleep(WATCHDOG_S / 2)
                told += systemd.told()
        return [line for line in told if "USEC" in line]

    slow = 2 * WATCHDOG_S
    assert run(scene(slow)) == [f"READY=1\nSTATUS=\nWATCHDOG_USEC={slow * 1e6:.0f}", usual]
    assert run(scene(WATCHDOG_S / 2)) == []


# --------------------------------------------------------------------------------------- the conversation


async def beats(systemd: Systemd, times: int) -> int:
    """Return how often it was told that all is well in so many times the watchdog's time: a socket holds few."""
    systemd.told()
    count = 0
    for _ in range(times):
        await asyncio.sleep(WATCHDOG_S)
        count += systemd.told().count("WATCHDOG=1")
    return count


def test_a_conversation_at_rest_feeds_the_watchdog_in_time_and_changes_nothing(
    run: Run[None], systemd: Systemd, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with room(scripted(), tmp_path) as rehearsal, as_a_service(rehearsal, systemd.env):
            before = rehearsal.room.conversation.state
            assert await beats(systemd, 10) >= 29
            assert rehearsal.room.conversation.state == before
            assert not rehearsal.turns

    run(scene())


def test_a_model_that_thinks_for_long_and_an_answer_that_takes_long_are_no_hang(
    run: Run[None], systemd: Systemd, tmp_path: Path
) -> None:
    late = {"text": "well then", "first_piece_s": 4 * WATCHDOG_S}
    slow = {"engine": "script", "texts": [late], "first_piece_s": 200}
    settings = scripted(llm={"route": ["slow"], "providers": {"slow": slow}})

    async def scene() -> None:
        async with room(settings, tmp_path) as rehearsal, as_a_service(rehearsal, systemd.env):
            rehearsal.room.conversation.post(Prompt("why is the sky blue at noon", Source.CLI))
            await until(rehearsal, "turn.begun")
            assert await beats(systemd, 3) >= 8
            assert rehearsal.turns == [], "it thinks still"
            rehearsal.room.conversation.post(Prompt("word " * 300, Source.CLI, verbatim=True))
            await until(rehearsal, "turn.ended")
            await until(rehearsal, "turn.first_sound")
            assert await beats(systemd, 2) >= 5
            assert rehearsal.room.conversation.state.mode is Mode.SPEAKING

    run(scene())


def test_a_room_whose_microphone_gives_nothing_any_more_is_no_hang(
    run: Run[None], systemd: Systemd, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with room(scripted(), tmp_path) as rehearsal, as_a_service(rehearsal, systemd.env):

            async def silent(_: Any) -> Capture:
                await asyncio.Event().wait()
                raise AssertionError

            type(rehearsal.device.microphone).__anext__, kept = silent, type(rehearsal.device.microphone).__anext__
            try:
                assert await beats(systemd, 3) >= 8
            finally:
                type(rehearsal.device.microphone).__anext__ = kept

    run(scene())


def test_a_conversation_that_hangs_is_not_said_to_live_though_all_else_goes_on(
    run: Run[None], systemd: Systemd, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with room(scripted(), tmp_path) as rehearsal, as_a_service(rehearsal, systemd.env):
            inbox = rehearsal.room.parts.inbox
            post, lost = inbox.post, []
            inbox.post = lost.append  # type: ignore[method-assign]
            assert await beats(systemd, 3) == 0
            assert len(lost) >= 8
            inbox.post = post  # type: ignore[method-assign]

    run(scene())


# ------------------------------------------------------------------------------------ as processes


def test_the_daemon_tells_systemd_when_its_room_is_open_that_it_goes_on_and_that_it_stops(
    run_in_real_time: Run[str], systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def state_at(path: Path) -> str:
        [answer] = [message async for message in ask_daemon(path, {"command": "status"})]
        return str(answer["result"]["state"])

    for name, value in (systemd.env | {"WATCHDOG_USEC": "300000", "RUNTIME_DIRECTORY": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    with running(tmp_path, {"audio": {"engine": "wav"}, "listen": {"mode": "button"}}) as daemon:
        first = systemd.waits_for("READY=1")
        assert "STATUS=press the button, and it listens" in first.splitlines()
        assert run_in_real_time(state_at(tmp_path / "control.sock")) == "idle", "ready is ready"
        for _ in range(5):
            systemd.waits_for("WATCHDOG=1")
        assert daemon.stop() == 0
        systemd.waits_for("STOPPING=1")
        assert (tmp_path / "starts").read_text() == "", "a good end is no crash"


def test_a_hub_is_ready_once_it_knows_that_the_broker_is_not_there(
    run_in_real_time: Run[None], systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.env["NOTIFY_SOCKET"])
    settings = Settings.model_validate({"state_dir": tmp_path, "hub": {"url": "mqtt://127.0.0.1:1"}})

    async def scene() -> None:
        async with beside(serve(settings), "hub"):
            told: list[str] = []
            async with asyncio.timeout(BOUND_S):
                while not (told := systemd.told()):  # noqa: ASYNC110  # nobody says when a datagram comes
                    await asyncio.sleep(0.01)
            assert told[0].startswith("READY=1\nSTATUS=Without the broker: ")
        assert systemd.told()[-1] == "STOPPING=1"

    run_in_real_time(scene())


# ------------------------------------------------------------------------------------------------ the hub


def test_a_hub_that_hangs_at_what_came_is_not_said_to_live(run: Run[None], systemd: Systemd) -> None:
    stuck = asyncio.Event()

    async def take(message: Inbound) -> None:
        if message.topic == "bad":
            await stuck.wait()

    async def scene() -> None:
        incoming = Subscription("+", take, no_local=False)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(beside(incoming.serve(), "serving"))
            await stack.enter_async_context(beside(service.run(incoming.ask, lambda: "", systemd.env), "service"))
            assert await beats(systemd, 2) >= 5
            incoming.put(Inbound("good", b"", False, None, None, 0.0), 1)
            assert await beats(systemd, 2) >= 5
            incoming.put(Inbound("bad", b"", False, None, None, 0.0), 1)
            assert await beats(systemd, 4) <= 1
            stuck.set()
            assert await beats(systemd, 2) >= 5

    run(scene())


# ----------------------------------------------------------------------------------------------- the pause


class Starts:
    """A service's folder under /run, its pauses, and what systemd says of who began it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paused: list[float] = []
        self.now = 1000.0
        self.by_hand = False
        self._env = {"RUNTIME_DIRECTORY": str(folder), "NOTIFY_SOCKET": str(folder / "nobody")}
        monkeypatch.setattr(time, "sleep", self.paused.append)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(service, "_by_hand", lambda _: self.by_hand)

    def run(self, for_s: float = 1.0, *, crashes: bool = True) -> float:
        """Begin, run and end; return the pause before."""
        self.paused.clear()
        try:
            with service.backing_off("roomtone", self._env):
                self.now += for_s
                if crashes:
                    raise RuntimeError
        except RuntimeError:
            assert crashes
        return sum(self.paused)


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    return Starts(tmp_path, monkeypatch)


def test_the_first_crashes_cost_no_pause_and_the_next_ones_twice_as_much_each_up_to_a_minute(starts: Starts) -> None:
    assert [starts.run() for _ in range(10)] == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60]


def test_a_pause_is_no_part_of_the_time_in_which_a_start_must_be_over(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(service, "tell", lambda message, _: told.append(message))
    for _ in range(9):
        starts.run()
    unit = (Path(__file__).parent.parent / "systemd" / "roomtone.service").read_text("utf-8")
    whole = service.LONGEST_PAUSE_S + int(unit.split("TimeoutStartSec=")[1].split()[0])
    assert told[-1].startswith(f"EXTEND_TIMEOUT_USEC={whole * 1e6:.0f}\nSTATUS=")


def test_who_was_stopped_or_ran_long_begins_at_once(starts: Starts) -> None:
    for _ in range(8):
        starts.run()
    starts.run(for_s=3600)
    assert starts.run() == 0
    for _ in range(8):
        starts.run()
    assert starts.run(crashes=False) > 0
    assert starts.run() == 0


def test_nobody_waits_who_starts_it_by_hand(starts: Starts) -> None:
    for _ in range(8):
        starts.run()
    starts.by_hand = True
    assert starts.run() == 0
    starts.by_hand = False
    assert [starts.run() for _ in range(4)] == [0, 0, 2, 4]


@given(st.binary(max_size=40))
def test_whatever_stands_in_the_count_is_no_reason_not_to_start(rubbish: bytes) -> None:
    class File:
        def read_text(self, encoding: str) -> str:
            return rubbish.decode(encoding)

    assert service.pause_s(service._crashes(File(), 0.0)) <= service.LONGEST_PAUSE_S  # type: ignore[arg-type]
