"""A language model behind an API over HTTP, whichever dialect is spoken there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from roomtone.core.dialog import Message
from roomtone.engines.llm import Options, Piece
from roomtone.engines.llm._http import Api, HttpSettings
from roomtone.engines.llm._reading import Names, Reading
from roomtone.engines.llm._trouble import Provider


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where an API lists its ``models`` and takes requests (``replies``), how one is written, how an answer is read.

    ``optional`` are keys of a request that a server may refuse, each with the one it may want instead.
    """

    models: str
    replies: str
    optional: Mapping[str, str | None]
    request: Callable[[Any, Sequence[Message], Options, Names], dict[str, Any]]
    reading: Callable[[Provider, Options, Names], Reading]


class RemoteLlm:
    """Asks one model of one server. A server that does not say what a reply took leaves its tokens 0."""

    continues = False
    context = 0

    def __init__(self, dialect: Dialect, settings: HttpSettings, api: Api) -> None:
        self._dialect = dialect
        self._settings = settings
        self._api = api
        self.host: str | None = settings.host
        self.model = settings.model or ""

    async def check(self) -> None:
        """Ask for the list of models."""
        await self._api.check(self._dialect.models)

    async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        """Answer the last message; closing the iterator closes the connection."""
        dialect = self._dialect
        reading = dialect.reading(self._api.provider, options, Names(options.tools))
        body = dialect.request(self._settings, messages, options, reading.names)
        asked = self._api.events(dialect.replies, body, options.why, lambda: reading.over, dialect.optional)
        async with aclosing(asked) as events:
            async for event in events:
                for piece in reading.take(event):
                    yield piece
                if reading.endless:
                    break
        yield reading.closed()
