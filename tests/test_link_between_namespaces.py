"""A room and its broker on two networks, between which a cable is pulled: no host is told, as in a real house."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker import Broker, broker
from conftest import Run
from roomtone.core.wire import Presence, Stop, Topics, read
from roomtone.flow import beside
from roomtone.link import Inbound, Link

__all__ = ["broker"]

TOPICS = Topics("ours")
HERE, THERE = "10.213.77.1", "10.213.77.2"
LONGEST_S = 30.0


@dataclass(frozen=True)
class Cable:
    """A cable between this machine and a namespace."""

    end: str
    namespace: str

    def pull(self) -> None:
        ip("link", "set", self.end, "down")

    def plug(self) -> None:
        ip("link", "set", self.end, "up")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def laid_cable() -> Iterator[Cable]:
    name = f"rt{os.getpid() % 100_000}"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', b'') or error}")
    try:
        try:
            ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no virtual cables here: {error.stderr}")
        ip("addr", "add", f"{HERE}/30", "dev", f"{name}a")
        ip("-n", name, "addr", "add", f"{THERE}/30", "dev", f"{name}b")
        ip("-n", name, "link", "set", f"{name}b", "up")
        ip("link", "set", f"{name}a", "up")
        yield Cable(f"{name}a", name)
    finally:
        ip("netns", "del", name)


def move_to(broker: Broker, address: str) -> None:
    """Give the broker a certificate for another address too."""
    key, cert = broker.authority.serve(["localhost", address])
    (broker.folder / "mosquitto" / "server.key").write_bytes(key)
    (broker.folder / "mosquitto" / "server.pem").write_bytes(cert)
    broker.stop()
    broker.start()


def test_a_pulled_cable_is_noticed_at_both_ends_and_what_was_said_meanwhile_arrives(
    broker: Broker, run_in_real_time: Run[None], tmp_path: Path
) -> None:
    seen: asyncio.Queue[Inbound] = asyncio.Queue()

    async def until(online: bool) -> None:
        while read(Presence, (await seen.get()).payload).online is not online:
            pass

    async def says(room: asyncio.subprocess.Process, word: str) -> None:
        assert room.stdout is not None
        assert (await room.stdout.readline()).decode().strip() == word

    async def scenario(cable: Cable) -> None:
        turns: asyncio.Queue[Inbound] = asyncio.Queue()
        link = Link(broker.hub("hub"), "hub-1", lambda: Presence(id="hub", online=True), TOPICS.hub())
        link.on(TOPICS.device("kitchen", "presence"), seen.put)
        link.on(TOPICS.device("kitchen", "turn"), turns.put)
        settings = broker.hub("kitchen").model_copy(update={"url": f"mqtts://{HERE}:{broker.port}"})
        room = await asyncio.create_subprocess_exec(
            *(
                "ip",
                "netns",
                "exec",
                cable.namespace,
                sys.executable,
                Path(__file__).parent / "link_in_a_namespace.py",
            ),
            *(settings.model_dump_json(), "kitchen", tmp_path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert room.stdin is not None
        try:
            async with beside(link.run(), "hub"), asyncio.timeout(LONGEST_S):
                await says(room, "up")
                await until(online=True)
                cable.pull()
                await until(online=False)
                await says(room, "down")
                room.stdin.write(b"one\ntwo\nthree\n")
                await room.stdin.drain()
                cable.plug()
                await says(room, "up")
                await until(online=True)
                assert [read(Stop, (await turns.get()).payload).id for _ in range(3)] == ["one", "two", "three"]
                room.stdin.close()
                await until(online=False)
                assert await room.wait() == 0
        finally:
            if room.returncode is None:
                room.kill()
                await room.wait()

    with laid_cable() as cable:
        move_to(broker, HERE)
        run_in_real_time(scenario(cable))
