"""The journal of what tools did: a row for every run."""

from __future__ import annotations

from datetime import timedelta

from roomtone.clock import utc_now
from roomtone.mind.toolbox import RunStatus, ToolRun
from roomtone.store import Store

UNDOABLE = timedelta(minutes=10)
"""Nobody means by "undo that" what was done longer ago."""

LOOKED_AT = 200
"""Rows from the end of the table that are searched for what can be taken back."""


class ToolRuns:
    """Implements ``mind.toolbox.Journal`` on the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def wrote(self, run: ToolRun) -> None:
        """Keep a run, new or changed. Raises StoreError."""
        row = (run.id, run.at.isoformat(), run.trace, run.session, run.persona, run.tool, run.status.value)
        insert = (
            "INSERT INTO tool_runs (id, at, trace, session, persona, tool, status, data) VALUES (?,?,?,?,?,?,?,?)"
        )
        update = "ON CONFLICT (id) DO UPDATE SET status = excluded.status, data = excluded.data"
        await self._store.write((f"{insert} {update}", (*row, run.model_dump_json())))

    async def last_undoable(self, persona: str) -> ToolRun | None:
        """Return the last run of a persona's that can be taken back, of the last minutes. Raises StoreError."""
        last = f"SELECT * FROM tool_runs ORDER BY rowid DESC LIMIT {LOOKED_AT}"
        which = "persona = ? AND status = ? AND at >= ? AND json_extract(data, '$.undo') IS NOT NULL"
        since = (utc_now() - UNDOABLE).isoformat()
        rows = await self._store.read(
            f"SELECT data FROM ({last}) WHERE {which} LIMIT 1", persona, RunStatus.DONE.value, since
        )
        return ToolRun.model_validate_json(rows[0]["data"]) if rows else None
