"""Routers made of scripts, for tests: what they were asked, kept and told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from roomtone.core.continuation import _bare
from roomtone.core.dialog import Message, Role, Tokens
from roomtone.engines.llm import Options, Piece, Text, Usage
from roomtone.engines.llm import script as script_engine
from roomtone.engines.llm.script import Script
from roomtone.llm_router import Router
from roomtone.llm_router.calls import Terms
from roomtone.outbound.accounts import Call

ANSWER = "The capital of France is Paris, which lies on the Seine and has been the seat of kings since Clovis."
WORDS = ANSWER.split()
QUESTION = [Message(session="s", role=Role.PERSON, text="What is the capital of France?")]
GO_ON = "go on after {last}"
FAR = "api.example.com"


@dataclass
class Books:
    """Accounts in memory."""

    calls: list[Call] = field(default_factory=list)

    def note(self, call: Call) -> None:
        self.calls.append(call)

    async def today(self, provider: str) -> Tokens:
        return sum((call.tokens for call in self.calls if call.provider == provider), Tokens())

    @property
    def statuses(self) -> list[tuple[str, str]]:
        return [(call.provider, call.status) for call in self.calls]


@dataclass
class House:
    """A router made of scripts, with its books and what it told the feed."""

    scripts: dict[str, Script]
    books: Books
    events: list[tuple[str, Any]]
    router: Router

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


async def house(
    stack: AsyncExitStack, terms: dict[str, Terms] | None = None, /, route: Sequence[str] = (), **scripts: Any
) -> House:
    """Open a router of scripts, each by its name: a reply, a list of them, or its settings."""
    opened = {}
    for name, told in scripts.items():
        keys = told if isinstance(told, dict) and "texts" in told else {"texts": told}
        texts = keys["texts"] if isinstance(keys["texts"], (list, tuple)) else [keys["texts"]]
        own = script_engine.Settings(**{"model": name, **keys, "texts": texts})
        opened[name] = await stack.enter_async_context(script_engine.open(own))
    books, events = Books(), []
    router = Router(
        list(opened.items()),
        GO_ON,
        terms=terms,
        route=route,
        accounts=books,
        on_event=lambda kind, data: events.append((kind, data)),
    )
    return House(opened, books, events, router)


async def pieces(router: Router, options: Options | None = None) -> list[Piece]:
    return [piece async for piece in router.reply(QUESTION, options or Options())]


def said(told: list[Piece]) -> str:
    assert isinstance(told[-1], Usage)
    assert sum(isinstance(piece, Usage) for piece in told) == 1
    return "".join(piece.text for piece in told if isinstance(piece, Text))


async def answered(router: Router, options: Options | None = None) -> str:
    return said(await pieces(router, options))


def plain(text: str) -> list[str]:
    return [_bare(word) for word in text.split()]


async def seconds(answer: Awaitable[str]) -> float:
    began = asyncio.get_running_loop().time()
    assert await answer == ANSWER
    return asyncio.get_running_loop().time() - began
