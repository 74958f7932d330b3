"""The sound devices: what is there, what the microphone hears, whether the loudspeaker reaches it.

Where a daemon runs it has the devices, and tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from roomtone import engines
from roomtone.control import ask_daemon
from roomtone.core.errors import AudioError, EngineError, EngineUnavailable, RoomBusy, RoomtoneError
from roomtone.core.sound import Audio
from roomtone.doctor.findings import Finding, Level, split
from roomtone.engines.audio import Microphone, SoundDevice
from roomtone.engines.audio import sounddevice as card
from roomtone.flow import beside
from roomtone.loopback import BOUND_S, FIRST_SOUND_S, FREE_S, LISTEN_S, Heard, LoopBack, Tape, measure
from roomtone.settings import Settings

SPEAK_S, SPEAK_BOUND_S = 0.2, 4.0
"""How much silence the loudspeaker is given, and how long it may take over it."""

CLIPPED = 0.001
"""Which share of samples at the end of their range is too many."""

FAINT_DBFS = -75.0
"""Below it a room's own noise is not heard any more, so speech hardly will."""

LATE_MS = 600.0
"""An echo that comes later is not known for one: the echo gate looks back 640 ms (``core.echo_gate.LAGS``)."""

LOUD_DB = 10.0
"""An echo so much louder than it was given drowns who interrupts; a loudspeaker beside a microphone gives -12 dB."""

WITHOUT_HARDWARE = "wav"
GAIN = "set its gain: alsamixer (F6 chooses the card, F4 the microphone)"
RESTART = "run: sudo systemctl restart roomtone"
PLUG = "check its plug; this lists what the system sees: arecord -l"
UNHEARD = "turn it up or plug it in, and listen: speaker-test -t sine -l 1; headphones cannot be heard"

Meter = Callable[[str, float | None], None]
"""Is told what is looked at, and live levels in dBFS where there are some."""


def unwatched(what: str, dbfs: float | None) -> None:
    """Follow nothing: a Meter for where nobody looks on."""
    del what, dbfs


@dataclass(frozen=True, slots=True)
class Listening:
    """How the devices are looked at: whether to chirp, in quiet hours too, and who follows it live."""

    chirps: bool = True
    even_quiet: bool = False
    meter: Meter = unwatched


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


# ------------------------------------------------------------------------------------------ without a daemon


async def listen(settings: Settings, how: Listening = Listening()) -> list[Finding]:  # frozen
    """Open the configured device, listen for a moment, play a moment's silence and a chirp."""
    found: list[Finding] = []
    try:
        name, keys = settings.engine("audio")
        if name == WITHOUT_HARDWARE:
            return [Finding("microphone", "ok", f"{name} has no hardware")]
        async with engines.open_engine("audio", name, keys) as device:
            tape = Tape()
            async with beside(_record(device.microphone, tape), "taping"):
                await _look(device, tape, settings, how, found)
    except EngineUnavailable:
        return found  # told among the engines
    except (AudioError, EngineError) as error:
        found.append(split("loudspeaker" if "loudspeaker" in error.message else "microphone", "fail", error.message))
    return found


async def _look(device: SoundDevice, tape: Tape, settings: Settings, how: Listening, found: list[Finding]) -> None:
    while tape.seconds < LISTEN_S and await tape.grows(FIRST_SOUND_S):
        how.meter("microphone", tape.last_dbfs)
    found.append(judge(Heard.of(tape.near)))
    found.append(await _plays(device))
    if how.chirps and not any(each.level == "fail" for each in found):
        how.meter("chirp", None)
        hours = settings.quiet_hours
        quiet = hours is not None and hours.holds(datetime.now(settings.zone).time())
        if quiet and not how.even_quiet:
            found.append(loop_back(LoopBack(tried=False, why="quiet hours")))
        else:
            volume = hours.volume if hours is not None and quiet else 1.0
            found.append(loop_back(await measure(tape, device.loudspeaker, volume)))


async def _record(microphone: Microphone, tape: Tape) -> None:
    async for capture in microphone:
        tape.take(capture)


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


# ------------------------------------------------------------------------------------------ through a daemon


async def ask(daemon: Path, how: Listening) -> list[Finding]:
    """Have the running daemon tell how loud it is around it, and chirp."""
    found = [await _asked("microphone", _levels(daemon, how), 2 * FIRST_SOUND_S)]
    if how.chirps:
        how.meter("chirp", None)
        found.append(await _asked("chirp", _chirp(daemon, how), 2 * FREE_S + BOUND_S))
    return found


async def _asked(subject: str, asking: Any, bound_s: float) -> Finding:
    try:
        async with asyncio.timeout(bound_s):
            finding: Finding = await asking
            return finding
    except TimeoutError:
        return Finding(subject, "warn", "the daemon does not tell", RESTART)
    except AudioError as error:
        return split(subject, "fail", error.message)
    except RoomtoneError as error:  # an older daemon does not know how, or the room is talked with
        said, _, mend = error.message.partition("; ")
        return Finding(subject, "warn", said, mend or RESTART)
    except (TypeError, ValueError, AttributeError):  # the socket's other end may be anything
        return Finding(subject, "warn", "the daemon tells nonsense", RESTART)


async def _levels(daemon: Path, how: Listening) -> Finding:
    async for message in ask_daemon(daemon, {"command": "levels"}):
        if "dbfs" in message:
            how.meter("microphone", float(message["dbfs"]))
        elif message.get("result") is not None:
            return judge(Heard(**message["result"]))
    return Finding("microphone", "ok", "it is muted, so nothing is heard of it")


async def _chirp(daemon: Path, how: Listening) -> Finding:
    request = {"command": "chirp", "even_quiet": how.even_quiet}
    try:
        return await _chirped(daemon, request)
    except RoomBusy:  # who has just begun to talk is through in a moment, mostly
        return await _chirped(daemon, request)


async def _chirped(daemon: Path, request: dict[str, Any]) -> Finding:
    async for message in ask_daemon(daemon, request):
        if "result" in message:
            return loop_back(LoopBack(**message["result"]))
    return Finding("chirp", "warn", "the daemon gave no answer", RESTART)


# -------------------------------------------------------------------------------------------- judgements


def judge(heard: Heard) -> Finding:
    """Say how a microphone is from what it gave in ``LISTEN_S``."""
    if not heard.seconds:
        return Finding("microphone", "fail", "it is open and gives no sound", PLUG)
    if heard.seconds < LISTEN_S / 2:
        return Finding("microphone", "fail", f"it froze after {heard.seconds:.1f} s", PLUG)
    if heard.dead:
        said = "it is dead silent: nothing but zeros, which no living microphone gives"
        return Finding("microphone", "fail", said, "unmute it: alsamixer (F4, then M), or its own switch")
    said = f"{heard.dbfs:.0f} dBFS, peak {heard.peak_dbfs:.0f} dBFS"
    if heard.clipped > CLIPPED:
        return Finding(
            "microphone", "warn", f"{said}: it is overdriven, {heard.clipped:.1%} of it is cut off", f"lower: {GAIN}"
        )
    if heard.dbfs < FAINT_DBFS:
        return Finding("microphone", "warn", f"{said}: it hardly hears the room", GAIN)
    return Finding("microphone", "ok", said)


UNTRIED: dict[str, tuple[Level, str, str]] = {
    "muted": ("warn", "not played: the microphone is off", "switch it on again by its button, or say so on the card"),
    "quiet hours": ("ok", "not played in quiet hours", "to hear it softly all the same: roomtone doctor --chirp"),
    "volume": ("warn", "not played: the volume is 0", 'turn it up, or: roomtone ask "set the volume to five"'),
}


def loop_back(echo: LoopBack) -> Finding:
    """Say what lies between loudspeaker and microphone."""
    if not echo.tried:
        return Finding("chirp", *UNTRIED.get(str(echo.why), ("warn", f"not played: {echo.why}", "try again")))
    if not echo.heard or echo.delay_ms is None or echo.level_db is None:
        said = "the microphone did not hear it" if echo.why is None else "the loudspeaker did not play it"
        return Finding("chirp", "warn", f"{said}, in a room of {echo.room_dbfs:.0f} dBFS", UNHEARD)
    louder = f"{abs(echo.level_db):.0f} dB {'louder' if echo.level_db > 0 else 'fainter'} than it was given"
    said = f"heard {echo.delay_ms:.0f} ms later, {louder}"
    if echo.delay_ms > LATE_MS:
        mend = "use a loudspeaker with a cable; a sound server or Bluetooth keeps sound back"
        return Finding("chirp", "warn", f"{said}: too late to be known as an echo", mend)
    if echo.level_db > LOUD_DB:
        return Finding("chirp", "warn", f"{said}: it drowns who interrupts", f"lower the volume, or {GAIN}")
    return Finding("chirp", "ok", said)
