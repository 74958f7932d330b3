"""What the lights show, as numbers: which look goes with what goes on, and its colours at a moment.

Nothing here waits or knows a wire, but for the bytes that two kinds of LED strips take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from roomtone.core.dialog import Noun
from roomtone.core.machine import Mode, State


class Shown(StrEnum):
    """What the lights tell of: the states of the machine, and what may be the matter beside them."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
    INTERRUPT = "interrupt"
    RINGING = "ringing"
    MUTED = "muted"
    ERROR = "error"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the lights know beside the state. ``error``: something has failed. ``offline``: the hub is lost.

    ``quiet``: it is to be dim.
    """

    error: bool = False
    offline: bool = False
    quiet: bool = False


def shown(state: State, conditions: Conditions) -> Shown:
    """Return what to show: what rings, then that nobody is heard, then what goes on, then what is the matter."""
    if state.prompt is not None and state.prompt.alarm is not None:
        return Shown.RINGING
    if state.muted:
        return Shown.MUTED
    if state.mode is not Mode.IDLE:
        return Shown(state.mode.value)
    if conditions.error:
        return Shown.ERROR
    return Shown.OFFLINE if conditions.offline else Shown.IDLE


# --------------------------------------------------------------------------------------------- looks


class Animation(StrEnum):
    """How a light moves: not at all, breathing, on and off, or running round a ring."""

    STEADY = "steady"
    PULSE = "pulse"
    BLINK = "blink"
    SPIN = "spin"


def _colour(text: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError("is no colour; write it as in '#0080ff'")
    return text.lower()


class Look(Noun):
    """A colour (``#rrggbb``; black is off) and how it moves, once in ``period_s`` seconds."""

    colour: Annotated[str, AfterValidator(_colour)] = "#000000"
    animation: Animation = Animation.STEADY
    period_s: float = Field(1.0, ge=0.1, le=60)

    @property
    def rgb(self) -> tuple[float, float, float]:
        """Red, green and blue, 0 to 1."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red / 255, green / 255, blue / 255


def _looks(**looks: tuple[str, Animation, float]) -> Mapping[Shown, Look]:
    made = {name: Look(colour=colour, animation=moves, period_s=s) for name, (colour, moves, s) in looks.items()}
    return {each: made.get(each.value, Look()) for each in Shown}


COLOURED = _looks(
    listening=("#0080ff", Animation.STEADY, 1.0),
    thinking=("#6040ff", Animation.SPIN, 1.2),
    speaking=("#00c060", Animation.PULSE, 1.6),
    interrupt=("#00c0c0", Animation.STEADY, 1.0),
    ringing=("#ff8000", Animation.BLINK, 0.6),
    muted=("#ff0000", Animation.STEADY, 1.0),
    error=("#ff0000", Animation.PULSE, 2.0),
    offline=("#401800", Animation.STEADY, 1.0),
)
"""The looks of lights that have colours. A single RGB LED cannot spin: there it pulses."""

PLAIN = _looks(
    listening=("#ffffff", Animation.STEADY, 1.0),
    thinking=("#ffffff", Animation.BLINK, 0.4),
    speaking=("#ffffff", Animation.PULSE, 1.6),
    interrupt=("#808080", Animation.STEADY, 1.0),
    ringing=("#ffffff", Animation.BLINK, 0.2),
    muted=("#303030", Animation.STEADY, 1.0),
    error=("#ffffff", Animation.BLINK, 2.0),
    offline=("#202020", Animation.PULSE, 8.0),
)
"""The looks of a single LED: only how bright it is, and how it moves, tells them apart."""

FRAME_S = 0.05
"""A light that moves smoothly is drawn so often: 20 times a second is smooth enough for an LED behind a diffuser."""

SOON_S = 0.001
"""Not sooner than this: what rounding leaves of a time is too short for a clock to pass."""

DARKEST = 0.1
"""Of a pulse, as a share of the light."""

QUIET = 0.3
"""Share of the brightness that is left while it is to be dim."""

Rgb = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""


def frame(look: Look, at: float, count: int) -> tuple[Rgb, ...]:
    """Return the colours of ``count`` LEDs, ``at`` seconds after the look began."""
    red, green, blue = look.rgb
    return tuple((red * level, green * level, blue * level) for level in _levels(look, at, count))


def next_change(look: Look, at: float) -> float | None:
    """Return the seconds until the frame is another; None where it stays as it is."""
    if look.animation is Animation.STEADY or look.rgb == (0.0, 0.0, 0.0):
        return None
    if look.animation is Animation.BLINK:
        half = look.period_s / 2
        return max(SOON_S, half - at % half)
    return FRAME_S


def _levels(look: Look, at: float, count: int) -> list[float]:
    turn = at / look.period_s % 1.0
    if look.animation is Animation.BLINK:
        return [1.0 if turn < 0.5 else 0.0] * count
    if look.animation is Animation.PULSE or (look.animation is Animation.SPIN and count == 1):
        swell = (1 - math.cos(2 * math.pi * turn)) / 2
        return [DARKEST + (1 - DARKEST) * swell] * count
    if look.animation is Animation.SPIN:
        # One LED leads and those behind it fade out over half the ring.
        return [max(0.0, 1 - 2 * ((turn - place / count) % 1.0)) for place in range(count)]
    return [1.0] * count


# --------------------------------------------------------------------------------------------- wires


def apa102(colours: Sequence[Rgb], brightness: float) -> bytes:
    """Return the bytes that show ``colours`` on a chain of APA102 (or SK9822) LEDs; ``brightness`` is 0 to 1.

    A start frame of 32 zero bits; of each LED 0b111 and 5 bits of brightness, then blue, green and red; then 32 zero
    bits, before which the SK9822 shows nothing, and one more clock for every two LEDs. (Shiji Lighting, APA102
    datasheet; "SK9822 – a clone of the APA102?", cpldcpu.wordpress.com, 2016.) Brightness is in those 5 bits alone,
    so that dim colours keep all their steps.
    """
    bright = min(31, math.ceil(31 * brightness))
    leds = bytearray()
    for red, green, blue in colours:
        leds += bytes((0xE0 | bright, _byte(blue), _byte(green), _byte(red)))
    return bytes(4) + bytes(leds) + bytes(4) + bytes(-(-len(colours) // 16))


WS2812_HERTZ = 2_400_000
"""Clock of the SPI that speaks to WS2812 LEDs: three of its bits are one of theirs, 1.25 us long."""


def ws2812(colours: Sequence[Rgb], brightness: float) -> bytes:
    """Return the bytes that show ``colours`` on WS2812 LEDs, by SPI at ``WS2812_HERTZ``; ``brightness`` is 0 to 1.

    Of each LED green, red and blue, the highest bit first; a 0 is high for 0.4 us of 1.25 and a 1 for 0.8, which is
    100 and 110 here. Then low for 300 us: the first ones took 50 for the end, later ones 280. (Worldsemi, WS2812B
    datasheet.)
    """
    bits = "".join(
        "110" if byte >> bit & 1 else "100"
        for red, green, blue in colours
        for byte in (_byte(green * brightness), _byte(red * brightness), _byte(blue * brightness))
        for bit in range(7, -1, -1)
    )
    low = bytes(math.ceil(WS2812_HERTZ * 300e-6 / 8))
    return low[:1] + int(bits or "0", 2).to_bytes(len(bits) // 8, "big") + low


def _byte(level: float) -> int:
    return round(255 * min(1.0, max(0.0, level)))
