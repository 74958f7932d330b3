"""A board of buttons and lights on gpiozero's mock pins, under a room for tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gpiozero.pins.mock import MockFactory, MockPWMPin

from roomtone.boards import load
from roomtone.core.board import Board
from roomtone.daemon import be_touched
from roomtone.edges.gpio import Ways
from roomtone.flow import beside
from roomtone.rehearsal import Rehearsal


@dataclass
class Wire:
    """An SPI device: what was sent to it, and what it was opened with."""

    sent: list[bytes] = field(default_factory=list)
    opened: tuple[int, ...] = ()
    closed: bool = False

    def open(self, *settings: int) -> Wire:
        self.opened = settings
        return self

    def writebytes2(self, content: bytes) -> None:
        self.sent.append(content)

    def close(self) -> None:
        self.closed = True


@dataclass
class Panel:
    """Fingers at a board. Every line moves on a thread of its own, as on a real machine."""

    board: Board
    factory: MockFactory
    wire: Wire

    def down(self, button: str) -> None:
        elsewhere(self.pin(self.board.buttons[button].pin).drive_low)

    def up(self, button: str) -> None:
        elsewhere(self.pin(self.board.buttons[button].pin).drive_high)

    async def hold(self, button: str, seconds: float) -> None:
        self.down(button)
        await asyncio.sleep(seconds)
        self.up(button)
        await asyncio.sleep(0.03)

    async def tap(self, button: str = "button") -> None:
        await self.hold(button, 0.1)

    async def switch(self, *, closed: bool) -> None:
        assert self.board.mute_switch is not None
        pin = self.pin(self.board.mute_switch.pin)
        elsewhere(pin.drive_low if closed else pin.drive_high)
        await asyncio.sleep(0.05)

    async def turn(self, steps: int) -> None:
        """Turn the knob: clockwise its line A closes first and opens first."""
        assert self.board.rotary is not None
        lines = [self.pin(self.board.rotary.a), self.pin(self.board.rotary.b)]
        first, second = lines if steps > 0 else reversed(lines)
        for _ in range(abs(steps)):
            for move in (first.drive_low, second.drive_low, first.drive_high, second.drive_high):
                elsewhere(move)
        await asyncio.sleep(0.05)

    def pin(self, number: int) -> Any:
        return self.factory.pin(number)

    def light(self, *numbers: int) -> tuple[float, ...]:
        return tuple(round(float(self.pin(number).state), 3) for number in numbers)


def elsewhere(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@asynccontextmanager
async def panel(rehearsal: Rehearsal, factory: MockFactory | None = None) -> AsyncIterator[Panel]:
    """Put the configured board under a room."""
    pins, wire = factory or MockFactory(pin_class=MockPWMPin), Wire()
    ways = Ways(open_factory=lambda: pins, open_spi=wire.open)
    async with beside(be_touched(rehearsal.room, ways), "board"):
        await asyncio.sleep(0.5)
        yield Panel(load(rehearsal.room.settings.gpio.board), pins, wire)
