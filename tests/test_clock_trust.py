"""A clock that is not set yet: nobody is told a wrong time, and what it stamped is put right once it is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import HELP, room, scripted, speaks, until
from roomtone import clock_trust
from roomtone.clock import SkippingLoop, utc_now
from roomtone.core.dialog import Item, Session, Source
from roomtone.core.signals import Prompt
from roomtone.flow import beside
from roomtone.rehearsal import Rehearsal
from roomtone.store import open_store

NINETEEN_SEVENTY = datetime(1970, 1, 1, 0, 0, 30, tzinfo=UTC)
SEVEN = datetime(1970, 1, 1, 6, 0, tzinfo=UTC)
"""In the morning, in Berlin."""
NOON = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
"""On a Monday, in Berlin."""


def set_clock(at: datetime) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.set_clock(at)


@asynccontextmanager
async def room_at(at: datetime, folder: Path, *heard: str, **sections: Any) -> AsyncIterator[Rehearsal]:
    """Open a room whose clock shows a time."""
    set_clock(at)
    async with room(scripted(*heard, **sections), folder) as rehearsal:
        yield rehearsal


async def is_set(rehearsal: Rehearsal, at: datetime = NOON) -> None:
    """Set the clock, and let it be noticed as the daemon does."""
    parts = rehearsal.room.parts
    async with beside(parts.clock.watch(parts.timers.moved), "clock"):
        set_clock(at)
        await asyncio.sleep(1.5 * clock_trust.LOOK_S)


async def asked(rehearsal: Rehearsal, text: str) -> str:
    return str((await rehearsal.room.conversation.answer(Prompt(text, Source.CLI))).said)


# --------------------------------------------------------------------------------------------- what is told


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what time is it", "I don't know the time yet."),
        ("what is the date today", "I don't know what day it is yet."),
        ("how many days until christmas", "I don't know what day it is yet."),
        ("remind me to call mom at seven", "I don't know what time it is yet. Please ask me again in a minute."),
        ("wake me at seven on friday", "I don't know what time it is yet. Please ask me again in a minute."),
    ],
)
def test_a_room_whose_clock_shows_1970_does_not_know_the_time(
    run: Run[None], tmp_path: Path, question: str, answer: str
) -> None:
    async def scenario() -> None:
        async with room_at(NINETEEN_SEVENTY, tmp_path) as rehearsal:
            assert await asked(rehearsal, question) == answer
            await is_set(rehearsal)
            assert await asked(rehearsal, question) != answer

    run(scenario())


def test_a_clock_before_the_newest_thing_in_the_store_is_wrong(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room_at(NOON, tmp_path, HELP) as rehearsal:
            await speaks(rehearsal)
            await rehearsal.at_rest()
        async with room_at(NOON - timedelta(hours=1), tmp_path) as rehearsal:
            assert not rehearsal.room.parts.clock.is_possible()
            assert rehearsal.room.health()["clock"] == "not set since the machine was started"

    run(scenario())


def test_a_clock_that_a_server_is_still_to_set_is_not_told_but_serves_after_a_while(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_trust, "awaited", lambda: True)
    monkeypatch.setattr(clock_trust, "PATIENCE_S", 60.0)

    async def scenario() -> None:
        async with room_at(NOON, tmp_path) as rehearsal:
            clock = rehearsal.room.parts.clock
            assert (clock.is_possible(), clock.is_right(), clock.serves()) == (True, False, False)
            await asyncio.sleep(clock_trust.PATIENCE_S)
            assert (clock.is_right(), clock.serves()) == (False, True)
            await is_set(rehearsal, NOON + timedelta(hours=3))
            assert clock.is_right(), "whoever set it knew"

    run(scenario())


def test_the_machine_says_whether_its_clock_is_to_be_set(
    run_in_real_time: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, hardware = tmp_path / "timesync", tmp_path / "since_epoch"
    monkeypatch.setattr(clock_trust, "SERVICE", service)
    monkeypatch.setattr(clock_trust, "SYNCHRONISED", service / "synchronized")
    monkeypatch.setattr(clock_trust, "HARDWARE", hardware)

    async def scenario() -> None:
        assert not clock_trust.awaited(), "where no server is asked, nobody will set it"
        service.mkdir()
        assert clock_trust.awaited()
        hardware.write_text("94")
        assert clock_trust.awaited(), "a real-time clock without a battery knows nothing"
        hardware.write_text(f"{utc_now().timestamp():.0f}\n")
        assert not clock_trust.awaited()
        hardware.unlink()
        (service / "synchronized").touch()
        assert not clock_trust.awaited()
        assert clock_trust.synchronised()

    run_in_real_time(scenario())


def test_a_clock_that_a_server_set_is_right_whatever_the_store_holds(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with room_at(NOON + timedelta(days=90), tmp_path, HELP) as rehearsal:
            await speaks(rehearsal)
        async with room_at(NOON, tmp_path) as rehearsal:
            assert await asked(rehearsal, "what time is it") == "I don't know the time yet."
            monkeypatch.setattr(clock_trust, "synchronised", lambda: True)
            assert await asked(rehearsal, "what time is it") == "It's noon."

    run(scenario())


# ------------------------------------------------------------------------------------------- what comes round


def test_a_timer_runs_for_its_length_whenever_the_clock_is_set(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room_at(NINETEEN_SEVENTY, tmp_path) as rehearsal:
            began = asyncio.get_running_loop().time()
            assert await asked(rehearsal, "set a timer for two minutes") == "Two minutes, starting now."
            await asyncio.sleep(40)
            await is_set(rehearsal)
            while (await until(rehearsal, "turn.first_sound")).data.prompt.alarm is None:
                pass
            assert asyncio.get_running_loop().time() - began == pytest.approx(120, abs=2)

    run(scenario())


def test_an_alarm_is_taken_before_the_time_is_known_and_rings_at_its_time_once_it_is(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room_at(SEVEN - timedelta(minutes=1), tmp_path) as rehearsal:
            said = await asked(rehearsal, "wake me at seven")
            assert said == "I don't know the time yet. Once I do, your alarm is set for seven o'clock."
            await asyncio.sleep(120)
            assert [turn.said for turn in await rehearsal.room.store.history()] == [said], "no hour of 1970 rings it"
        async with room_at(NINETEEN_SEVENTY, tmp_path) as rehearsal:
            await is_set(rehearsal, datetime(2026, 11, 24, 5, 59, tzinfo=UTC))
            [alarm] = await rehearsal.room.parts.timers.running()
            assert alarm.due == datetime(2026, 11, 24, 6, 0, tzinfo=UTC), "in the morning, in Berlin"
            await until(rehearsal, "turn.first_sound")
            assert utc_now() - alarm.due < timedelta(seconds=5)

    run(scenario())


def test_a_jump_from_1970_runs_no_schedule_of_the_years_between(run: Run[None], tmp_path: Path) -> None:
    schedules = {
        "hourly": {"cron": "0 * * * *", "say": "The hour."},
        "morning": {"cron": "0 7 * * *", "say": "Good morning.", "missed": "make_up"},
    }

    async def scenario() -> None:
        async with room_at(NOON - timedelta(days=2), tmp_path, schedules=schedules):
            await asyncio.sleep(60)
        async with room_at(SEVEN - timedelta(minutes=1), tmp_path, schedules=schedules) as rehearsal:
            await asyncio.sleep(120)
            assert await rehearsal.room.store.history() == []
            await is_set(rehearsal, NOON + timedelta(minutes=58))
            await asyncio.sleep(60)
            said = [turn.said for turn in await rehearsal.room.store.history()]
            assert said == ["Good morning."], "the one that is to be made up for, once"
            await asyncio.sleep(120)
            assert [turn.said for turn in await rehearsal.room.store.history()] == ["Good morning.", "The hour."]

    run(scenario())


def test_no_quiet_hours_hold_while_nobody_knows_the_time(run: Run[None], tmp_path: Path) -> None:
    quiet_hours = {"start": "22:00", "end": "07:00"}

    async def scenario() -> None:
        async with room_at(NINETEEN_SEVENTY, tmp_path, quiet_hours=quiet_hours) as rehearsal:
            assert not rehearsal.room.parts.quiet.now()
            await is_set(rehearsal, NOON + timedelta(hours=12))
            assert rehearsal.room.parts.quiet.now()

    run(scenario())


# ------------------------------------------------------------------------------------------ what was stamped


def test_what_was_said_before_the_clock_was_set_was_said_just_now(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room_at(NOON - timedelta(days=1), tmp_path) as rehearsal:
            await asked(rehearsal, "what is three times four")
        async with room_at(NINETEEN_SEVENTY, tmp_path) as rehearsal:
            await asked(rehearsal, "what is two times four")
            await asyncio.sleep(100)
            await is_set(rehearsal)
            turns = await rehearsal.room.store.history()
            assert [turn.said for turn in turns] == ["Twelve.", "Eight."]
            assert turns[0].at == pytest.approx(NOON - timedelta(days=1), abs=timedelta(seconds=5))
            assert turns[1].at == pytest.approx(NOON - timedelta(seconds=100), abs=timedelta(seconds=5))
            assert await rehearsal.room.store.erase(NOON - timedelta(hours=1)) == 1
            assert [turn.said for turn in await rehearsal.room.store.history()] == ["Twelve."]

    run(scenario())


def test_the_last_hour_of_a_clock_at_1970_is_not_all_that_was_ever_said(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room_at(NOON - timedelta(days=1), tmp_path) as rehearsal:
            await asked(rehearsal, "what is three times four")
        async with room_at(NINETEEN_SEVENTY, tmp_path) as rehearsal:
            assert (await asked(rehearsal, "forget the last hour")).startswith("I don't know the time yet")
            assert (await rehearsal.room.store.history())[0].said == "Twelve."

    run(scenario())


def test_every_stamp_of_the_store_is_moved_and_only_those_of_the_wrong_clock(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "store.db") as store:
            old, new = NOON - timedelta(days=3), NINETEEN_SEVENTY + timedelta(seconds=5)
            for at in (old, new):
                await store.save_session(Session(room="hall", persona="companion", started=at))
                await store.save_items([Item(list="shopping", text=f"{at:%Y}", added=at)])
            jump = (NOON - new).total_seconds()
            await store.write(*clock_trust.restamping(NINETEEN_SEVENTY, NINETEEN_SEVENTY + timedelta(hours=1), jump))
            assert [each.started for each in await store.sessions()] == [old, NOON]
            assert [each.added for each in await store.items()] == [old, NOON]

    run(scenario())


def test_the_stamps_that_are_moved_are_all_that_the_store_has(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "store.db") as store:
            rows = await store.read(
                "SELECT m.name AS name, c.name AS stamp FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
                "WHERE m.type = 'table' AND c.name IN "
                "('at', 'started', 'ended', 'added', 'removed', 'since', 'last_used', 'expires')"
            )
        stamped = {(row["name"], row["stamp"]) for row in rows}
        moved = {(table, column) for table, column, _ in clock_trust._STAMPS} | {("turns", "at")}
        assert stamped - moved <= {("holds", "at"), ("moves", "at"), ("migrations", "taken")}, "the hub's own times"

    run(scenario())
