"""An HTTP client that goes where it is told and nowhere else. It imports httpx2: only who asks a provider needs it.

No proxy of the environment's and no redirect carries what was said to another host; no header but those written here
and in the configuration goes with it; no answer is read without end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx2

LONGEST_BODY = 8_000_000
"""Bytes of one answer: two thousand for each of the 4,000 tokens that a persona may say at most."""

KEPT = {"host", "accept", "connection", "content-type", "content-length", "user-agent", "anthropic-version"}
"""Headers that go out as the SDK makes them; its others tell of this machine, or come from the environment."""


class TooMuch(httpx2.DecodingError):
    """An answer is longer than any can be."""


class Bounded(httpx2.AsyncByteStream):
    """The bytes of an answer. Raises TooMuch after LONGEST_BODY of them."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken = 0
        try:
            async for piece in self._stream:
                taken += len(piece)
                if taken <= LONGEST_BODY:
                    yield piece
                else:
                    await self._stream.aclose()  # and read on: so every reader below comes to its end
        except httpx2.TransportError:
            if taken <= LONGEST_BODY:
                raise
        if taken > LONGEST_BODY:
            raise TooMuch("more than an answer can be")

    async def aclose(self) -> None:
        """Close the connection, or give it back."""
        await self._stream.aclose()


def client(own: Mapping[str, str], connect_s: float, silence_s: float) -> httpx2.AsyncClient:
    """Make a client that sends the headers ``own`` and waits so long: to connect, and for anything to come."""

    async def only_ours(request: httpx2.Request) -> None:
        for name in [name for name in request.headers if name not in KEPT]:
            del request.headers[name]
        request.headers.update({"accept-encoding": "identity", **own})  # packed, a small answer could be a huge one

    async def bounded(response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Bounded(response.stream)

    return httpx2.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        timeout=httpx2.Timeout(silence_s, connect=connect_s),
        event_hooks={"request": [only_ours], "response": [bounded]},
    )
