"""Why the last answer took as long as it did, from the record of its turn."""

from __future__ import annotations

from fractions import Fraction

from roomtone.core.dialog import Latency
from roomtone.mind.numbers import spoken
from roomtone.mind.skills import Asked

STAGES = ("endpoint", "stt", "think", "tts")


async def answer(asked: Asked) -> list[str]:
    """Tell how long the last answer took, and what took most of it."""
    turn = await asked.household.last_turn()
    if turn is None:
        return [asked.say("nothing")]
    if turn.error is not None:
        return [asked.say("failed", reason=turn.error.message.rstrip("."))]
    whole = turn.latency_ms.first_sound
    stage = biggest(turn.latency_ms)
    if whole is None or stage is None:
        return [asked.say("unknown")]
    part = asked.say(stage, part=_seconds(asked, getattr(turn.latency_ms, stage)))
    key = "quick" if whole <= asked.data["quick_ms"] else "slow"
    return [asked.say(key, whole=_seconds(asked, whole), part=part)]


def biggest(latency: Latency) -> str | None:
    """Return the stage that took longest, None where no stage was measured."""
    measured = {stage: took for stage in STAGES if (took := getattr(latency, stage)) is not None}
    return max(measured, key=lambda stage: measured[stage], default=None)


def _seconds(asked: Asked, milliseconds: float) -> str:
    rounded = max(Fraction(1, 10), round(Fraction(milliseconds) / 1000, 1))
    text = asked.say("second" if rounded == 1 else "seconds", number=spoken(rounded, asked.phrases, places=1))
    return text.lower()
