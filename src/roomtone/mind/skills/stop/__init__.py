"""Silence; and "cancel that", which takes back what was set a moment ago."""

from __future__ import annotations

from datetime import timedelta

from roomtone.core.dialog import Timer, Turn
from roomtone.mind.skills import Asked

JUST_NOW = timedelta(minutes=1)
"""Within so long of the turn that set it, something was set by that turn."""


async def answer(asked: Asked) -> list[str]:
    """Be quiet, and cancel what was set last where that is what "that" must mean."""
    before = await asked.household.last_turn() if asked.match.name == "cancel" else None
    if before is None or asked.household.rang():
        return [asked.say("stop")]
    if before.intent in asked.data["undone_in_words"]:
        return [asked.say("undo")]
    timer = await _set_by(before, asked)
    if timer is None:
        return [asked.say("stop")]
    await asked.household.cancel_timers([timer])
    named = {"name": timer.name, "whole": asked.phrases.length(timer.seconds)}
    return [asked.say(f"cancelled_{timer.kind.value}{'_named' if timer.name else ''}", **named)]


async def _set_by(before: Turn, asked: Asked) -> Timer | None:
    """Return the timer, alarm or reminder that a turn has set."""
    skill, _, name = (before.intent or "").partition(".")
    timers = [timer for timer in await asked.household.timers() if timer.kind == skill]
    newest = max(timers, key=lambda timer: timer.set_at, default=None)
    recent = newest is not None and abs(before.at - newest.set_at) < JUST_NOW
    return newest if name == "set" and recent else None
