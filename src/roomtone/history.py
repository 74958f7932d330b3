"""What was said lately, as the daemon tells it to an asker and a command to a person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from roomtone.core.errors import UsageError
from roomtone.store import Store

LARGEST = 1000
"""Turns shown at once."""


async def answer(request: Mapping[str, Any], store: Store) -> AsyncIterator[dict[str, Any]]:
    """Answer the request ``history`` on a store: an event ``{"turn": ...}`` each, the oldest first.

    Raises UsageError for a wrong ``limit``.
    """
    if request.get("erase") is True:
        await store.erase()
        yield {"result": "erased"}
        return
    limit, session = request.get("limit", 20), request.get("session")
    if not isinstance(limit, int) or not 1 <= limit <= LARGEST:
        raise UsageError(f"limit: choose a number from 1 to {LARGEST}")
    turns = await store.history(limit, None if session is None else str(session))
    for turn in turns:
        yield {"turn": turn.model_dump(mode="json")}
    yield {"result": len(turns)}
