"""The demo: visitors come into a simulated room, speak, cough and interrupt, and Roomtone answers them.

The visitors' script is data; each visit says what Roomtone should make of it. Nobody is scripted on Roomtone's side:
it hears what the room's microphone hears, its own voice included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from roomtone.core.dialog import Ended, Turn, Voice
from roomtone.core.room import coloured_noise
from roomtone.core.sound import RATE, Audio, join, to_int16
from roomtone.engines.tts import Tts
from roomtone.rehearsal import Rehearsal

COUGH = "(coughs)"

BEFORE_A_VISIT_S = 1.0

ANSWER_BOUND_S = 15.0
"""A visitor who waits to interrupt speaks after this long even if there is no reply to interrupt."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody in the room: a voice of the synthesiser's, other than Roomtone's, and how far away they stand."""

    name: str
    voice: Voice
    distance_m: float


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visitor says, and what should come of it.

    ``into_reply_s``: they speak that long into the reply to the visit before. ``expects`` are fields of the turn
    that answers them; ``then`` are fields of the turn they spoke into.
    """

    visitor: Visitor
    says: str
    expects: dict[str, Any] | None
    into_reply_s: float | None = None
    then: dict[str, Any] | None = None


ANNA = Visitor("Anna", Voice(engine="espeak", voice_id="en-us+f2"), 1.0)
BEN = Visitor("Ben", Voice(engine="espeak", voice_id="en-us+m3"), 1.2)

COMPLETED = {"ended": Ended.COMPLETED}
NO_COMMAND = {"intent": None, **COMPLETED}
"""Of words that are no command: no skill takes them, whether the recogniser has refused or understood them."""

SCRIPT = (
    Visit(ANNA, "what time is it", {"intent": "clock.time", **COMPLETED}),
    Visit(BEN, "set a pasta timer for nine minutes", {"intent": "timer.set", **COMPLETED}),
    Visit(ANNA, "what can you do", {"answered_by": "skill"}),
    Visit(BEN, COUGH, None, into_reply_s=1.2, then=COMPLETED),
    Visit(ANNA, "say that again", {"intent": "repeat.again"}),
    Visit(
        BEN,
        "how long is left on the pasta timer",
        {"intent": "timer.left", **COMPLETED},
        into_reply_s=1.5,
        then={"ended": Ended.INTERRUPTED},
    ),
    Visit(ANNA, "what should I cook for dinner", NO_COMMAND),
    Visit(ANNA, "thank you", {"answered_by": "skill", **COMPLETED}),
)


async def play(rehearsal: Rehearsal, show: Callable[[Visit], None]) -> list[str]:
    """Play the script, showing each visit as it begins; return what did not go as expected, a line each."""
    voices: Tts = rehearsal.room.synthesiser
    sounds = [await spoken_by(visit.visitor, visit.says, voices) for visit in SCRIPT]
    wrong: list[str] = []
    for place, visit in enumerate(SCRIPT):
        if visit.into_reply_s is None:
            await asyncio.sleep(BEFORE_A_VISIT_S)
        rehearsal.device.visit(sounds[place], visit.visitor.distance_m)
        show(visit)
        following = SCRIPT[place + 1] if place + 1 < len(SCRIPT) else None
        if following is not None and following.into_reply_s is not None:
            await _into_reply(rehearsal, following.into_reply_s)
            continue
        wrong += judge(visit, SCRIPT[place - 1], await rehearsal.at_rest())
    return wrong


async def _into_reply(rehearsal: Rehearsal, seconds: float) -> None:
    """Wait until Roomtone has been answering for so long; if no answer comes, go on all the same."""
    try:
        async with asyncio.timeout(ANSWER_BOUND_S):
            while (await rehearsal.next_event()).kind not in ("turn.first_sound", "turn.ended"):
                pass
    except TimeoutError:
        return
    await asyncio.sleep(seconds)


def judge(visit: Visit, before: Visit, turns: list[Turn]) -> list[str]:
    """Compare the turns that came of a visit, and of the one it interrupted, with what the script expects."""
    expected = [(visit, visit.expects)]
    if visit.then is not None:
        expected.insert(0, (before, {**(before.expects or {}), **visit.then}))
    wanted = [(who, fields) for who, fields in expected if fields is not None]
    if len(turns) != len(wanted):
        return [f"{visit.visitor.name} ({visit.says}): {len(turns)} turns came of it, not {len(wanted)}"]
    return [
        f"{who.visitor.name} ({who.says}): {key} is {getattr(turn, key)!r}, not {value!r}"
        for (who, fields), turn in zip(wanted, turns, strict=True)
        for key, value in fields.items()
        if getattr(turn, key) != value
    ]


async def spoken_by(visitor: Visitor, text: str, voices: Tts) -> Audio:
    """Return what a visitor sounds like close by."""
    if text == COUGH:
        return cough()
    pieces = [piece async for piece in voices.speak(text, visitor.voice)]
    return join(pieces, pieces[0].rate)


def cough() -> Audio:
    """Return a cough: two bursts of coloured noise, each with a hard beginning."""
    noise = coloured_noise(1.0, -14.0, seed=7)
    parts = []
    for seconds, loudness in ((0.16, 1.0), (0.22, 0.7)):
        length = round(seconds * RATE)
        fall = np.exp(-np.arange(length) / (0.06 * RATE)) * loudness
        parts += [noise[:length] * fall, np.zeros(round(0.08 * RATE))]
    return Audio(to_int16(np.concatenate(parts)))
