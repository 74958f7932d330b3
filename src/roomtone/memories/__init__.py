"""The memory in the store: facts, found by their words and, where an embedder is installed, by what they mean."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from roomtone import engines
from roomtone.clock import utc_now
from roomtone.core.errors import ConfigError, EngineError, EngineUnavailable, StoreError
from roomtone.database import Statement
from roomtone.engines.embed import Embed
from roomtone.flow import beside
from roomtone.memories.search import COLUMNS, MAY_KNOW, VALID, Search, fact_of
from roomtone.memories.vectors import Vectors
from roomtone.mind import relevance
from roomtone.mind.memory import Fact, Level, Memory, Recalled
from roomtone.mind.phrases import load_language
from roomtone.settings import Settings
from roomtone.store import Store, iso

log = logging.getLogger(__name__)

OnEvent = Callable[[str, dict[str, Any]], None]
"""Is told what became of memories: the kind of event, and its data (ids, never texts)."""

BELONGS = 0.2
"""Relevance from which a fact is told to who answers: one telling word of five will do, for a model leaves out what
does not fit."""

MEANT = 0.6
"""Relevance from which a fact is what somebody means who asks for it, or wants it forgotten."""

PREFERENCES = 50
"""So many preferences reach a prompt, the newest."""

SWEEP_S = 3600.0
REST_S = 0.5
"""How often it is looked for what has expired, and while there is more to do: others compute in between."""

SHORTEST_ID = 4

_TWIN = "same = :same AND coalesce(persona, '') = coalesce(:persona, '')"


class StoreMemory:
    """Implements ``mind.memory.Memory`` in the store's one file; see there.

    ``small_words`` are those of the language that say nothing. ``is_idle`` says whether nobody is being answered:
    only then are vectors computed. Open it with ``open_memory``, which keeps it in order beside.
    """

    def __init__(
        self,
        store: Store,
        embed: Embed | None = None,
        on_event: OnEvent | None = None,
        *,
        small_words: frozenset[str] = frozenset(),
        is_idle: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._tell = on_event or _to_nobody
        self._is_idle = is_idle
        self._vectors = Vectors(store, embed) if embed is not None else None
        self._search = Search(store, self._vectors, small_words)
        self._news = asyncio.Event()
        self._unshrunk = False
        self._shrinking = asyncio.Lock()

    # ------------------------------------------------------------------------------------------- asking

    async def recall(self, text: str, persona: str, limit: int = 5) -> list[Recalled]:
        """Return what belongs to a text, the best first; preferences are not among it: every prompt has them."""
        found = await self._search.found(text, persona, BELONGS)
        best = [each for each in found if each.fact.level is not Level.PREFERENCE][:limit]
        if best:
            self._tell("memory.recalled", {"ids": [each.fact.id for each in best], "persona": persona})
        return best

    async def preferences(self, persona: str) -> list[Fact]:
        """List what the household likes, the newest first."""
        where = f"level = '{Level.PREFERENCE}' AND {MAY_KNOW} AND {VALID}"
        return await self._facts(where, persona, PREFERENCES)

    async def facts(self, persona: str | None = None, text: str = "", limit: int = 100) -> list[Fact]:
        """List what a persona may know, the newest first; with ``text``, what is meant by it, the best first."""
        if text:
            found = [each.fact for each in await self._search.found(text, persona, MEANT)]
            just_so = await self._facts(f"same = :same AND {MAY_KNOW} AND {VALID}", persona, limit, _same(text))
            return [*just_so, *(fact for fact in found if fact not in just_so)][:limit]
        return await self._facts(f"{MAY_KNOW} AND {VALID}", persona, limit)

    async def count(self, persona: str | None = None) -> int:
        """Return how many facts a persona may know (None: how many there are)."""
        key = {"persona": persona, "now": iso(utc_now())}
        [row] = await self._read(f"SELECT count(*) AS facts FROM memories WHERE {MAY_KNOW} AND {VALID}", key)
        return int(row["facts"])

    # ------------------------------------------------------------------------------------------ changing

    async def keep(self, fact: Fact) -> Fact:
        """Keep a fact; it is on the disk when this returns. One with the same words is brought up to date instead."""
        await self._store.write(*keeping(fact), durable=True)
        [kept] = await self._read(f"SELECT number, {COLUMNS} FROM memories WHERE {_TWIN}", _row(fact))
        if self._vectors is not None:
            self._vectors.lacks(kept["number"])
        self._news.set()
        self._tell("memory.kept", {"id": kept["id"], "level": kept["level"], "persona": kept["persona"]})
        return fact_of(kept)

    async def forget(self, ids: Sequence[str]) -> list[Fact]:
        """Forget facts; an id's beginning that several have is none. Their bytes leave the file a little later."""
        where = "id IN (SELECT value FROM json_each(:ids))"
        rows = await self._read(f"SELECT {COLUMNS} FROM memories WHERE {where}", {"ids": json.dumps(list(ids))})
        named = {row["id"]: fact_of(row) for row in rows}
        begun = [await self._with_id(id_) for id_ in ids if id_ not in named]
        gone = list({**named, **{known[0].id: known[0] for known in begun if len(known) == 1}}.values())
        if gone:
            await self._forget([fact.id for fact in gone])
        return gone

    async def shrink(self) -> None:
        """Take what was forgotten out of the file, where anything was; all of it is gone when this returns."""
        async with self._shrinking:
            if self._unshrunk:
                await self._store.shrink()
                self._unshrunk = False

    async def _forget(self, ids: list[str]) -> None:
        where, key = "id IN (SELECT value FROM json_each(:ids))", {"ids": json.dumps(ids)}
        numbers = [row["number"] for row in await self._read(f"SELECT number FROM memories WHERE {where}", key)]
        # Should the power go before the file is shrunk, the next opening shrinks it.
        gone: Statement = (f"DELETE FROM memories WHERE {where}", key)
        await self._store.write(gone, ("PRAGMA user_version = 1", ()), durable=True)
        if self._vectors is not None:
            self._vectors.drop(numbers)
        self._unshrunk = True
        self._news.set()
        self._tell("memory.forgotten", {"ids": ids})

    # --------------------------------------------------------------------------------------- in order

    async def run(self) -> None:
        """Keep memories in order until cancelled: vectors of what is new, no byte of what is forgotten or expired."""
        while True:
            self._news.clear()
            if await self._tidied():
                await asyncio.sleep(REST_S)
                continue
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._news.wait()
            except TimeoutError:
                log.debug("looking at memories again")

    async def _tidied(self) -> bool:
        try:
            return await self.tidy()
        except (EngineError, StoreError) as error:
            log.warning("memories are not in order yet: %s", error.message)
        except Exception:
            log.exception("memories are not in order yet")  # a room that cannot tidy up still answers
        return False

    async def tidy(self) -> bool:
        """Do some of what is to be done while nobody is being answered; return whether more is."""
        if not self._is_idle():
            return True
        expired = "SELECT id FROM memories WHERE expires IS NOT NULL AND expires <= :now"
        if gone := [row["id"] for row in await self._read(expired, {"now": iso(utc_now())})]:
            await self._forget(gone)
        await self.shrink()
        return await self._vectors.step() if self._vectors is not None else False

    async def _with_id(self, id_: str) -> list[Fact]:
        """Return the fact of an id, or those, two at most, whose id begins so; none for less than four letters."""
        if len(id_) < SHORTEST_ID:
            return []
        where = "id >= :id AND id < :id || char(1114111) ORDER BY id LIMIT 2"
        found = [
            fact_of(row) for row in await self._read(f"SELECT {COLUMNS} FROM memories WHERE {where}", {"id": id_})
        ]
        exact = [fact for fact in found if fact.id == id_]
        return exact or found

    async def _facts(self, where: str, persona: str | None, limit: int, same: str = "") -> list[Fact]:
        query = f"SELECT {COLUMNS} FROM memories WHERE {where} ORDER BY at DESC, number DESC LIMIT :limit"
        key = {"persona": persona, "now": iso(utc_now()), "limit": limit, "same": same}
        return [fact_of(row) for row in await self._read(query, key)]

    async def _read(self, query: str, key: dict[str, Any]) -> list[Any]:
        return await self._store.read(query, key)


# ------------------------------------------------------------------------------------------------ opening


@asynccontextmanager
async def open_memory(
    settings: Settings,
    store: Store,
    on_event: OnEvent | None = None,
    *,
    embed: Embed | None = None,
    is_idle: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Memory]:
    """Open the memory that the configuration names, and keep it in order for as long as the context lasts.

    Another than ``sqlite`` is a module's dotted name; its ``open()`` is an async context manager that yields a
    Memory. Raises ConfigError where there is no such module.
    """
    name = settings.memory.engine
    if name != "sqlite":
        async with _foreign(name).open() as other:
            yield other
        return
    small = load_language(settings.language).small_words
    memory = StoreMemory(store, embed, on_event, small_words=small, is_idle=is_idle)
    async with beside(memory.run(), "memory"):
        yield memory


def _foreign(name: str) -> Any:
    try:
        module = importlib.import_module(name) if "." in name else None
    except ModuleNotFoundError:
        module = None
    if not hasattr(module, "open"):
        raise ConfigError(
            f"memory.engine: there is no '{name}'; write sqlite, or a module that has open(), as in my.memory"
        )
    return module


@asynccontextmanager
async def open_embed(settings: Settings) -> AsyncIterator[Embed | None]:
    """Open the embedder that is installed here; None where none is, or none can be opened: words are enough."""
    async with AsyncExitStack() as stack:
        embed: Embed | None = None
        try:
            chosen = settings.engine("embed")
        except EngineUnavailable as error:
            log.debug("%s", error.message)
        else:
            embed = await _opened(stack, chosen)
        yield embed


async def _opened(stack: AsyncExitStack, chosen: tuple[str, engines.EngineSettings]) -> Embed | None:
    try:
        embed: Embed = await stack.enter_async_context(engines.open_engine("embed", *chosen))
    except EngineError as error:
        log.warning("facts are found by their words alone: %s", error.message)
        return None
    return embed


def keeping(fact: Fact) -> list[Statement]:
    """Return what keeps a fact, or brings the one up to date that says the same or has its id."""
    row = _row(fact)
    places = ", ".join(f":{column}" for column in row)
    update = ", ".join(f"{column} = excluded.{column}" for column in row if column != "id")
    twice = f"DELETE FROM memories WHERE {_TWIN} AND id != :id AND EXISTS (SELECT 1 FROM memories WHERE id = :id)"
    insert = f"INSERT INTO memories ({', '.join(row)}) VALUES ({places}) ON CONFLICT DO UPDATE SET {update}"
    return [(twice, row), (insert, row)]


def _to_nobody(_kind: str, _data: dict[str, Any]) -> None:
    """Tell nobody."""


def _same(text: str) -> str:
    """Return what two texts that say the same in the same words have in common."""
    return " ".join(relevance.WORD.findall(text.casefold())) or text.strip()


def _row(fact: Fact) -> dict[str, Any]:
    times = {"at": iso(fact.at), "expires": iso(fact.expires)}
    return {**fact.model_dump(), "level": str(fact.level), **times, "same": _same(fact.text)}
