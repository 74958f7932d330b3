"""The board of buttons and lights: whether its file can be read, and its pins be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from roomtone import boards
from roomtone.core.board import Board
from roomtone.core.errors import RoomtoneError
from roomtone.doctor.findings import Finding, split
from roomtone.edges import pins
from roomtone.edges.lights import OpenSpi, open_lamp
from roomtone.settings import Gpio


def look(
    gpio: Gpio,
    *,
    running: bool,
    open_factory: Callable[[], Any] = pins.open_factory,
    open_spi: OpenSpi = pins.open_spi,
) -> Iterator[Finding]:
    """Tell what is wrong with the configured board. Where a daemon is ``running`` the pins are its own: not tried."""
    if gpio.board == "none":
        return
    try:
        board = boards.load(gpio.board)
        found = [] if running else list(_try(board, open_factory, open_spi))
    except RoomtoneError as error:
        yield split("gpio", "warn", error.message.removeprefix("gpio: "))
        return
    names = ", ".join(board.buttons) or "none"
    unknown = [name for name in gpio.buttons if name not in board.buttons]
    found += [Finding("gpio", "warn", f"gpio.buttons.{name}: {board.name} has only {names}") for name in unknown]
    yield from found or [Finding("gpio", "ok", f"{board.name}, buttons: {names}")]


def _try(board: Board, open_factory: Callable[[], Any], open_spi: OpenSpi) -> Iterator[Finding]:
    """Open each part of a board and close it again."""
    factory = open_factory()
    inputs = {f"buttons.{name}": line for name, line in board.buttons.items()}
    if board.mute_switch is not None:
        inputs["mute_switch"] = board.mute_switch
    tries: list[Callable[[], Any]] = [
        *(
            lambda what=what, line=line: pins.open_input(factory, line, what, _ignore)
            for what, line in inputs.items()
        ),
        *(lambda pin=pin: pins.open_high(factory, pin) for pin in board.power),
        lambda: open_lamp(factory, board, open_spi),
    ]
    if board.rotary is not None:
        rotary = board.rotary
        tries.append(lambda: pins.open_rotary(factory, rotary, _ignore))
    try:
        for attempt in tries:
            try:
                opened = attempt()
            except RoomtoneError as error:
                yield split("gpio", "warn", error.message.removeprefix("gpio: "))
                continue
            if opened is not None:
                opened.close()
    finally:
        factory.close()


def _ignore(_: Any) -> None:
    pass
