"""The concurrency helpers: overlap, failure in its place, isolation, bounded native work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from conftest import Run
from roomtone.core.errors import EngineError, EngineTimeout
from roomtone.flow import Event, Feed, ahead, keep_trying, worker


async def numbers(count: int, log: list[int], failing_at: int | None = None) -> AsyncIterator[int]:
    for number in range(count):
        if number == failing_at:
            raise EngineError("the third went wrong")
        log.append(number)
        yield number


def test_ahead_overlaps_by_no_more_than_it_may(run: Run[None]) -> None:
    async def scenario() -> None:
        made: list[int] = []
        async with ahead(numbers(9, made), 2) as stream:
            assert await anext(stream) == 0
            await asyncio.sleep(1)
            assert made == [0, 1, 2, 3]  # one read, two in the pipe, one waiting to enter it
            assert [number async for number in stream] == [1, 2, 3, 4, 5, 6, 7, 8]

    run(scenario())


def test_a_failure_travels_through_the_stream_in_its_place(run: Run[None]) -> None:
    async def scenario() -> None:
        got = []
        with pytest.raises(EngineError, match="third"):
            async with ahead(numbers(9, [], failing_at=3), 5) as stream:
                async for number in stream:
                    got.append(number)
        assert got == [0, 1, 2]

    run(scenario())


def test_leaving_ahead_stops_its_source(run: Run[None]) -> None:
    async def scenario() -> None:
        made: list[int] = []
        async with ahead(numbers(1000, made), 1) as stream:
            assert await anext(stream) == 0
        await asyncio.sleep(1)
        assert len(made) < 5

    run(scenario())


def test_the_feed_goes_by_pattern_and_a_slow_watcher_loses_its_oldest(run: Run[None]) -> None:
    async def scenario() -> None:
        feed = Feed()
        with feed.watch("turn.*", depth=2) as watcher:
            begun = feed.publish("turn.begun", 1, source="test", trace="t")
            feed.publish("state.changed", 2, source="test")
            feed.publish("turn.heard", 3, source="test", cause=begun.id)
            feed.publish("turn.ended", 4, source="test")
            assert watcher.missed == 1
            assert [(await anext(watcher)).data, (await anext(watcher)).data] == [3, 4]
        assert feed.tallies["turn.begun"].count == 1

    run(scenario())


def test_a_failing_watcher_is_counted_and_goes_on(run: Run[None]) -> None:
    async def scenario() -> None:
        feed, seen = Feed(), []

        async def react(event: Event) -> None:
            seen.append(event.data)
            if event.data == 1:
                raise ValueError("broken edge")

        async with asyncio.TaskGroup() as group:
            edge = group.create_task(feed.attend("edge", "*", react))
            await asyncio.sleep(0)
            feed.publish("a", 1, source="test")
            feed.publish("a", 2, source="test")
            await asyncio.sleep(0.1)
            edge.cancel()
        assert seen == [1, 2]
        assert feed.failures["edge"] == 1

    run(scenario())


def test_a_worker_that_hangs_is_replaced(run: Run[None]) -> None:
    async def scenario() -> None:
        release = threading.Event()
        with worker("slow engine") as slow:
            with pytest.raises(EngineTimeout, match="slow engine"):
                await slow.call(release.wait, timeout=0.05)
            assert await slow.call(lambda: "next") == "next"
            release.set()

    run(scenario())


def test_a_worker_streams_and_stops_when_its_reader_leaves(run: Run[None]) -> None:
    async def scenario() -> None:
        with worker("engine") as engine:
            ended = threading.Event()

            def count(emit: object, stop: threading.Event) -> None:
                number = 0
                while not stop.wait(0.001):
                    emit(number)  # type: ignore[operator]
                    number += 1
                ended.set()

            stream: AsyncIterator[int] = engine.stream(count)
            assert await anext(stream) == 0
            await stream.aclose()  # type: ignore[attr-defined]
            assert ended.is_set()

    run(scenario())


def test_keep_trying_waits_longer_each_time_up_to_a_bound(run: Run[None]) -> None:
    async def scenario() -> None:
        waits: list[float] = []

        async def attempt() -> str:
            if len(waits) < 5:
                raise EngineError("busy")
            return "open"

        opened = await keep_trying(
            attempt, on=EngineError, first_s=1, longest_s=4, jitter=0, notice=lambda _, wait: waits.append(wait)
        )
        assert opened == "open"
        assert waits == [1, 2, 4, 4, 4]

    run(scenario())
