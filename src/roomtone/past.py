"""What was said before a turn, found in the store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from roomtone.core.dialog import Message, Role
from roomtone.core.persona import Context, Egress, Persona
from roomtone.mind.context import Past
from roomtone.store import Store

LIMIT = 20

STEPS_BESIDE = 4
"""Nodes that are looked at for each message that is told: what routines and tools left in the graph lies between."""

Said = tuple[Message, Sequence[str]]
"""A message and the ids of those it follows."""

_TOLD = (Role.PERSON, Role.ROOMTONE)

_WALK = """
    WITH RECURSIVE line(number, id) AS (
        SELECT rowid, id FROM messages WHERE id IN (SELECT value FROM json_each(?1))
        UNION
        SELECT messages.rowid, messages.id FROM line
            JOIN edges ON edges.child = line.id
            JOIN messages ON messages.id = edges.parent
        ORDER BY 1 DESC LIMIT ?2)
    SELECT messages.*, summaries.text AS summary FROM line
        JOIN messages USING (id)
        LEFT JOIN summaries ON summaries.session = messages.session
        ORDER BY line.number"""
"""The newest of all that some messages follow from, themselves included. In the order in which they were kept, since
the clock of a machine that has none of its own may go back."""


def heard_by(persona: Persona, house: Iterable[Persona]) -> frozenset[str]:
    """Return whose conversations a persona may be told of: its own.

    With ``context: shared`` also that of others, but for those whose words may not travel as far as its own.
    """
    order = [Egress.NONE, Egress.LAN, Egress.ANY]
    others = house if persona.context is Context.SHARED else ()
    reach = order.index(persona.egress)
    return frozenset({persona.id, *(other.id for other in others if order.index(other.egress) >= reach)})


async def past(
    store: Store,
    tips: Sequence[str],
    limit: int = LIMIT,
    *,
    whose: Collection[str] | None = None,
    unkept: Sequence[Said] = (),
) -> Past:
    """Return the last messages that ``tips`` follow from, themselves included, and what is known of those before.

    ``whose`` are the personas whose conversations may be told (None: all). ``unkept`` is what was said and may not be
    in the store yet. Takes no longer in a long conversation or a large store. Raises StoreError.
    """
    fresh, tips = _unkept(tips, {message.id: (message, parents) for message, parents in unkept})
    rows = await store.read(_WALK, json.dumps(tips), limit * STEPS_BESIDE) if tips else []
    rows = [row for row in rows if whose is None or row["persona"] in whose]
    known = {row["id"] for row in rows}
    fresh = [each for each in fresh if each.id not in known and (whose is None or each.persona in whose)]
    told = [*(_message(row) for row in rows if row["role"] in _TOLD), *(each for each in fresh if each.role in _TOLD)]
    summaries = dict.fromkeys(row["summary"] for row in rows if row["summary"])
    return Past(told[-limit:], "\n".join(summaries))


def _unkept(tips: Sequence[str], unkept: dict[str, Said]) -> tuple[list[Message], list[str]]:
    """Walk back through what is not in the store; return it in order, and where the walk goes on in the store."""
    fresh: dict[str, Message] = {}
    kept: dict[str, None] = {}
    ahead = list(tips)
    while ahead:
        id_ = ahead.pop()
        if id_ not in unkept:
            kept[id_] = None
        elif id_ not in fresh:
            fresh[id_], parents = unkept[id_]
            ahead += parents
    return [message for id_, (message, _) in unkept.items() if id_ in fresh], list(kept)


def _message(row: sqlite3.Row) -> Message:
    columns: dict[str, Any] = {key: row[key] for key in Message.model_fields}
    return Message.model_validate({**columns, "data": json.loads(row["data"])})
