"""Edits of personas' files, noticed while the room talks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from roomtone.flow import close, keep_trying, worker

log = logging.getLogger(__name__)

Changed = Callable[[], Awaitable[None]]

QUIET_MS = 300
"""Files are looked at once nothing has changed in them for so long: an editor writes in several steps. As often the
watching thread asks whether it is to end, which costs 0.0002 of a core."""

LONGEST_MS = 3000
"""They are looked at after so long even where somebody goes on writing."""

LOOK_MS = 5000
"""How often it is looked whether a folder that was not there is there now: of that the kernel does not tell."""

FIRST_S, LONGEST_S = 5.0, 600.0
"""Waits before the kernel is asked again where it refuses to tell of changes."""


async def watch(folders: Sequence[Path], changed: Changed) -> None:
    """Call ``changed`` soon after anything in the folders has changed, and once when watching has begun.

    Never ends and never fails. Folders may come, go, and take another's place.
    """
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change at level info

    async def attempt() -> None:
        while True:
            await _until_moved(folders, changed)

    def notice(error: Exception, pause: float) -> None:
        log.warning(
            "edits of personas are not noticed (%s); trying again in %.0f s", " ".join(f"{error}".split()), pause
        )

    await keep_trying(attempt, on=(OSError, RuntimeError), first_s=FIRST_S, longest_s=LONGEST_S, notice=notice)


async def _until_moved(folders: Sequence[Path], changed: Changed) -> None:
    """Watch the folders that are there until other ones are."""
    places, looked = _places(folders), False
    with worker("persona files") as thread:
        changes = thread.stream(partial(_told, places))
        try:
            async for change in changes:
                moved = _places(folders) != places
                if change or moved or not looked:
                    looked = True
                    await _look(changed)
                if moved:
                    return
        finally:
            await close(changes)


def _told(places: Collection[Path], emit: Callable[[bool], None], stop: threading.Event) -> None:
    """Emit whether anything has changed, each time that something has and every ``LOOK_MS``."""
    from watchfiles import watch

    for changes in watch(
        *places,
        step=QUIET_MS,
        debounce=LONGEST_MS,
        rust_timeout=LOOK_MS,
        yield_on_timeout=True,
        stop_event=stop,
        ignore_permission_denied=True,
    ):
        emit(bool(changes))


async def _look(changed: Changed) -> None:
    try:
        await changed()
    except Exception:
        log.exception("an edit of a persona could not be taken up")


def _places(folders: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """Return the folders that are there, and which they are: another may have taken the place of one."""
    found = {}
    for folder in folders:
        try:
            state = folder.stat()
        except OSError:
            continue
        found[folder] = (state.st_dev, state.st_ino)
    return found
