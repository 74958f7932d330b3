"""A sound device without hardware: ten-millisecond steps by the event loop's clock.

On a normal loop it runs in real time, on a virtual clock as fast as whoever listens. When the loop is late it makes
up for it step by step: nothing is dropped, and a step's sound never depends on when it was computed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from roomtone.core.playback import Playback
from roomtone.core.room import Floats
from roomtone.core.sound import HOP, RATE, Audio, Samples, to_int16
from roomtone.engines.audio import Capture
from roomtone.engines.audio._speaker import Speaker
from roomtone.flow import beside

STEP_S = HOP / RATE
IDLE_MS = 80

SILENCE: Samples = np.zeros(HOP, np.int16)
SILENCE.flags.writeable = False


class Visitors:
    """Sounds that people make, each from a step of its own on; they may overlap."""

    def __init__(self) -> None:
        self._sounds: list[tuple[int, Samples]] = []

    @property
    def waiting(self) -> bool:
        """Whether anybody is speaking or about to."""
        return bool(self._sounds)

    def add(self, step: int, samples: Samples) -> None:
        """Let a sound begin with a step's first sample."""
        self._sounds.append((step, samples))

    def at(self, step: int) -> Floats | None:
        """Return the sum of 160 samples at a step; None where nobody makes a sound. Steps must not go back."""
        total: Floats | None = None
        for start, samples in self._sounds:
            piece = samples[(step - start) * HOP : (step - start + 1) * HOP] if step >= start else samples[:0]
            if len(piece):
                total = np.zeros(HOP) if total is None else total
                total[: len(piece)] += piece
        self._sounds = [
            (start, samples) for start, samples in self._sounds if (step + 1 - start) * HOP < len(samples)
        ]
        return total


class Tape:
    """What was recorded, in 10 ms steps; silence takes no memory."""

    def __init__(self) -> None:
        self._blocks: dict[int, Samples] = {}
        self._steps = 0

    def add(self, samples: Samples | None) -> None:
        """Record the next step (None: silence)."""
        if samples is not None:
            self._blocks[self._steps] = samples
        self._steps += 1

    def rest(self, steps: int) -> None:
        """Record steps of silence."""
        self._steps += steps

    def audio(self) -> Audio:
        """Return all of it."""
        samples = np.zeros(self._steps * HOP, np.int16)
        for step, block in self._blocks.items():
            samples[step * HOP : (step + 1) * HOP] = block
        return Audio(samples)


class PacedMicrophone:
    """The near end of a paced device; keeps every block from the first time somebody listens until it is read."""

    def __init__(self, before_change: Callable[[], None]) -> None:
        self.on_listening: Callable[[], None] = lambda: None
        self._change = before_change
        self._listened = False
        self._block_steps = IDLE_MS // 10
        self._at = 0.0
        self._near: list[Samples] = []
        self._far: list[Samples] = []
        self._ready: deque[Capture] = deque()
        self._news = asyncio.Event()
        self._ended = False

    def pace(self, block_ms: int) -> None:
        """Ask for blocks of ``block_ms`` (at least 10, in steps of 10) from now on; what is there comes at once."""
        self._change()
        self._block_steps = max(1, round(block_ms / 10))
        self._deliver(self._block_steps)

    def __aiter__(self) -> AsyncIterator[Capture]:
        self._change()
        if not self._listened:
            self._listened = True
            self.on_listening()
        return self

    async def __anext__(self) -> Capture:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._ready.popleft()

    def take(self, near: Samples, far: Samples, at: float) -> None:
        """Take one step's sound; ``at`` is when it ended."""
        if not self._listened or self._ended:
            return
        self._near.append(near)
        self._far.append(far)
        self._at = at
        if len(self._near) >= self._block_steps:
            self._deliver(self._block_steps)

    def end(self) -> None:
        """End the iteration once what is there was read."""
        self._deliver(1)
        self._ended = True
        self._news.set()

    @property
    def missing_steps(self) -> int:
        """Steps until the next block is whole."""
        return max(1, self._block_steps - len(self._near))

    def _deliver(self, steps: int) -> None:
        if len(self._near) < steps:
            return
        near, far = Audio(np.concatenate(self._near)), Audio(np.concatenate(self._far))
        self._near, self._far = [], []
        self._ready.append(Capture(near, far, self._at))
        self._news.set()


class PacedDevice:
    """A microphone and a loudspeaker that step together.

    ``room(step, far, people)`` is called once a step, in order, and returns what the microphone hears: 160 samples,
    given the 160 samples that the loudspeaker plays and those of people (None: nobody makes a sound).
    ``people_gain`` is how much louder people are in the recording than at the microphone.
    """

    def __init__(self, room: Callable[[int, Samples, Floats | None], Samples], people_gain: float = 1.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = room
        self._people_gain = people_gain
        self._changed = asyncio.Event()
        self._step = 0
        self._began = self._loop.time()
        self._last_step: int | None = None
        self._tape = Tape()
        self._far_tape = Tape()
        self.visitors = Visitors()
        self.microphone = PacedMicrophone(self.catch_up)
        self.loudspeaker = Speaker(Playback(), self.catch_up)

    @property
    def health(self) -> str:
        """Return ``ok``: nothing can break here."""
        return "ok"

    def next_step(self) -> int:
        """Return the step that is being recorded now."""
        self.catch_up()
        return self._step

    def time_of(self, step: int) -> float:
        """Return the loop's time at which a step begins."""
        return self._began + step * STEP_S

    @property
    def recording(self) -> Audio:
        """What somebody in the room would hear: people and the loudspeaker, from the start until now."""
        self.catch_up()
        return self._tape.audio()

    @property
    def played(self) -> Audio:
        """What the loudspeaker alone gave, from the start until now, sample by sample beside ``recording``."""
        self.catch_up()
        return self._far_tape.audio()

    def end_microphone(self, step: int) -> None:
        """Let the microphone end before a step."""
        self._last_step = step

    async def run(self) -> None:
        """Step for ever."""
        while True:
            self.catch_up()
            self._changed.clear()
            await self._pause()

    def catch_up(self) -> None:
        """Make the steps that are over by the loop's clock, with everything as it is now."""
        over = int((self._loop.time() - self._began) / STEP_S + 1e-6)
        while self._step < over:
            if self._last_step is None and self.loudspeaker.playback.silent and not self.visitors.waiting:
                self._rest(over - self._step)
            else:
                self._one_step()
        self.loudspeaker.moved()
        self._changed.set()  # what follows may make the next step matter sooner

    def _rest(self, steps: int) -> None:
        """Make steps in which nothing is played and nobody speaks: all there is of an idle day."""
        self.loudspeaker.playback.pull(steps * HOP)
        self._tape.rest(steps)
        self._far_tape.rest(steps)
        for _ in range(steps):
            near = self._room(self._step, SILENCE, None)
            self._step += 1
            self.microphone.take(near, SILENCE, self.time_of(self._step))

    def _one_step(self) -> None:
        step = self._step
        far = self.loudspeaker.playback.pull(HOP)
        people = self.visitors.at(step)
        near = self._room(step, far, people)
        played = far if np.count_nonzero(far) else None
        self._tape.add(played if people is None else to_int16(people * self._people_gain + far))
        self._far_tape.add(played)
        self._step = step + 1
        self.microphone.take(near, far, self.time_of(self._step))
        if self._step == self._last_step:
            self.microphone.end()

    async def _pause(self) -> None:
        """Wait for the next step that matters: each one while there is sound, else the end of a block."""
        busy = not self.loudspeaker.playback.silent
        until = self._step + (1 if busy else self.microphone.missing_steps)
        alarm = self._loop.call_at(self.time_of(until), self._changed.set)
        try:
            await self._changed.wait()
        finally:
            alarm.cancel()


@asynccontextmanager
async def running(device: PacedDevice) -> AsyncIterator[None]:
    """Step a device for as long as the context lasts."""
    async with beside(device.run(), "audio"):
        try:
            yield
        finally:
            device.catch_up()
