"""Every skill's folder is held to what stands in it: its samples, and the conversations of its dialogues."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from conftest import Run
from home import BERLIN, Home, whole
from roomtone.core.dialog import Source, Timer, Turn
from roomtone.core.persona import Egress, Persona
from roomtone.mind import Answer, skillfiles
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.skills import Exchange
from roomtone.mind.thinking import Mind
from roomtone.outbound import Sent

SKILLS = Skills.load()
FOLDERS = [folder for folder in skillfiles.SHIPPED.iterdir() if (folder / "en.yaml").is_file()]
DIALOGUES = [
    pytest.param(skill.name, talk, id=f"{skill.name}: {name}")
    for skill in SKILLS.skills
    for name, talk in skill.dialogues.items()
]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_keeps_its_word(folder: Path) -> None:
    skillfiles.check(skillfiles.load(folder, "en"))


@pytest.mark.parametrize(("skill", "talk"), DIALOGUES)
def test_a_dialogue_goes_as_it_is_written(run: Run[None], skill: str, talk: tuple[Exchange, ...]) -> None:
    run(play(SKILLS, skill, talk))


@pytest.mark.parametrize(
    ("zone", "night"),
    [
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25"),
        ("America/New_York", "2026-03-08"),
        ("America/New_York", "2026-11-01"),
    ],
)
@pytest.mark.parametrize(
    "text", ["set a timer for 3 hours", "remind me to look in 3 hours", "set an alarm in 3 hours"]
)
def test_three_hours_are_three_hours_when_the_clocks_are_changed(
    run: Run[None], zone: str, night: str, text: str
) -> None:
    async def scenario() -> None:
        home, mind = (
            Home(clock=datetime.fromisoformat(f"{night} 00:30").replace(tzinfo=ZoneInfo(zone))),
            Mind(SKILLS, Phrases.load()),
        )
        await mind.answer(text, home)
        [timer] = home.running
        assert timer.due.timestamp() - home.clock.timestamp() == 3 * 3600

    run(scenario())


@pytest.mark.parametrize(
    ("zone", "now", "text", "rings", "said"),
    [
        (
            "Europe/Berlin",
            "2026-03-28 22:00",
            "set an alarm for 2:30 am",
            "2026-03-29T01:00",
            "three o'clock",
        ),
        (
            "Europe/Berlin",
            "2026-10-24 22:00",
            "set an alarm for 2:30 am",
            "2026-10-25T00:30",
            "half past two tonight",
        ),
        (
            "Europe/Berlin",
            "2026-10-24 22:00",
            "wake me up at 7",
            "2026-10-25T06:00",
            "seven o'clock tomorrow morning",
        ),
        ("America/New_York", "2026-03-07 22:00", "set an alarm for 2:30 am", "2026-03-08T07:00", "three o'clock"),
        (
            "America/New_York",
            "2026-10-31 22:00",
            "set an alarm for 1:30 am",
            "2026-11-01T05:30",
            "half past one tonight",
        ),
        ("America/New_York", "2026-11-01 00:15", "wake me up at 7", "2026-11-01T12:00", "seven o'clock"),
    ],
)
def test_an_alarm_on_the_night_of_the_change_rings_by_the_clock_on_the_wall(
    run: Run[None], zone: str, now: str, text: str, rings: str, said: str
) -> None:
    async def scenario() -> None:
        home = Home(clock=datetime.fromisoformat(now).replace(tzinfo=ZoneInfo(zone)))
        answer = await Mind(SKILLS, Phrases.load()).answer(text, home)
        assert said in await whole(answer.deltas)
        assert home.running[0].due.astimezone(UTC) == datetime.fromisoformat(rings).replace(tzinfo=UTC)

    run(scenario())


async def play(skills: Skills, skill: str, talk: tuple[Exchange, ...]) -> None:
    """Say one line after the other to a household, and hold each answer to what is written beside it."""
    home, mind = Home(), Mind(skills, Phrases.load(skills.language.language), Random(1))
    for exchange in talk:
        prepare(home, exchange)
        answer = await mind.answer(exchange.heard, home)
        said = await whole(answer.deltas)
        if exchange.intent is not None:
            wanted = exchange.intent if "." in exchange.intent else f"{skill}.{exchange.intent}"
            assert answer.intent == wanted, exchange.heard
        if exchange.reply is not None:
            assert said in ([exchange.reply] if isinstance(exchange.reply, str) else exchange.reply), exchange.heard
        if exchange.like is not None:
            assert re.search(exchange.like, said), f"{exchange.heard}: {said}"
        home.last = recorded(exchange.heard, answer, said, at=home.clock, spoken=said)
        home.turns.append(home.last)
        home.asked.append(answer.intent)


def prepare(home: Home, exchange: Exchange) -> None:
    if exchange.at is not None:
        home.clock = exchange.at.replace(tzinfo=BERLIN)
    home.clock += timedelta(**exchange.later)
    given = {**exchange.given}
    if "persona" in given:
        home.persona = Persona.model_validate(given.pop("persona"))
    if "latency" in given:
        home.last = recorded("anything", Answer("none", _nothing()), "", latency_ms=given.pop("latency"))
    if "sent" in given:
        home.sent = [Sent(**{**row, "reach": Egress(row["reach"])}) for row in given.pop("sent")]
    if "ringing" in given:
        home.ringing = [Timer.model_validate(timer) for timer in given.pop("ringing")]
    for name, value in given.items():
        assert hasattr(home, name), f"a household has no {name}"
        setattr(home, name, value)


async def _nothing() -> AsyncIterator[str]:
    for nothing in ():
        yield nothing


def recorded(heard: str, answer: Answer, said: str, **more: Any) -> Turn:
    turn = {
        "turn": 1,
        "trace": "t",
        "session": "s",
        "room": "kitchen",
        "persona": "companion",
        "source": Source.VOICE,
    }
    given = {"heard": heard, "said": said, "intent": answer.intent, "offers": answer.offers, **more}
    return Turn.model_validate({**turn, **given})
