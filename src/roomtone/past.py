"""What was said before a turn, found in the store; and what of it goes on in a summary, made while nobody speaks."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from roomtone import outbound
from roomtone.clock import utc_now
from roomtone.core.dialog import Message, Role
from roomtone.core.errors import RoomtoneError
from roomtone.core.machine import Mode
from roomtone.core.persona import Context, Persona, may_know
from roomtone.core.thoughts import Aloud
from roomtone.engines.llm import Llm, LlmError, Options, Text, Trouble
from roomtone.flow import Feed, Watcher, beside, close
from roomtone.mind.context import AROUND_A_MESSAGE, ROOMY, Past, estimated, shortened
from roomtone.mind.memory import Fact, Level, Memory
from roomtone.mind.phrases import Phrases
from roomtone.store import Store

log = logging.getLogger(__name__)

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
    others = house if persona.context is Context.SHARED else ()
    return frozenset({persona.id, *(other.id for other in others if may_know(persona, other))})


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


# --------------------------------------------------------------------------------------------- summaries

QUIET_S = 60.0
"""So long nothing has happened in the room before its model is used for a summary."""

LOOK_S = 600.0
"""How often, while nothing goes on happening, it is looked whether a conversation is over by now."""

PORTION = 1500
"""Tokens of a conversation that are summed up at a time; a small model on a Pi reads them in a minute or two."""

LONGEST_MESSAGE = 300
"""Tokens of one message that are read for a summary."""

LENGTH = 220
"""Tokens of a summary, at most."""

LONGEST_TEXT = 2000
"""Characters of one, at most: a model may count its tokens otherwise."""

TAKES_S = 600.0
"""A model that has made no summary by then has failed."""

FEWEST = 4
"""Messages of a conversation that is worth a summary."""

LATEST = 50
"""Conversations that are looked at: those before them were summed up, or could not be."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 300.0, 6 * 3600.0
"""How long a conversation is left alone after a model failed at it, at first, and at most."""

_DUE = """
    SELECT sessions.*, summaries.upto, summaries.text AS summary,
        (SELECT max(at) FROM turns WHERE turns.session = sessions.id) AS last_at
    FROM (SELECT * FROM sessions ORDER BY rowid DESC LIMIT ?) AS sessions
        LEFT JOIN summaries ON summaries.session = sessions.id
    WHERE EXISTS (SELECT 1 FROM turns WHERE session = sessions.id
            AND json_extract(data, '$.answered_by') GLOB 'llm*')
        AND (SELECT count(*) FROM messages WHERE session = sessions.id) >= ?"""
"""Only what a model had a part in: nobody wants to hear again which timers were set."""

_NEW = """
    SELECT * FROM messages WHERE session = ?1 AND role IN ('user', 'assistant')
        AND persona = (SELECT persona FROM sessions WHERE id = ?1)
        AND rowid > coalesce((SELECT rowid FROM messages WHERE id = ?2), 0) ORDER BY rowid LIMIT 500"""

_SAVE = "INSERT OR REPLACE INTO summaries SELECT session, id, ?, ? FROM messages WHERE id = ?"
"""Keeps a summary, unless the last message it tells of was erased while it was made."""


@dataclass(frozen=True, slots=True)
class _Story:
    """A conversation that is summed up: what is known ``so_far``, and what was said since."""

    session: str
    persona: Persona
    so_far: str
    said: Sequence[Message]
    over: bool
    last_at: datetime


@dataclass(slots=True)
class Summariser:
    """Sums up what has fallen out of the window of a conversation, and each conversation when it is over.

    What a conversation was about becomes a memory then. ``personas`` lists those there are, ``note`` returns what the
    receipt is told with for one of them, ``publish`` is told of every summary, its kind first.
    ``window`` is how many messages a prompt tells.
    """

    store: Store
    llm: Llm
    phrases: Phrases
    personas: Callable[[], Awaitable[Sequence[Persona]]]
    memory: Memory | None = None
    note: Callable[[str], outbound.Note] | None = None
    publish: Callable[[str, Any], object] | None = None
    window: int = LIMIT
    route: Callable[[Persona], tuple[str, ...]] = lambda persona: persona.llm.route
    _rests: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def run(self, feed: Feed) -> None:
        """Work whenever the room has been idle for a while, until cancelled; at a sign of life stop at once."""
        with feed.watch("state.changed") as changes:
            while True:
                async with beside(self._while_idle(), "summing up"):
                    await _until(changes, idle=False)
                await _until(changes, idle=True)

    async def _while_idle(self) -> None:
        await asyncio.sleep(QUIET_S)
        while True:
            try:
                await self.sum_up()
            except RoomtoneError as error:
                log.warning("nothing is summed up: %s", error.message)
            except Exception:  # it is nothing that the voice should end for
                log.exception("nothing is summed up")
            await asyncio.sleep(LOOK_S)

    async def sum_up(self) -> None:
        """Sum up what there is to sum up. What a model fails at is left as it is, for a while. Raises StoreError."""
        now = asyncio.get_running_loop().time()
        for story in await self._stories():
            until, pause = self._rests.get(story.session, (0.0, FIRST_PAUSE_S))
            if now < until:
                continue
            try:
                async with asyncio.timeout(TAKES_S):
                    await self._tell(story)
            except (RoomtoneError, TimeoutError) as error:
                log.warning("session %s is not summed up yet: %s", story.session, str(error) or "it took too long")
                self._rests[story.session] = now + pause, min(LONGEST_PAUSE_S, pause * 2)
            else:
                self._rests.pop(story.session, None)

    async def _stories(self) -> list[_Story]:
        """List the conversations of which there is something to tell."""
        known = {persona.id: persona for persona in await self.personas()}
        found = [
            await self._story(row, known[row["persona"]])
            for row in await self.store.read(_DUE, LATEST, FEWEST)
            if row["persona"] in known
        ]
        return [story for story in found if story.said]

    async def _story(self, row: sqlite3.Row, persona: Persona) -> _Story:
        last_at = datetime.fromisoformat(row["last_at"])
        over = row["ended"] is not None or utc_now() - last_at > timedelta(hours=persona.context_retention_hours)
        said = [_message(each) for each in await self.store.read(_NEW, row["id"], row["upto"])]
        if not over:  # what a window that begins anew goes on telling is not summed up yet
            said = said[: -int(self.window * ROOMY)] if len(said) > self.window else []
        return _Story(row["id"], persona, row["summary"] or "", said, over, last_at)

    async def _tell(self, story: _Story) -> None:
        """Sum a conversation up, portion by portion; what is done is kept."""
        so_far, said = story.so_far, list(story.said)
        while said:
            portion = _portion(said)
            said = said[len(portion) :]
            with outbound.within(story.persona.egress, self.note(story.persona.id) if self.note else None):
                so_far = await self._told(story.persona, so_far, portion)
            await self._keep(story, so_far, portion[-1], last=story.over and not said)

    async def _told(self, persona: Persona, so_far: str, portion: Sequence[Message]) -> str:
        """Let a model sum up what is known so far and what was said then. Raises EngineError."""
        options = Options(LENGTH, temperature=0.2, persona=persona.id, route=self.route(persona), why="summary")
        aloud, text = Aloud(), ""
        pieces = self.llm.reply(self._asking(persona, so_far, portion), options)
        try:
            async for piece in pieces:
                text += aloud.of(piece.text) if isinstance(piece, Text) else ""
                if len(text) > LONGEST_TEXT:
                    break
        finally:
            await close(pieces)
        text = " ".join(f"{text}{aloud.rest()}".split())[:LONGEST_TEXT]
        if not text:
            raise LlmError("the model made an empty summary", Trouble.NONSENSE)
        return text

    def _asking(self, persona: Persona, so_far: str, portion: Sequence[Message]) -> list[Message]:
        texts = self.phrases.language.prompt
        lines = [texts["so_far"].format(summary=so_far)] if so_far else []
        for message in portion:
            who = texts["person"] if message.role is Role.PERSON else persona.name
            lines.append(f"{who}: {shortened(message.text, LONGEST_MESSAGE)}")
        how = texts["summarise"].format(persona=persona.name)
        both = ((Role.SYSTEM, how), (Role.PERSON, "\n".join([*lines, "", texts["summary_asked"]])))
        return [Message(session="", role=role, text=text) for role, text in both]

    async def _keep(self, story: _Story, text: str, upto: Message, *, last: bool) -> None:
        """Keep a summary; the last one of a conversation is a memory first, so that a power cut loses neither."""
        if last and self.memory is not None and await self.store.read("SELECT 1 FROM messages WHERE id = ?", upto.id):
            trace = str(upto.data.get("trace", ""))
            fact = Fact(level=Level.SUMMARY, text=text, persona=story.persona.id, at=story.last_at, trace=trace)
            await self.memory.keep(fact)
        await self.store.write((_SAVE, (utc_now().isoformat(), text, upto.id)))
        if self.publish is not None:
            told = {"session": story.session, "persona": story.persona.id, "upto": upto.id}
            self.publish("context.summarised", told)


def _portion(said: Sequence[Message]) -> Sequence[Message]:
    """Return as many messages as are summed up at a time."""
    room = PORTION
    for place, message in enumerate(said):
        room -= min(LONGEST_MESSAGE, estimated(message.text)) + AROUND_A_MESSAGE
        if room < 0 and place:
            return said[:place]
    return said


async def _until(changes: Watcher, *, idle: bool) -> None:
    async for change in changes:
        if (change.data.mode is Mode.IDLE) is idle:
            return
