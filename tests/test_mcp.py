"""MCP: real servers in processes of their own, old and new, good and bad; whatever they do, the room goes on."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from roomtone import mcp_servers, outbound
from roomtone.clock import engine_working
from roomtone.core.errors import EgressRefused, ToolError
from roomtone.core.persona import Egress
from roomtone.engines.tools import Result, Tool
from roomtone.flow import beside
from roomtone.mcp_servers import Servers, links, offers
from roomtone.settings import McpServer

pytestmark = pytest.mark.skipif(
    find_spec("mcp") is None, reason="the Python package mcp is not installed; run: pip install 'roomtone[mcp]'"
)

HERE = Path(__file__).parent
SCRIPTS = {"new": "mcp_house.py", "2025-11-25": "mcp_house.py"}
ROME = {"city": "Rome"}
WAYS = [(way, kind) for kind in ("new", "2025-11-25", "old") for way in ("program", "web")]
LONG_S = 30.0
"""Longest that anything here may take on a machine that does other things."""


def script(kind: str) -> str:
    return str(HERE / SCRIPTS.get(kind, "mcp_old_house.py"))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_servers, "FIRST_S", 0.05)
    monkeypatch.setattr(mcp_servers, "RELIST_S", 0.05)
    monkeypatch.setattr(links, "GRACE_S", 0.3)


@pytest.fixture
def live(run_in_real_time: Run[Any]) -> Run[Any]:
    """Run on the wall clock, for a bounded time."""

    async def bounded(main: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(LONG_S):
            await main

    return lambda main: run_in_real_time(bounded(main))


@dataclass
class Street:
    """Servers, the pids of their processes, and what was told of them."""

    pids: Path
    events: asyncio.Queue[tuple[str, Mapping[str, Any]]] = field(default_factory=asyncio.Queue)

    def program(self, kind: str, **more: Any) -> McpServer:
        env = {"PIDS": str(self.pids), **more.pop("env", {})}
        return McpServer(command=sys.executable, args=(script(kind), kind), env=env, **more)

    @asynccontextmanager
    async def web(self, kind: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a server over HTTP, and kill it in the end."""
        env = {**os.environ, "PIDS": str(self.pids)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, script(kind), kind, "--port", str(port), env=env
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            with engine_working():
                await process.wait()

    @asynccontextmanager
    async def serving(self, **servers: McpServer) -> AsyncIterator[Servers]:
        made = Servers(servers, lambda kind, data: self.events.put_nowait((kind, data)))
        async with beside(made.run(), "servers"):
            yield made

    @asynccontextmanager
    async def house(self, way: str, kind: str, **more: Any) -> AsyncIterator[Servers]:
        """Serve one server named ``house``, over either transport, and wait until it is there."""
        if way == "program":
            async with self.serving(house=self.program(kind, **more)) as servers:
                await self.told("mcp.up")
                yield servers
            return
        port = free_port()
        async with self.web(kind, port), self.serving(house=at(port, **more)) as servers:
            await self.told("mcp.up")
            yield servers

    async def told(self, kind: str) -> Mapping[str, Any]:
        """Wait until something of a kind is told, and return it."""
        with engine_working():
            while True:
                found, data = await self.events.get()
                if found == kind:
                    return data

    def left(self) -> list[int]:
        """List the processes that are still there."""
        pids = [int(line) for line in self.pids.read_text().split()] if self.pids.exists() else []
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.fixture
def street(tmp_path: Path) -> Any:
    street = Street(tmp_path / "pids")
    yield street
    assert not street.left(), "a server was left behind"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def at(port: int, **more: Any) -> McpServer:
    headers = more.pop("headers", {"Authorization": "Bearer sesame"})
    return McpServer(url=f"http://127.0.0.1:{port}/mcp", headers=headers, **more)


def tool(servers: Servers, name: str) -> Tool:
    return {one.spec.name: one for one in servers.tools()}[name]


async def until(there: Callable[[], bool]) -> None:
    while not there():  # noqa: ASYNC110  # nothing tells of it
        await asyncio.sleep(0.01)


async def call(servers: Servers, name: str, **arguments: Any) -> Result:
    return await tool(servers, f"house.{name}").run(arguments, None)


async def refused(servers: Servers, name: str, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as raised:
        await call(servers, name, **arguments)
    return raised.value


# ------------------------------------------------------------------------------------ what works


@pytest.mark.parametrize(("way", "kind"), WAYS)
def test_a_tool_is_called_over_either_transport_in_every_protocol(
    way: str, kind: str, street: Street, live: Run[Any]
) -> None:
    async def main() -> None:
        async with street.house(way, kind) as servers:
            found = await call(servers, "weather", city="Rome")
            assert "Rome" in found.text
            assert tool(servers, "house.weather").traits.outside

    live(main())


def test_which_protocol_is_spoken_is_told(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.serving(
            a=street.program("new"), b=street.program("2025-11-25"), c=street.program("old")
        ) as servers:
            told = [await street.told("mcp.up") for _ in range(3)]
            versions = {one["server"]: one["version"] for one in told}
            assert versions == {"a": "2026-07-28", "b": "2025-11-25", "c": "2025-06-18"}
            assert dict(servers.health()) == {"a": "ok", "b": "ok", "c": "ok"}

    live(main())


def test_on_a_clock_that_skips_waiting_a_call_takes_its_own_time(street: Street, run: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("program", "old", timeout_s=10) as servers:
            assert "Rome" in (await call(servers, "weather", city="Rome")).text

    run(main())


def test_an_answer_is_text_for_the_model_and_data_for_programs(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("program", "new") as servers:
            assert (await call(servers, "weather", city="Rome")).data == {"city": "Rome", "degrees": 21}
            assert (await call(servers, "picture")).text == "here it is\n[an image, image/png]"
            assert "cold" not in (await refused(servers, "fail")).message  # the package keeps exceptions to itself
            long = await call(servers, "flood", letters=100_000)
            assert len(long.text) < 8_100
            assert long.text.endswith("[cut: it is 99999 letters long]")
            assert long.data is None

    live(main())


def test_what_tools_are_like_is_taken_from_the_server_and_the_configuration(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        chosen: dict[str, Any] = {"tools": ("weather", "burn", "flood"), "confirm": ("flood",), "timeout_s": 7}
        async with street.house("program", "new", **chosen) as servers:
            traits = {one.spec.name: one.traits for one in servers.tools()}
            assert list(traits) == ["house.weather", "house.burn", "house.flood"]
            assert [one.changes for one in traits.values()] == [False, True, True]
            assert [one.confirm for one in traits.values()] == [False, True, True]
            assert {one.timeout_s for one in traits.values()} == {7}

    live(main())


@pytest.mark.parametrize(("way", "kind"), WAYS[:4])
def test_tools_are_listed_again_when_the_server_says_so(way: str, kind: str, street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house(way, kind) as servers:
            await call(servers, "grow")
            assert "house.late" in (await street.told("mcp.up"))["tools"]
            assert (await call(servers, "late")).text == "better than never"

    live(main())


def test_a_server_that_tells_of_no_changes_is_asked_now_and_then(
    street: Street, live: Run[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_servers, "LOOK_S", 0.05)

    async def main() -> None:
        port = free_port()
        async with street.serving(house=at(port)):
            async with street.web("old", port):
                await street.told("mcp.up")
            assert "cannot be reached" in (await street.told("mcp.down"))["reason"]

    live(main())


# ------------------------------------------------------------------------- what servers do wrong


def test_in_an_offline_house_tools_come_when_the_server_does(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        port = free_port()
        async with street.serving(house=at(port), other=street.program("old")) as servers:
            assert servers.tools() == []
            await street.told("mcp.up")
            assert [one.spec.name for one in servers.tools()] == ["other.weather"]
            async with street.web("new", port):
                await street.told("mcp.up")
                held = tool(servers, "house.weather")
                assert (await held.run(ROME, None)).data["degrees"] == 21
            assert (await street.told("mcp.down"))["server"] == "house"
            with pytest.raises(ToolError, match="house is not there just now"):
                await held.run(ROME, None)
            async with street.web("new", port):
                await street.told("mcp.up")
                assert (await held.run(ROME, None)).data["degrees"] == 21

    live(main())


def test_a_server_that_forgot_the_session_is_asked_again_in_a_new_one(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        sent: list[outbound.Sent] = []
        async with street.house("web", "forgetful", reach="lan") as servers:
            with outbound.within(Egress.ANY, sent.append):
                assert "Rome" in (await call(servers, "weather", city="Rome")).text
            assert (await street.told("mcp.down"))["reason"] == "it was restarted"
            assert [one.bytes for one in sent] == [16, 16], "it left this machine twice"

    live(main())


def test_a_key_that_is_refused_in_a_call_is_told_as_that(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("web", "revoking") as servers:
            error = await refused(servers, "weather", city="Rome")
            assert error.message == "house could not do it: it refuses this key (HTTP 401)"

    live(main())


def test_a_token_on_its_own_is_a_bearers(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("web", "old", headers={"Authorization": "sesame"}) as servers:
            assert servers.tools()

    live(main())


def test_a_server_that_dies_in_a_call_says_its_last_words_and_comes_back(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("program", "new") as servers:
            error = await refused(servers, "die")
            assert error.message == (
                "house could not do it: it ended (out of memory), and it is not known whether it was done"
            )
            assert servers.tools() == []
            await street.told("mcp.up")
            assert "Rome" in (await call(servers, "weather", city="Rome")).text

    live(main())


def test_its_last_words_hold_none_of_its_secrets(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("program", "new", env={"TOKEN": "memory", "SHORT": "out"}) as servers:
            assert "it ended (out of ...), and" in (await refused(servers, "die")).message

    live(main())


def test_a_server_that_hangs_at_the_start_is_given_up_and_killed(
    street: Street, live: Run[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mcp_servers, "OPEN_S", 1.0)

    async def main() -> None:
        async with street.serving(stuck=street.program("hanging"), house=street.program("old")) as servers:
            await street.told("mcp.up")
            assert "Rome" in (await call(servers, "weather", city="Rome")).text
            await until(lambda: "stuck is not there: it did not answer within 1 s" in caplog.text)

    live(main())


@pytest.mark.parametrize(("way", "kind"), WAYS[:4])
def test_a_call_that_hangs_is_late_and_the_server_stays_usable(
    way: str, kind: str, street: Street, live: Run[Any]
) -> None:
    async def main() -> None:
        async with street.house(way, kind, timeout_s=0.5) as servers:
            error = await refused(servers, "sleep")
            assert error.message == "house gave no answer within 0.5 s"
            assert error.details["late"]
            assert (await call(servers, "wake")).text == "a sleep was ended"

    live(main())


@pytest.mark.parametrize(("way", "kind"), WAYS[:4])
def test_cancelling_who_called_ends_the_work_on_the_server(
    way: str, kind: str, street: Street, live: Run[Any]
) -> None:
    async def main() -> None:
        async with street.house(way, kind) as servers:
            async with asyncio.TaskGroup() as tasks:
                sleeper = tasks.create_task(call(servers, "sleep"))
                await call(servers, "weather", city="Rome")
                sleeper.cancel()
            assert (await call(servers, "wake")).text == "a sleep was ended"

    live(main())


@pytest.mark.parametrize("way", ["program", "web"])
def test_a_server_that_never_ends_its_answer_is_hung_up_on(way: str, street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house(way, "endless") as servers:
            assert "a message of more than 2 MB" in (await refused(servers, "weather", city="Rome")).message
            await street.told("mcp.up")

    live(main())


def test_a_flood_of_notices_and_nonsense_costs_the_server_its_own_time(
    street: Street, live: Run[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(links, "BURST", 400_000)
    monkeypatch.setattr(links, "STEADY", 40_000_000.0)
    spend = links.Allowance.spend

    async def counted(self: links.Allowance, size: int, messages: int) -> None:
        await spend(self, size, messages)
        waits.append(self._left)

    monkeypatch.setattr(links.Allowance, "spend", counted)

    async def main() -> None:
        async with street.house("program", "chatty") as servers:
            assert "Rome" in (await call(servers, "weather", city="Rome")).text
        assert len(waits) > 6_000
        assert min(waits) < 0, "it was never made to wait"

    live(main())


def test_a_program_that_will_not_end_is_killed(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("program", "stubborn") as servers:
            assert servers.tools()
            assert street.left()

    live(main())  # that nothing is left behind is looked at after every test


@pytest.mark.parametrize("kind", ["new", "old"])
def test_whenever_it_is_ended_nothing_is_left_and_nothing_hangs(
    kind: str, street: Street, live: Run[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spend = links.Allowance.spend

    async def main(message: int) -> None:
        heard = asyncio.Event()
        count = 0

        async def counted(self: links.Allowance, size: int, messages: int) -> None:
            nonlocal count
            count += 1
            if count == message:
                heard.set()
            await spend(self, size, messages)

        monkeypatch.setattr(links.Allowance, "spend", counted)
        async with street.serving(house=street.program(kind)):
            await heard.wait()

    for message in range(1, 4):
        live(main(message))


def test_a_server_beyond_an_offline_house_is_left_alone(live: Run[Any]) -> None:
    async def main() -> None:
        away = McpServer(url="http://192.0.2.7/mcp")
        servers = Servers({"away": away}, lambda *_: None, offline=True)
        async with beside(servers.run(), "servers"):
            await until(lambda: "offline_mode" in dict(servers.health())["away"])

    live(main())


def test_a_program_is_given_nothing_of_this_services_secrets(
    street: Street, live: Run[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")

    async def main() -> None:
        async with street.house("program", "new", env={"OWN": "1"}) as servers:
            given = (await call(servers, "environment")).data["result"]
            assert {"OWN", "PATH"} <= set(given)
            assert not {"CREDENTIALS_DIRECTORY", "ANTHROPIC_API_KEY"} & set(given)

    live(main())


def test_a_program_that_is_not_there_is_told_of_once(
    street: Street, live: Run[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        missing = McpServer(command="/no/such/program")
        async with street.serving(gone=missing, house=street.program("new")) as servers:
            await street.told("mcp.up")
            reason = dict(servers.health())["gone"]
            assert reason == "/no/such/program cannot be started (no such file or directory); see mcp.gone.command"

    live(main())
    assert caplog.text.count("the MCP server gone is not there") == 1


def test_a_wrong_key_and_a_wrong_address_say_which_key_mends_them(street: Street, live: Run[Any]) -> None:
    async def health(kind: str, **more: Any) -> str:
        port = free_port()
        server = at(port, **more)
        async with street.web(kind, port), street.serving(house=server) as servers:
            await until(lambda: any(word in dict(servers.health())["house"] for word in ("key", "elsewhere")))
            return dict(servers.health())["house"]

    async def main() -> None:
        wrong = await health("old", headers={"Authorization": "Bearer open"})
        assert wrong == "it refuses this key (HTTP 401); see mcp.house.headers"
        led = await health("elsewhere")
        assert led == ("it sends us elsewhere (http://127.0.0.2:1/mcp); write that in mcp.house.url if it is meant")

    live(main())


@pytest.mark.parametrize("way", ["program", "web"])
def test_what_is_no_tool_is_left_out_and_the_others_stay(
    way: str, street: Street, live: Run[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with street.house(way, "odd") as servers:
            assert [one.spec.name for one in servers.tools()] == ["house.weather", "house.wordy"]
            assert len(tool(servers, "house.wordy").spec.description) <= offers.LONGEST_DESCRIPTION
            assert "Rome" in (await call(servers, "weather", city="Rome")).text

    live(main())
    for name, reason in {
        "weather": "it is listed twice",
        "text": "its parameters are no JSON schema of an object",
        "list": "its parameters are no JSON schema of an object",
        "nonsense": "its parameters are no JSON schema (",
        "elsewhere": "its parameters refer to another document",
        "huge": "its parameters take more than 8000 letters to describe",
        "with a space": "a name may have letters, digits, _ and - only",
        "x" * 60: "with the server's name it is longer than 60 letters",
    }.items():
        assert f"the MCP server house: left out: {name!r}: {reason}" in caplog.text


def test_of_too_many_tools_the_first_are_taken(
    street: Street, live: Run[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with street.house("program", "many") as servers:
            assert len(servers.tools()) == 64

    live(main())
    assert "it has more than 64 tools; choose some in mcp.house.tools" in caplog.text


def test_of_two_tools_that_a_model_could_not_tell_apart_the_first_is_taken(
    street: Street, live: Run[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        servers = Servers({"a": McpServer(command="a"), "a__b": McpServer(command="b")}, lambda *_: None)
        first, second = servers._servers
        first._offers = [offer("a", "b__c")]
        second._offers = [offer("a__b", "c")]
        assert [one.spec.name for one in servers.tools()] == ["a.b__c"]

    live(main())


def test_a_server_that_asks_the_person_something_is_refused(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("program", "2025-11-25") as servers:
            assert "not supported" in (await refused(servers, "ask")).message

    live(main())


def test_without_the_package_one_line_says_what_installs_it(
    street: Street, live: Run[Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        mcp_servers, "lacking", lambda module, extra: f"{module} is missing; run: pip install {extra}"
    )

    async def main() -> None:
        servers = Servers({"house": street.program("old")}, lambda *_: None)
        await servers.run()
        await servers.tried()
        assert servers.tools() == []
        assert list(servers.health()) == [("house", "mcp is missing; run: pip install mcp")]

    live(main())
    assert caplog.messages == ["no MCP server can be used: mcp is missing; run: pip install mcp"]


# ------------------------------------------------------------------------------------ how far it goes


def test_nothing_goes_to_a_program_that_may_pass_it_on(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.house("program", "old") as servers:
            with outbound.within(Egress.LAN), pytest.raises(EgressRefused):
                await call(servers, "weather", city="Rome")
            sent: list[outbound.Sent] = []
            with outbound.within(Egress.ANY, sent.append):
                await call(servers, "weather", city="Rome")
            assert [(one.bytes, one.kind, one.why) for one in sent] == [(16, "text", "tool house.weather")]

    live(main())


def test_the_household_may_say_that_a_program_keeps_it_to_itself(street: Street, live: Run[Any]) -> None:
    async def main() -> None:
        async with street.serving(private=street.program("old", reach="none")) as servers:
            await street.told("mcp.up")
            with outbound.within(Egress.NONE):
                assert "Rome" in (await tool(servers, "private.weather").run(ROME, None)).text

    live(main())


# --------------------------------------------------------------------------------- whatever is listed


def offer(server: str, name: str) -> offers.Offer:
    listed = [{"name": name, "inputSchema": {"type": "object"}}]
    return _read(server, listed)[0][0]


def _read(server: str, listed: list[Any]) -> tuple[list[offers.Offer], list[str]]:
    from mcp_types import ListToolsResult

    page = ListToolsResult.model_validate({"tools": offers.sift(listed)}, by_name=False)
    return offers.read(server, McpServer(command="x"), None, page.tools)


scraps = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
schemas = scraps | st.fixed_dictionaries(
    {"type": st.just("object")}, optional={"properties": scraps, "required": scraps, "$ref": scraps}
)
listings = st.lists(
    scraps
    | st.fixed_dictionaries(
        {"name": st.text(max_size=8) | scraps},
        optional={"inputSchema": schemas, "outputSchema": scraps, "description": scraps, "annotations": scraps},
    ),
    max_size=6,
)


@given(listings)
def test_whatever_a_server_lists_ends_in_tools_or_in_lines(listed: list[Any]) -> None:
    found, left_out = _read("house", listed)
    assert all(one.spec.parameters["type"] == "object" for one in found)
    assert len({one.spec.name for one in found}) == len(found)
    assert all(isinstance(line, str) and len(line) < 300 for line in left_out)


def test_a_log_is_not_filled_with_tracebacks_of_the_libraries(live: Run[Any]) -> None:
    mcp_servers._load()
    assert not logging.getLogger("mcp.client.streamable_http").isEnabledFor(logging.ERROR)
