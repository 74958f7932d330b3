"""A broker and a hub for rehearsals, benches and tests, as they are shipped, on free ports of this machine."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import yaml

from roomtone.control import SOCKET_NAME, listens
from roomtone.core.errors import BrokerUnreachable, HubGone
from roomtone.durable import write_durably
from roomtone.hub.authority import Authority, make_authority
from roomtone.hub.mosquitto import configure, refresh
from roomtone.settings import Hub

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
HOME = "ours"

END_S, AGAIN_S, HUB_BOUND_S = 10.0, 1.0, 60.0
LOOK_S = 0.1


class OwnBroker:
    """Mosquitto with the shipped configuration in a folder of its own; ``async with OwnBroker() as broker``.

    ``start``, ``stop`` and ``kill`` come back when that is so, and what was kept is there at the next start;
    ``hub(id)`` are the settings by which a device joins (``hub`` is the hub, ``homeassistant`` Home Assistant).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="roomtone-broker-") if folder is None else None
        self.folder = folder or Path(self._own.name if self._own else "")
        self.authority: Authority = make_authority(self.folder / "authority", HOME)
        self.port = self.hub_port = 0
        self._was_up = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the ports it had; at its first start on free ones. Returns when it takes connections.

        Raises BrokerUnreachable where that cannot be.
        """
        if MOSQUITTO is None:
            raise BrokerUnreachable("there is no mosquitto here; run: sudo apt install mosquitto")
        if not self.port:
            self._configure()
        first = not self._was_up
        for _ in range(5 if first else 1):
            if self._started():
                self._was_up = True
                return
            if first and "Address already in use" in self.log:  # somebody took a port that was free a moment ago
                self._configure()
        raise BrokerUnreachable(f"a broker of its own does not start: {self.log.strip()[-300:] or 'it said nothing'}")

    def stop(self) -> None:
        """End it as a shutdown does: it writes down what it keeps."""
        self._end("terminate")

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end("kill")

    def reload(self) -> None:
        """Let it read who is shut out, as ``systemctl reload mosquitto`` does."""
        if self._process is None:
            return
        refresh(self.folder / "mosquitto", self.authority, HOME)
        self._process.send_signal(1)

    def close(self) -> None:
        """End it and forget all."""
        self._end("kill")
        if self._own is not None:
            self._own.cleanup()

    def hub(self, device_id: str) -> Hub:
        """Return the settings by which a device of this id joins; its certificate is made when first asked for."""
        folder = self.folder / "clients" / device_id
        if not folder.exists():
            folder.mkdir(parents=True)
            key, cert = self.authority.pair(device_id)
            write_durably(folder / "key.pem", key)
            write_durably(folder / "cert.pem", cert)
        port = self.hub_port if device_id == "hub" else self.port
        ca = self.folder / "authority" / "ca.pem"
        url = f"mqtts://localhost:{port}"
        return Hub(url=url, home=HOME, ca=ca, cert=folder / "cert.pem", key=folder / "key.pem")

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        """What it has said."""
        file = self.folder / "log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    async def __aenter__(self) -> OwnBroker:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _configure(self) -> None:
        self.port, self.hub_port = _free_ports()
        ours = self.folder / "mosquitto"
        configure(
            ours, self.authority, HOME, ["localhost", "127.0.0.1"], installed=ours, port=self.port,
            hub_port=self.hub_port,
        )  # fmt: skip
        (self.folder / "kept").mkdir(exist_ok=True)
        # Around our part stands what Debian's own mosquitto.conf says, so that both are known to go together.
        lines = [f"user {getpass.getuser()}", f"pid_file {self.folder / 'pid'}", "persistence true"]
        lines += [f"persistence_location {self.folder / 'kept'}/"]
        lines += [f"log_dest file {self.folder / 'log'}", f"include_dir {ours}"]
        (self.folder / "main.conf").write_text("\n".join(lines) + "\n")

    def _started(self) -> bool:
        """Start the process and wait until it says that it is ready; tell whether it did."""
        (self.folder / "log").unlink(missing_ok=True)
        at = f"roomtone-{os.getpid()}-{id(self)}"  # abstract (unix(7)): a temporary folder's path may be too long
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ready:
            ready.bind(f"\0{at}")
            ready.settimeout(0.05)
            self._process = subprocess.Popen(
                [MOSQUITTO or "mosquitto", "-c", str(self.folder / "main.conf")],
                env={**os.environ, "NOTIFY_SOCKET": f"@{at}"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while self._process.poll() is None:
                try:
                    if b"READY=1" in ready.recv(1000):
                        return True
                except TimeoutError:
                    continue
        self._process = None
        return False

    def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for _ in range(int(END_S / AGAIN_S)):
            getattr(process, how)()
            try:
                process.wait(AGAIN_S)
            except subprocess.TimeoutExpired:  # Mosquitto forgets a signal that comes while it starts
                continue
            return
        process.kill()
        process.wait()


@asynccontextmanager
async def own_hub(broker: OwnBroker) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``roomtone hub run`` at a broker for as long as the context lasts; its state is within the broker's folder.

    Raises HubGone where it does not come up.
    """
    folder = broker.folder / "hub"
    folder.mkdir(exist_ok=True)
    settings = broker.hub("hub").model_dump(mode="json", include={"url", "home", "ca", "cert", "key"})
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"hub": settings, "log": {"level": "warning"}}))
    run = ["-m", "roomtone.cli", "hub", "run", "--config", str(config), "--state-dir", str(folder)]
    process = await asyncio.create_subprocess_exec(sys.executable, *run, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + HUB_BOUND_S
        while not await listens(folder / "hub" / SOCKET_NAME):
            if process.returncode is not None or time.monotonic() > deadline:
                raise HubGone("the hub did not come up; run it by hand: roomtone hub run")
            await asyncio.sleep(LOOK_S)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(END_S):
            await process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]
