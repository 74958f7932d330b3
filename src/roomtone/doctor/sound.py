"""The sound devices, with live levels: what is there, what the microphone hears, whether the loudspeaker runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np

from roomtone import engines
from roomtone.core.errors import AudioError, EngineError, EngineUnavailable
from roomtone.core.sound import RATE, Audio, Samples, level
from roomtone.doctor.findings import Finding, split
from roomtone.engines.audio import Microphone, SoundDevice
from roomtone.engines.audio import sounddevice as card
from roomtone.settings import Settings

LISTEN_S, FIRST_SOUND_S = 1.5, 4.0
"""How long the microphone is listened to, and how long its first block may take: sound servers need 1.5 s."""

SPEAK_S, SPEAK_BOUND_S = 0.2, 4.0
"""How much silence the loudspeaker is given, and how long it may take over it."""

FULL_SCALE = 32_700
CLIPPED = 0.001
"""From which sample a microphone is at its end, and which share of such samples is too many."""

FAINT_DBFS = -75.0
"""Below it a room's own noise is not heard any more, so speech hardly will."""

WITHOUT_HARDWARE = ("wav", "sim")
GAIN = "set its gain: alsamixer (F6 chooses the card, F4 the microphone)"
PLUG = "check its plug; this lists what the system sees: arecord -l"


def devices() -> Iterator[Finding]:
    """List the devices by the names that audio.input and audio.output may hold."""
    try:
        found = card.devices()
    except AudioError as error:
        yield split("devices", "warn", error.message)
        return
    for name, inputs, outputs in found:
        kinds = [what for what, channels in (("microphone", inputs), ("loudspeaker", outputs)) if channels]
        yield Finding("devices", "ok", f"{name} ({' and '.join(kinds)})")
    if not found:
        yield Finding("devices", "warn", "there is no sound device", PLUG)


async def listen(settings: Settings) -> AsyncIterator[Finding]:
    """Open the configured device, listen for a moment and play a moment's silence."""
    try:
        name, keys = settings.engine("audio")
        if name in WITHOUT_HARDWARE:
            yield Finding("microphone", "ok", f"{name} has no hardware")
            return
        async with engines.open_engine("audio", name, keys) as device:
            heard = await _hear(device.microphone)
            plays = await _plays(device)
    except EngineUnavailable:
        return  # told among the engines
    except (AudioError, EngineError) as error:
        yield split("loudspeaker" if "loudspeaker" in error.message else "microphone", "fail", error.message)
        return
    yield judge(heard)
    yield plays


async def _hear(microphone: Microphone) -> Samples:
    """Return what the microphone heard, at 16 kHz; less than ``LISTEN_S`` where it gave no more in its time."""
    heard: list[Samples] = []
    try:
        async with asyncio.timeout(FIRST_SOUND_S) as bound:
            async for capture in microphone:
                if not heard:
                    bound.reschedule(asyncio.get_running_loop().time() + 2 * LISTEN_S)
                heard.append(capture.near.samples)
                if sum(map(len, heard)) >= LISTEN_S * RATE:
                    break
    except TimeoutError:
        pass  # judged by what came
    return np.concatenate([np.zeros(0, np.int16), *heard])


def judge(heard: Samples) -> Finding:
    """Say how a microphone is from what it gave in ``LISTEN_S`` (16 kHz)."""
    if not len(heard):
        return Finding("microphone", "fail", "it is open and gives no sound", PLUG)
    if len(heard) < LISTEN_S * RATE / 2:
        return Finding("microphone", "fail", f"it froze after {len(heard) / RATE:.1f} s", PLUG)
    if not heard.any():
        said = "it is dead silent: nothing but zeros, which no living microphone gives"
        return Finding("microphone", "fail", said, "unmute it: alsamixer (F4, then M), or its own switch")
    clipped = float(np.mean(np.abs(heard.astype(np.int32)) >= FULL_SCALE))
    peak = 20 * np.log10(int(np.abs(heard.astype(np.int32)).max()) / 32768)
    said = f"{level(heard):.0f} dBFS, peak {peak:.0f} dBFS"
    if clipped > CLIPPED:
        return Finding(
            "microphone", "warn", f"{said}: it is overdriven, {clipped:.1%} of it is cut off", f"lower: {GAIN}"
        )
    if level(heard) < FAINT_DBFS:
        return Finding("microphone", "warn", f"{said}: it hardly hears the room", GAIN)
    return Finding("microphone", "ok", said)


async def _plays(device: SoundDevice) -> Finding:
    """Look whether the loudspeaker takes sound, by playing silence."""
    try:
        async with asyncio.timeout(SPEAK_BOUND_S):
            await device.loudspeaker.play(Audio.silence(SPEAK_S))
            await device.loudspeaker.drained()
    except TimeoutError:
        said = "it is open and takes no sound"
        return Finding("loudspeaker", "fail", said, "check its plug; this lists what the system sees: aplay -l")
    return Finding("loudspeaker", "ok", "it runs")
