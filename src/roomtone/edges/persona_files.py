"""Edits of personas' files, noticed while the room talks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from roomtone.flow import keep_trying

log = logging.getLogger(__name__)

Changed = Callable[[], Awaitable[None]]

QUIET_MS = 500
"""Files are looked at once nothing has changed in them for so long: an editor writes in several steps."""

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
    from watchfiles import awatch

    places, looked = _places(folders), False
    changes = awatch(
        *places,
        step=QUIET_MS,
        debounce=LONGEST_MS,
        rust_timeout=LOOK_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    async for change in changes:
        moved = _places(folders) != places
        if change or moved or not looked:
            looked = True
            await _look(changed)
        if moved:
            return


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
