"""Where the hub keeps what is its own, and where it is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from roomtone.control import SOCKET_NAME
from roomtone.hub.database import FILE_NAME

SERVICE_SOCKET = Path("/run/roomtone-hub") / SOCKET_NAME


def hub_folder(state_dir: Path) -> Path:
    """Return the hub's folder; a room's own certificate lies there too, where it has joined a house."""
    return state_dir / "hub"


def database_path(state_dir: Path) -> Path:
    """Return the hub's database."""
    return hub_folder(state_dir) / FILE_NAME


def socket_of(state_dir: Path, env: Mapping[str, str] = os.environ) -> Path:
    """Return where the hub is asked: in systemd's runtime folder for the service, else in its own folder."""
    runtime = env.get("RUNTIME_DIRECTORY")
    return Path(runtime.partition(":")[0]) / SOCKET_NAME if runtime else hub_folder(state_dir) / SOCKET_NAME
