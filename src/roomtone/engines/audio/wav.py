"""Sound files in, a sound file out: a room without echo, in which everybody is heard as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import Field

from roomtone.core.errors import AudioError
from roomtone.core.room import Floats, coloured_noise
from roomtone.core.sound import HOP, RATE, Audio, Samples, decode_wav, encode_wav, to_int16
from roomtone.engines import EngineSettings
from roomtone.engines.audio._paced import PacedDevice, running
from roomtone.engines.audio._speaker import at_16k

NOISE_DBFS = -90.0
"""One bit of noise between files: a microphone that hears nothing at all is a broken one."""


class Settings(EngineSettings):
    """Files to hear one after the other, each followed by ``gap_s`` of silence, and where to keep the recording.

    With inputs the microphone ends after the last gap; without any it is silent until closed.
    """

    inputs: tuple[Path, ...] = ()
    gap_s: float = Field(1.5, ge=0)
    output: Path | None = None


def missing(settings: Settings) -> str | None:
    """Return which input does not exist, or that the output has no folder to be in."""
    for path in settings.inputs:
        if not path.is_file():
            return f"there is no file {path}; check the path"
    if settings.output is not None and not settings.output.parent.is_dir():
        return f"there is no folder {settings.output.parent}; run: mkdir -p {settings.output.parent}"
    return None


class WavDevice(PacedDevice):
    """A sound device whose microphone hears files and visitors, clean and as loud as they are."""

    def __init__(self) -> None:
        super().__init__(self._hear)
        self._noise = to_int16(coloured_noise(4.0, NOISE_DBFS, seed=1))

    def visit(self, audio: Audio) -> float:
        """Let somebody speak now, beside whoever is speaking already; return the loop's time of the first sample."""
        step = self.next_step()
        self.visitors.add(step, at_16k(audio))
        return self.time_of(step)

    def begin_inputs(self, inputs: Sequence[Audio], gap_s: float) -> None:
        """Play files into the microphone from now on, and end it after the last gap."""
        step = self.next_step()
        for audio in inputs:
            samples = at_16k(audio)
            self.visitors.add(step, samples)
            step += -(-(len(samples) + round(gap_s * RATE)) // HOP)
        self.end_microphone(step)

    def _hear(self, step: int, far: Samples, people: Floats | None) -> Samples:  # noqa: ARG002  # no echo here
        start = step * HOP % len(self._noise)
        noise = self._noise[start : start + HOP]
        return noise if people is None else to_int16(people + noise)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[WavDevice]:  # noqa: A001  # every engine's verb
    """Open the device; the inputs begin when somebody first listens to its microphone.

    Raises AudioError for an input that is no sound file, or (on leaving) an output that cannot be written.
    """
    inputs = [_read(path) for path in settings.inputs]
    device = WavDevice()
    if inputs:
        device.microphone.on_listening = lambda: device.begin_inputs(inputs, settings.gap_s)
    try:
        async with running(device):
            yield device
    finally:
        if settings.output is not None:
            _write(settings.output, device.recording)


def _read(path: Path) -> Audio:
    try:
        return decode_wav(path.read_bytes(), str(path))
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}", file=str(path)) from error


def _write(path: Path, recording: Audio) -> None:
    try:
        path.write_bytes(encode_wav(recording))
    except OSError as error:
        raise AudioError(f"the recording {path} cannot be written: {error.strerror}", file=str(path)) from error
