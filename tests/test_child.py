"""Native engines in a process of their own: a crash or a hang costs one call."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from conftest import Run
from roomtone.child import LINES_LOGGED, child
from roomtone.child_main import OOM_SCORE, Stop
from roomtone.core.errors import EngineCrashed, EngineError, EngineTimeout, EngineUnavailable
from roomtone.flow import close


class Adder:
    def __init__(self, start: int) -> None:
        self.total = start

    def add(self, number: int) -> int:
        print("native libraries print where they like")
        self.total += number
        return self.total

    def pad(self, size: int) -> str:
        return "x" * size

    def fail(self) -> None:
        raise ValueError("no such word")

    def die(self) -> None:
        os._exit(9)

    def hang(self) -> None:
        time.sleep(60)

    def flood(self, lines: int) -> str:
        for _ in range(lines):
            os.write(1, b"a native library has something to say\n" * 100)
            os.write(2, b"and so has another\n" * 100)
        return "said"

    def count(self, stop: Stop, most: int, pause_s: float = 0.0) -> Iterator[int]:
        for number in range(most):
            yield number
            waited = time.monotonic()
            while time.monotonic() - waited < pause_s and not stop:
                time.sleep(0.001)

    def count_badly(self, stop: Stop) -> Iterator[int]:
        yield 1
        raise ValueError("there is no two")

    def hang_on(self, stop: Stop) -> Iterator[int]:
        try:
            yield 1
        finally:
            time.sleep(60)

    def die_on(self, stop: Stop) -> Iterator[int]:
        yield 1
        os._exit(9)

    def nonsense(self) -> Nonsense:
        return Nonsense()


class Nonsense:
    """What cannot be read on the other side."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


class Sleeper(Adder):
    """Takes a while to start; the second and later times it does not."""

    def __init__(self, mark: str) -> None:
        if not os.path.exists(mark):
            open(mark, "w").close()
            time.sleep(1)
        super().__init__(1)


def refusing() -> None:
    time.sleep(0.3)
    raise EngineUnavailable("there is no dictionary; run: get one")


@pytest.fixture(autouse=True)
def _child_finds_this_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))


def test_a_child_keeps_its_object_between_calls(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            assert await adder.call("add", 2, timeout=30) == 3
            assert await adder.call("add", 2, timeout=30) == 5
            with pytest.raises(EngineError, match="no such word"):
                await adder.call("fail", timeout=30)
            assert await adder.call("add", 1, timeout=30) == 6

    run(scenario())


def test_a_crash_costs_one_call(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            with pytest.raises(EngineCrashed):
                await adder.call("die", timeout=30)
            assert await adder.call("add", 2, timeout=30) == 3

    run(scenario())


def test_a_hang_is_killed(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            await adder.call("add", 0, timeout=30)
            with pytest.raises(EngineTimeout):
                await adder.call("hang", timeout=0.1)
            assert await adder.call("add", 2, timeout=30) == 3
            process = adder.pid
        assert process is not None
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)

    run(scenario())


def test_why_it_could_not_start_is_told_every_time(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "no_such_module:Adder") as adder:
            for _ in range(2):
                with pytest.raises(EngineError, match="no_such_module"):
                    await adder.call("add", 1, timeout=30)

    run(scenario())


def test_a_child_that_is_killed_says_why_that_may_be(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            await adder.call("add", 0, timeout=30)
            assert adder.pid is not None
            assert oom_score(adder.pid) == OOM_SCORE
            async with asyncio.TaskGroup() as group:
                hanging = group.create_task(failure(adder.call("hang", timeout=30)))
                await asyncio.sleep(0.1)
                os.kill(adder.pid, signal.SIGKILL)
            assert "want of memory" in str(hanging.result())
            assert await adder.call("add", 2, timeout=30) == 3

    run(scenario())


def oom_score(process: int) -> int:
    return int(Path(f"/proc/{process}/oom_score_adj").read_text())


async def failure(work: Awaitable[object]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await work
    return caught.value


def test_what_a_child_prints_never_makes_it_wait_and_fills_no_log(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            assert await adder.call("flood", 300, timeout=30) == "said"

    caplog.set_level("INFO")
    run(scenario())
    lines = [record.getMessage() for record in caplog.records if record.name == "roomtone.child"]
    assert len(lines) == LINES_LOGGED + 1
    assert "something to say" in lines[0]
    assert "left out" in lines[-1]


def test_a_child_that_prints_without_end_is_killed(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            assert "printed without end" in str(await failure(adder.call("flood", 10**9, timeout=60)))
            assert await adder.call("add", 2, timeout=30) == 3

    run(scenario())


def test_an_answer_that_is_too_large_or_cannot_be_read_costs_one_call(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomtone.child.LARGEST_ANSWER", 100_000)

    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            assert isinstance(await failure(adder.call("pad", 200_000, timeout=30)), EngineCrashed)
            assert await adder.call("add", 2, timeout=30) == 3
            assert isinstance(await failure(adder.call("nonsense", timeout=30)), EngineCrashed)
            assert await adder.call("add", 3, timeout=30) == 4

    run(scenario())


def test_who_cannot_wait_for_a_start_is_told_and_the_start_goes_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Sleeper", str(tmp_path / "mark")) as adder:
            assert "still starting" in str(await failure(adder.call("add", 2, timeout=30, start_timeout=0.2)))
            process = adder.pid
            assert await adder.call("add", 2, timeout=30) == 3
            assert adder.pid == process

    run(scenario())


def test_why_it_could_not_start_is_told_to_the_next_if_the_first_has_left(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:refusing") as adder:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await adder.call("add", 2, timeout=30)
            assert str(await failure(adder.call("add", 2, timeout=30))) == (
                "adder: there is no dictionary; run: get one"
            )

    run(scenario())


def test_a_caller_that_leaves_does_not_put_the_next_one_out_of_step(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 0) as adder:
            await adder.call("add", 0, timeout=30)
            for number in range(20):
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(adder.call("pad", 200_000, timeout=30))
                    for _ in range(number):
                        await asyncio.sleep(0)
                    task.cancel()
            assert await adder.call("add", 5, timeout=30) == 5

    run(scenario())


# ------------------------------------------------------------------------------------------- streams


async def everything(pieces: AsyncIterator[int]) -> list[int]:
    return [piece async for piece in pieces]


def test_a_stream_gives_its_pieces_and_the_child_goes_on_with_calls(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            for _ in range(2):
                assert await everything(adder.stream("count", 1000, timeout=30)) == list(range(1000))
                assert await everything(adder.stream("count", 0, timeout=30)) == []
            assert await adder.call("add", 2, timeout=30) == 3

    run(scenario())


def test_a_stream_that_is_closed_stops_at_once_and_costs_no_process(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            for wanted in range(4):  # a stop that comes late is never taken for the next stream's
                pieces = adder.stream("count", 10**6, timeout=30)
                assert [await anext(pieces) for _ in range(wanted + 1)] == list(range(wanted + 1))
                await close(pieces)
            waiting = adder.stream("count", 2, 60.0, timeout=30)
            assert await anext(waiting) == 0
            process = adder.pid
            await close(waiting)
            assert await adder.call("add", 2, timeout=30) == 3
            assert adder.pid == process

    run(scenario())


def test_who_is_cancelled_at_a_stream_stops_it_too(run: Run[None]) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            await adder.call("add", 0, timeout=30)
            process = adder.pid
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await everything(adder.stream("count", 2, 60.0, timeout=30))
                assert await everything(adder.stream("count", 3, timeout=30)) == [0, 1, 2]
            assert adder.pid == process

    run(scenario())


def test_a_stream_that_does_not_stop_is_killed(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roomtone.child.STOP_BOUND_S", 0.05)

    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            pieces = adder.stream("hang_on", timeout=30)
            assert await anext(pieces) == 1
            process = adder.pid
            await close(pieces)
            assert await adder.call("add", 2, timeout=30) == 3
            assert adder.pid != process

    run(scenario())


@pytest.mark.parametrize(
    ("method", "error", "said"),
    [
        ("count_badly", EngineError, "there is no two"),
        ("die_on", EngineCrashed, "exit 9"),
        ("hang_on", EngineTimeout, "did not answer"),
    ],
)
def test_what_a_stream_fails_with_comes_after_its_pieces(
    run: Run[None], method: str, error: type[EngineError], said: str
) -> None:
    async def scenario() -> None:
        async with child("adder", "test_child:Adder", 1) as adder:
            await adder.call("add", 0, timeout=30)
            pieces = adder.stream(method, timeout=0.2)
            assert await anext(pieces) == 1
            with pytest.raises(error, match=said):
                await anext(pieces)
            assert await adder.call("add", 2, timeout=30) == 3

    run(scenario())


def test_the_default_recognisers_child_carries_nothing_that_only_the_daemon_needs() -> None:
    code = (
        "import roomtone.child_main, roomtone.engines.stt._pocketsphinx_child, sys;"
        "print(*{'asyncio', 'numpy', 'pydantic', 'queue', 'soundfile', 'hassil', 'yaml'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"\n"
