"""What leaves this machine: who sends something says so here first, and is refused where it may not travel so far.

The limit and the receipt belong to the task that runs (context variables): a turn's are its persona's and its own.
How far a host is follows from its address, or from its name and what that resolved to when it was last looked up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from roomtone.clock import engine_working, utc_now
from roomtone.core.errors import EgressRefused
from roomtone.core.persona import Egress

log = logging.getLogger(__name__)

LOOK_UP_S = 2.0
"""Longest that a name is looked up: who opens a provider waits for it."""

LOOK_AGAIN_S = 600.0
"""Names are looked up again so often: the addresses of a house change."""

_HOUSE = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
    )
)
"""RFC 1918, RFC 3927, RFC 4193, RFC 4291. Shared addresses of providers (RFC 6598) are beyond the house."""

_ENDS = ("local", "home.arpa", "lan", "internal")
_ENDS_BY_RFC = ("local", "home.arpa")
"""Names that RFC 6762 and RFC 8375 keep within the house: what is not resolved yet is believed of them."""

_WRITTEN = re.compile(
    r"\[(?P<inside>[^\[\]]*:[^\[\]]*)\](:[0-9]{1,5})?|(?P<name>[^:\[\]]+)(:[0-9]{1,5})?|(?P<address>[^:]*:[^:]*:.*)"
)
"""A host with or without a port: an IPv6 address in brackets or bare, or anything else before at most one colon."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ORDER = (Egress.NONE, Egress.LAN, Egress.ANY)

_declared: dict[str, Egress] = {}
_looked_up: dict[str, Egress] = {}


@dataclass(frozen=True, slots=True)
class Sent:
    """One call that left this machine: to which ``host``, how far that is, how many ``bytes`` of ``kind`` and why.

    ``kind`` is text or audio. ``reach`` is ``lan`` for the house, ``any`` beyond it.
    """

    host: str
    reach: Egress
    bytes: int
    kind: str
    why: str
    at: datetime


Note = Callable[[Sent], None]

_limit: ContextVar[Egress] = ContextVar("egress", default=Egress.ANY)
_note: ContextVar[Note | None] = ContextVar("receipt", default=None)


# ---------------------------------------------------------------------------------------------- how far


def declare(host: str, reach: Egress) -> None:
    """Take the household's word for how far a host is, which goes before anything else.

    With a port (``localhost:4000``) it holds for that alone: a gateway on this machine passes on what it is told.
    """
    _declared[_key(host)] = reach


def reach(host: str | None) -> Egress:
    """Say how far a host is: ``none`` is this machine, ``lan`` the house, ``any`` beyond it. Never waits.

    ``host`` is a name or an address, with or without a port; None is this machine (a Unix socket). What cannot be
    told from it is beyond the house: a name without a dot too, until it was looked up.
    """
    if host is None:
        return Egress.NONE
    name = _bare(host)
    word = _declared.get(_key(host)) or _declared.get(name or "")
    if word is not None or name is None:
        return word or Egress.ANY
    return _of_address(name) or _looked_up.get(name) or _of_name(name)


async def look_up(host: str | None) -> Egress:
    """Resolve a name, so that ``reach`` knows how far it is; return that. Never raises, and takes 2 s at most.

    A name that may be of the house is ``lan`` where every address that it has is, ``none`` where every one is this
    machine's own. What does not resolve stays as it was known.
    """
    name = _bare(host) if host is not None else None
    if name is None or _of_address(name) is not None or not _may_be_near(name):
        return reach(host)
    try:
        with engine_working():
            async with asyncio.timeout(LOOK_UP_S):
                found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a TimeoutError is an OSError
        log.info("%s cannot be looked up (%s); it is taken for %s", name, error, reach(host))
        return reach(host)
    _looked_up[name] = _farthest(name, [str(address[4][0]) for address in found])
    return reach(host)


async def keep_looking_up() -> None:
    """Look all names up again now and then, for as long as this runs: an address of the house may move out of it."""
    while True:
        await asyncio.sleep(LOOK_AGAIN_S)
        for name in list(_looked_up):
            await look_up(name)


def _farthest(name: str, addresses: list[str]) -> Egress:
    found = [_of_address(address) or Egress.ANY for address in addresses]
    if _is_own(name) and Egress.ANY not in found and all(map(_can_be_bound, addresses)):
        return Egress.NONE
    return max(found, key=_ORDER.index, default=Egress.ANY)


def _can_be_bound(address: str) -> bool:
    """Say whether an address is one of this machine's own: no other can be listened on."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _key(host: str) -> str:
    return host.strip().lower()


def _bare(host: str) -> str | None:
    """Return a host in lower case without brackets, port and last dot; None for what is no host."""
    written = _WRITTEN.fullmatch(_key(host))
    if written is None or not host.isascii():
        return None
    address = written["inside"] or written["address"]
    if address is not None:
        return address if _address(address) is not None else None
    name = written["name"].removesuffix(".")
    if name != written["name"] and _address(name) is not None:  # a name server may be asked for it
        return None
    return name if all(map(_LABEL.fullmatch, name.split("."))) else None


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _of_address(name: str) -> Egress | None:
    """Say how far an address is; ``any`` too for what other programs might take for one, None for a name."""
    address = _address(name)
    if address is None:
        return Egress.ANY if _NUMBER.fullmatch(name.rpartition(".")[2]) else None
    if address.is_loopback:
        return Egress.NONE
    return Egress.LAN if any(address in network for network in _HOUSE) else Egress.ANY


def _of_name(name: str) -> Egress:
    """Say how far a name is that was not looked up."""
    if _is_localhost(name) or _is_own(name):
        return Egress.NONE
    return Egress.LAN if any(_ends_in(name, end) for end in _ENDS_BY_RFC) else Egress.ANY


def _may_be_near(name: str) -> bool:
    if _is_localhost(name):
        return False
    return "." not in name or _is_own(name) or any(_ends_in(name, end) for end in _ENDS)


def _is_localhost(name: str) -> bool:
    return name == "localhost" or _ends_in(name, "localhost")  # RFC 6761


def _is_own(name: str) -> bool:
    return name == socket.gethostname().lower()


def _ends_in(name: str, end: str) -> bool:
    return name.endswith(f".{end}")


# ------------------------------------------------------------------------------------------ the checkpoint


def allows(host: str | None) -> bool:
    """Say whether what is said in this task may travel to a host."""
    return _ORDER.index(reach(host)) <= _ORDER.index(_limit.get())


def leaving(host: str | None, size: int, kind: str, why: str) -> None:
    """Note that ``size`` bytes are about to be sent to a host. Raises EgressRefused where they may not be."""
    _check(host)
    _tell(_note.get(), host, size, kind, why, utc_now())


@dataclass(slots=True)
class Sending:
    """What is being sent in pieces: how many ``bytes`` so far."""

    bytes: int = 0

    def count(self, size: int) -> None:
        """Add a piece."""
        self.bytes += size


@contextmanager
def sending(host: str | None, kind: str, why: str) -> Iterator[Sending]:
    """Let something be sent in pieces; it is noted once, when the context ends, however it ends, if any byte left.

    Raises EgressRefused, before anything is sent, where it may not be.
    """
    _check(host)
    note, at, sent = _note.get(), utc_now(), Sending()
    try:
        yield sent
    finally:
        if sent.bytes:
            _tell(note, host, sent.bytes, kind, why, at)


def _check(host: str | None) -> None:
    if not allows(host):
        raise EgressRefused(f"nothing may be sent to {host}: this persona's egress is {_limit.get()}", host=host)


def _tell(note: Note | None, host: str | None, size: int, kind: str, why: str, at: datetime) -> None:
    far = reach(host)
    if note is not None and host is not None and far is not Egress.NONE:
        note(Sent(_bare(host) or host, far, size, kind, why, at))


def limit() -> Egress:
    """Return how far what is said in this task may travel."""
    return _limit.get()


def note() -> Note | None:
    """Return what is told of everything that this task sends."""
    return _note.get()


@contextmanager
def within(limit: Egress, note: Note | None = None) -> Iterator[None]:
    """Let what this task, and those it starts, send go no further than ``limit``; ``note`` is told each time.

    Within another ``within`` nothing goes further than that one lets it, and without a ``note`` its own is told.
    """
    narrower = min(limit, _limit.get(), key=_ORDER.index)
    tokens = _limit.set(narrower), _note.set(note or _note.get())
    try:
        yield
    finally:
        _limit.reset(tokens[0])
        _note.reset(tokens[1])
