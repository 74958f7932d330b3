"""A simulated room: visitors speak, the loudspeaker leaks into the microphone, the walls answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import Field

from roomtone.core.errors import AudioError
from roomtone.core.room import Floats, Room, Shape
from roomtone.core.sound import Audio, Samples, decode_wav, to_int16
from roomtone.engines import EngineSettings
from roomtone.engines.audio._paced import STEP_S, PacedDevice, Tape, running
from roomtone.engines.audio._speaker import at_16k

PEOPLE_GAIN = 2.5
"""Whoever listens in the room stands among the people, not at the microphone."""


class Visit(EngineSettings):
    """Somebody who speaks ``at_s`` seconds after the microphone was first listened to.

    ``dbfs`` is how loud they arrive (active speech); without it they talk normally at their distance.
    """

    wav: Path
    at_s: float = Field(ge=0)
    distance_m: float = Field(1.5, gt=0, le=20)
    dbfs: float | None = Field(None, le=0)


class Settings(EngineSettings):
    """The room (see ``core.room.Shape``), who visits it, and whether to keep what the microphone heard.

    ``captures`` costs 32 kB a second, for ever: it is for benches.
    """

    rt60_ms: float = Field(350, ge=0, le=3000)
    leak_db: float = Field(-12.0, ge=-120, le=20)
    delay_ms: float = Field(40, ge=0, le=600)
    noise_dbfs: float = Field(-62, ge=-120, le=-10)
    drive: float = Field(0.5, ge=0, le=10)
    bumps_per_minute: float = Field(0, ge=0)
    seed: int = Field(1, ge=0)
    visits: tuple[Visit, ...] = ()
    captures: bool = False

    def shape(self) -> Shape:
        """Return the room these settings describe."""
        return Shape(
            rt60_s=self.rt60_ms / 1000,
            leak_db=self.leak_db,
            delay_s=self.delay_ms / 1000,
            noise_dbfs=self.noise_dbfs,
            drive=self.drive,
            bumps_per_minute=self.bumps_per_minute,
            seed=self.seed,
        )


def missing(settings: Settings) -> str | None:
    """Return which visitor's file does not exist."""
    for visit in settings.visits:
        if not visit.wav.is_file():
            return f"there is no file {visit.wav}; check the path"
    return None


class SimDevice(PacedDevice):
    """A sound device in a simulated room."""

    def __init__(self, shape: Shape, captures: bool) -> None:
        super().__init__(self._hear, PEOPLE_GAIN)
        self.room = Room(shape)
        self._captured = Tape() if captures else None

    @property
    def captured(self) -> Audio:
        """What the microphone heard since the device was opened. Raises AudioError unless ``captures`` was set."""
        if self._captured is None:
            raise AudioError("the simulated microphone was not kept; set audio.captures to true")
        self.catch_up()
        return self._captured.audio()

    def visit(self, audio: Audio, distance_m: float = 1.5, dbfs: float | None = None, in_s: float = 0.0) -> float:
        """Let somebody speak ``in_s`` seconds from now (to the next 10 ms).

        ``dbfs`` is their active level at the microphone; without it they talk normally. Returns the loop's time at
        which the first sample of ``audio`` leaves them; it arrives 3 ms a metre later.
        """
        step = self.next_step() + round(in_s / STEP_S)
        self.visitors.add(step, self.room.place(at_16k(audio), distance_m, dbfs))
        return self.time_of(step)

    def echo_dbfs(self, audio: Audio) -> float:
        """Active level at the microphone of a sound from the loudspeaker, at the volume it has now, not ducked."""
        return self.room.echo_dbfs(to_int16(at_16k(audio) * self.loudspeaker.playback.full_gain))

    def _hear(self, step: int, far: Samples, people: Floats | None) -> Samples:
        near = self.room.hear(step, far, people)
        if self._captured is not None:
            self._captured.add(near)
        return near


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[SimDevice]:  # noqa: A001  # every engine's verb
    """Open the room; its visits are counted from when somebody first listens to the microphone.

    Raises AudioError for a visitor's file that is no sound file.
    """
    sounds = [(visit, decode_wav(visit.wav.read_bytes(), str(visit.wav))) for visit in settings.visits]
    device = SimDevice(settings.shape(), settings.captures)

    def let_in() -> None:
        for visit, audio in sounds:
            device.visit(audio, visit.distance_m, visit.dbfs, in_s=visit.at_s)

    device.microphone.on_listening = let_in
    async with running(device):
        yield device
