"""What comes round by itself: each time once, through both ends of summer time, power cuts and set clocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from conftest import Run
from home import BERLIN
from rooms import room, scripted, speaks
from roomtone import config, engines
from roomtone.app import Room, open_room
from roomtone.clock import SkippingLoop, utc_now
from roomtone.core.dialog import Ended, Source, Turn
from roomtone.core.errors import ConfigError
from roomtone.core.recurrence import next_time
from roomtone.core.schedule import MACROS, Action, Missed, Past, Schedule, cron, due
from roomtone.flow import Watcher
from roomtone.quiet import Quiet
from roomtone.settings import Settings
from roomtone.store import FILE_NAME

MINUTE = timedelta(minutes=1)
HALF_PAST_SEVEN = "30 19 * * *"
EVENING = datetime(2026, 11, 21, 19, 30, tzinfo=BERLIN)


def bedtime(**more: Any) -> dict[str, Any]:
    return {"cron": HALF_PAST_SEVEN, "say": "Time for bed.", **more}


def set_clock(at: datetime) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.set_clock(at.astimezone(UTC))


def persona(tmp_path: Path, name: str, **config: Any) -> None:
    folder = tmp_path / "personas" / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{key}: {value}\n" for key, value in {"name": name.title(), **config}.items())
    (folder / "config.yaml").write_text(lines, "utf-8")
    (folder / "system_prompt.md").write_text("You are one of several.", "utf-8")


def by_itself(turns: list[Turn]) -> list[str]:
    return [turn.said for turn in turns if turn.source is Source.SCHEDULE]


@asynccontextmanager
async def days(settings: Settings, tmp_path: Path) -> AsyncIterator[Days]:
    """Open a room that hears nobody, in which days pass quickly."""
    wav = engines.open_engine("audio", "wav", engines.load("audio", "wav").Settings())
    async with wav as device, open_room(settings, tmp_path, device=device, listens=False) as opened:
        with opened.feed.watch("turn.ended") as ended:
            yield Days(opened, ended)


@dataclass
class Days:
    """A room that hears nobody, and what it says."""

    room: Room
    ended: Watcher

    @property
    def speaker(self) -> str:
        return self.room.conversation.speaker.persona.id

    async def turns(self, **time: float) -> list[Turn]:
        """Let time pass, and return the turns that ended in it."""
        await asyncio.sleep(timedelta(**time).total_seconds())
        return [(await anext(self.ended)).data.turn for _ in range(self.ended.waiting)]

    async def passes(self, **time: float) -> list[str]:
        """Let time pass, and return what the room said by itself meanwhile."""
        return by_itself(await self.turns(**time))


# ---------------------------------------------------------------------------------------- cron lines


@pytest.mark.parametrize(
    "text", [*MACROS, "30 19 * * *", "*/15 8-18 * * mon-fri", "0 0 29 2 *", "@DAILY", "0 8 L * *"]
)
def test_a_cron_line_is_taken_as_its_five_fields(text: str) -> None:
    assert len(cron(text).split()) == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 fields"),
        ("half past seven", "has 3 fields"),
        ("0 30 19 * * *", "has 6 fields"),
        ("61 19 * * *", "is no schedule"),
        ("0 0 31 2 *", "is no schedule"),
        ("0 0 30 2 *", "is no schedule"),
        ("0 0 */30 2 mon#5", "never comes"),
        ("@reboot", "choose one of @hourly"),
    ],
)
def test_a_cron_line_that_is_wrong_or_never_comes_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cron(text)


def test_each_mistake_in_the_configuration_is_told_with_its_key(tmp_path: Path) -> None:
    wrong = {
        "schedules": {
            "Bed time": bedtime(),
            "never": bedtime(cron="0 0 31 2 *"),
            "typo": {"cron": "@daily", "sya": "x"},
            "idle": {"cron": "@daily"},
            "who": bedtime(persona="Mr Bean"),
            "blank": bedtime(say=" "),
        },
        "events": {"doorbell": {"quiet_min": -5}},
        "quiet_hours": {"start": "22:00", "end": 2500},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(wrong), "utf-8")
    with pytest.raises(ConfigError) as refused:
        config.load(file, {})
    told = refused.value.message
    for line in (
        "schedules.Bed time.[key]: the value is not an id",
        "schedules.never.cron: '0 0 31 2 *' is no schedule (Bad day-of-month); write it as in '30 19 * * *'",
        "schedules.typo.sya: unknown key; did you mean say?",
        "does nothing; give it persona, say, ask, routine, handoff or quiet_min",
        "schedules.who.persona: 'Mr Bean' is no id of a persona or a routine; use a-z, 0-9, _ and -",
        "schedules.blank.say: ' ' is empty; write a sentence, or leave the key out",
        "events.doorbell.quiet_min: -5 ",
        "quiet_hours.end: 2500 is no time of day; write it as in '22:00'",
    ):
        assert line in told
    assert "schedules.idle" in told


def test_an_action_that_does_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="does nothing"):
        Action(urgent=True)
    with pytest.raises(ValidationError, match="does nothing"):
        Schedule(cron="@daily")


# ------------------------------------------------------------------------------ what is run when, purely


def walk(schedule: Schedule, zone: ZoneInfo, *stretches: tuple[datetime, timedelta]) -> list[datetime]:
    """Return the times that are run by who looks at a clock that shows these stretches, one after the other."""
    first = stretches[0][0]
    past, seen, ran = Past(cron=schedule.cron, since=first), first, []
    for now in (now for start, length in stretches for now in looks(schedule, zone, start, length)):
        at = due(schedule, past, seen, now, zone)
        seen = now
        if at is not None:
            ran.append(at)
            past = past.with_run(at, zone, begun=False)
    return ran


def looks(schedule: Schedule, zone: ZoneInfo, start: datetime, length: timedelta) -> Iterator[datetime]:
    """Yield when it is looked at the clock: at the next time of the schedule, and every hour."""
    now = start
    while now <= start + length:
        yield now
        now = min(now + timedelta(hours=1), next_time(schedule.cron, now, zone))


def times(schedule: Schedule, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """List the times of a schedule after one moment and up to another."""
    found, at = [], start
    while (at := next_time(schedule.cron, at, zone)) <= end:
        found.append(at)
    return found


HALF_PAST_TWO = Schedule(cron="30 2 * * *", say="It is late.")
A_DAY = timedelta(days=1)


def test_in_the_night_that_loses_an_hour_a_time_in_it_comes_at_the_first_moment_after() -> None:
    night = datetime(2026, 3, 28, 20, 0, tzinfo=BERLIN).astimezone(UTC)
    [ran] = walk(HALF_PAST_TWO, BERLIN, (night, A_DAY))
    assert ran.astimezone(BERLIN).strftime("%d %H:%M") == "29 03:00"


def test_in_the_night_that_has_an_hour_twice_a_time_in_it_comes_once() -> None:
    night = datetime(2026, 10, 24, 20, 0, tzinfo=BERLIN).astimezone(UTC)
    assert walk(HALF_PAST_TWO, BERLIN, (night, A_DAY)) == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]


CRONS = ["30 19 * * *", "*/17 * * * *", "@hourly", "30 2 * * *", "0 8 * * 1-5", "@weekly", "5 4 1 * *"]
schedules = st.builds(Schedule, cron=st.sampled_from(CRONS), say=st.just("x"), missed=st.sampled_from(Missed))
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]).map(ZoneInfo)
starts = st.integers(0, 3 * 366 * 24 * 60).map(lambda number: datetime(2025, 1, 1, tzinfo=UTC) + number * MINUTE)
lengths = st.integers(1, 3 * 24 * 60).map(lambda number: number * MINUTE)
jumps = st.sampled_from([timedelta(hours=1), timedelta(days=1095)]) | st.integers(1, 24 * 3600).map(
    lambda seconds: timedelta(seconds=seconds)
)
signs = st.sampled_from([1, -1])


@settings(max_examples=60)
@given(schedules, zones, starts, lengths)
def test_while_the_clock_runs_as_it_should_none_is_lost_and_none_doubled(
    schedule: Schedule, zone: ZoneInfo, start: datetime, length: timedelta
) -> None:
    assert walk(schedule, zone, (start, length)) == times(schedule, zone, start, start + length)


@settings(max_examples=100)
@given(schedules, zones, starts, st.lists(st.tuples(lengths, jumps, signs, lengths), min_size=1, max_size=4))
def test_however_the_clock_is_set_and_set_right_none_is_doubled_and_all_that_come_then_are_run(
    schedule: Schedule, zone: ZoneInfo, start: datetime, wrongs: list[tuple[timedelta, timedelta, int, timedelta]]
) -> None:
    stretches, now = [], start
    for right, by, sign, wrong in wrongs:
        stretches += [(now, right), (now + right + sign * by, wrong)]
        now += right + wrong
    stretches.append((now, timedelta(days=9)))
    ran = walk(schedule, zone, *stretches)
    assert len(ran) == len(set(ran))
    assert set(times(schedule, zone, now, now + timedelta(days=9))) <= set(ran)


# --------------------------------------------------------------------------------------------- in a room


def test_a_schedule_switches_the_persona_and_then_speaks_as_it_every_day(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        persona(tmp_path, "narrator")
        set_clock(EVENING - MINUTE)
        async with days(scripted(schedules={"bedtime": bedtime(persona="narrator")}), tmp_path) as opened:
            assert await opened.passes(seconds=58) == []
            [turn] = await opened.turns(minutes=1)
            assert (turn.persona, turn.said, turn.source) == ("narrator", "Time for bed.", Source.SCHEDULE)
            [switch] = await opened.room.store.read("SELECT * FROM persona_switches")
            assert (switch["source"], switch["cause"]) == ("schedule", "schedule bedtime")
            for day in (1, 2):
                set_clock(EVENING + day * A_DAY - MINUTE)
                assert await opened.passes(minutes=3) == ["Time for bed."]

    run(scenario())


def test_what_a_schedule_asks_is_answered_aloud_after_what_it_says(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(EVENING - MINUTE)
        both = {"evening": bedtime(ask="what time is it")}
        async with days(scripted(schedules=both), tmp_path) as opened:
            assert await opened.passes(minutes=2) == ["Time for bed.", "It's half past seven."]

    run(scenario())


def test_a_schedule_waits_until_the_conversation_is_over(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(EVENING - timedelta(seconds=4))
        async with room(scripted("what can you do", schedules={"bedtime": bedtime()}), tmp_path) as rehearsal:
            answer, said = await speaks(rehearsal)
            assert (answer.ended, said.said) == (Ended.COMPLETED, "Time for bed.")
            assert answer.at < said.at

    run(scenario())


def test_a_persona_is_called_by_the_schedule_in_its_own_file_and_by_a_new_one_once_that_is_edited(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        calls = {"trigger_types": "[schedule]"}
        persona(tmp_path, "narrator", schedule_cron="'30 19 * * *'", **calls)
        set_clock(EVENING - MINUTE)
        async with days(scripted(), tmp_path) as opened:
            await opened.passes(minutes=2)
            assert opened.speaker == "narrator"
            persona(tmp_path, "host", schedule_cron="'33 19 * * *'", **calls)
            opened.room.feed.publish("personas.changed", source="test")
            await opened.passes(minutes=3)
            assert opened.speaker == "host"

    run(scenario())


def test_a_schedule_for_a_persona_that_is_not_there_costs_nothing_but_itself(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        set_clock(EVENING - MINUTE)
        both = {"bedtime": bedtime(persona="nobody"), "night": {"cron": "31 19 * * *", "say": "Good night."}}
        async with days(scripted(schedules=both), tmp_path) as opened:
            said = await opened.passes(minutes=3)
            assert "I can't be nobody now: something is wrong with the files. Companion goes on." in said
            assert said[-1] == "Good night."
            assert "schedules.bedtime.persona: there is no persona 'nobody'" in caplog.text

    run(scenario())


def test_between_two_runs_nothing_is_written(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(EVENING - MINUTE)
        async with days(scripted(schedules={"bedtime": bedtime(missed="make_up")}), tmp_path) as opened:
            await opened.passes(minutes=5)
            log = tmp_path / f"{FILE_NAME}-wal"
            before = log.stat().st_mtime_ns, log.stat().st_size
            await opened.passes(minutes=30)
            assert (log.stat().st_mtime_ns, log.stat().st_size) == before

    run(scenario())


# ------------------------------------------------------------------------- power cuts and clocks that are set


@pytest.mark.parametrize(("missed", "said"), [("make_up", ["Time for bed."]), ("drop", [])])
def test_what_was_missed_while_off_is_made_up_for_once_or_dropped(
    run: Run[None], tmp_path: Path, missed: str, said: list[str]
) -> None:
    async def scenario() -> None:
        settings = scripted(schedules={"bedtime": bedtime(missed=missed)})
        set_clock(EVENING - 3 * MINUTE)
        async with days(settings, tmp_path):
            await asyncio.sleep(60)
        await asyncio.sleep(3 * 24 * 3600 + 3600)
        for expected in (said, []):
            async with days(settings, tmp_path) as opened:
                assert await opened.passes(minutes=5) == expected

    run(scenario())


def test_what_was_missed_more_than_a_day_ago_is_not_made_up_for(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = scripted(schedules={"weekly": bedtime(cron="30 19 * * 6", missed="make_up")})
        set_clock(EVENING - 3 * MINUTE)
        async with days(settings, tmp_path):
            await asyncio.sleep(60)
        await asyncio.sleep(2 * 24 * 3600)
        async with days(settings, tmp_path) as opened:
            assert await opened.passes(minutes=5) == []

    run(scenario())


def test_one_that_is_new_or_moved_to_a_time_that_is_over_waits_for_the_next(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        set_clock(EVENING - MINUTE)
        async with days(scripted(schedules={"bedtime": bedtime(missed="make_up")}), tmp_path) as opened:
            assert await opened.passes(minutes=3) == ["Time for bed."]
        set_clock(EVENING + 60 * MINUTE)
        moved = scripted(schedules={"bedtime": bedtime(cron="0 20 * * *", missed="make_up")})
        async with days(moved, tmp_path) as opened:
            assert await opened.passes(minutes=5) == []
            set_clock(EVENING + A_DAY + 29 * MINUTE)
            assert await opened.passes(minutes=3) == ["Time for bed."]

    run(scenario())


def test_a_run_that_a_crash_came_into_before_it_was_heard_is_made_up_for(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any, **__: Any) -> bool:
        return True  # as far as the schedule knows

    async def scenario() -> None:
        settings = scripted(schedules={"bedtime": bedtime(missed="make_up")})
        set_clock(EVENING - MINUTE)
        with monkeypatch.context() as crash:
            crash.setattr(Quiet, "announce", dies)
            async with days(settings, tmp_path) as opened:
                assert await opened.passes(minutes=2) == []
        for expected in (["Time for bed."], []):
            async with days(settings, tmp_path) as opened:
                assert await opened.passes(minutes=3) == expected

    run(scenario())


@pytest.mark.parametrize("missed", ["make_up", "drop"])
@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=1095)])
def test_a_clock_that_is_set_ahead_and_back_doubles_nothing_and_silences_nothing(
    run: Run[None], tmp_path: Path, jump: timedelta, missed: str
) -> None:
    async def scenario() -> None:
        set_clock(EVENING - MINUTE)
        async with days(scripted(schedules={"bedtime": bedtime(missed=missed)}), tmp_path) as opened:
            assert await opened.passes(minutes=3) == ["Time for bed."]
            set_clock(utc_now() + jump)
            await opened.passes(minutes=3)
            set_clock(utc_now() - jump)
            assert await opened.passes(minutes=3) == []
            set_clock(EVENING - MINUTE)
            assert await opened.passes(minutes=3) == [], "half past seven has been today"
            set_clock(EVENING + A_DAY - MINUTE)
            assert await opened.passes(minutes=3) == ["Time for bed."]

    run(scenario())


def test_a_run_that_a_wrong_clock_wrote_years_ahead_silences_nothing_after_a_restart(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        settings = scripted(schedules={"bedtime": bedtime(missed="make_up")})
        for day in (timedelta(days=1095), timedelta(0), A_DAY):
            set_clock(EVENING + day - MINUTE)
            async with days(settings, tmp_path) as opened:
                assert await opened.passes(minutes=3) == ["Time for bed."]

    run(scenario())


@pytest.mark.parametrize("behind", [timedelta(hours=1), timedelta(days=1095)])
def test_a_pi_that_starts_with_an_old_clock_makes_up_for_what_it_missed_once_that_is_set(
    run: Run[None], tmp_path: Path, behind: timedelta
) -> None:
    async def scenario() -> None:
        settings = scripted(schedules={"bedtime": bedtime(missed="make_up")})
        set_clock(EVENING - 30 * MINUTE)
        async with days(settings, tmp_path):
            await asyncio.sleep(60)
        await asyncio.sleep(3600)
        set_clock(utc_now() - behind)
        async with days(settings, tmp_path) as opened:
            assert await opened.passes(seconds=90) == []
            set_clock(utc_now() + behind)
            assert await opened.passes(minutes=5) == ["Time for bed."]

    run(scenario())
