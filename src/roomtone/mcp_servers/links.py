"""The ways to a server: a program's standard streams, or streamable HTTP, neither of which it can flood.

A link is a transport of the ``mcp`` package: an async context manager of a stream to read and one to write.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from roomtone.mcp_servers.offers import sift

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage


LARGEST_MESSAGE = 2 * 1024 * 1024
"""Bytes; a server that sends a longer message is hung up on before all of it is read."""

BURST, STEADY = 4_000_000, 1_000_000.0
"""Bytes a server may send at once, and then each second; one that sends more waits."""

MESSAGE_COST = 4_000
"""Bytes that a message counts for at least: it is the number of small ones that costs."""

TOO_LONG = f"it sent a message of more than {LARGEST_MESSAGE // 1024**2} MB"

GRACE_S = 1.0
"""Longest that a program is given to end by itself, and then to end when it is told to; then it is killed."""


class Watch:
    """What is noticed on a link: what is wrong, in a line; that the tools changed; that the server is gone.

    ``reached``: what was sent last may have arrived.
    """

    def __init__(self) -> None:
        self.wrong = ""
        self.reached = True
        self.changed = asyncio.Event()
        self.gone = asyncio.Event()

    def end(self, wrong: str) -> None:
        """Take note that the server is gone."""
        self.wrong = wrong
        self.gone.set()


class Allowance:
    """How much a server may still send now."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = asyncio.get_running_loop().time()

    async def spend(self, size: int, messages: int) -> None:
        """Take note of what came, and wait for as long as it was too much."""
        now = asyncio.get_running_loop().time()
        self._left = min(BURST, self._left + (now - self._at) * STEADY) - max(size, messages * MESSAGE_COST)
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / STEADY)


def sifted(message: SessionMessage) -> SessionMessage:
    """Take out of a list of tools what is none: one wrong entry would cost all the others."""
    result = getattr(message.message, "result", None)
    if isinstance(result, dict) and isinstance(result.get("tools"), list):
        result["tools"] = sift(result["tools"])
    return message
