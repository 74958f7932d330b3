"""Quiet hours: softer answers, no chimes, and what nobody asked for waits until they are over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from conftest import Run
from home import BERLIN
from rooms import room, scripted, speaks, until
from roomtone.answers import Answers, event_of
from roomtone.app import Room
from roomtone.clock import SkippingLoop, utc_now
from roomtone.core.dialog import Source, Timer, TimerKind, Voice
from roomtone.core.errors import UsageError
from roomtone.core.persona import QuietHours
from roomtone.core.schedule import Action
from roomtone.core.signals import Dismiss, Prompt, Wake
from roomtone.daemon import say
from roomtone.metrics import Metrics
from roomtone.mouth import LISTENING_CHIME
from roomtone.rehearsal import Rehearsal

NIGHT = datetime(2026, 11, 21, 23, 0, tzinfo=BERLIN)
QUIET = {"start": "22:00", "end": "07:00", "volume": 0.25}
BELL = Action(say="Somebody is at the door.")


def set_clock(at: datetime) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.set_clock(at.astimezone(UTC))


def loudness(rehearsal: Rehearsal) -> float:
    return float(np.abs(rehearsal.device.played.samples.astype(int)).max())


async def told(rehearsal: Rehearsal) -> list[str]:
    return [turn.said for turn in await rehearsal.at_rest()]


async def rings_the_bell(room: Room, action: Action = BELL, source: Source = Source.HUB) -> bool:
    return await room.parts.quiet.act(action, source, "event doorbell")


# ------------------------------------------------------------------------------------------------- hours


@pytest.mark.parametrize(
    ("start", "end", "quiet", "loud"),
    [
        ("22:00", "07:00", ["22:00", "23:59", "00:00", "06:59"], ["07:00", "12:00", "21:59"]),
        ("13:00", "15:00", ["13:00", "14:59"], ["12:59", "15:00", "00:00"]),
        ("09:00", "09:00", ["00:00", "09:00", "23:59"], []),
    ],
)
def test_quiet_hours_may_pass_midnight(start: str, end: str, quiet: list[str], loud: list[str]) -> None:
    hours = QuietHours(start=time.fromisoformat(start), end=time.fromisoformat(end))
    assert all(hours.holds(time.fromisoformat(at)) for at in quiet)
    assert not any(hours.holds(time.fromisoformat(at)) for at in loud)


def test_hours_mean_the_same_in_yaml_with_and_without_quotes() -> None:
    written = yaml.safe_load("{start: 22:00, end: 07:30}")
    assert QuietHours.model_validate(written) == QuietHours(start=time(22), end=time(7, 30))
    with pytest.raises(ValidationError):
        QuietHours.model_validate({"start": 2200, "end": "07:00"})


# ------------------------------------------------------------------------------------------------- voice


@pytest.mark.parametrize(("at", "factor"), [(NIGHT, 0.25), (NIGHT + timedelta(hours=12), 1.0)])
def test_an_answer_is_given_at_once_but_softer(run: Run[None], tmp_path: Path, at: datetime, factor: float) -> None:
    async def scenario() -> None:
        set_clock(NIGHT + timedelta(hours=12))
        async with room(scripted("hello"), tmp_path / "loud") as rehearsal:
            await speaks(rehearsal)
            usual = loudness(rehearsal)
        set_clock(at)
        async with room(scripted("hello", quiet_hours=QUIET), tmp_path / "quiet") as rehearsal:
            [answer] = await speaks(rehearsal)
            assert answer.spoken
            assert loudness(rehearsal) == pytest.approx(factor * usual, rel=0.02)

    run(scenario())


def test_a_persona_has_a_loudness_and_quiet_hours_of_its_own(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(NIGHT)
        async with room(scripted("hello", quiet_hours=QUIET), tmp_path) as rehearsal:
            conversation = rehearsal.room.conversation
            own = {"voice": Voice(volume=0.5), "quiet_hours": QuietHours(start=time(20), end=time(8), volume=0.1)}
            speaker = conversation.speaker
            speaker.persona = speaker.persona.model_copy(update=own)
            assert rehearsal.room.parts.quiet.volume() == 0.1
            set_clock(NIGHT - timedelta(hours=2))
            assert rehearsal.room.parts.quiet.volume() == 0.1
            set_clock(NIGHT + timedelta(hours=12))
            await speaks(rehearsal)
            soft = loudness(rehearsal)
            speaker.persona = speaker.persona.model_copy(update={"voice": Voice()})
            conversation.post(Prompt("hello", Source.CLI))
            await rehearsal.at_rest()
            assert loudness(rehearsal) == pytest.approx(2 * soft, rel=0.02)

    run(scenario())


def test_what_rings_rings_as_loud_as_ever_and_at_once(run: Run[None], tmp_path: Path) -> None:
    async def ring(folder: Path, **quiet: Any) -> float:
        async with room(scripted(**quiet), folder) as rehearsal:
            now = utc_now()
            alarm = Timer(kind=TimerKind.ALARM, set_at=now, due=now + timedelta(seconds=2))
            await rehearsal.room.parts.timers.save([alarm])
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(20)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            await rehearsal.at_rest()
            return loudness(rehearsal)

    async def scenario() -> None:
        set_clock(NIGHT)
        assert await ring(tmp_path / "quiet", quiet_hours=QUIET) == await ring(tmp_path / "loud")

    run(scenario())


def test_what_was_missed_is_told_as_softly_as_an_answer(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(NIGHT)
        async with room(scripted("hello", quiet_hours=QUIET), tmp_path) as rehearsal:
            due = utc_now() + timedelta(seconds=2)
            await rehearsal.room.parts.timers.save([Timer(kind=TimerKind.REMINDER, name="tea", due=due)])
            await until(rehearsal, "turn.ended")
            await rehearsal.at_rest()
            rung = len(rehearsal.device.played)
            await speaks(rehearsal)
            assert rehearsal.turns[-1].said.startswith("You missed a reminder at ")
            played = np.abs(rehearsal.device.played.cut(rung).samples.astype(int))
            answer, told = played[: len(played) // 2].max(), played[len(played) // 2 :].max()
            assert told == answer
            assert await rehearsal.room.store.timers() == []

    run(scenario())


@pytest.mark.parametrize("quiet", [True, False])
def test_there_is_no_chime_in_quiet_hours(run: Run[None], tmp_path: Path, quiet: bool) -> None:
    async def scenario() -> None:
        set_clock(NIGHT)
        settings = scripted(listen={"mode": "button"}, **({"quiet_hours": QUIET} if quiet else {}))
        async with room(settings, tmp_path) as rehearsal:
            rehearsal.room.conversation.post(Wake(Source.BUTTON))
            await asyncio.sleep(1)
            heard = loudness(rehearsal)
            assert heard == (0 if quiet else np.abs(LISTENING_CHIME.samples).max())

    run(scenario())


# ----------------------------------------------------------------------------------------- announcements


def test_what_nobody_asked_for_waits_each_once_and_in_order_until_quiet_hours_are_over(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        set_clock(NIGHT)
        async with room(scripted(quiet_hours=QUIET), tmp_path) as rehearsal:
            assert not await rings_the_bell(rehearsal.room)
            await rings_the_bell(rehearsal.room, Action(say="The washing is done."))
            await rings_the_bell(rehearsal.room)
            say(rehearsal.room, "microphone_back")
            assert await told(rehearsal) == []
            set_clock(NIGHT + timedelta(hours=8))
            await asyncio.sleep(60)
            lines = ["The washing is done.", "Somebody is at the door.", "I can hear you again."]
            assert await told(rehearsal) == lines
            assert await rehearsal.room.store.kept("quiet/held") is None

    run(scenario())


def test_what_waits_outlives_a_power_cut(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(NIGHT)
        async with room(scripted(quiet_hours=QUIET), tmp_path) as rehearsal:
            await rings_the_bell(rehearsal.room, Action(say="Good morning.", ask="what time is it"))
        set_clock(NIGHT + timedelta(hours=8))
        async with room(scripted(quiet_hours=QUIET), tmp_path) as rehearsal:
            assert await told(rehearsal) == ["Good morning.", "It's seven o'clock."]

    run(scenario())


@pytest.mark.parametrize(
    ("action", "source"), [(Action(say="Fire!", urgent=True), Source.HUB), (Action(say="Fire!"), Source.BUTTON)]
)
def test_what_is_urgent_or_was_pressed_for_is_said_at_once(
    run: Run[None], tmp_path: Path, action: Action, source: Source
) -> None:
    async def scenario() -> None:
        set_clock(NIGHT)
        async with room(scripted(quiet_hours=QUIET), tmp_path) as rehearsal:
            assert await rings_the_bell(rehearsal.room, action, source)
            assert await told(rehearsal) == ["Fire!"]

    run(scenario())


def test_only_the_last_of_too_many_are_said(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(NIGHT)
        async with room(scripted(quiet_hours=QUIET), tmp_path) as rehearsal:
            for number in range(30):
                await rings_the_bell(rehearsal.room, Action(say=f"Number {number}."))
            set_clock(NIGHT + timedelta(hours=8))
            await asyncio.sleep(60)
            assert await told(rehearsal) == [f"Number {number}." for number in range(10, 30)]

    run(scenario())


def test_what_came_due_while_off_at_night_is_told_in_the_morning(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(NIGHT)
        async with room(scripted(), tmp_path) as rehearsal:
            now = utc_now()
            await rehearsal.room.parts.timers.save([Timer(seconds=60, set_at=now, due=now + timedelta(seconds=60))])
        await asyncio.sleep(3600)
        async with room(scripted(quiet_hours=QUIET), tmp_path) as rehearsal:
            await asyncio.sleep(120)
            assert await told(rehearsal) == []
            set_clock(NIGHT + timedelta(hours=8))
            await asyncio.sleep(120)
            [line] = await told(rehearsal)
            assert "your timer ended at " in line

    run(scenario())


# ------------------------------------------------------------------------------------------- for a while


def test_a_while_of_quiet_ends_by_itself_and_outlives_a_power_cut(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            await rings_the_bell(rehearsal.room, Action(say="Good night.", quiet_min=10))
            assert await told(rehearsal) == ["Good night."], "said before it is quiet"
            assert rehearsal.room.parts.quiet.now()
        await asyncio.sleep(240)
        async with room(scripted(), tmp_path) as rehearsal:
            quiet = rehearsal.room.parts.quiet
            await rings_the_bell(rehearsal.room)
            assert quiet.now()
            await asyncio.sleep(420)
            assert not quiet.now()
            assert await told(rehearsal) == ["Somebody is at the door."]
            await rings_the_bell(rehearsal.room, Action(quiet_min=10))
            await rings_the_bell(rehearsal.room, Action(quiet_min=0))
            assert not quiet.now()

    run(scenario())


@pytest.mark.parametrize("jump", [timedelta(days=-1095), timedelta(hours=-1), timedelta(days=1095)])
def test_a_clock_that_is_set_keeps_no_room_quiet_for_longer(run: Run[None], tmp_path: Path, jump: timedelta) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            await rings_the_bell(rehearsal.room, Action(quiet_min=10))
            set_clock(utc_now() + jump)
            assert rehearsal.room.parts.quiet.now()
        async with room(scripted(), tmp_path) as rehearsal:
            await asyncio.sleep(601)
            assert not rehearsal.room.parts.quiet.now()

    run(scenario())


# ------------------------------------------------------------------------------------------------ events


def test_the_control_socket_takes_events(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(events={"doorbell": BELL.model_dump()}), tmp_path) as rehearsal:
            opened = rehearsal.room
            answers = Answers(opened, Metrics(opened.feed, opened.engines, (), tmp_path))
            request = {"command": "event", "name": "doorbell", "source": "hub"}
            assert [message async for message in answers.answer(request)] == [{"result": "done"}]
            [turn] = await rehearsal.at_rest()
            assert (turn.said, turn.source) == ("Somebody is at the door.", Source.HUB)

    run(scenario())


def test_an_event_is_one_that_is_configured_told_by_one_who_may() -> None:
    events = {"doorbell": BELL}
    assert event_of({"name": "doorbell", "source": "hub"}, events) == (BELL, Source.HUB)
    assert event_of({"name": "doorbell"}, events) == (BELL, Source.CLI)
    for request, reason in (
        ({"name": "dorbell"}, "there is no event 'dorbell'; choose one of doorbell"),
        ({}, "there is no event 'None'"),
        ({"name": ["doorbell"]}, "there is no event"),
        ({"name": "doorbell", "source": "voice"}, "source: give one of cli, hub, web"),
    ):
        with pytest.raises(UsageError, match=reason.replace("[", r"\[")):
            event_of(request, events)
