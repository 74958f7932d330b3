"""The configuration of the house's broker, Mosquitto: who may connect, and who may read and write what.

``configure`` writes all of it into one folder. A part of Mosquitto's own configuration (``roomtone.conf``) names the
files by the folder where Mosquitto reads them, since that is another one on a Pi: its user may not look into ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from roomtone.core.wire import LONGEST, Topics
from roomtone.durable import write_durably
from roomtone.hub.authority import HOME_ASSISTANT, HUB, Authority

PORT = 8883
HUB_PORT = 8884

INSTALLED = Path("/etc/mosquitto/roomtone")
"""Where Mosquitto reads its part on a Pi."""

PACKET = LONGEST + 44 * 1024
"""Bytes of the longest packet (300 kB): the longest payload, its topic and properties, and room to be told apart."""

MEMORY = 192 * 1024 * 1024
"""Bytes that the broker may take: what waits for absent devices never takes a Pi down."""

WRITES = ("presence", "state", "turn", "request", "wake", "reply", "audio")
READS = ("command", "reply", "audio")
READS_OF_ALL = ("presence", "wake")
"""What a device may do under its own id, and what it may read of the other rooms."""


def configure(
    folder: Path, authority: Authority, home: str, hosts: Iterable[str], *, installed: Path = INSTALLED,
    port: int = PORT, hub_port: int = HUB_PORT,
) -> None:  # fmt: skip
    """Write everything that the broker reads into a folder, with a new key of its own for these ``hosts``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key, cert = authority.serve(hosts)
    write_durably(folder / "server.key", key)
    write_durably(folder / "server.pem", cert)
    write_durably(folder / "ca.pem", authority.ca_pem)
    write_durably(folder / "roomtone.conf", _broker(installed, port, hub_port).encode())
    refresh(folder, authority, home)


def refresh(folder: Path, authority: Authority, home: str) -> str:
    """Write the lists of who is shut out; Mosquitto reads them when it gets SIGHUP.

    Return the topic on which even the hub may not write once it has read them: so one can ask whether it has.
    """
    write_durably(folder / "crl.pem", authority.crl_pem)
    write_durably(folder / "acl", acl(home, authority.shut_out(), authority.number).encode())
    return Topics(home).hub(f"lists/{authority.number}")


def acl(home: str, shut_out: Iterable[str] = (), number: int = 0) -> str:
    """Write the access list: patterns by the name in a certificate, and what hub and Home Assistant may beyond.

    Who is shut out loses everything at once, connected or not: a denial precedes all else. ``number`` is that of the
    list of the revoked certificates that goes with it.
    """
    topics = Topics(home)
    every, own = topics.device("+", "{}").format, topics.device("%u", "{}").format
    lines = ["# Written by roomtone hub; what is changed here is lost.", f"user {HUB}"]
    lines += [f"topic readwrite {topics.device('+', '+')}", f"topic readwrite {topics.hub('#')}"]
    lines += ["topic write homeassistant/device/+/config", f"topic deny {topics.hub(f'lists/{number}')}"]
    lines += [f"user {HOME_ASSISTANT}", f"topic write {every('command')}"]
    lines += [f"topic read {every(what)}" for what in ("presence", "state", "turn")]  # a reply may hold what was said
    lines += [f"topic deny {every('wake')}", f"topic read {topics.hub()}", "topic readwrite homeassistant/#"]
    for name in sorted(shut_out):
        lines += [f"user {name}", "topic deny #"]
    lines += [f"pattern write {own(what)}" for what in WRITES]
    lines += [f"pattern read {own(what)}" for what in READS]
    lines += [f"pattern read {every(what)}" for what in READS_OF_ALL]
    lines += [f"pattern read {topics.hub()}", "pattern read homeassistant/status"]
    lines += ["pattern readwrite homeassistant/device/%u/config"]
    return "\n".join(lines) + "\n"


def _broker(installed: Path, port: int, hub_port: int) -> str:
    return f"""\
# Written by roomtone hub setup; what is changed here is lost. It belongs into /etc/mosquitto/conf.d.
per_listener_settings false
allow_anonymous false
acl_file {installed}/acl
max_packet_size {PACKET}
max_inflight_messages 100
max_queued_messages 1000
max_queued_bytes {8 * PACKET}
memory_limit {MEMORY}
persistent_client_expiration 7d
persistence true
# An SD card wears out by writing: what must not be lost is kept by the rooms and the hub themselves.
autosave_interval 3600
set_tcp_nodelay true
connection_messages true

# The rooms, and Home Assistant: a certificate says who a client is, and its client id: none can push out another.
listener {port}
{_tls(installed)}
use_username_as_clientid true

# The hub, which may be several processes: from this machine only.
listener {hub_port} 127.0.0.1
{_tls(installed)}
"""


def _tls(installed: Path) -> str:
    return f"""\
protocol mqtt
cafile {installed}/ca.pem
certfile {installed}/server.pem
keyfile {installed}/server.key
crlfile {installed}/crl.pem
tls_version tlsv1.2
require_certificate true
use_identity_as_username true"""
