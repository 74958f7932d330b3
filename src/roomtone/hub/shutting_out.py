"""A device is shut out of the house: its connection ends, it does not come back, and nothing of it stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from roomtone.core.dialog import new_id
from roomtone.core.errors import BrokerUnreachable, RegistrationError
from roomtone.core.wire import Topics
from roomtone.hub.setting_up import list_commands
from roomtone.link.connection import Connection, LastWill, connected
from roomtone.link.trouble import Trouble
from roomtone.link.wayfinding import Wayfinder
from roomtone.settings import Hub

READ_S = 10.0
"""Longest wait until the broker has read its new lists; systemd starts that within a second."""

ASK_AGAIN_S = 0.2


async def shut_out(hub: Hub, state_dir: Path, id_: str, marker: str) -> None:
    """End a revoked device's connection and clear what the broker keeps of it, once it has read the lists.

    ``hub`` is how the hub itself reaches the broker, ``marker`` what ``refresh_lists`` returned. Raises
    RegistrationError where the broker has not read them in ``READ_S``, BrokerUnreachable where it cannot be reached.
    """
    topics = Topics(hub.home)
    async with _at_broker(hub, f"hub-{new_id()}", marker) as connection:
        await _until_read(connection, state_dir, marker)
        kept = [topics.device(id_, what) for what in ("presence", "state")]
        async with _at_broker(hub, id_, kept[0]):
            pass  # by its name: of two clients with one name the broker ends the older one
        for topic in [*kept, f"homeassistant/device/{id_}/config"]:
            await connection.send(topic, b"", 1, retain=True)


async def lists_read(hub: Hub, state_dir: Path, marker: str) -> None:
    """Wait until the broker has read its lists. Raises as ``shut_out``."""
    async with _at_broker(hub, f"hub-{new_id()}", marker) as connection:
        await _until_read(connection, state_dir, marker)


async def _until_read(connection: Connection, state_dir: Path, marker: str) -> None:
    """Try to write where only the new access list forbids it, until that is refused."""
    try:
        async with asyncio.timeout(READ_S):
            while not await _is_refused(connection, marker):  # noqa: ASYNC110  # the broker tells nobody
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        raise RegistrationError(
            f"the broker has not read yet who is shut out; run: {list_commands(state_dir)} and then this again"
        ) from None


async def _is_refused(connection: Connection, marker: str) -> bool:
    try:
        await connection.send(marker, b"", 1, retain=False)
    except RegistrationError:
        return True
    return False


@asynccontextmanager
async def _at_broker(hub: Hub, client_id: str, will: str) -> AsyncIterator[Connection]:
    try:
        way = await Wayfinder(hub).find()
        async with connected(way, client_id, LastWill(will, b""), lambda _: None, 0) as connection:
            yield connection
    except Trouble as trouble:
        raise BrokerUnreachable(f"the new lists are written, but {trouble} Then run this again.") from trouble
