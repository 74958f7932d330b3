"""The lights: draws what goes on, and sleeps while that looks the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from roomtone.core.board import Apa102, Board, Led, RgbLed, Ws2812
from roomtone.core.dialog import Ended
from roomtone.core.lights import (
    QUIET,
    WS2812_HERTZ,
    Conditions,
    Look,
    Rgb,
    Shown,
    apa102,
    frame,
    next_change,
    shown,
    ws2812,
)
from roomtone.core.machine import State
from roomtone.edges import pins
from roomtone.flow import Event, Feed, Watcher, Worker

log = logging.getLogger(__name__)

DRAW_BOUND_S = 2.0
"""A strip that takes longer is stuck: then the lights go out of use, and the voice goes on."""

LONGEST_WAIT_S = 60.0
"""While something is lit it is looked so often whether it is to be dim: quiet hours come without any news."""

FAILED_S = 10.0
"""For so long the lights tell of a turn that failed; a lost microphone or a full disk as long as it is so."""

OpenSpi = Callable[[int, int, int], Any]


class Lamp(Protocol):
    """Lights that can be set; blocking."""

    def show(self, colours: Sequence[Rgb], brightness: float) -> None:
        """Show a colour on each LED; ``brightness`` is 0 to 1."""

    def close(self) -> None:
        """Give the lines back."""


@dataclass(frozen=True, slots=True)
class Leds:
    """LEDs on lines of their own: one of any colour, which shows how bright a colour is, or red, green and blue."""

    leds: tuple[Any, ...]

    def show(self, colours: Sequence[Rgb], brightness: float) -> None:
        """Show the first colour."""
        levels = colours[0] if len(self.leds) > 1 else (max(colours[0]),)
        for led, level in zip(self.leds, levels, strict=True):
            led.value = level * brightness

    def close(self) -> None:
        """Give the lines back."""
        for led in self.leds:
            led.close()


@dataclass(frozen=True, slots=True)
class Strip:
    """LEDs that are sent their colours by SPI."""

    spi: Any
    encode: Callable[[Sequence[Rgb], float], bytes]
    count: int

    def show(self, colours: Sequence[Rgb], brightness: float) -> None:
        """Send the colours."""
        self.spi.writebytes2(self.encode(colours, brightness))

    def close(self) -> None:
        """Go dark, and give the bus back."""
        self.show([(0.0, 0.0, 0.0)] * self.count, 0.0)
        self.spi.close()


def open_lamp(factory: Any, board: Board, open_spi: OpenSpi = pins.open_spi) -> Lamp | None:
    """Open a board's lights; None where it has none. Blocking. Raises ConfigError, EngineUnavailable."""
    match board.lights:
        case Led() as led:
            return Leds((pins.open_led(factory, led.pin, "lights", active_high=led.active_high),))
        case RgbLed() as rgb:
            legs = {"lights.red": rgb.red, "lights.green": rgb.green, "lights.blue": rgb.blue}
            opened = [pins.open_led(factory, pin, what, active_high=rgb.active_high) for what, pin in legs.items()]
            return Leds(tuple(opened))
        case Apa102() as strip:
            return Strip(open_spi(strip.bus, strip.device, strip.hertz), apa102, strip.count)
        case Ws2812() as strip:
            return Strip(open_spi(strip.bus, strip.device, WS2812_HERTZ), ws2812, strip.count)
    return None


@dataclass(slots=True)
class Lights:
    """Shows on a ``lamp``, through its thread, what the feed tells. ``is_quiet`` says whether to be dim.

    What was ``sent`` last is not sent again.
    """

    lamp: Lamp
    board: Board
    brightness: float
    thread: Worker
    is_quiet: Callable[[], bool]
    state: State
    conditions: Conditions = field(default_factory=Conditions)
    what: Shown | None = None
    since: float = 0.0
    failed_until: float = 0.0
    sent: tuple[tuple[Rgb, ...], float] | None = None

    async def run(self, feed: Feed) -> None:
        """Draw for as long as this runs; nothing is done while nothing changes."""
        with feed.watch() as events:
            while True:
                await self._wait(events, await self._draw())

    async def _draw(self) -> float | None:
        """Draw what goes on now; return the seconds until it looks otherwise, None where only news can change it."""
        now = asyncio.get_running_loop().time()
        failed = now < self.failed_until
        conditions = replace(self.conditions, error=self.conditions.error or failed, quiet=self.is_quiet())
        what = shown(self.state, conditions)
        if what is not self.what:
            self.what, self.since = what, now
        look = self.board.look(what)
        await self._show(look, now - self.since, dim=conditions.quiet)
        waits = [
            next_change(look, now - self.since),
            self.failed_until - now if failed else None,
            LONGEST_WAIT_S if any(look.rgb) else None,
        ]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _show(self, look: Look, at: float, *, dim: bool = False) -> None:
        colours = frame(look, at, self.board.light_count)
        brightness = self.brightness * (QUIET if dim else 1.0)
        if (colours, brightness) == self.sent:
            return
        await self.thread.call(self.lamp.show, colours, brightness, timeout=DRAW_BOUND_S)
        self.sent = colours, brightness

    async def _wait(self, events: Watcher, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                self._learn(await anext(events))
        except TimeoutError:
            return

    def _learn(self, event: Event) -> None:
        """Take note of what the feed tells."""
        match event.kind:
            case "state.changed":
                self.state = event.data
            case "device.health":
                self.conditions = replace(self.conditions, error=event.data != "ok")
            case "store.failed" | "store.back":
                self.conditions = replace(self.conditions, error=event.kind == "store.failed")
            case "hub.lost" | "hub.back":
                self.conditions = replace(self.conditions, offline=event.kind == "hub.lost")
            case "turn.ended":
                failed = event.data.turn.ended is Ended.FAILED
                self.failed_until = asyncio.get_running_loop().time() + FAILED_S if failed else 0.0
