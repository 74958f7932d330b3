"""The morning after a power cut: all is as it was, and what came due meanwhile is told, one thing after the other."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import HELP, scripted
from roomtone import engines
from roomtone.app import Room, open_room
from roomtone.clock import SkippingLoop, utc_now
from roomtone.core.dialog import Source, Timer, TimerKind, Turn
from roomtone.core.signals import Dismiss, Prompt
from roomtone.flow import Watcher
from roomtone.morning import tell_what_was_cut_off
from roomtone.timers import ALIVE

ALWAYS_QUIET = {"quiet_hours": {"start": "00:00", "end": "00:00"}}


@asynccontextmanager
async def house(folder: Path, **sections: Any) -> AsyncIterator[tuple[Room, Watcher]]:
    """Open a room as the daemon does, but for its ears; the turns that end in it are watched."""
    wav = engines.open_engine("audio", "wav", engines.load("audio", "wav").Settings())
    async with wav as device, open_room(scripted(**sections), folder, device=device, listens=False) as room:
        with room.feed.watch("turn.ended") as ended:
            yield room, ended


async def turns(ended: Watcher, seconds: float) -> list[Turn]:
    await asyncio.sleep(seconds)
    return [(await anext(ended)).data.turn for _ in range(ended.waiting)]


async def ask(room: Room, text: str) -> Turn:
    return await room.conversation.answer(Prompt(text, Source.CLI))


def timer(name: str, seconds: float, kind: TimerKind = TimerKind.TIMER) -> Timer:
    now = utc_now()
    length = round(seconds) if kind is TimerKind.TIMER else 0
    return Timer(kind=kind, name=name, seconds=length, set_at=now, due=now + timedelta(seconds=seconds))


def cut(folder: Path) -> Path:
    """Return the state as it is on the disk at this moment."""
    return Path(shutil.copytree(folder, folder.with_name("after")))


def test_after_a_power_cut_one_thing_is_told_after_the_other_and_all_is_as_it_was(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        due = utc_now() + timedelta(minutes=6)
        schedules = {
            "news": {"cron": f"{due.minute} {due.hour} * * *", "say": "Here is the news.", "missed": "make_up"}
        }
        sections = {"schedules": schedules, "time_zone": "UTC"}
        async with house(tmp_path / "before", **sections) as (room, _):
            assert (await ask(room, "let me talk to the chef")).intent == "persona.switch"
            await room.parts.timers.save([timer("pasta", 300), timer("rice", 3600)])
            await room.parts.timers.save([timer("call mom", 7200, TimerKind.REMINDER)])
            await asyncio.sleep(60)
            room.conversation.post(Prompt(HELP, Source.CLI))
            await asyncio.sleep(5)
            after = cut(tmp_path / "before")
        await asyncio.sleep(900)
        async with house(after, **sections) as (room, ended):
            tell_what_was_cut_off(room)
            missed, news, offer = await turns(ended, 60)
            assert missed.said == "I was off for fifteen minutes; your pasta timer ended eleven minutes ago."
            assert news.said == "Here is the news."
            assert offer.said == "I was cut off in the middle of an answer. Shall I go on?"
            assert {turn.persona for turn in (missed, news, offer)} == {"chef"}
            assert [each.name for each in await room.parts.timers.running()] == ["rice", "call mom"]
            rest = await ask(room, "yes")
            assert rest.said
            assert rest.intent == "repeat.go_on"

    run(scenario())


def test_what_came_due_a_moment_ago_still_rings_and_says_for_how_long_it_was_off(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with house(tmp_path / "before") as (room, _):
            await room.parts.timers.save([timer("pasta", 240)])
            await asyncio.sleep(10)
            after = cut(tmp_path / "before")
        await asyncio.sleep(360)
        async with house(after) as (room, ended):
            assert await turns(ended, 100) == []
            room.conversation.post(Dismiss(Source.BUTTON))
            [ring] = await turns(ended, 1)
            assert ring.said == "I was off for six minutes; your pasta timer ended two minutes ago."

    run(scenario())


def test_what_still_rings_says_in_the_same_sentence_what_is_long_over(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path / "before") as (room, _):
            await room.parts.timers.save([timer("egg", 60), timer("pasta", 780)])
            await asyncio.sleep(10)
            after = cut(tmp_path / "before")
        await asyncio.sleep(900)
        async with house(after) as (room, ended):
            assert await turns(ended, 100) == []
            room.conversation.post(Dismiss(Source.BUTTON))
            [ring] = await turns(ended, 1)
            assert ring.said == (
                "I was off for fifteen minutes; your egg timer ended fourteen minutes ago"
                " and your pasta timer ended two minutes ago."
            )
            await asyncio.sleep(1)
            assert await room.store.timers() == []

    run(scenario())


@pytest.mark.parametrize(
    ("waits_s", "kind", "in_order", "told"),
    [
        (600, TimerKind.TIMER, False, "I was off for one hour; your x timer ended fifty minutes ago."),
        (600, TimerKind.ALARM, False, "While I was off, your alarm was due fifty minutes ago."),
        (600, TimerKind.ALARM, True, "I was off for one hour; your alarm was due fifty minutes ago."),
    ],
)
def test_a_length_is_named_only_where_it_is_known(
    run: Run[None], tmp_path: Path, waits_s: float, kind: TimerKind, in_order: bool, told: str
) -> None:
    async def scenario() -> None:
        async with house(tmp_path / "before") as (room, _):
            await room.parts.timers.save([timer("x", waits_s, kind)])
            await asyncio.sleep(1)
            after = cut(tmp_path / "before")
        await asyncio.sleep(3600)
        async with house(tmp_path / "before" if in_order else after) as (_, ended):
            [turn] = await turns(ended, 60)
            assert turn.said == told

    run(scenario())


@pytest.mark.parametrize(
    ("hours", "told"), [({}, ["I was cut off in the middle of an answer. Shall I go on?"]), (ALWAYS_QUIET, [])]
)
def test_with_a_clock_behind_the_cut_nobody_knows_who_still_stands_there(
    run: Run[None], tmp_path: Path, hours: dict[str, Any], told: list[str]
) -> None:
    async def scenario() -> None:
        async with house(tmp_path / "before") as (room, _):
            room.conversation.post(Prompt(HELP, Source.CLI))
            await asyncio.sleep(5)
            after = cut(tmp_path / "before")
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SkippingLoop)
        loop.set_clock(utc_now() - timedelta(hours=1))
        async with house(after, **hours) as (room, ended):
            tell_what_was_cut_off(room)
            assert [turn.said for turn in await turns(ended, 60)] == told

    run(scenario())


def test_that_it_is_on_is_written_once_a_minute_and_only_while_a_countdown_runs(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as (room, ended):
            kept: list[str] = []
            keep = type(room.store).keep

            async def keeping(store: Any, key: str, value: Any) -> None:
                kept.append(key)
                await keep(store, key, value)

            monkeypatch.setattr(type(room.store), "keep", keeping)
            alarm = timer("", 86400, TimerKind.ALARM)
            await room.parts.timers.save([alarm])
            await asyncio.sleep(600)
            assert kept == []
            await room.parts.timers.save([timer("pasta", 300)])
            await asyncio.sleep(290)
            assert set(kept) == {ALIVE}
            assert 4 <= len(kept) <= 5
            await asyncio.sleep(20)
            room.conversation.post(Dismiss(Source.BUTTON))
            await turns(ended, 1)
            kept.clear()
            await asyncio.sleep(600)
            assert kept == []

    run(scenario())
