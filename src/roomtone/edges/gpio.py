"""Buttons, a knob, a switch and lights on the machine's pins: gestures become facts, and the feed becomes light.

Whatever is wrong with a board is one line in the log; the rest of it works, and so does the voice.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from roomtone import boards
from roomtone.core.board import Binding, Board, Input, MuteSwitch, bind, meaning
from roomtone.core.errors import RoomtoneError
from roomtone.core.machine import State
from roomtone.core.persona import Persona
from roomtone.core.presses import Gesture, Presses, Timing
from roomtone.core.schedule import Action
from roomtone.core.signals import Muter, MuteSet, Signal, VolumeTurned
from roomtone.edges import pins
from roomtone.edges.lights import Lights, OpenSpi, open_lamp
from roomtone.flow import Event, Feed, Inbox, Worker, beside, worker
from roomtone.settings import Gpio

log = logging.getLogger(__name__)
T = TypeVar("T")

OPEN_BOUND_S = 20.0
CLOSE_BOUND_S = 2.0

Act = Callable[[Action, str], Awaitable[object]]
"""Does what an action says; the text is its cause."""


@dataclass(frozen=True, slots=True)
class Reach:
    """All that the edge may do: post facts, watch the feed, and ask for the personas, the quiet and the state."""

    post: Callable[[Signal], None]
    feed: Feed
    personas: Callable[[], Awaitable[list[Persona]]]
    act: Act
    is_quiet: Callable[[], bool]
    state: Callable[[], State]


@dataclass(frozen=True, slots=True)
class Ways:
    """How to come to the pins."""

    open_factory: Callable[[], Any] = pins.open_factory
    open_spi: OpenSpi = pins.open_spi


async def run(gpio: Gpio, reach: Reach, ways: Ways | None = None) -> None:
    """Be the configured board for as long as this runs; return at once where there is none."""
    if gpio.board == "none":
        return
    try:
        with worker("gpio") as thread:
            board = await thread.call(boards.load, gpio.board)
            edge = Edge(gpio, board, reach, ways or Ways(), thread)
            async with edge.opened():
                await edge.run()
    except RoomtoneError as error:
        tell(reach.feed, error.message)
    except Exception:  # an edge never ends the voice
        log.exception("the board of buttons and lights is out of use")


def tell(feed: Feed, line: str) -> None:
    """Tell whoever set the board up what is wrong with it."""
    log.error("%s", line)
    feed.publish("gpio.failed", line, source="gpio")


@dataclass(slots=True)
class Edge:
    """A board that is in use."""

    gpio: Gpio
    board: Board
    reach: Reach
    ways: Ways
    thread: Worker
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    _actions: Inbox[tuple[Action, str]] = field(default_factory=Inbox)
    _lights: Lights | None = None
    _mistakes: list[str] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def run(self) -> None:
        """Do what buttons ask for that is no fact."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                beside(self.reach.feed.attend("gpio", "persona*", self._rebind), "buttons of personas")
            )
            if self._lights is not None:
                await stack.enter_async_context(beside(self._shine(self._lights), "lights"))
            while True:
                action, cause = await self._actions.next()
                try:
                    await self.reach.act(action, cause)
                except RoomtoneError as error:
                    log.error("%s: %s", cause, error.message)

    async def _shine(self, lights: Lights) -> None:
        try:
            await lights.run(self.reach.feed)
        except RoomtoneError as error:
            tell(self.reach.feed, f"gpio: the lights are out of use: {error.message}")
        except Exception as error:  # spidev raises what the kernel says
            tell(self.reach.feed, f"gpio: the lights are out of use: {error}")

    # --------------------------------------------------------------------------------------------- open

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open all of the board that can be, for as long as the context lasts. Raises EngineUnavailable."""
        await self._bind()
        async with AsyncExitStack() as stack:
            factory = await self._call(self.ways.open_factory)
            stack.push_async_callback(self._close, factory)
            for pin in self.board.power:
                await self._part(stack, pins.open_high, factory, pin)
            for name, line in self.board.buttons.items():
                finger = Finger(Presses(self._timing(line)), partial(self._gesture, name), self._loop)
                await self._part(stack, pins.open_input, factory, line, f"buttons.{name}", finger.moved)
            if self.board.rotary is not None:
                await self._part(stack, pins.open_rotary, factory, self.board.rotary, self._turned)
            if self.board.mute_switch is not None:
                await self._part(stack, self._open_switch, factory, self.board.mute_switch)
            lamp = await self._part(stack, open_lamp, factory, self.board, self.ways.open_spi)
            if lamp is not None:
                ways = (self.gpio.brightness, self.thread, self.reach.is_quiet, self.reach.state())
                self._lights = Lights(lamp, self.board, *ways)
            yield

    async def _part(self, stack: AsyncExitStack, opens: Callable[..., T], *args: Any) -> T | None:
        """Open one part; where that fails it is told, and the others are not harmed."""
        try:
            part = await self._call(opens, *args)
        except RoomtoneError as error:
            tell(self.reach.feed, error.message)
            return None
        if part is not None:
            stack.push_async_callback(self._close, part)
        return part

    async def _call(self, work: Callable[..., T], *args: Any) -> T:
        return await self.thread.call(work, *args, timeout=OPEN_BOUND_S)

    async def _close(self, part: Any) -> None:
        try:
            await self.thread.call(part.close, timeout=CLOSE_BOUND_S)
        except Exception as error:  # whatever it holds, the process gives back
            log.warning("gpio: %s", error)

    # ------------------------------------------------------------------------------------------ buttons

    def _timing(self, line: Input) -> Timing:
        gpio = self.gpio
        return Timing(line.bounce_ms / 1000, gpio.hold_s, gpio.double_tap_s, gpio.long_press_s)

    def _gesture(self, button: str, gesture: Gesture) -> None:
        meant = meaning(self.bindings[button], gesture)
        if isinstance(meant, Action):
            self._actions.post((meant, f"button {button}"))
        elif meant is not None:
            self.reach.post(meant)

    def _turned(self, steps: int) -> None:
        enter(self._loop, self.reach.post, VolumeTurned(steps))

    def _open_switch(self, factory: Any, switch: MuteSwitch) -> Any:
        """Watch the switch, as a button that is down while the microphone is off. Blocking. Raises ConfigError."""

        def moved(closed: bool) -> None:
            finger.moved(closed is (switch.muted_when == "closed"))

        def switched(gesture: Gesture) -> None:
            self.reach.post(MuteSet(gesture is Gesture.PRESSED, Muter.SWITCH))

        timing = Timing(switch.bounce_ms / 1000, hold_s=0.0, twice_s=-1.0, long_s=math.inf, stuck_s=math.inf)
        finger = Finger(Presses(timing), switched, self._loop)
        device = pins.open_input(factory, switch, "mute_switch", moved)
        moved(device.is_active)
        return device

    async def _rebind(self, event: Event) -> None:
        if event.kind != "persona.switched":
            await self._bind()

    async def _bind(self) -> None:
        """Learn which button is whose; what is wrong with that is told once."""
        self.bindings, mistakes = bind(self.board, self.gpio.buttons, await self.reach.personas())
        for line in mistakes:
            if line not in self._mistakes:
                tell(self.reach.feed, line)
        self._mistakes = mistakes


class Finger:
    """Brings a line's changes from the thread they are told on into the loop, and has ``react`` told the gestures."""

    def __init__(self, presses: Presses, react: Callable[[Gesture], None], loop: asyncio.AbstractEventLoop) -> None:
        self._presses = presses
        self._react = react
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def moved(self, down: bool) -> None:
        """Take a change of the line, on any thread."""
        enter(self._loop, self._changed, down, self._loop.time())

    def _changed(self, down: bool, at: float) -> None:
        self._tell(self._presses.feed(down, at))

    def _tick(self) -> None:
        self._tell(self._presses.tick(self._loop.time()))

    def _tell(self, gestures: list[Gesture]) -> None:
        for gesture in gestures:
            self._react(gesture)
        if self._timer is not None:
            self._timer.cancel()
        at = self._presses.next_at
        self._timer = self._loop.call_at(at, self._tick) if at is not None else None


def enter(loop: asyncio.AbstractEventLoop, work: Callable[..., None], *args: Any) -> None:
    """Do something on the loop, from any thread."""
    try:
        loop.call_soon_threadsafe(work, *args)
    except RuntimeError:
        log.debug("a line moved after the loop had closed")
