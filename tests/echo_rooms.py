"""What the echo tests hear: synthesised voices in simulated rooms."""

from __future__ import annotations

import asyncio
import functools

import numpy as np

from roomtone.bench.barge_in import REPLIES, VISITORS, WORDS, say
from roomtone.core.echo_gate import EchoGate, Verdict
from roomtone.core.room import Room, Shape
from roomtone.core.sound import HOP, Samples


@functools.cache
def replies() -> tuple[Samples, ...]:
    """Roomtone's own sentences, in its own voice."""
    return tuple(asyncio.run(say(REPLIES, "en-us")))


@functools.cache
def visitors() -> tuple[Samples, ...]:
    """What people say, each in another voice."""
    said = [asyncio.run(say([words], voice)) for words, voice in zip(WORDS, VISITORS, strict=False)]
    return tuple(one for [one] in said)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * 100) * HOP, np.int16)


def frames(*sounds: Samples) -> list[Samples]:
    """Sounds end to end, in whole frames."""
    sound = np.concatenate(sounds)
    return list(sound[: len(sound) // HOP * HOP].reshape(-1, HOP))


def heard_in(shape: Shape, far: list[Samples]) -> list[Samples]:
    """What the microphone hears when nobody is there but the loudspeaker."""
    room = Room(shape)
    return [room.hear(step, played, None) for step, played in enumerate(far)]


def judge(gate: EchoGate, near: list[Samples], far: list[Samples]) -> list[Verdict]:
    return [gate.feed(mic, played) for mic, played in zip(near, far, strict=True)]
