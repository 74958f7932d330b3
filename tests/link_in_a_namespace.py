"""A link in a process of its own, for a network namespace: says when it is up and down, and sends what it is told.

Called with a broker's settings (JSON), a device's id and a folder for its store; each line it reads is sent surely.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from roomtone.core.wire import Presence, Stop, Topics
from roomtone.flow import beside, worker
from roomtone.link import Link, connection
from roomtone.link.outbox import Outbox
from roomtone.settings import Hub
from roomtone.store import open_store


async def main(settings: str, device: str, folder: str) -> None:
    connection.KEEPALIVE_S = 1
    hub = Hub.model_validate_json(settings)
    topics = Topics(hub.home)
    async with open_store(Path(folder) / "roomtone.db") as store:
        link = Link(
            hub,
            device,
            lambda: Presence(id=device, online=True, room=device),
            topics.device(device, "presence"),
            Outbox(store),
            lambda up: print("up" if up else "down", flush=True),
        )
        async with beside(link.run(), "link"):
            with worker("input") as thread:
                while line := (await thread.call(sys.stdin.readline)).strip():
                    await link.surely(topics.device(device, "turn"), Stop(id=line), id_=line)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
