"""From a press of a button to a room that listens, on gpiozero's mock pins: all of the way but the kernel's part.

Measured at real-time pace, from the moment the line goes low on a thread of its own, while the room hears silence.
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.boards import load
from roomtone.core.dialog import Source
from roomtone.core.machine import Mode
from roomtone.core.signals import Dismiss
from roomtone.daemon import be_touched
from roomtone.edges.gpio import Ways
from roomtone.flow import Watcher, Worker, beside, worker
from roomtone.rehearsal import Rehearsal, rehearsing
from roomtone.settings import Settings

PRESSES = 200
BOARD = "button-led"


async def measure() -> list[Figure]:
    """Press a button again and again; without gpiozero there is nothing to measure."""
    waits = await _waits() if importlib.util.find_spec("gpiozero") is not None else []
    return [
        Figure("button_ms_p50", p(50, waits), "ms", "<= 30", len(waits)),
        Figure("button_ms_p99", p(99, waits), "ms", "<= 30", len(waits)),
    ]


async def _waits() -> list[float]:
    from gpiozero.pins.mock import MockFactory, MockPWMPin

    factory = MockFactory(pin_class=MockPWMPin)
    pin = factory.pin(load(BOARD).buttons["button"].pin)
    settings = Settings.model_validate(
        {
            "gpio": {"board": BOARD},
            "listen": {"mode": "button"},
            "stt": {"engine": "script"},
            "tts": {"engine": "tone"},
        }
    )
    wav = ("wav", engines.load("audio", "wav").Settings())
    with tempfile.TemporaryDirectory() as folder, worker("finger") as finger:
        async with (
            rehearsing(settings, Path(folder), wav) as rehearsal,
            beside(be_touched(rehearsal.room, Ways(open_factory=lambda: factory)), "board"),
        ):
            await asyncio.sleep(2.0)
            with rehearsal.room.feed.watch("state.changed") as states:
                return [await _press(rehearsal, pin, finger, states) for _ in range(PRESSES)]


async def _press(rehearsal: Rehearsal, pin: Any, finger: Worker, states: Watcher) -> float:
    """Press and let go; return the milliseconds until the room listened."""

    def down() -> float:
        began = time.perf_counter()
        pin.drive_low()
        return began

    async with asyncio.timeout(10):
        began = await finger.call(down)
        while (await anext(states)).data.mode is not Mode.LISTENING:
            pass
        took = 1000 * (time.perf_counter() - began)
        await finger.call(pin.drive_high)
        rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
        while (await anext(states)).data.mode is not Mode.IDLE:
            pass
    await asyncio.sleep(random.uniform(0.4, 0.5))  # no second tap, and at any moment of a microphone's block
    return took
