"""The lines of a board, by gpiozero, which is imported only where there is one.

Everything here blocks, so it is called on a thread of its own. What cannot be opened is one line for whoever set the
board up.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from roomtone.core.board import Input, Rotary
from roomtone.core.errors import ConfigError, EngineUnavailable, RoomtoneError

LIBRARY = "sudo apt install python3-gpiozero python3-lgpio python3-spidev"
ALLOWED = "sudo usermod -aG gpio,spi $USER, and log in again"
SPI = "sudo raspi-config nonint do_spi 0, and start the machine again"

Changed = Callable[[bool], None]
"""Told, on a foreign thread, that a line is closed (True) or open."""


def open_factory() -> Any:
    """Return gpiozero's factory of pins: lgpio's, or the one that ``GPIOZERO_PIN_FACTORY`` names, such as mock.

    gpiozero's own choice falls back to ways that do not work on a Pi 5, with a warning for each; one clear refusal is
    better. Raises EngineUnavailable.
    """
    os.environ.setdefault("LG_WD", tempfile.gettempdir())  # lgpio leaves files in the current folder otherwise
    name = os.environ.get("GPIOZERO_PIN_FACTORY", "lgpio")
    try:
        import gpiozero  # noqa: F401  # that it is there is told before that its ways are not

        found = entry_points(group="gpiozero_pin_factories", name=name)
        if not found:
            raise EngineUnavailable(f"gpio: gpiozero knows no pins of the name '{name}'; unset GPIOZERO_PIN_FACTORY")
        return next(iter(found)).load()()
    except ImportError as error:
        raise EngineUnavailable(f"gpio: {error.name or 'gpiozero'} is missing; run: {LIBRARY}") from error
    except RoomtoneError:
        raise
    except Exception as error:  # lgpio's own errors have no common root
        said = _one_line(error)
        mend = ALLOWED if "open gpiochip" in said or isinstance(error, PermissionError) else LIBRARY
        raise EngineUnavailable(f"gpio: there are no pins here ({said}); run: {mend}") from error


def open_input(factory: Any, line: Input, what: str, changed: Changed) -> Any:
    """Watch a line; return what has ``is_active``, whether it is closed now, and ``close``. Raises ConfigError."""
    from gpiozero import DigitalInputDevice

    active = None if line.active is None else line.active == "high"
    pull_up = None if line.pull == "none" else line.pull == "up"
    with_pin = {"pull_up": pull_up, "active_state": active, "pin_factory": factory}
    device = _opened(what, line.pin, lambda: DigitalInputDevice(line.pin, **with_pin))
    device.when_activated = lambda: changed(True)
    device.when_deactivated = lambda: changed(False)
    return device


def open_rotary(factory: Any, rotary: Rotary, turned: Callable[[int], None]) -> Any:
    """Watch an encoder; ``turned`` is told each of its steps, 1 or -1. Raises ConfigError."""
    from gpiozero import RotaryEncoder

    make = lambda: RotaryEncoder(rotary.a, rotary.b, max_steps=0, pin_factory=factory)  # noqa: E731
    device = _opened("rotary", rotary.a, make)
    device.when_rotated_clockwise = lambda: turned(1)
    device.when_rotated_counter_clockwise = lambda: turned(-1)
    return device


def open_high(factory: Any, pin: int) -> Any:
    """Hold a line high until it is closed. Raises ConfigError."""
    from gpiozero import DigitalOutputDevice

    return _opened("power", pin, lambda: DigitalOutputDevice(pin, initial_value=True, pin_factory=factory))


def open_led(factory: Any, pin: int, what: str, *, active_high: bool) -> Any:
    """Return an LED whose ``value`` is 0 to 1. Raises ConfigError."""
    from gpiozero import PWMLED

    return _opened(what, pin, lambda: PWMLED(pin, active_high=active_high, pin_factory=factory))


def open_spi(bus: int, device: int, hertz: int) -> Any:
    """Return an SPI device: ``writebytes2(bytes)``, ``close()``. Raises EngineUnavailable."""
    try:
        import spidev

        opened = spidev.SpiDev()
        opened.open(bus, device)
        opened.max_speed_hz = hertz
    except ImportError as error:
        raise EngineUnavailable(f"gpio: lights: {error.name} is missing; run: {LIBRARY}") from error
    except PermissionError as error:
        raise EngineUnavailable(f"gpio: lights: /dev/spidev{bus}.{device} is not allowed; run: {ALLOWED}") from error
    except OSError as error:
        said = f"gpio: lights: there is no SPI (/dev/spidev{bus}.{device}: {error.strerror}); run: {SPI}"
        raise EngineUnavailable(said) from error
    return opened


def _opened(what: str, pin: int, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # lgpio's own errors have no common root
        raise ConfigError(f"gpio: {what}: GPIO{pin} {_reason(error)}", pin=pin) from error


def _reason(error: Exception) -> str:
    said, kind = _one_line(error), type(error).__name__
    if kind == "GPIOPinInUse" or "busy" in said.lower():
        return "is in use by something else; see what has it: gpioinfo"
    if kind == "PinInvalidPin":
        return "is not on this machine; give another pin in the board's file"
    return f"cannot be used ({said}); give another pin in the board's file"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
