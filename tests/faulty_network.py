"""A network that can be told to fail: a TCP proxy that delays, swallows and breaks what goes through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roomtone.flow import cancelling_group


class FaultyNetwork:
    """What lies between a client, which connects to ``port`` of this machine, and a server.

    ``delay_s`` is how long everything takes on its way. While it is ``cut`` nothing arrives any more and nobody is
    told, as when a cable is pulled; what was sent then is lost with its connection. ``connections`` counts them, and
    ``reached`` is set by each.
    """

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.port = 0
        self.delay_s = 0.0
        self.connections = 0
        self.reached = asyncio.Event()
        self._whole = asyncio.Event()
        self._whole.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._group: asyncio.TaskGroup | None = None

    def cut(self) -> None:
        """Pull the cable."""
        self._whole.clear()

    def mend(self) -> None:
        """Plug it in again: connections from before are dead, as they are behind a router that forgot them."""
        if not self._whole.is_set():
            self.reset()
            self._whole.set()

    def reset(self) -> None:
        """Break every connection at once."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.reached.set()
        assert self._group is not None
        self._open.add(writer)
        self._group.create_task(self._join(reader, writer))

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        if writer.transport.is_closing():
            return
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        self._open.add(other_writer)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._carry(reader, other_writer))
            both.create_task(self._carry(other_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(64 * 1024):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            writer.transport.abort()
        writer.close()


@asynccontextmanager
async def faulty_network(to_port: int) -> AsyncIterator[FaultyNetwork]:
    """Open a network to a port of this machine."""
    network = FaultyNetwork(to_port)
    async with cancelling_group() as group:
        network._group = group
        server = await asyncio.start_server(network._come, "127.0.0.1", 0)
        network.port = server.sockets[0].getsockname()[1]
        try:
            yield network
        finally:
            server.close()
            network.reset()
