"""A board of buttons and lights, as its file describes it, and what its buttons are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from roomtone.core.dialog import Noun, Source
from roomtone.core.lights import COLOURED, PLAIN, Look, Shown
from roomtone.core.persona import Persona, Trigger
from roomtone.core.presses import Gesture
from roomtone.core.schedule import Action
from roomtone.core.signals import Dismiss, LetGo, MuteToggled, Repeat, Signal, Wake

Pin = Annotated[int, Field(ge=0, le=27)]
"""A line of the 40-pin header by its Broadcom number, as in GPIO17; not its place on the header."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]

SPI_PINS = {0: (10, 11), 1: (20, 21)}
"""Data and clock of each SPI bus, which no button may have too."""


class Input(Noun):
    """A line that something closes: to ground where it is pulled up, to 3.3 V where it is pulled down.

    Where the board pulls it (``pull: none``), ``active`` says what closed is.
    """

    pin: Pin
    pull: Literal["up", "down", "none"] = "up"
    active: Literal["low", "high"] | None = None
    bounce_ms: float = Field(20, ge=0, le=200)

    @model_validator(mode="after")
    def _says_what_closed_is(self) -> Input:
        if self.pull == "none" and self.active is None:
            raise ValueError("active: say low or high, as nothing here pulls the line")
        if self.pull != "none" and self.active is not None:
            raise ValueError("active: leave it out, as the pull says it")
        return self


class MuteSwitch(Input):
    """A switch that stays where it is put."""

    muted_when: Literal["closed", "open"] = "closed"


class Rotary(Noun):
    """A knob's encoder: its lines A and B, both pulled up; swapped, it turns the other way."""

    a: Pin
    b: Pin


class Led(Noun):
    """A single LED."""

    kind: Literal["led"]
    pin: Pin
    active_high: bool = True


class RgbLed(Noun):
    """An LED of three colours."""

    kind: Literal["rgb"]
    red: Pin
    green: Pin
    blue: Pin
    active_high: bool = True


class Apa102(Noun):
    """A chain or ring of APA102 LEDs on an SPI bus."""

    kind: Literal["apa102"]
    count: int = Field(ge=1, le=60)
    bus: Literal[0, 1] = 0
    device: int = Field(0, ge=0, le=2)
    hertz: int = Field(4_000_000, ge=100_000, le=20_000_000)


class Ws2812(Noun):
    """A chain or ring of WS2812 LEDs on the data line of an SPI bus."""

    kind: Literal["ws2812"]
    count: int = Field(ge=1, le=60)
    bus: Literal[0, 1] = 0
    device: int = Field(0, ge=0, le=2)


Lights = Annotated[Led | RgbLed | Apa102 | Ws2812, Field(discriminator="kind")]


class Board(Noun):
    """What is on a board. ``power``: lines held high, as some ask for. ``looks`` go before Roomtone's own."""

    name: str
    buttons: dict[Name, Input] = Field(default_factory=dict)
    mute_switch: MuteSwitch | None = None
    rotary: Rotary | None = None
    lights: Lights | None = None
    power: tuple[Pin, ...] = ()
    looks: dict[Shown, Look] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _uses_no_pin_twice(self) -> Board:
        seen: dict[int, str] = {}
        for where, pin in self.pins():
            if pin in seen:
                raise ValueError(f"{where}: GPIO{pin} is {seen[pin]} already")
            seen[pin] = where
        return self

    def pins(self) -> Iterator[tuple[str, int]]:
        """List every line that is used, and for what."""
        for name, button in self.buttons.items():
            yield f"buttons.{name}", button.pin
        if self.mute_switch is not None:
            yield "mute_switch", self.mute_switch.pin
        if self.rotary is not None:
            yield "rotary.a", self.rotary.a
            yield "rotary.b", self.rotary.b
        yield from self._light_pins()
        for number, pin in enumerate(self.power):
            yield f"power.{number}", pin

    def _light_pins(self) -> Iterator[tuple[str, int]]:
        match self.lights:
            case Led(pin=pin):
                yield "lights", pin
            case RgbLed(red=red, green=green, blue=blue):
                yield from (("lights.red", red), ("lights.green", green), ("lights.blue", blue))
            case Apa102(bus=bus) | Ws2812(bus=bus):
                yield from (("lights", pin) for pin in SPI_PINS[bus])

    @property
    def light_count(self) -> int:
        """LEDs that can be lit each by itself."""
        return self.lights.count if isinstance(self.lights, Apa102 | Ws2812) else 1

    def look(self, what: Shown) -> Look:
        """Return how this board shows something."""
        return self.looks.get(what) or (PLAIN if isinstance(self.lights, Led) else COLOURED)[what]


# ------------------------------------------------------------------------------------------- buttons


class Use(StrEnum):
    """What a button can be for, beside an action or a persona."""

    TALK = "talk"
    STOP = "stop"
    MUTE = "mute"
    REPEAT = "repeat"


def _kind(job: object) -> str:
    return "use" if isinstance(job, str) else "action"


Job = Annotated[Annotated[Use, Tag("use")] | Annotated[Action, Tag("action")], Discriminator(_kind)]
"""A use by its name, or an action with its keys: whichever it looks like is what its mistakes are told of."""


class Binding(Noun):
    """What a button is for: to ``talk`` to whoever speaks, or to a ``persona``, or one of the other jobs."""

    job: Job = Use.TALK
    persona: str | None = None


def bind(board: Board, told: Mapping[str, Job], personas: Iterable[Persona]) -> tuple[dict[str, Binding], list[str]]:
    """Return what each button is for, and what is wrong with what was said of that, a line each.

    What the configuration says goes before what a persona wants. (No two personas want one button: then one of them
    cannot be loaded.)
    """
    wants = {persona.button: persona.id for persona in personas if Trigger.BUTTON in persona.trigger_types}
    there = ", ".join(board.buttons) or "none at all"
    lacks = f"{board.name} has no such button; it has {there}"
    mistakes = [
        *(f"gpio.buttons.{name}: {lacks}" for name in told if name not in board.buttons),
        *(f"button '{name}' of {who}: {lacks}" for name, who in wants.items() if name and name not in board.buttons),
        *(
            f"button '{name}' is wanted by {wants[name]}, and gpio.buttons has another use for it; change one of them"
            for name in told
            if name in wants
        ),
    ]
    bindings = {
        name: _binding(told[name]) if name in told else Binding(persona=wants.get(name)) for name in board.buttons
    }
    return bindings, mistakes


def _binding(job: Job) -> Binding:
    """Return what a button is for that was told a job: one that only names a persona is there to talk to that one."""
    if isinstance(job, Action) and not job.model_copy(update={"persona": None}).does_something:
        return Binding(persona=job.persona)
    return Binding(job=job)


def meaning(binding: Binding, gesture: Gesture) -> Signal | Action | None:
    """Return what a gesture at a button means, if anything.

    A button to talk with calls at once when it is pressed: whether a second tap follows shows later. All others act
    at each press.
    """
    talking: dict[Gesture, Signal] = {
        Gesture.PRESSED: Wake(Source.BUTTON, binding.persona, held=True),
        Gesture.TAPPED: LetGo(),
        Gesture.RELEASED: LetGo(talked=True),
        Gesture.TWICE: Repeat(Source.BUTTON),
        Gesture.LONG: MuteToggled(),
    }
    if binding.job is Use.TALK:
        return talking[gesture]
    if gesture not in (Gesture.PRESSED, Gesture.TWICE):
        return None
    if isinstance(binding.job, Action):
        return binding.job
    others: dict[Use, Signal] = {
        Use.STOP: Dismiss(Source.BUTTON),
        Use.MUTE: MuteToggled(),
        Use.REPEAT: Repeat(Source.BUTTON),
    }
    return others[binding.job]
