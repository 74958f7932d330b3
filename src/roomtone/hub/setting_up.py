"""Where the hub keeps what makes the house private, and how that is made.

Under ``<state_dir>/hub``: ``authority/``, ``process/`` (the hub's own key and certificate), ``mosquitto/`` (what the
broker is to read) and ``setup.json`` (what was chosen).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from roomtone.core.errors import RegistrationError
from roomtone.credentials import key_pem, new_key, read_key, request
from roomtone.durable import write_durably
from roomtone.hub import mosquitto
from roomtone.hub.authority import HUB, Authority, make_authority, open_authority
from roomtone.settings import Hub

LISTS = ("crl.pem", "acl")
FILES = ("ca.pem", "server.pem", "server.key", *LISTS)


class Setup(BaseModel):
    """What was chosen: the home, the broker's URL for devices, its ports, and where Mosquitto reads its files."""

    model_config = ConfigDict(frozen=True)

    home: str
    url: str
    port: int = mosquitto.PORT
    hub_port: int = mosquitto.HUB_PORT
    installed: Path = mosquitto.INSTALLED


def set_up(state_dir: Path, setup: Setup, hosts: Iterable[str]) -> Authority:
    """Make the house's authority where there is none, and the broker's files.

    The hub's own certificate and the broker's, for these ``hosts``, are made anew each time: so they are renewed.
    """
    folder = state_dir / "hub"
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    authority = make_authority(folder / "authority", setup.home)
    own = folder / "process"
    own.mkdir(mode=0o700, exist_ok=True)
    if not (own / "key.pem").exists():
        write_durably(own / "key.pem", key_pem(new_key()))
    csr = request(read_key(own / "key.pem"), HUB)
    write_durably(own / "cert.pem", authority.issue(csr, HUB, until=authority.ca.not_valid_after_utc))
    mosquitto.configure(
        folder / "mosquitto", authority, setup.home, hosts, installed=setup.installed, port=setup.port,
        hub_port=setup.hub_port,
    )  # fmt: skip
    write_durably(folder / "setup.json", setup.model_dump_json().encode())
    return authority


def read_setup(state_dir: Path) -> Setup:
    """Return what was chosen. Raises RegistrationError where this machine is no hub yet."""
    file = state_dir / "hub" / "setup.json"
    try:
        return Setup.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise RegistrationError("this machine is not set up as a hub; run: roomtone hub setup") from None
    except (OSError, ValidationError) as error:
        raise RegistrationError(f"{file} cannot be read; run: roomtone hub setup") from error


def own_authority(state_dir: Path) -> Authority:
    """Open this hub's authority. Raises RegistrationError."""
    return open_authority(state_dir / "hub" / "authority")


def own_link(hub: Hub, state_dir: Path) -> Hub:
    """Return how a hub process reaches its broker: as configured, and for the rest as ``set_up`` left it."""
    try:
        setup = read_setup(state_dir)
    except RegistrationError:
        if hub.url is None:
            raise
        return hub
    folder = state_dir / "hub"
    left = {
        "url": f"mqtts://localhost:{setup.hub_port}",
        "home": setup.home,
        "ca": folder / "authority" / "ca.pem",
        "cert": folder / "process" / "cert.pem",
        "key": folder / "process" / "key.pem",
    }
    if "cert" in hub.model_fields_set or hub.username:
        return hub  # a broker of the household's own
    return hub.model_copy(update=left)


def share_group(hub: Hub) -> str:
    """Return the name under which hub processes share requests: only who has the hub's key knows it.

    Mosquitto 2.0 lets every client subscribe to anything, and gives a shared message to one subscriber even where
    that one may not read it: a device that joined the hubs' group would make requests of others vanish.
    """
    if hub.key is None or not hub.key.exists():
        return HUB
    return f"{HUB}-{hashlib.sha256(hub.key.read_bytes()).hexdigest()[:24]}"


def refresh_lists(state_dir: Path) -> str:
    """Write anew who is shut out; return the topic by which one can ask whether the broker has read that."""
    setup = read_setup(state_dir)
    return mosquitto.refresh(state_dir / "hub" / "mosquitto", own_authority(state_dir), setup.home)


def commands(state_dir: Path, setup: Setup) -> list[str]:
    """List what a person types as root to put the broker's files in place."""
    folder = state_dir / "hub" / "mosquitto"
    if setup.installed == folder:
        return [f"echo include_dir {folder} | sudo tee -a /etc/mosquitto/mosquitto.conf", *_RESTART]
    files = " ".join(str(folder / name) for name in FILES)
    return [
        f"sudo install -d -g mosquitto -m 0750 {setup.installed}",
        f"sudo install -g mosquitto -m 0640 -t {setup.installed} {files}",
        f"sudo install -m 0644 {folder / 'roomtone.conf'} /etc/mosquitto/conf.d/roomtone.conf",
        *_RESTART,
    ]


def list_commands(state_dir: Path) -> str:
    """Write what a person types as root to let the broker read who is shut out."""
    setup = read_setup(state_dir)
    folder = state_dir / "hub" / "mosquitto"
    reload = "sudo systemctl reload mosquitto"
    if setup.installed == folder:
        return reload
    files = " ".join(str(folder / name) for name in LISTS)
    return f"sudo install -g mosquitto -m 0640 -t {setup.installed} {files} && {reload}"


_RESTART = ("sudo systemctl restart mosquitto",)
