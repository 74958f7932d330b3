"""Ask the running daemon, or, where none runs, the store that it would use: for what needs no room."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from roomtone.control import ask_daemon, find_daemon, state_lock
from roomtone.store import FILE_NAME, Store, open_store

Events = list[dict[str, Any]]


async def answered(
    request: dict[str, Any], state_dir: Path, here: Callable[[Store], Awaitable[Events]], *, named: bool
) -> Events:
    """Return the events and the result of a request: the daemon's, else what ``here`` makes of the open store.

    ``named``: the state folder was given on the command line. Raises what ``find_daemon``, ``ask_daemon``,
    ``state_lock`` and ``open_store`` raise.
    """
    daemon = await find_daemon(state_dir, named=named)
    if daemon is not None:
        return [message async for message in ask_daemon(daemon, request)]
    async with state_lock(state_dir), open_store(state_dir / FILE_NAME) as store:
        if store.mended:
            sys.stderr.write(f"roomtone: {store.mended}\n")
        return await here(store)
