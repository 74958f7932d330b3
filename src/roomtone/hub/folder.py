"""Where the hub keeps what is its own, and as whom it goes to the broker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from roomtone.control import SOCKET_NAME
from roomtone.core.errors import ConfigError
from roomtone.hub.mosquitto import HUB_PORT
from roomtone.settings import Hub, Settings

SERVICE_SOCKET = Path("/run/roomtone-hub") / SOCKET_NAME


def hub_folder(state_dir: Path) -> Path:
    """Return the hub's folder; a room's own certificate lies there too, where it has joined a house."""
    return state_dir / "hub"


def own_folder(state_dir: Path) -> Path:
    """Return where ``ca.pem``, ``cert.pem`` and ``key.pem`` lie by which the broker knows the hub itself."""
    return hub_folder(state_dir) / "own"


def socket_of(state_dir: Path, env: Mapping[str, str] = os.environ) -> Path:
    """Return where the hub is asked: in systemd's runtime folder for the service, else in its own folder."""
    runtime = env.get("RUNTIME_DIRECTORY")
    return Path(runtime.partition(":")[0]) / SOCKET_NAME if runtime else hub_folder(state_dir) / SOCKET_NAME


def as_hub(settings: Settings) -> Hub:
    """Return how the hub reaches the broker: as itself and on this machine, where it was set up; else as configured.

    Raises ConfigError where neither is there.
    """
    own, hub = own_folder(settings.state_dir), settings.hub
    if hub.cert is None and (own / "cert.pem").exists():
        files = {name: own / f"{name}.pem" for name in ("ca", "cert", "key")}
        return hub.model_copy(update={"url": f"mqtts://localhost:{HUB_PORT}", **files})
    if hub.url is None:
        raise ConfigError("there is no broker for the hub yet; run: roomtone hub setup (or set hub.url)")
    return hub
