"""The stopwatch: it goes on counting through a restart."""

from __future__ import annotations

from roomtone.core.dialog import HandStopwatch
from roomtone.mind.skills import Asked


async def answer(asked: Asked) -> list[str]:
    """Do with the household's stopwatch what was asked."""
    if asked.match.name == "reset":
        await asked.household.save_stopwatch(HandStopwatch())
        return [asked.say("reset")]
    watch, now = await asked.household.stopwatch(), asked.household.now()
    return [await ACTS[asked.match.name](asked, watch, watch.reading(now))]


async def _start(asked: Asked, watch: HandStopwatch, reading: float) -> str:
    if watch.started is not None:
        return _say(asked, "runs", reading)
    await asked.household.save_stopwatch(watch.model_copy(update={"started": asked.household.now()}))
    return _say(asked, "resumed", reading) if reading else asked.say("started")


async def _stop(asked: Asked, watch: HandStopwatch, reading: float) -> str:
    if watch.started is None:
        return _still(asked, reading)
    await asked.household.save_stopwatch(watch.model_copy(update={"started": None, "run_s": reading}))
    return _say(asked, "stopped", reading)


async def _lap(asked: Asked, watch: HandStopwatch, reading: float) -> str:
    if watch.started is None:
        return _still(asked, reading)
    last = watch.laps[-1] if watch.laps else 0.0
    await asked.household.save_stopwatch(watch.model_copy(update={"laps": [*watch.laps, reading]}))
    number = asked.phrases.number(len(watch.laps) + 1)
    return asked.say("lap", number=number, duration=asked.phrases.duration(round(reading - last)))


async def _read(asked: Asked, watch: HandStopwatch, reading: float) -> str:
    return _say(asked, "reads", reading) if watch.started is not None else _still(asked, reading)


def _still(asked: Asked, reading: float) -> str:
    return _say(asked, "stands", reading) if reading else asked.say("never")


def _say(asked: Asked, key: str, reading: float) -> str:
    return asked.say(key, duration=asked.phrases.duration(round(reading)))


ACTS = {"start": _start, "stop": _stop, "lap": _lap, "read": _read}
