"""What is remembered, as the daemon tells it to an asker and a command to a person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from roomtone.clock import utc_now
from roomtone.control import done_as_asked
from roomtone.core.errors import UsageError
from roomtone.memories import StoreMemory
from roomtone.mind.memory import Fact, Memory

LARGEST = 1000
"""Facts shown at once."""

ALL = 1_000_000

SHOWN = 8
"""Characters of an id that are shown to a person; four and more are understood."""

Reply = AsyncIterator[dict[str, Any]]


def answer(request: Mapping[str, Any], memory: Memory) -> Reply:
    """Answer the request ``memory``: ``do`` says what, ``persona`` of whom (None: of everybody).

    Events: ``list`` and ``search`` (``text``) ``{"fact"}`` each, at most ``limit``; ``add`` (``text``, ``days`` it
    stays) ``{"kept"}``; ``forget`` (``ids``, or ``all`` for those of ``persona`` or of everybody) ``{"forgotten"}``
    each, and ``{"unknown"}`` for an id that is none or more than one. The result is how many facts there were.
    Raises UsageError for a wrong request, StoreError.
    """
    ways = {"list": _list, "search": _search, "add": _add, "forget": _forget}
    return done_as_asked(request, ways, memory)


async def _list(request: Mapping[str, Any], memory: Memory) -> Reply:
    for fact in await memory.facts(_persona(request), limit=_limit(request)):
        yield {"fact": fact.model_dump(mode="json")}


async def _search(request: Mapping[str, Any], memory: Memory) -> Reply:
    for fact in await memory.facts(_persona(request), _text(request), _limit(request)):
        yield {"fact": fact.model_dump(mode="json")}


async def _add(request: Mapping[str, Any], memory: Memory) -> Reply:
    days = request.get("days")
    if days is not None and (not isinstance(days, (int, float)) or not 0 < days <= 36500):
        raise UsageError("days: give a number of days until it expires, as in 30")
    expires = utc_now() + timedelta(days=days) if days is not None else None
    try:
        fact = Fact(text=_text(request), persona=_persona(request), expires=expires, at=utc_now())
    except ValidationError as error:
        [wrong, *_] = error.errors()
        raise UsageError(f"text: {str(wrong['msg']).lower()}; tell it in a sentence or two") from None
    yield {"kept": (await memory.keep(fact)).model_dump(mode="json")}


async def _forget(request: Mapping[str, Any], memory: Memory) -> Reply:
    ids = await _everything(request, memory) if request.get("all") is True else _ids(request)
    gone = await memory.forget(ids)
    if isinstance(memory, StoreMemory):
        await memory.shrink()
    for fact in gone:
        yield {"forgotten": fact.model_dump(mode="json")}
    for id_ in ids:
        if not any(fact.id.startswith(id_) for fact in gone):
            yield {"unknown": id_}


async def _everything(request: Mapping[str, Any], memory: Memory) -> list[str]:
    persona = _persona(request)
    return [fact.id for fact in await memory.facts(persona, limit=ALL) if persona in (None, fact.persona)]


def _persona(request: Mapping[str, Any]) -> str | None:
    persona = request.get("persona")
    if persona is not None and (not isinstance(persona, str) or not persona):
        raise UsageError("persona: give the id of one; see: roomtone personas list")
    return persona


def _text(request: Mapping[str, Any]) -> str:
    text = request.get("text")
    if not isinstance(text, str) or not text.strip():
        raise UsageError("text: give a text, in quotes")
    # A terminal's odd bytes come as lone surrogates, which nothing can write down.
    return text.strip().encode("utf-8", "replace").decode("utf-8")


def _limit(request: Mapping[str, Any]) -> int:
    limit = request.get("limit", 20)
    if not isinstance(limit, int) or not 1 <= limit <= LARGEST:
        raise UsageError(f"limit: choose a number from 1 to {LARGEST}")
    return limit


def _ids(request: Mapping[str, Any]) -> Sequence[str]:
    ids = request.get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(id_, str) and id_ for id_ in ids):
        raise UsageError("ids: give ids as roomtone memory list shows them, or all")
    return ids
