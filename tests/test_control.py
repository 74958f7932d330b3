"""The state lock and the control socket: one daemon, many askers."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Run
from roomtone import control
from roomtone.control import ask_daemon, find_daemon, listens, socket_path, state_lock
from roomtone.core.errors import ConfigError, ControlRefused, DaemonGone, PersonaNotFound, StateBusy, UsageError
from roomtone.edges.control import Answer, listening, serve_on

Message = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control, "SERVICE_SOCKET", tmp_path / "run" / "control.sock")
    return tmp_path / "control.sock"


@asynccontextmanager
async def daemon(path: Path, answer: Answer) -> AsyncIterator[None]:
    async with listening(path) as server, asyncio.TaskGroup() as group:
        serving = group.create_task(serve_on(server, answer))
        yield
        serving.cancel()


async def echo(request: Message) -> AsyncIterator[Message]:
    yield {"heard": request.get("text")}
    yield {"result": request}


async def ask(path: Path, **request: Any) -> list[Message]:
    return [message async for message in ask_daemon(path, request)]


async def raw(path: Path, sent: bytes) -> list[Message]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(sent)
    received = await reader.read()
    writer.close()
    return [json.loads(line) for line in received.splitlines()]


# ---------------------------------------------------------------------------------------------- lock


HOLDER = """
import asyncio, sys
from pathlib import Path
from roomtone.control import state_lock

async def main():
    async with state_lock(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


def test_the_state_folder_has_one_owner_and_the_lock_goes_with_its_process(run: Run[Any], tmp_path: Path) -> None:
    async def lock(wait_s: float) -> None:
        async with state_lock(tmp_path / "state", wait_s):
            pass

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateBusy, match=f"is in use by process {holder.pid}; stop that one"):
            run(lock(0.1))
        holder.kill()
    run(lock(5))


def test_a_state_folder_that_cannot_be_made_is_one_clear_line(run: Run[Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def lock() -> None:
        async with state_lock(tmp_path / "file" / "state"):
            pass

    with pytest.raises(ConfigError, match=r"state_dir: .* cannot be used \(Not a directory\)"):
        run(lock())


# ------------------------------------------------------------------------------------------ protocol


def test_a_request_has_its_events_and_then_one_result(run: Run[Any], path: Path) -> None:
    async def main() -> list[Message]:
        async with daemon(path, echo):
            return await ask(path, command="ask", text="grüß dich")

    assert run(main()) == [{"heard": "grüß dich"}, {"result": {"command": "ask", "text": "grüß dich"}}]


def test_an_answer_without_a_result_ends_with_an_empty_one(run: Run[Any], path: Path) -> None:
    async def nothing(request: Message) -> AsyncIterator[Message]:
        return
        yield

    async def main() -> list[Message]:
        async with daemon(path, nothing):
            return await ask(path, command="ask")

    assert run(main()) == [{"result": None}]


def test_many_clients_are_served_at_once(run: Run[Any], path: Path) -> None:
    everybody = 20
    there: list[object] = []
    complete = asyncio.Event()

    async def meet(request: Message) -> AsyncIterator[Message]:
        there.append(request)
        if len(there) == everybody:
            complete.set()
        await complete.wait()
        yield {"result": request["number"]}

    async def main() -> list[Message]:
        results: list[Message] = []

        async def one(number: int) -> None:
            results.extend(await ask(path, command="meet", number=number))

        async with daemon(path, meet), asyncio.TaskGroup() as group:
            for number in range(everybody):
                group.create_task(one(number))
        return results

    assert sorted(message["result"] for message in run(main())) == list(range(everybody))


def test_an_error_comes_out_as_what_it_was(run: Run[Any], path: Path) -> None:
    async def refuse(request: Message) -> AsyncIterator[Message]:
        yield {"looking": True}
        raise PersonaNotFound("there is no persona 'x'; see: roomtone personas list", persona="x")

    async def main() -> PersonaNotFound:
        async with daemon(path, refuse):
            with pytest.raises(PersonaNotFound) as caught:
                await ask(path, command="use")
            return caught.value

    error = run(main())
    assert error.message == "there is no persona 'x'; see: roomtone personas list"
    assert error.details == {"persona": "x"}


def test_a_fault_in_the_daemon_is_told_and_the_next_client_served(run: Run[Any], path: Path) -> None:
    async def stumble(request: Message) -> AsyncIterator[Message]:
        yield {"result": 1 / request["by"]}

    async def main() -> list[Message]:
        async with daemon(path, stumble):
            (told,) = await raw(path, b'{"command": "divide", "by": 0}\n')
            assert told["error"]["code"] == "INTERNAL_ERROR"
            assert "ZeroDivisionError" in told["error"]["message"]
            return await ask(path, command="divide", by=2)

    assert run(main()) == [{"result": 0.5}]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"hello\n", "is not JSON"),
        (b"\xff\xfe\n", "is not JSON"),
        (b"[" * 60_000 + b"\n", "is not JSON"),
        (b'{"text": "no command"}\n', "names no command"),
        (b"[1]\n", "names no command"),
        (b'{"command": 5}\n', "names no command"),
        (b"x" * 200_000 + b"\n", "is too long"),
    ],
)
def test_garbage_is_answered_with_an_error(run: Run[Any], path: Path, sent: bytes, said: str) -> None:
    async def main() -> list[Message]:
        async with daemon(path, echo):
            (told,) = await raw(path, sent)
            assert told["error"]["code"] == UsageError.code
            assert said in told["error"]["message"]
            return await ask(path, command="still there")

    assert run(main())[-1] == {"result": {"command": "still there"}}


@settings(max_examples=30)
@given(sent=st.binary(max_size=300))
def test_no_bytes_harm_the_daemon(tmp_path_factory: pytest.TempPathFactory, sent: bytes) -> None:
    path = tmp_path_factory.mktemp("socket") / "control.sock"

    async def main() -> None:
        async with daemon(path, echo):
            for message in await raw(path, sent + b"\n"):
                assert "error" in message
            assert await listens(path)

    asyncio.run(main())


def test_a_client_that_says_nothing_is_given_up(run: Run[Any], path: Path) -> None:
    async def main() -> list[Message]:
        async with daemon(path, echo):
            return await raw(path, b"")

    assert run(main()) == [
        {"error": {"code": "USAGE_ERROR", "message": "no request came within 10 s", "details": {}}}
    ]


def test_a_client_that_hangs_up_takes_its_request_back(run: Run[Any], path: Path) -> None:
    taken_back = asyncio.Event()

    async def speak_for_ever(request: Message) -> AsyncIterator[Message]:
        try:
            yield {"speaking": True}
            await asyncio.Event().wait()
        finally:
            taken_back.set()

    async def main() -> None:
        async with daemon(path, speak_for_ever):
            answer = ask_daemon(path, {"command": "say"})
            assert await anext(answer) == {"speaking": True}
            await answer.aclose()  # type: ignore[attr-defined]
            await taken_back.wait()
            assert await listens(path)

    run(main())


def test_a_daemon_that_stops_in_mid_answer_is_told_from_a_result(run: Run[Any], path: Path) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def begin(request: Message) -> AsyncIterator[Message]:
            begun.set()
            await asyncio.Event().wait()
            yield {}

        async with asyncio.TaskGroup() as group, daemon(path, begin):

            async def client() -> None:
                with pytest.raises(DaemonGone, match="ended before it had answered"):
                    await ask(path, command="say")

            group.create_task(client())
            await begun.wait()

    run(main())


# -------------------------------------------------------------------------------------------- socket


def test_the_socket_is_for_its_group_and_goes_with_the_daemon(run: Run[Any], path: Path) -> None:
    def check() -> None:
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert path.stat().st_mode & 0o777 == 0o660

    async def main() -> None:
        async with daemon(path, echo):
            check()

    run(main())
    assert not path.exists()


def test_a_socket_left_behind_is_replaced(run: Run[Any], path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def main() -> list[Message]:
        assert not await listens(path)
        async with daemon(path, echo):
            return await ask(path, command="ask")

    assert run(main())[-1] == {"result": {"command": "ask"}}


def test_a_socket_in_use_is_left_alone(run: Run[Any], path: Path) -> None:
    async def main() -> list[Message]:
        async with daemon(path, echo):
            with pytest.raises(StateBusy, match="another daemon listens"):
                async with listening(path):
                    pass
            return await ask(path, command="ask")

    assert run(main())


def test_what_is_no_socket_is_never_removed(run: Run[Any], path: Path) -> None:
    path.write_text("precious")

    async def main() -> None:
        async with listening(path):
            pass

    with pytest.raises(ConfigError, match="is in the way and is no socket"):
        run(main())
    assert path.read_text() == "precious"


def test_a_socket_may_lie_deeper_than_the_kernel_allows(run: Run[Any], tmp_path: Path) -> None:
    path = tmp_path / ("d" * 60) / ("e" * 60) / "control.sock"

    async def main() -> list[Message]:
        async with daemon(path, echo):
            return await ask(path, command="ask")

    assert run(main())[-1] == {"result": {"command": "ask"}}


def test_a_command_asks_the_service_first_unless_the_state_folder_is_named(run: Run[Any], path: Path) -> None:
    async def find(*, named: bool) -> Path | None:
        return await find_daemon(path.parent, named=named)

    async def main() -> None:
        service = control.SERVICE_SOCKET
        assert await find(named=False) is None
        async with daemon(path, echo):
            assert await find(named=False) == path
            async with daemon(service, echo):
                assert await find(named=False) == service
                assert await find(named=True) == path

    run(main())


def test_being_refused_names_the_command_that_mends_it(
    run: Run[Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")  # file modes would stop everyone but root

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", refused)
        with pytest.raises(ControlRefused, match=r"run: sudo usermod -aG roomtone \$USER"):
            await find_daemon(path.parent, named=False)

    run(main())


def test_the_service_listens_in_its_runtime_folder() -> None:
    assert socket_path(Path("/s"), {"RUNTIME_DIRECTORY": "/run/roomtone"}) == control.SERVICE_SOCKET
    assert socket_path(Path("/s"), {}) == Path("/s/control.sock")


def test_asking_where_nobody_listens_is_one_clear_line(run: Run[Any], path: Path) -> None:
    with pytest.raises(DaemonGone, match=r"no daemon listens at .*; start it: roomtone run"):
        run(ask(path, command="ask"))
