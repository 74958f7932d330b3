"""Native engines in a process of their own: a crash or a hang costs one call."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from conftest import Run
from roomtone.child import child
from roomtone.core.errors import EngineCrashed, EngineError, EngineTimeout


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
