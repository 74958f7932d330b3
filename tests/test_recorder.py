"""What is said is kept while it is said, and what a full disk refuses is told, not promised, and kept later."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import HELP, room, scripted, somebody_speaks, speaks, until
from roomtone import database, engines
from roomtone.app import Room, open_room
from roomtone.core.dialog import Ended, Role, Source, Stage, Turn
from roomtone.core.signals import Prompt
from roomtone.daemon import watch_store
from roomtone.flow import beside
from roomtone.store import FILE_NAME, Store, open_store


@asynccontextmanager
async def household(folder: Path) -> AsyncIterator[Room]:
    """Open a room as the daemon does, on a device that nobody speaks to."""
    async with (
        engines.open_engine("audio", "wav", engines.load("audio", "wav").Settings()) as device,
        open_room(scripted(), folder, device=device) as opened,
        beside(watch_store(opened), "store watch"),
    ):
        yield opened


async def ask(opened: Room, text: str) -> Turn:
    return await opened.conversation.answer(Prompt(text, Source.CLI))


@contextmanager
def files_may_not_grow(folder: Path) -> Iterator[None]:
    """Let the kernel refuse every write past the end of the store's log, as a full disk does."""
    log = folder / f"{FILE_NAME}-wal"
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


async def rows(store: Store, table: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) async for line in store.export()]
    return [line for line in lines if line["table"] == table]


# ------------------------------------------------------------------------------------ as a turn comes on


def test_an_answer_that_was_heard_to_its_end_is_not_cut_off_by_a_later_power_cut(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, on_disk = tmp_path / "before" / f"{FILE_NAME}-wal", [0]
    commit = database.commit

    def committing(connection: Any, statements: Any, durable: bool) -> None:
        commit(connection, statements, durable)
        if durable:
            on_disk.append(log.stat().st_size)

    async def scenario() -> None:
        monkeypatch.setattr(database, "commit", committing)
        async with household(tmp_path / "before") as opened:
            await ask(opened, "what time is it")
            await opened.conversation.recorder.settled(1)
            after = shutil.copytree(tmp_path / "before", tmp_path / "after")
        os.truncate(after / log.name, max(on_disk))  # what only the system's memory held is gone
        async with open_store(after / FILE_NAME) as store:
            assert store.unfinished == ()
            [turn] = await store.history(10)
            assert turn.spoken == turn.said

    run(scenario())


def test_each_stage_of_a_turn_is_in_its_row(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            seen: list[tuple[Stage, str, str]] = []
            store = rehearsal.room.store
            save = store.save_turn

            async def noting(turn: Turn, **more: Any) -> None:
                await save(turn, **more)
                seen.append((turn.stage, turn.heard, turn.said))

            store.save_turn = noting  # type: ignore[method-assign]
            [turn] = await speaks(rehearsal)
            assert [stage for stage, _, _ in seen] == [Stage.HEARING, Stage.THINKING, Stage.SPEAKING, Stage.SPEAKING]
            assert seen[1] == (Stage.THINKING, "what time is it", "")
            assert seen[2] == (Stage.SPEAKING, "what time is it", turn.said)

    run(scenario())


def test_what_was_asked_stands_in_the_graph_before_it_is_answered_aloud(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as opened:
            with opened.feed.watch("turn.first_sound") as sounds:
                opened.conversation.post(Prompt("what time is it", Source.CLI))
                await anext(sounds)
                [message] = await rows(opened.store, "messages")
                assert (message["role"], message["text"]) == (Role.PERSON, "what time is it")

    run(scenario())


def test_who_interrupts_opens_a_branch_that_meets_the_other_in_the_next_answer(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP, "what time is it"), tmp_path) as rehearsal:
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(2)
            rehearsal.device.visit(await somebody_speaks())
            first, second = await rehearsal.at_rest()
            assert first.ended is Ended.INTERRUPTED
            store = rehearsal.room.store
            [tip] = rehearsal.room.conversation.recorder.tips
            assert await store.tips(first.session) == (tip,)
            path = await store.ancestry(tip)
            assert {message.text for message in path} == {HELP, first.spoken, "what time is it", second.spoken}
            assert (await store.node(path[0].id)).children != ()

    run(scenario())


# -------------------------------------------------------------------------------------- a full disk


def test_a_disk_that_fills_up_is_said_once_promises_nothing_and_loses_nothing_once_there_is_room(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as opened:
            with opened.feed.watch("turn.ended") as ended, opened.feed.watch("store.back") as back:
                await ask(opened, "what time is it")
                with files_may_not_grow(tmp_path):
                    await talk_on_a_full_disk(opened)
                last = await ask(opened, "set a tea timer for two minutes")
                assert last.said.startswith("Tea timer, two minutes")
                await anext(back)
                told = []
                while (turn := (await anext(ended)).data.turn) != last:
                    told.append(turn.said)
            assert told.count("I can't write to my disk, so I may forget this.") == 1
            assert opened.conversation.health["store"] == "ok"
            assert [timer.name for timer in await opened.store.timers()] == ["tea"]
            heard = [turn.heard for turn in await opened.store.history() if turn.heard]
            assert heard == [
                "what time is it",
                "hello",
                "set a pasta timer for two minutes",
                "who are you",
                last.heard,
            ]
            path = await opened.store.ancestry(opened.conversation.recorder.tips[0])
            assert [message.text for message in path if message.role is Role.PERSON] == heard

    run(scenario())


async def talk_on_a_full_disk(opened: Room) -> None:
    assert (await ask(opened, "hello")).ended is Ended.COMPLETED
    refused = await ask(opened, "set a pasta timer for two minutes")
    assert refused.said == "I can't write to my disk, so I haven't done that."
    assert await opened.store.timers() == []
    assert (await ask(opened, "who are you")).ended is Ended.COMPLETED
    assert "disk" in opened.conversation.health["store"]


def test_a_disk_that_hangs_does_not_keep_an_answer_waiting(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as opened:
            save, patient = opened.store.save_turn, asyncio.Event()

            async def hanging(turn: Turn, **more: Any) -> None:
                await patient.wait()
                await save(turn, **more)

            opened.store.save_turn = hanging  # type: ignore[method-assign]
            turn = await ask(opened, "what time is it")
            assert turn.spoken == turn.said != ""
            patient.set()
            await asyncio.sleep(1)
            assert [each.heard for each in await opened.store.history()] == ["what time is it"]

    run(scenario())
