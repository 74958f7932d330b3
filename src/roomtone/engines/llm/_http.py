"""What providers over HTTP share: their settings, and a connection that asks and yields the events of the answer."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from roomtone import outbound
from roomtone.clock import engine_working
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.llm import LlmError, Trouble
from roomtone.engines.llm._sse import Events
from roomtone.engines.llm._trouble import NO_ANSWER, Provider, broken, complaint, refused
from roomtone.flow import worker

log = logging.getLogger(__name__)

IMPORT_S = 60.0
"""Longest that importing an SDK may take: one took 1.3 s on a fast machine, and SD cards are slow."""

AFTER_END_S = 0.5
"""Seconds that the tokens of a finished reply are waited for: it is whole without them."""

UNLISTED = (404, 405, 501)
"""What servers say that answer, but cannot list what they have."""

DONE = b"[DONE]"
"""Ends a stream of chat completions; it is no JSON."""

NO_KEY = "-"
"""What SDKs are given for a key, else they take one from the environment; the real one is a header of ours."""


def web_address(text: str) -> str:
    """Check a provider's address; the key belongs elsewhere."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("is not a URL; write it as in http://nas.local:11434/v1")
    return text.rstrip("/")


class HttpSettings(EngineSettings):
    """Keys that all providers over HTTP have.

    ``headers`` go with every request. ``extra`` is added to what every request asks for, for what only some servers
    know (``reasoning_effort: none``).
    """

    model: str | None = None
    base_url: Annotated[str, AfterValidator(web_address)]
    api_key: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)
    connect_timeout_s: float = Field(5.0, gt=0, le=60)
    """Longest that reaching the server may take."""
    timeout_s: float = Field(60.0, gt=0, le=600)
    """Longest silence in a reply, its beginning included."""

    @property
    def host(self) -> str:
        """Where the messages go, with its port: a gateway beside a model of one's own is another thing."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2].lower()

    @property
    def provider(self) -> Provider:
        """Who is asked, for errors."""
        secrets = (self.api_key, *self.headers.values())
        hidden = tuple(one.get_secret_value() for one in secrets if one is not None and one.get_secret_value())
        return Provider(self.host, self.model or "the model", hidden)


def not_ready(settings: HttpSettings, package: str) -> str | None:
    """Say what is lacking: the package, or the model's name."""
    if (reason := lacking(package, "cloud")) is not None:
        return reason
    return None if settings.model else f"no model is named; write model: beside engine: {package}"


Make = Callable[[Any, Any], Any]
"""Makes an SDK's client of the SDK and of the HTTP client it shall use."""


@asynccontextmanager
async def connected(settings: HttpSettings, package: str, make: Make) -> AsyncIterator[Api]:
    """Import an SDK, off the event loop, and open its client; it is closed with the context."""
    own = {name.lower(): value.get_secret_value() for name, value in settings.headers.items()}
    if settings.api_key is not None:
        own.setdefault("authorization", f"Bearer {settings.api_key.get_secret_value()}")

    def build() -> tuple[Any, Any]:
        from roomtone.engines.llm._client import client as http_client

        sdk = importlib.import_module(package)
        client = make(sdk, http_client(own, settings.connect_timeout_s, settings.timeout_s))
        client._platform = "Unknown"  # noqa: SLF001  # else it is found out on a thread that stays; it is sent to nobody
        return sdk, client

    with worker(package) as thread:
        sdk, client = await thread.call(build, timeout=IMPORT_S)
    try:
        yield Api(settings, sdk, client)
    finally:
        with engine_working():
            await client.close()


class _Stream:
    """The bytes of an answer, below the SDK: its own iterators cannot be left in the midst without leaving tasks."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._pieces = aiter(response.stream)

    async def more(self) -> bytes | None:
        """Return the next bytes, None at the end."""
        return cast("bytes | None", await anext(self._pieces, None))

    async def leave(self) -> None:
        """Close the connection if the answer is not over, and end every reader below at once."""
        await self._response.aclose()
        try:
            async for _ in self._pieces:
                pass
        except Exception as error:
            log.debug("an answer was left: %r", error)


class Api:
    """One provider's connection: asks, and yields the events of the answer as the JSON they are."""

    def __init__(self, settings: HttpSettings, sdk: Any, client: Any) -> None:
        self.settings = settings
        self.sdk = sdk
        self.provider = settings.provider
        self._client = client
        self._refuses: set[str] = set()

    async def events(
        self, path: str, body: dict[str, Any], why: str, over: Callable[[], bool], optional: Mapping[str, str | None]
    ) -> AsyncGenerator[Any, None]:
        """Post ``body`` and yield each event of the answer; when the reply is ``over``, wait for little more.

        ``optional`` are keys that a server may refuse, each with the one it may want instead. Raises LlmError for
        whatever goes wrong before the reply is over, EgressRefused where nothing may be sent to this host.
        """
        stream = await self._ask(path, body, why, optional)
        decoded, came, done = Events(), 0, False
        try:
            while (piece := await self._more(stream, over() or done)) is not None:
                came += len(piece)
                for data in decoded.feed(piece):
                    done = done or data == DONE
                    if not done:
                        yield self._event(data)
        finally:
            with engine_working():
                await stream.leave()
        if came and not decoded.count:
            raise self.provider.trouble(Trouble.NONSENSE, NO_ANSWER)

    async def check(self, path: str) -> None:
        """Ask for the list of models: no message leaves. Raises LlmError if the provider cannot be used."""
        outbound.leaving(self.settings.host, 0, "text", "check")
        try:
            with engine_working():
                await self._client.get(path, cast_to=object)
        except Exception as error:
            if getattr(error, "status_code", None) not in UNLISTED:
                raise self._failure(error, began=False) from error

    async def _ask(self, path: str, body: dict[str, Any], why: str, optional: Mapping[str, str | None]) -> _Stream:
        """Open the stream; what the server says it does not know is left out, this time and from now on."""
        while True:
            sent = json.dumps(_without(body, self._refuses, optional), ensure_ascii=False).encode(errors="replace")
            outbound.leaving(self.settings.host, len(sent), "text", why)
            try:
                with engine_working():
                    stream = await self._client.post(
                        path,
                        cast_to=object,
                        content=sent,
                        options={"headers": {"Content-Type": "application/json"}},
                        stream=True,
                        stream_cls=self.sdk.AsyncStream[object],
                    )
                    return _Stream(stream.response)
            except Exception as error:
                unknown = self._unknown(error, body.keys() & optional.keys()) - self._refuses
                if not unknown:
                    raise self._failure(error, began=False) from error
                log.warning("%s: asked without %s from now on", self.provider.host, ", ".join(sorted(unknown)))
                self._refuses |= unknown

    async def _more(self, stream: _Stream, over: bool) -> bytes | None:
        with engine_working():
            try:
                async with asyncio.timeout(AFTER_END_S if over else None):
                    return await stream.more()
            except Exception as error:
                if over:
                    return None  # nothing of the reply is missing
                raise self._failure(error, began=True) from error

    def _event(self, data: bytes) -> Any:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.provider.trouble(Trouble.NONSENSE, NO_ANSWER) from error
        if isinstance(event, dict) and event.get("error"):
            raise refused(self.provider, complaint(event, None))
        return event

    def _unknown(self, error: Exception, optional: set[str]) -> set[str]:
        """Return the optional keys that a refusal is about."""
        if not isinstance(error, self.sdk.APIStatusError):
            return set()
        said = complaint(error.body, error.response)
        if said.status not in (400, 422) or said.trouble is not Trouble.NONSENSE:
            return set()
        return {key for key in optional if re.search(rf"\b{key}\b(?!\.\w|\[)", said.words)}

    def _failure(self, error: Exception, *, began: bool) -> LlmError:
        """Say in one line what an exception of the SDK's, or of anything below it, means."""
        from roomtone.engines.llm._client import TooMuch

        if isinstance(error, TooMuch) or isinstance(error.__cause__, TooMuch):
            return self.provider.trouble(Trouble.NONSENSE, NO_ANSWER)
        if isinstance(error, self.sdk.APIError) and not isinstance(error, self.sdk.APIConnectionError):
            return refused(self.provider, complaint(error.body, getattr(error, "response", None)))
        return broken(self.provider, error, began=began)


def _without(body: dict[str, Any], refused: set[str], optional: Mapping[str, str | None]) -> dict[str, Any]:
    """Return a body without what a server refuses, under the name that it may want instead."""
    kept = {key: value for key, value in body.items() if key not in refused}
    return kept | {new: body[key] for key in refused & body.keys() if (new := optional.get(key)) is not None}
