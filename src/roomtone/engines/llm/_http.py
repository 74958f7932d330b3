"""What providers over HTTP share: settings, and a connection that takes words where it was told and nowhere else.

No proxy of the environment's, no redirect and no retry carries what was said to another host; no header but those
written here and in the configuration goes with it; no answer is read without end.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from roomtone import outbound
from roomtone.clock import engine_working
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.llm import LlmError, Trouble
from roomtone.engines.llm._trouble import NO_ANSWER, Provider, broken, complaint, refused
from roomtone.flow import worker

IMPORT_S = 60.0
"""Longest that importing an SDK may take: one took 1.3 s on a fast machine, and SD cards are slow."""

LONGEST_BODY = 8_000_000
"""Bytes of one answer: two thousand for each of the 4,000 tokens that a persona may say at most."""

AFTER_END_S = 0.5
"""Seconds that the tokens of a finished reply are waited for: it is whole without them."""

KEPT = {"host", "accept", "connection", "content-type", "content-length", "user-agent", "anthropic-version"}
"""Headers that go out as the SDK makes them; its others tell of this machine, or come from the environment."""

NO_KEY = "-"
"""What SDKs are given for a key, else they take one from the environment; the real one is a header of ours."""

TOO_MUCH = "more than an answer can be"


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
        """Where the messages go."""
        return urlsplit(self.base_url).hostname or ""

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
        sdk = importlib.import_module(package)
        client = make(sdk, _http_client(settings, own))
        client._platform = "Unknown"  # noqa: SLF001  # else it is found out on a thread that stays; it is sent to nobody
        return sdk, client

    with worker(package) as thread:
        sdk, client = await thread.call(build, timeout=IMPORT_S)
    try:
        yield Api(settings, sdk, client)
    finally:
        with engine_working():
            await client.close()


def _http_client(settings: HttpSettings, own: Mapping[str, str]) -> Any:
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            taken = 0
            async for piece in self._stream:
                taken += len(piece)
                if taken > LONGEST_BODY:
                    raise httpx2.DecodingError(TOO_MUCH)
                yield piece

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def only_ours(request: httpx2.Request) -> None:
        for name in [name for name in request.headers if name not in KEPT]:
            del request.headers[name]
        request.headers.update({"accept-encoding": "identity", **own})  # packed, a small answer could be a huge one

    async def bounded(response: httpx2.Response) -> None:
        response.stream = Bounded(response.stream)

    return httpx2.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(settings.timeout_s, connect=settings.connect_timeout_s),
        event_hooks={"request": [only_ours], "response": [bounded]},
    )


_END = object()


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
        try:
            while (event := await self._next(stream, over())) is not _END:
                yield event
        finally:
            with engine_working():
                await stream.close()

    async def check(self, path: str) -> None:
        """Ask for the list of models: no message leaves. Raises LlmError if the provider cannot be used."""
        outbound.leaving(self.settings.host, 0, "text", "check")
        try:
            with engine_working():
                await self._client.get(path, cast_to=object)
        except Exception as error:
            failed = self._failure(error, began=False)
            if failed.trouble is not Trouble.MODEL:  # not every server can list what it has
                raise failed from error

    async def _ask(self, path: str, body: dict[str, Any], why: str, optional: Mapping[str, str | None]) -> Any:
        """Open the stream; what the server says it does not know is left out, this time and from now on."""
        while True:
            sent = json.dumps(_without(body, self._refuses, optional), ensure_ascii=False).encode()
            outbound.leaving(self.settings.host, len(sent), "text", why)
            try:
                with engine_working():
                    return await self._client.post(
                        path,
                        cast_to=object,
                        content=sent,
                        options={"headers": {"Content-Type": "application/json"}},
                        stream=True,
                        stream_cls=self.sdk.AsyncStream[object],
                    )
            except Exception as error:
                unknown = self._unknown(error, body.keys() & optional.keys()) - self._refuses
                if not unknown:
                    raise self._failure(error, began=False) from error
                self._refuses |= unknown

    async def _next(self, stream: Any, over: bool) -> Any:
        with engine_working():
            try:
                async with asyncio.timeout(AFTER_END_S if over else None):
                    return await anext(stream, _END)
            except Exception as error:
                if over:
                    return _END  # nothing of the reply is missing
                raise self._failure(error, began=True) from error

    def _unknown(self, error: Exception, optional: set[str]) -> set[str]:
        """Return the optional keys that a refusal is about."""
        if not isinstance(error, self.sdk.APIStatusError):
            return set()
        said = complaint(error)
        if said.status not in (400, 422) or said.trouble is not Trouble.NONSENSE:
            return set()
        return {key for key in optional if key in said.words}

    def _failure(self, error: Exception, *, began: bool) -> LlmError:
        """Say in one line what an exception of the SDK's, or of anything below it, means."""
        if isinstance(error, (ValueError, RecursionError)) or TOO_MUCH in (str(error), str(error.__cause__)):
            return self.provider.trouble(Trouble.NONSENSE, NO_ANSWER)
        if isinstance(error, self.sdk.APIError) and not isinstance(error, self.sdk.APIConnectionError):
            return refused(self.provider, complaint(error))
        return broken(self.provider, error, began=began)


def _without(body: dict[str, Any], refused: set[str], optional: Mapping[str, str | None]) -> dict[str, Any]:
    """Return a body without what a server refuses, under the name that it may want instead."""
    kept = {key: value for key, value in body.items() if key not in refused}
    return kept | {new: body[key] for key in refused & body.keys() if (new := optional.get(key)) is not None}
