"""What is the matter with this room: every part looked at, each finding with the command that mends it.

Looking changes nothing: the store is only read, nothing is fetched, and all that is played is a chirp. Each check is
bounded and stands alone, so that whatever is broken, the others still tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from roomtone import control
from roomtone.control import ask_daemon, find_daemon
from roomtone.core.errors import DaemonGone, RoomtoneError
from roomtone.doctor import board, gpio, house, machine, minds, rooms, sound, store, units, wear
from roomtone.doctor.findings import Finding, split
from roomtone.doctor.sound import Listening
from roomtone.flow import worker
from roomtone.settings import SERVICE_STATE, Settings

__all__ = ["SUBJECTS", "Finding", "Listening", "Look", "examine"]

BOUND_S = 30.0
"""Longest that one check may take."""

ANSWER_S = 5.0
"""Longest that a running daemon may take to tell how it is."""

SUBJECTS = (
    *("configuration", "daemon", "engines", "listening", "models", "personas", "schedules", "skills", "store"),
    *("clock", "machine", "board", "wear", "units", "devices", "minds", "gpio", "house", "microphone", "chirp"),
)
"""What can be looked at alone."""

Check = Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be looked at (``only``; everything where it is empty), and how the sound is."""

    only: frozenset[str] = frozenset()
    sound: Listening = field(default_factory=Listening)

    def wants(self, subject: str) -> bool:
        """Tell whether a subject is to be looked at."""
        return not self.only or subject in self.only


async def examine(
    settings: Settings,
    mistakes: Iterable[str] = (),
    *,
    named: bool = False,
    look: Look = Look(),  # frozen
) -> AsyncIterator[Finding]:
    """Look at every part; each finding comes as soon as it is known.

    ``mistakes`` are the configuration's, and ``settings`` then what stands in for it. ``named``: the state folder was
    given on the command line.
    """
    for finding in house.configuration(mistakes) if look.wants("configuration") else ():
        yield finding
    daemon, found = await _ask(settings, named)
    if daemon.socket == control.SERVICE_SOCKET:
        settings = settings.model_copy(update={"state_dir": SERVICE_STATE})
    for finding in found if look.wants("daemon") else ():
        yield finding
    with worker("doctor") as hand:
        for subject, check in _checks(settings, running=daemon.runs):
            if not look.wants(subject):
                continue
            look.sound.meter(subject, None)
            try:
                findings = await hand.call(lambda check=check: list(check()), timeout=BOUND_S)
            except Exception as error:  # a check that fails is a finding, whatever the reason
                findings = [_unknown(subject, error)]
            for finding in findings:
                yield finding
    for finding in await _house(settings, running=daemon.runs) if look.wants("house") else ():
        yield finding
    for finding in await _sound(settings, daemon, look):
        yield finding


def _checks(settings: Settings, *, running: bool) -> tuple[tuple[str, Check], ...]:
    """List what is looked at on a thread, in order, the quick before the slow."""
    state_dir = settings.state_dir
    return (
        ("engines", lambda: house.engines_of(settings)),
        ("listening", lambda: house.calling(settings)),
        ("models", lambda: house.models_in(state_dir / "models")),
        ("personas", lambda: house.personas_of(settings)),
        ("schedules", lambda: house.schedules_of(settings)),
        ("skills", lambda: house.skills_of(settings)),
        ("store", lambda: store.look(state_dir, running=running)),
        ("clock", lambda: machine.clock(settings.time_zone, datetime.now(settings.zone), state_dir)),
        ("machine", lambda: machine.look(state_dir)),
        ("board", lambda: board.look(settings.gpio.board)),
        ("wear", lambda: wear.look(state_dir)),
        ("units", lambda: units.look(state_dir)),
        ("devices", sound.devices),
        ("minds", lambda: minds.look(settings)),
        ("gpio", lambda: gpio.look(settings.gpio, running=running)),
    )


async def _sound(settings: Settings, daemon: Daemon, look: Look) -> list[Finding]:
    """Look at microphone and loudspeaker: the daemon's, where one runs; one that does not tell has them as well."""
    asked_for = [subject for subject in ("microphone", "chirp") if look.wants(subject)]
    if not asked_for:
        return []
    if daemon.runs and daemon.socket is None:
        said, mend = "a daemon has the sound devices and cannot be asked", "see why: roomtone doctor --only daemon"
        return [Finding(subject, "warn", said, mend) for subject in asked_for]
    how = replace(look.sound, chirps=look.wants("chirp"))
    try:
        found = await (sound.ask(daemon.socket, how) if daemon.socket else sound.listen(settings, how))
    except Exception as error:  # an engine of another package may raise anything
        return [_unknown("microphone", error)]
    kept = [each for each in found if each.level == "fail" or look.wants(each.subject)]
    if kept or look.wants("engines"):  # a device that is not there was told among the engines
        return kept
    return [Finding("chirp", "warn", "there is nothing to play it on", "see why: roomtone doctor --only engines")]


@dataclass(frozen=True, slots=True)
class Daemon:
    """Whether a daemon runs, and the socket on which it tells; None where it does not."""

    socket: Path | None = None
    runs: bool = True


async def _ask(settings: Settings, named: bool) -> tuple[Daemon, list[Finding]]:
    """Ask the running daemon how it is."""
    try:
        path = await find_daemon(settings.state_dir, named=named)
        if path is None:
            held = store.holder(settings.state_dir)
            if held is not None:
                said = f"process {held} holds {settings.state_dir} and listens on no socket"
                return Daemon(), [Finding("daemon", "fail", said, f"end that one: kill {held}")]
            return Daemon(runs=False), [Finding("daemon", "warn", "no daemon runs", "run: roomtone run")]
        async with asyncio.timeout(ANSWER_S):
            async for message in ask_daemon(path, {"command": "status"}):
                if "result" in message:
                    return Daemon(path), list(_health(message["result"]))
        raise DaemonGone("the daemon gave no answer; run: sudo systemctl restart roomtone")
    except TimeoutError:
        said = f"a daemon runs and does not answer within {ANSWER_S:.0f} s"
        return Daemon(), [Finding("daemon", "fail", said, "run: sudo systemctl restart roomtone")]
    except RoomtoneError as error:
        return Daemon(), [split("daemon", "fail" if isinstance(error, DaemonGone) else "warn", error.message)]
    except Exception as error:  # the socket's other end may be anything
        return Daemon(), [_unknown("daemon", error)]


def _health(status: dict[str, Any]) -> Iterable[Finding]:
    muted = ", muted" if status.get("muted") else ""
    yield Finding("daemon", "ok", f"runs, {status.get('state', 'state unknown')}{muted}")
    for part, health in status.get("health", {}).items():
        if health != "ok":
            yield Finding(part, "warn", f"the daemon says: {health}", "see: journalctl -u roomtone")


async def _house(settings: Settings, *, running: bool) -> list[Finding]:
    try:
        return await rooms.look(settings, running=running)
    except Exception as error:  # the broker at the other end may be anything
        return [_unknown("house", error)]


def _unknown(subject: str, error: Exception) -> Finding:
    if isinstance(error, RoomtoneError):
        return split(subject, "fail", error.message)
    reason = " ".join(str(error).split())
    return Finding(subject, "fail", f"cannot be looked at: {reason} ({type(error).__name__})")
