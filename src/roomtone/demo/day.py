"""A day in a simulated room: a wake word, buttons, a schedule that comes round, three personas, a power cut.

The buttons are those of a board on gpiozero's mock pins; the power is cut by leaving the room for another one that
finds on its disk what this one had written by then.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from roomtone import boards
from roomtone.clock import utc_now
from roomtone.core.dialog import Ended, Source, Turn
from roomtone.core.errors import EngineUnavailable
from roomtone.core.sound import RATE, Audio, join
from roomtone.daemon import be_touched
from roomtone.demo.visits import ANNA, BEN, COMPLETED, Visitor, spoken_by
from roomtone.edges.gpio import Ways
from roomtone.engines import lacking
from roomtone.flow import beside
from roomtone.morning import tell_what_was_cut_off
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings

BOARD = "desk-panel"
CHEFS_BUTTON, TALK_BUTTON = "left", "button"

TAP_S, LONG_S = 0.15, 3.5

BEDTIME_S = 45.0
"""Bedtime comes at the first full minute so long after the day has begun."""

INTO_STORY_S = 8.0
"""So long after it has begun the story is cut off by the power."""

AFTER_TEA_S = 40.0
"""The power is back so long after the tea would have been ready."""

LISTENS_S = 6.0
"""Ben listens so long to what rings before he presses a button."""

BOUND_S = 90.0
"""What does not happen within this time does not happen."""


@dataclass(frozen=True, slots=True)
class Says:
    """Somebody says something, and fields of the turn that should answer it."""

    visitor: Visitor
    text: str
    expects: dict[str, Any]


MORNING = (
    Says(BEN, "okay nabu, what time is it", {"intent": "clock.time", "persona": "companion", **COMPLETED}),
    CHEFS_BUTTON,
    Says(BEN, "let's make pancakes", {"persona": "chef", "answered_by": "skill", **COMPLETED}),
    Says(BEN, "next step", {"persona": "chef", "answered_by": "skill", **COMPLETED}),
    Says(BEN, "set a tea timer for two minutes", {"intent": "timer.set", "persona": "chef", **COMPLETED}),
)

STORY = Says(ANNA, "tell me a story", {"persona": "storyteller", "answered_by": "skill"})

GO_ON = Says(ANNA, "yes", {"persona": "storyteller", "ended": Ended.COMPLETED})

Opens = Callable[[Path], AbstractAsyncContextManager[Rehearsal]]
Show = Callable[[str, str], None]
"""Shows who did what."""


def settings_for(settings: Settings, now: datetime) -> Settings:
    """Return the household of the day: it waits for its wake word, has a board, and a bedtime soon.

    Raises EngineUnavailable where what hears the wake word or presses the buttons is not installed.
    """
    for module, extra in (("pymicro_wakeword", "wake"), ("gpiozero", "gpio")):
        if (reason := lacking(module, extra)) is not None:
            raise EngineUnavailable(f"--scene day: {reason}")
    bedtime = (now + timedelta(seconds=BEDTIME_S + 60)).astimezone(settings.zone)
    cron = f"{bedtime.minute} {bedtime.hour} * * *"
    changes = {
        "listen": {"mode": "wake_word"},
        "wake": {"engine": "microwakeword", "words": ["okay_nabu"]},
        "gpio": {"board": BOARD, "buttons": {CHEFS_BUTTON: {"persona": "chef"}}},
        "schedules": {"bedtime": {"cron": cron, "persona": "storyteller", "say": "Time for bed."}},
    }
    of_the_day = Settings.model_validate(changes)
    personas = settings.personas.model_copy(update={"default": "companion"})
    return settings.model_copy(update={**{key: getattr(of_the_day, key) for key in changes}, "personas": personas})


class Day:
    """Plays the day; ``wrong`` has what did not go as expected, a line each."""

    def __init__(self, opens: Opens, show: Show) -> None:
        self.wrong: list[str] = []
        self.turns: list[Turn] = []
        self.recordings: list[Audio] = []
        self._opens = opens
        self._show = show

    async def play(self, folder: Path) -> None:
        """Play it in rooms that keep their state in folders within ``folder``."""
        before, after = folder / "before", folder / "after"
        async with self._room(before) as (rehearsal, panel):
            for part in MORNING:
                await self._do(part, rehearsal, panel)
            [tea] = await rehearsal.room.parts.timers.running()
            await self._bedtime(rehearsal)
            await self._visit(STORY, rehearsal)
            await _first_sound(rehearsal)
            await asyncio.sleep(INTO_STORY_S)
            self._show("the power", "is cut")
            shutil.copytree(before, after)
            cut_at = utc_now()
        await asyncio.sleep((tea.due - utc_now()).total_seconds() + AFTER_TEA_S)
        self._show("the power", f"is back after {(utc_now() - cut_at).total_seconds():.0f} seconds")
        async with self._room(after) as (rehearsal, panel):
            tell_what_was_cut_off(rehearsal.room)
            await _first_sound(rehearsal)
            await asyncio.sleep(LISTENS_S)
            self._show("Ben", f"presses the button '{TALK_BUTTON}'")
            await panel.press(TALK_BUTTON, TAP_S)
            self._judge_return(await rehearsal.at_rest())
            await self._do(GO_ON, rehearsal, panel)
            await self._mute(rehearsal, panel)

    @asynccontextmanager
    async def _room(self, folder: Path) -> AsyncIterator[tuple[Rehearsal, Panel]]:
        panel = Panel()
        async with self._opens(folder) as rehearsal, beside(be_touched(rehearsal.room, panel.ways), "board"):
            await asyncio.sleep(1)
            try:
                yield rehearsal, panel
            finally:
                self.turns += rehearsal.turns
                self.recordings.append(rehearsal.device.recording)

    async def _do(self, part: Says | str, rehearsal: Rehearsal, panel: Panel) -> None:
        if isinstance(part, str):
            self._show("Ben", f"presses the button '{part}'")
            await panel.press(part, TAP_S)
            await asyncio.sleep(1)
            return
        await self._visit(part, rehearsal)
        turns = await rehearsal.at_rest()
        if len(turns) != 1:
            self.wrong.append(f"{part.visitor.name} ({part.text}): {len(turns)} turns came of it, not 1")
        for turn in turns[:1]:
            self._judge(f"{part.visitor.name} ({part.text})", turn, part.expects)

    async def _visit(self, says: Says, rehearsal: Rehearsal) -> None:
        await asyncio.sleep(0.5)
        self._show(says.visitor.name, says.text)
        sound = await spoken_by(says.visitor, says.text, rehearsal.room.synthesiser)
        rehearsal.device.visit(sound, says.visitor.distance_m)

    async def _bedtime(self, rehearsal: Rehearsal) -> None:
        try:
            async with asyncio.timeout(BOUND_S + 60):
                while (event := await rehearsal.next_event()).kind != "turn.ended":
                    pass
        except TimeoutError:
            self.wrong.append("bedtime did not come")
            return
        expects = {"source": Source.SCHEDULE, "persona": "storyteller", "spoken": "Time for bed."}
        self._judge("bedtime", event.data.turn, expects)

    def _judge_return(self, turns: list[Turn]) -> None:
        told = " ".join(turn.spoken for turn in turns)
        for words in ("I was off", "tea"):
            if words not in told:
                self.wrong.append(f"after the power cut nothing was said of '{words}': {told}")

    async def _mute(self, rehearsal: Rehearsal, panel: Panel) -> None:
        self._show("Ben", f"holds the button '{TALK_BUTTON}' down")
        await panel.press(TALK_BUTTON, LONG_S)
        await rehearsal.at_rest()
        if not rehearsal.room.conversation.state.muted:
            self.wrong.append("holding the button down did not switch the microphone off")

    def _judge(self, who: str, turn: Turn, expects: dict[str, Any]) -> None:
        self.wrong += [
            f"{who}: {key} is {getattr(turn, key)!r}, not {value!r}"
            for key, value in expects.items()
            if getattr(turn, key) != value
        ]

    def recording(self) -> Audio:
        """Return all that was heard in the room; of the power cut, a second of silence."""
        silence = Audio(np.zeros(RATE, np.int16))
        return join([*self.recordings[:1], silence, *self.recordings[1:]], RATE)


class Panel:
    """Fingers at the board's buttons, on pins that are not there."""

    def __init__(self) -> None:
        from gpiozero.pins.mock import MockFactory, MockPWMPin

        self._factory = MockFactory(pin_class=MockPWMPin)
        self._board = boards.load(BOARD)
        self.ways = Ways(open_factory=lambda: self._factory)

    async def press(self, button: str, seconds: float) -> None:
        """Hold a button down for some seconds."""
        pin = self._factory.pin(self._board.buttons[button].pin)
        pin.drive_low()
        await asyncio.sleep(seconds)
        pin.drive_high()


async def _first_sound(rehearsal: Rehearsal) -> None:
    async with asyncio.timeout(BOUND_S):
        while (await rehearsal.next_event()).kind != "turn.first_sound":
            pass
