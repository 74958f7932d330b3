"""Times of day, lengths of time and days: said, understood and said again; and when they come."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from home import BERLIN
from roomtone.core.recurrence import Clock, Half, every, next_time, on_day
from roomtone.mind import moments
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.skills import Match

SKILLS = Skills.load()
PHRASES = Phrases.load()
ZONES = [
    ZoneInfo(name)
    for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Kolkata", "UTC")
]
"""Among them clocks that move by half an hour, at midnight, and never."""

times = st.builds(Clock, st.integers(0, 23), st.integers(0, 59))
moments_ = st.integers(0, 10 * 366 * 24 * 60).map(
    lambda minutes: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)
days_of_week = st.sampled_from(["*", "1-5", "0,6", "1", "4", "2,4"])


def heard(text: str, intent: str) -> Match:
    match = SKILLS.recognise(text)
    assert match is not None, text
    assert match.intent == intent, text
    return match


# ------------------------------------------------------------------------------------------ recurrences


@given(times, moments_, st.sampled_from(ZONES), days_of_week)
def test_what_comes_again_comes_after_now_on_its_days_at_its_time(
    clock: Clock, now: datetime, zone: ZoneInfo, days: str
) -> None:
    due = next_time(every(clock, days), now, zone)
    assert due > now
    local = due.astimezone(zone)
    wanted = datetime.combine(local.date(), datetime.min.time()).replace(hour=clock.hour, minute=clock.minute)
    skipped = wanted.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != wanted
    assert (local.hour, local.minute) == (clock.hour, clock.minute) or skipped
    assert local.second == 0


@settings(max_examples=40)
@given(times, st.dates(date(2025, 1, 1), date(2030, 1, 1)), st.sampled_from(ZONES))
@example(Clock(2, 30), date(2026, 3, 27), ZONES[0])
@example(Clock(2, 30), date(2026, 10, 23), ZONES[0])
@example(Clock(0, 30), date(2026, 3, 6), ZONES[3])
def test_an_alarm_for_every_day_rings_once_a_day(clock: Clock, day: date, zone: ZoneInfo) -> None:
    now = datetime.combine(day, datetime.min.time(), zone) - timedelta(seconds=1)
    rung = []
    for _ in range(6):
        now = next_time(every(clock), now, zone)
        rung.append(now.astimezone(zone).date())
    assert rung == [day + timedelta(after) for after in range(6)]


def test_an_alarm_in_the_hour_that_is_taken_away_rings_when_it_is_over() -> None:
    removed = on_day(Clock(2, 30), date(2026, 3, 29), BERLIN).astimezone(BERLIN)
    assert (removed.hour, removed.minute) == (3, 0)


def test_an_alarm_in_the_hour_that_comes_twice_rings_the_first_time_only() -> None:
    first = on_day(Clock(2, 30), date(2026, 10, 25), BERLIN)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_time(every(Clock(2, 30)), first, BERLIN) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    in_the_second_hour = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert next_time(every(Clock(2, 30)), in_the_second_hour, BERLIN) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@given(st.integers(1, 12), st.integers(0, 59), moments_, st.sampled_from(ZONES))
def test_a_time_without_its_half_is_the_next_that_comes(
    hour: int, minute: int, now: datetime, zone: ZoneInfo
) -> None:
    face = Clock(hour, minute, either=True)
    due = next_time(every(face), now, zone)
    assert due == min(next_time(every(face.at(half)), now, zone) for half in (Half.AM, Half.PM))


# ------------------------------------------------------------------------------------- said and understood


@given(st.integers(1, 24 * 3600 - 1))
@example(3600)
@example(3661)
@example(1)
def test_a_length_of_time_is_understood_as_it_is_said(seconds: int) -> None:
    said = PHRASES.duration(seconds)
    assert moments.seconds(heard(f"set a timer for {said}", "timer.set")) == seconds


@given(times)
def test_a_time_is_understood_as_it_is_said(clock: Clock) -> None:
    said = PHRASES.time(datetime(2026, 11, 21, clock.hour, clock.minute, tzinfo=BERLIN))
    understood = moments.clock(heard(f"wake me up at {said}", "alarm.set"))
    assert understood is not None
    assert understood.at(Half.AM if clock.hour < 12 else Half.PM) == clock


@given(times, st.sampled_from(["{:02}:{:02}", "{}:{:02}", "{}.{:02}"]))
def test_a_time_is_understood_as_it_is_written(clock: Clock, written: str) -> None:
    understood = moments.clock(heard(f"Wake me up at {written.format(clock.hour, clock.minute)}.", "alarm.set"))
    assert understood is not None
    assert understood.at(Half.AM if clock.hour < 12 else Half.PM) == clock


@settings(max_examples=200)
@given(moments_, st.integers(1, 5 * 24 * 60))
@example(datetime(2026, 1, 1, 0, 0, tzinfo=UTC), 1)
def test_a_moment_is_understood_as_it_is_said(at: datetime, minutes: int) -> None:
    now, due = at.astimezone(BERLIN), at + timedelta(minutes=minutes)
    local = due.astimezone(BERLIN)
    assume(not local.fold)  # the second of two equal hours cannot be told from the first
    said = PHRASES.when(local, now)
    understood = moments.moment(heard(f"wake me up at {said}", "alarm.set"), now, wakes=True)
    assert understood == moments.Moment(due), said


@settings(max_examples=60)
@given(times, days_of_week)
def test_days_are_understood_as_they_are_said(clock: Clock, days: str) -> None:
    now = datetime(2026, 11, 21, 16, 20, tzinfo=BERLIN)
    due = next_time(every(clock, days), now, BERLIN).astimezone(BERLIN)
    said = PHRASES.repeated(due, days)
    understood = moments.moment(heard(f"set an alarm for {said}", "alarm.set"), now, wakes=True)
    assert understood is not None, said
    assert understood.due == due, said


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("set an alarm for seven on Friday", "2026-11-27 07:00"),
        ("set an alarm for seven next Saturday", "2026-11-28 07:00"),
        ("set an alarm for ten tonight", "2026-11-21 22:00"),
        ("set an alarm for one tonight", "2026-11-22 01:00"),
        ("set an alarm for 7:30 PM the day after tomorrow", "2026-11-23 19:30"),
        ("set an alarm for seven on the 29th of February", "2028-02-29 07:00"),
        ("set an alarm for seven on January 5th", "2027-01-05 07:00"),
        ("set an alarm for noon", "2026-11-22 12:00"),
        ("set an alarm for 00:15", "2026-11-22 00:15"),
        ("set an alarm for 19:00", "2026-11-21 19:00"),
        ("set an alarm for 7 in the evening", "2026-11-21 19:00"),
    ],
)
def test_days_and_halves_of_days(text: str, due: str) -> None:
    now = datetime(2026, 11, 21, 16, 20, tzinfo=BERLIN)
    understood = moments.moment(heard(text, "alarm.set"), now, wakes=True)
    assert understood == moments.Moment(datetime.fromisoformat(due).replace(tzinfo=BERLIN).astimezone(UTC))


def test_a_day_that_never_comes_is_none() -> None:
    now = datetime(2026, 11, 21, 16, 20, tzinfo=BERLIN)
    assert moments.moment(heard("set an alarm for seven on the 31st of February", "alarm.set"), now) is None
