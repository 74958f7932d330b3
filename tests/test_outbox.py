"""What must arrive waits on the disk: in order, once, no longer than it is of use, and never without end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Run
from roomtone.clock import run_skipping
from roomtone.link import outbox
from roomtone.link.outbox import Outbox
from roomtone.store import open_store

FILE = "roomtone.db"


async def everything(box: Outbox) -> list[str]:
    """Send all that waits, and say what it was."""
    sent = []
    while (waiting := await box.next()) is not None:
        sent.append(waiting.payload.decode())
        await box.sent(waiting.number)
    return sent


def test_messages_wait_in_order_and_survive_the_program(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE) as store:
            for word in ("one", "two", "three"):
                await Outbox(store).add(word, f"topic/{word}", word.encode())
        async with open_store(tmp_path / FILE) as store:
            first = await Outbox(store).next()
            assert first is not None
            assert (first.topic, first.payload, first.expires_s) == ("topic/one", b"one", None)
            assert await everything(Outbox(store)) == ["one", "two", "three"]

    run(scenario())


def test_a_message_that_was_not_confirmed_stays_the_next_one(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE) as store:
            box = Outbox(store)
            await box.add("one", "topic", b"one")
            assert await box.next() == await box.next()

    run(scenario())


def test_a_message_that_waits_already_does_not_wait_twice(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE) as store:
            box = Outbox(store)
            for _ in range(2):
                await box.add("one", "topic", b"one")
            assert await everything(box) == ["one"]

    run(scenario())


def test_what_is_of_no_use_any_more_is_dropped_and_the_rest_knows_how_long_it_is(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE) as store:
            box = Outbox(store)
            await box.add("short", "topic", b"short", expires_s=60)
            await box.add("long", "topic", b"long", expires_s=3600)
            await asyncio.sleep(600)
            waiting = await box.next()
            assert waiting is not None
            assert waiting.payload == b"long"
            assert waiting.expires_s is not None
            assert 2990 < waiting.expires_s <= 3000

    run(scenario())


def test_of_too_many_the_oldest_go_and_that_is_told(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "MOST", 3)

    async def scenario() -> None:
        async with open_store(tmp_path / FILE) as store:
            box = Outbox(store)
            for number in range(5):
                await box.add(str(number), "topic", str(number).encode())
            assert await everything(box) == ["2", "3", "4"]

    run(scenario())
    assert "the oldest is dropped" in caplog.text


def test_nothing_is_written_while_nothing_waits(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE) as store:
            [before] = await store.read("PRAGMA data_version")
            changes = store._open_connection().total_changes
            assert await Outbox(store).next() is None
            assert store._open_connection().total_changes == changes
            [after] = await store.read("PRAGMA data_version")
            assert tuple(before) == tuple(after)

    run(scenario())


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(["add", "send", "restart"]), st.integers(0, 5)), max_size=25))
def test_whatever_happens_each_message_goes_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    async def scenario(folder: Path) -> None:
        expected: list[str] = []
        sent: list[str] = []
        told: list[str] = []
        store_path = folder / FILE
        store_path.unlink(missing_ok=True)
        pending = list(steps)
        while pending:
            async with open_store(store_path) as store:
                box = Outbox(store)
                while pending:
                    step, which = pending.pop(0)
                    if step == "restart":
                        break
                    if step == "add":
                        await box.add(str(which), "topic", str(which).encode())
                        expected += [] if str(which) in expected else [str(which)]
                    elif (waiting := await box.next()) is not None:
                        told.append(waiting.payload.decode())
                        await box.sent(waiting.number)
                        sent.append(expected.pop(0))
        assert told == sent

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run_skipping(scenario(Path(folder)), counts_work=False)
