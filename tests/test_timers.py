"""What rings in a room: louder and louder until somebody answers, through power cuts and clocks that are set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Run
from rooms import HELP, room, scripted, somebody_speaks, speaks, until
from roomtone import clock_trust
from roomtone import timers as ringing
from roomtone.clock import utc_now
from roomtone.core.dialog import Ended, Source, Timer, TimerKind, Turn
from roomtone.core.machine import Mode
from roomtone.core.recurrence import next_time
from roomtone.core.signals import Dismiss, MuteSet, Prompt, Wake
from roomtone.demo.visits import cough
from roomtone.rehearsal import Rehearsal

BERLIN_SEVEN = "0 7 * * *"


def due_in(seconds: float, name: str = "", kind: TimerKind = TimerKind.TIMER, **more: Any) -> Timer:
    now = utc_now()
    length = 0 if kind is TimerKind.ALARM else max(1, round(seconds))
    return Timer(kind=kind, name=name, seconds=length, set_at=now, due=now + timedelta(seconds=seconds), **more)


@asynccontextmanager
async def ringing_room(tmp_path: Path, *heard: str, timers: int = 1, **more: Any) -> AsyncIterator[Rehearsal]:
    """Open a room in which timers ring after a second; it has rung one round when the body runs."""
    async with room(scripted(*heard), tmp_path) as rehearsal:
        names = ["pasta", "egg", *(f"cake {number}" for number in range(timers))][:timers]
        await set_timers(rehearsal, *(due_in(1, name, **more) for name in names))
        await rings(rehearsal)
        yield rehearsal


async def set_timers(rehearsal: Rehearsal, *timers: Timer) -> None:
    await rehearsal.room.parts.timers.save(timers)


async def rings(rehearsal: Rehearsal) -> None:
    """Wait until something rings and has been said once."""
    await until(rehearsal, "turn.first_sound")
    await asyncio.sleep(3)


async def kept(rehearsal: Rehearsal) -> list[Timer]:
    return await rehearsal.room.store.timers()


def rang(turns: list[Turn]) -> list[Turn]:
    return [turn for turn in turns if turn.source is Source.SCHEDULE]


def spoken(turns: list[Turn]) -> list[str]:
    return [turn.spoken for turn in turns]


# ------------------------------------------------------------------------------------------- dismissed


@pytest.mark.parametrize("word", ["stop", "okay", "yes", "thank you", "what a racket you make"])
def test_any_word_ends_the_ringing(run: Run[None], tmp_path: Path, word: str) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, word) as rehearsal:
            turns = await speaks(rehearsal)
            [ring] = rang(turns)
            assert (ring.spoken, ring.ended) == ("Your pasta timer is done.", Ended.INTERRUPTED)
            assert spoken(turns)[1:] == (["You're welcome."] if word == "thank you" else [""])
            assert await kept(rehearsal) == []
            await asyncio.sleep(30)
            assert await rehearsal.at_rest() == []

    run(scenario())


@pytest.mark.parametrize("sound", ["cough", "mhm"])
def test_a_cough_or_a_hum_does_not_end_it(run: Run[None], tmp_path: Path, sound: str) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, "" if sound == "cough" else "mhm", "stop") as rehearsal:
            rehearsal.device.visit(cough() if sound == "cough" else await somebody_speaks())
            await asyncio.sleep(10)
            assert rehearsal.room.conversation.state.mode is Mode.SPEAKING
            [ring, _] = await speaks(rehearsal)
            assert ring.ended is Ended.INTERRUPTED

    run(scenario())


@pytest.mark.parametrize("press", [Wake(Source.BUTTON), Dismiss(Source.BUTTON)])
@pytest.mark.parametrize("muted", [False, True])
def test_a_button_ends_the_ringing_also_while_muted(
    run: Run[None], tmp_path: Path, press: Wake | Dismiss, muted: bool
) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path) as rehearsal:
            rehearsal.room.conversation.post(MuteSet(muted))
            await asyncio.sleep(20)
            assert rehearsal.room.conversation.state.mode is Mode.SPEAKING
            rehearsal.room.conversation.post(press)
            [ring] = await rehearsal.at_rest()
            assert ring.spoken == "Your pasta timer is done."
            assert await kept(rehearsal) == []

    run(scenario())


def test_it_rings_while_muted(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            rehearsal.room.conversation.post(MuteSet(True))
            await set_timers(rehearsal, due_in(2, "pasta"))
            await until(rehearsal, "turn.first_sound")

    run(scenario())


def chimes(played: np.ndarray) -> list[float]:
    """Return how loud the first note (880 Hz) of each chime is, in the order they were played."""
    frames = played[: len(played) // 320 * 320].reshape(-1, 320)
    note = np.exp(-2j * np.pi * 880 * np.arange(320) / 16000)
    loud = np.abs(frames @ note) / 160
    begins = [at for at in range(50, len(loud)) if loud[at] > 100 and loud[at - 50 : at].max() <= 100]
    return [float(loud[at : at + 5].max()) for at in begins]


def test_each_round_is_louder_than_the_one_before(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            await set_timers(rehearsal, due_in(2))
            await asyncio.sleep(30)
            rounds = chimes(rehearsal.device.played.samples.astype(float))[:4]
            assert len(rounds) == 4, rounds
            assert all(later > 1.3 * sooner for sooner, later in pairwise(rounds)), rounds

    run(scenario())


def test_it_is_heard_where_the_room_was_made_silent_and_leaves_it_so(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("stop"), tmp_path) as rehearsal:
            loudspeaker = rehearsal.device.loudspeaker
            loudspeaker.set_volume(0.0)
            await set_timers(rehearsal, due_in(2))
            await asyncio.sleep(30)
            assert len(chimes(rehearsal.device.played.samples.astype(float))) > 2
            await speaks(rehearsal)
            assert loudspeaker.volume == 0.0

    run(scenario())


def test_an_alarm_rings_by_its_name(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("stop"), tmp_path) as rehearsal:
            await set_timers(rehearsal, due_in(2, "gym", TimerKind.ALARM), due_in(2, "", TimerKind.ALARM))
            await rings(rehearsal)
            [ring, _] = await speaks(rehearsal)
            assert ring.said.endswith("This is your gym alarm.")

    run(scenario())


def test_a_loudness_set_into_the_ringing_stays(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, "volume seven") as rehearsal:
            await speaks(rehearsal)
            assert rehearsal.device.loudspeaker.volume == 0.7

    run(scenario())


def test_what_was_said_into_the_ringing_is_answered(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, "what time is it") as rehearsal:
            ring, answer = await speaks(rehearsal)
            assert ring.ended is Ended.INTERRUPTED
            assert (answer.intent, answer.ended) == ("clock.time", Ended.COMPLETED)

    run(scenario())


@pytest.mark.parametrize("words", ["cancel the timer", "stop the pasta timer", "cancel all timers"])
def test_cancelling_what_rings_leaves_the_others_alone(run: Run[None], tmp_path: Path, words: str) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, words) as rehearsal:
            await set_timers(rehearsal, due_in(3000, "tea"))
            _, answer = await speaks(rehearsal)
            assert answer.spoken == "Okay."
            assert [timer.name for timer in await kept(rehearsal)] == ["tea"]

    run(scenario())


def test_stopping_the_alarm_that_rings_keeps_tomorrows(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("turn off the alarm"), tmp_path) as rehearsal:
            await set_timers(rehearsal, due_in(1, kind=TimerKind.ALARM, repeat=BERLIN_SEVEN))
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(5)
            ring, answer = await speaks(rehearsal)
            assert ring.spoken.endswith("This is your alarm.")
            assert answer.spoken == "Okay."
            [again] = await kept(rehearsal)
            zone = rehearsal.room.settings.zone
            assert again.due == next_time(BERLIN_SEVEN, utc_now(), zone)

    run(scenario())


# ---------------------------------------------------------------------------------------------- several


def test_twenty_timers_at_one_second_ring_as_one_and_none_is_lost(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, timers=20) as rehearsal:
            await asyncio.sleep(10)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            [ring] = await rehearsal.at_rest()
            assert ring.spoken == "Your pasta, egg and eighteen other timers are done."
            assert await kept(rehearsal) == []
            await asyncio.sleep(30)
            assert await rehearsal.at_rest() == []

    run(scenario())


def test_what_comes_due_while_others_ring_joins_them(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path) as rehearsal:
            await set_timers(rehearsal, due_in(5, "call mom", TimerKind.REMINDER))
            await asyncio.sleep(30)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            [ring] = await rehearsal.at_rest()
            both = "Your pasta timer is done. A reminder: call mom."
            assert ring.spoken == f"Your pasta timer is done. {both}"
            assert await kept(rehearsal) == []

    run(scenario())


def test_what_comes_due_behind_a_long_reply_rings_after_it(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP), tmp_path) as rehearsal:
            await set_timers(rehearsal, due_in(4, "pasta"), due_in(5, "egg"))
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.ended")
            await asyncio.sleep(8)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            turns = await rehearsal.at_rest()
            assert turns[0].ended is Ended.COMPLETED
            assert spoken(turns)[1:] == ["Your pasta and egg timers are done."]

    run(scenario())


# ----------------------------------------------------------------------------------------------- missed


@pytest.mark.parametrize(("kind", "bound"), [(TimerKind.TIMER, 300), (TimerKind.ALARM, 600)])
def test_what_nobody_answers_stops_and_is_told_once_after_someone_speaks(
    run: Run[None], tmp_path: Path, kind: TimerKind, bound: int
) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it", "what time is it"), tmp_path) as rehearsal:
            begun = asyncio.get_running_loop().time()
            await set_timers(rehearsal, due_in(1, kind=kind))
            await rings(rehearsal)
            [ring] = await rehearsal.at_rest()
            assert bound < asyncio.get_running_loop().time() - begun < bound + 30
            assert ring.ended is Ended.COMPLETED
            assert [timer.missed for timer in await kept(rehearsal)] == [True]
            assert await rehearsal.room.parts.timers.running() == []
            answer, told = await speaks(rehearsal)
            assert answer.intent == "clock.time"
            assert told.spoken.startswith("You missed your ")
            assert await kept(rehearsal) == []
            assert len(await speaks(rehearsal)) == 1

    run(scenario())


def test_what_was_missed_is_still_told_after_a_restart(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            repeated = due_in(1, "take your pills", TimerKind.REMINDER, repeat=BERLIN_SEVEN)
            await set_timers(rehearsal, repeated)
            await rings(rehearsal)
            await rehearsal.at_rest()
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            assert await rehearsal.at_rest() == []
            _, told = await speaks(rehearsal)
            assert told.spoken.startswith("You missed a reminder at ")
            assert told.spoken.endswith(": take your pills.")
            assert [timer.repeat for timer in await kept(rehearsal)] == [BERLIN_SEVEN]

    run(scenario())


def test_an_alarm_without_a_voice_rings_all_the_same(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(tts={"fail_at": 0}), tmp_path) as rehearsal:
            await set_timers(rehearsal, due_in(1))
            await asyncio.sleep(20)
            assert rehearsal.room.conversation.state.mode is Mode.SPEAKING
            assert np.abs(rehearsal.device.played.samples).max() > 0
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            await rehearsal.at_rest()
            assert await kept(rehearsal) == []

    run(scenario())


# ----------------------------------------------------------------------------------------------- snooze


@pytest.mark.parametrize(
    ("words", "minutes"), [("snooze", 9), ("snooze for five minutes", 5), ("ten more minutes", 10)]
)
def test_snooze_lets_it_ring_again_later(run: Run[None], tmp_path: Path, words: str, minutes: int) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, words, "stop") as rehearsal:
            _, answer = await speaks(rehearsal)
            assert answer.spoken
            [later] = await kept(rehearsal)
            assert (later.name, later.missed) == ("pasta", False)
            await asyncio.sleep(minutes * 60 - 20)
            assert await rehearsal.at_rest() == []
            await rings(rehearsal)
            ring, _ = await speaks(rehearsal)
            assert ring.spoken == "Your pasta timer is done."
            assert await kept(rehearsal) == []

    run(scenario())


def test_snooze_still_works_after_the_button(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, "snooze") as rehearsal:
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            await rehearsal.at_rest()
            await asyncio.sleep(60)
            [answer] = await speaks(rehearsal)
            assert answer.spoken == "Okay, again in nine minutes."
            assert len(await kept(rehearsal)) == 1

    run(scenario())


def test_what_was_snoozed_after_it_was_missed_is_not_told_as_missed(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("snooze"), tmp_path) as rehearsal:
            await set_timers(rehearsal, due_in(1, kind=TimerKind.ALARM, repeat=BERLIN_SEVEN))
            await rings(rehearsal)
            await rehearsal.at_rest()
            assert len(await kept(rehearsal)) == 2
            [answer] = await speaks(rehearsal)
            assert answer.intent == "alarm.snooze"
            assert sorted(str(timer.repeat) for timer in await kept(rehearsal)) == [BERLIN_SEVEN, "None"]
            assert not any(timer.missed for timer in await kept(rehearsal))

    run(scenario())


def test_a_snoozed_timer_rings_after_a_restart(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, "snooze") as rehearsal:
            await speaks(rehearsal)
        async with room(scripted(), tmp_path) as rehearsal:
            await rings(rehearsal)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            assert spoken(await rehearsal.at_rest()) == ["Your pasta timer is done."]

    run(scenario())


# ------------------------------------------------------------------------------------------- power cuts


def test_the_power_goes_while_it_rings_and_it_rings_on_afterwards(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path):
            pass
        await asyncio.sleep(30)
        async with room(scripted("stop"), tmp_path) as rehearsal:
            await asyncio.sleep(30)
            ring, _ = await speaks(rehearsal)
            assert ring.spoken.startswith("I was off for one minute; your pasta timer ended one minute ago.")
            assert await kept(rehearsal) == []

    run(scenario())


def test_what_came_due_long_ago_is_told_once_and_what_comes_again_is_set_again(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            await set_timers(
                rehearsal,
                due_in(60, "pasta"),
                due_in(90, kind=TimerKind.ALARM, repeat=BERLIN_SEVEN),
                due_in(100, "call mom", TimerKind.REMINDER),
            )
        await asyncio.sleep(3 * 24 * 3600)
        async with room(scripted(), tmp_path) as rehearsal:
            [told] = await rehearsal.at_rest()
            assert told.spoken.startswith("While I was off, your pasta timer ended at ")
            assert ": call mom" in told.spoken
            [again] = await kept(rehearsal)
            assert again.due == next_time(BERLIN_SEVEN, utc_now(), rehearsal.room.settings.zone)

    run(scenario())


# --------------------------------------------------------------------------------------- clocks set late


class Clock:
    """A clock that can be set, over the one that cannot."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, behind: timedelta = timedelta(0)) -> None:
        self.behind = behind
        monkeypatch.setattr(ringing, "utc_now", self.now)
        monkeypatch.setattr(clock_trust, "utc_now", self.now)

    def now(self) -> datetime:
        return utc_now() - self.behind


def test_a_pi_that_starts_in_1970_rings_nothing_and_then_tells_what_it_missed(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP), tmp_path) as rehearsal:
            await speaks(rehearsal)
            await set_timers(rehearsal, due_in(3600, "pasta"), due_in(9e5, kind=TimerKind.ALARM))
        await asyncio.sleep(2 * 24 * 3600)
        clock = Clock(monkeypatch, behind=utc_now() - datetime(1970, 1, 1, tzinfo=UTC))
        async with room(scripted(), tmp_path) as rehearsal:
            await asyncio.sleep(120)
            assert await rehearsal.at_rest() == []
            assert not rehearsal.room.parts.timers.clock_is_right()
            clock.behind = timedelta(0)
            await asyncio.sleep(60)
            [told] = await rehearsal.at_rest()
            assert told.spoken.startswith("While I was off, your pasta timer ended at ")
            assert rehearsal.room.parts.timers.clock_is_right()
            assert [timer.kind for timer in await kept(rehearsal)] == [TimerKind.ALARM]

    run(scenario())


@pytest.mark.parametrize("jump", [timedelta(days=3), timedelta(hours=-5)])
def test_a_length_of_time_outlives_a_clock_that_is_set(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    async def scenario() -> None:
        clock = Clock(monkeypatch)
        async with room(scripted(), tmp_path) as rehearsal:
            await set_timers(rehearsal, due_in(600, "pasta"))
            await asyncio.sleep(200)
            clock.behind = -jump
            await asyncio.sleep(390)
            assert await rehearsal.at_rest() == []
            await rings(rehearsal)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            assert spoken(await rehearsal.at_rest()) == ["Your pasta timer is done."]

    run(scenario())


# ---------------------------------------------------------------------------------------------- by voice


def test_an_evening_of_alarms_by_voice(run: Run[None], tmp_path: Path) -> None:
    """Set, ring, snooze, ring, stop: and the weekday alarm stays."""

    async def scenario() -> None:
        said = ("set a tea timer for four minutes", "snooze for five minutes", "thanks", "what timers do i have")
        async with room(scripted(*said), tmp_path) as rehearsal:
            await speaks(rehearsal)
            await rings(rehearsal)
            _, snoozed = await speaks(rehearsal)
            assert snoozed.spoken == "Okay, again in five minutes."
            await rings(rehearsal)
            ring, thanked = await speaks(rehearsal)
            assert (ring.spoken, thanked.spoken) == ("Your tea timer is done.", "You're welcome.")
            [asked] = await speaks(rehearsal)
            assert asked.spoken == "No timer is running."

    run(scenario())


def test_a_prompt_of_a_ring_that_is_over_says_nothing(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            rehearsal.room.conversation.post(Prompt("Ring.", Source.SCHEDULE, verbatim=True, alarm="gone"))
            [turn] = await rehearsal.at_rest()
            assert turn.spoken == ""

    run(scenario())


def test_who_speaks_into_the_ringing_is_listened_to_for_what_people_say_to_it(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ringing_room(tmp_path, "stop") as rehearsal:
            conversation = rehearsal.room.conversation
            assert {"snooze", "stop", "okay", "thanks", "alarm"} <= set(conversation.speaker.ring_hints.words)
            assert "what time" not in conversation.speaker.ring_hints.grammar
            rivals: list[bool] = []
            rehearsal.show = lambda event: rivals.append(event.data.into_ring) if event.kind == "turn.begun" else None
            await speaks(rehearsal)
            assert rivals == [True]

    run(scenario())
