"""What systemd is told: ready, still alive, stopping. And how soon a daemon that crashes is begun anew.

The protocol is sd_notify(3): a datagram of ``NAME=value`` lines to the socket that ``$NOTIFY_SOCKET`` names. That the
daemon lives is said only once a Beat has been taken in by the loop that is watched: one that hangs is restarted
though its timers go on, and a long answer, which is a task of its own, is no hang.

The pause before a start is not left to ``RestartSteps=``, which systemd 252 does not know, and which counts a crash a
week like one a second: there, only a start by hand sets the count to zero.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

Taken = Callable[[], None]
Beat = Callable[[Taken], None]
"""Posts a question whether facts are taken in, to be answered by calling what it is given."""

LOOK_S = 10.0
"""How often the status is looked at where there is no watchdog."""

QUICK_STARTS = 2
"""So many crashes in a row are followed by a start at once: one that heals shall not cost silence."""

LONGEST_PAUSE_S = 60.0
"""Nobody is near a Pi in a wall: it goes on trying for ever, and this seldom wears out no card."""

START_BOUND_S = 180.0
"""Longest that getting ready may take after such a pause; TimeoutStartSec= of the units is no more."""

GOOD_RUN_S = 600.0
"""A daemon that ran so long was a good one: the next crash is its first."""

TELL_S = 1.0
"""Longest that a message may wait for room at systemd, which reads at once but while it loads its units anew."""

ASK_S = 3.0
"""Longest that systemd may take to say how often it has restarted this."""


def tell(message: str, env: Mapping[str, str] = os.environ) -> None:
    """Send a message to the service manager, where there is one; that it cannot be reached harms nobody."""
    address = env.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.settimeout(TELL_S)
        try:
            out.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            log.debug("systemd was not told %r: %s", message, error)


def watchdog_s(env: Mapping[str, str] = os.environ) -> float | None:
    """Return the seconds after which systemd takes this process for hung (sd_watchdog_enabled(3)); None: never."""
    try:
        of_whom, limit = int(env.get("WATCHDOG_PID", os.getpid())), int(env.get("WATCHDOG_USEC", 0))
    except ValueError:
        return None
    return limit / 1e6 if limit > 0 and of_whom == os.getpid() else None


async def run(
    beat: Beat, status: Callable[[], str], env: Mapping[str, str] = os.environ, *, took_s: float = 0.0
) -> None:
    """Say that the service is ready, for as long as this runs that it lives, and then that it stops.

    ``beat`` is asked every third of the watchdog's time; ``status`` is a line for ``systemctl status``. ``took_s`` is
    what starting took: a machine too slow for the watchdog's time then has that long for a beat, for as long again.
    """
    if not env.get("NOTIFY_SOCKET"):
        return
    limit, said = watchdog_s(env), status()
    now = asyncio.get_running_loop().time
    spared = now() + took_s if limit is not None and took_s > limit else None
    tell(f"READY=1\nSTATUS={said}" + (f"\n{_watchdog(took_s)}" if spared is not None else ""), env)
    try:
        while True:
            if spared is not None and limit is not None and now() > spared:
                spared = None
                tell(_watchdog(limit), env)
            if limit is not None:
                beat(lambda: tell("WATCHDOG=1", env))
            await asyncio.sleep(limit / 3 if limit is not None else LOOK_S)
            if (stands := status()) != said:
                said = stands
                tell(f"STATUS={said}", env)
    finally:
        tell("STOPPING=1", env)


def _watchdog(limit_s: float) -> str:
    return f"WATCHDOG_USEC={limit_s * 1e6:.0f}"


@contextmanager
def backing_off(unit: str, env: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Wait before a start that follows crashes, twice as long each time; who begins the ``unit`` by hand never waits.

    The count stands in the service's folder under /run, which systemd keeps over restarts.
    """
    folder = env.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not folder or not env.get("NOTIFY_SOCKET"):
        yield
        return
    file = Path(folder) / "starts"
    crashes = _crashes(file, time.monotonic())
    if pause_s(crashes) and _by_hand(unit):
        crashes = 0
    pause = pause_s(crashes)
    if pause:
        log.warning("ended badly %d times in a row; beginning anew in %.0f s", crashes, pause)
        # The pause is none of the time that it has to get ready in, which a slow machine needs all of.
        longer = f"EXTEND_TIMEOUT_USEC={(pause + START_BOUND_S) * 1e6:.0f}"
        tell(f"{longer}\nSTATUS=Ended badly {crashes} times in a row; beginning anew in {pause:.0f} s", env)
        time.sleep(pause)
    _note(file, f"{crashes} {time.monotonic()}")
    yield
    _note(file, "")


def pause_s(crashes: int) -> float:
    """Return how long to wait before the start that follows so many crashes in a row."""
    return 0.0 if crashes <= QUICK_STARTS else min(LONGEST_PAUSE_S, 2.0 ** (crashes - QUICK_STARTS))


def _crashes(file: Path, now: float) -> int:
    """Count the crashes in a row: one more than at the last start, which has not ended well."""
    try:
        count, started = file.read_text("ascii").split()
        return 1 if now - float(started) > GOOD_RUN_S else int(count) + 1
    except (OSError, ValueError):
        return 0


def _by_hand(unit: str) -> bool:
    """Ask systemd whether it was somebody else who began this: it counts only the restarts that are its own."""
    question = ["systemctl", "show", "--property=NRestarts", "--value", unit]
    try:
        answer = subprocess.run(question, capture_output=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == b"0"


def _note(file: Path, text: str) -> None:
    try:
        file.write_text(text, "ascii")
    except OSError as error:
        log.debug("how often this was begun is not noted: %s", error)
