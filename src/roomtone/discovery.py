"""Who is there in the local network (mDNS): a service is announced, and the hub is found."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from roomtone import installed

log = logging.getLogger(__name__)

HUB = "_roomtone-hub._tcp.local."
DOOR = "_roomtone-join._tcp.local."
"""The broker of a house, and its hub while it lets a new device in."""

LONGEST_LABEL = 63
"""Bytes of a name in DNS (RFC 1035)."""

LOOK_S = 60.0
"""How often it is looked whether the machine has another address."""

FIND_S = 3.0
"""Longest that a hub takes to answer: it is asked three times in that (RFC 6762, section 5.2)."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is announced: its ``kind`` (``_wyoming._tcp.local.``), name and port, and what its TXT record tells.

    ``machine`` is the name that its address is given under, None: one of its own.
    """

    kind: str
    name: str
    port: int
    tells: Mapping[str, str]
    machine: str | None = None


# ----------------------------------------------------------------------------------------- announcing


async def announce(service: Service, host: str) -> None:
    """Announce a service that listens at ``host`` for as long as this runs; never fails.

    A machine without a network, or with another address than before, is announced when that has changed.
    """
    from zeroconf import Error
    from zeroconf.asyncio import AsyncZeroconf

    told = ""
    while True:
        try:
            address = own_address(host)
            async with AsyncZeroconf(interfaces=[address]) as network:
                await (await network.async_register_service(record(service, address), allow_name_change=True))
                told = ""
                while own_address(host) == address:  # noqa: ASYNC110  # nobody tells of a new one
                    await asyncio.sleep(LOOK_S)
        except (OSError, Error) as error:
            if str(error) != told:
                told = str(error)
                log.warning("%s is not announced in the network: %s", service.name, told or type(error).__name__)
            await asyncio.sleep(LOOK_S)


async def announce_hub(home: str, host: str, port: int) -> None:
    """Announce the broker of a home, which speaks TLS at ``host`` (``0.0.0.0``: everywhere), while this runs."""
    await announce(Service(HUB, f"Roomtone {home}", port, {"home": home}, machine=f"{own_name()}.local."), host)


def record(service: Service, address: str) -> Any:
    """Return a service as zeroconf takes it."""
    from zeroconf.asyncio import AsyncServiceInfo

    return AsyncServiceInfo(
        service.kind,
        f"{label(service.name)}.{service.kind}",
        parsed_addresses=[address],
        port=service.port,
        properties=dict(service.tells),
        server=service.machine,
    )


def label(name: str) -> str:
    """Return a name as it can stand in DNS: no dots, no control characters, not too long, never empty."""
    plain = "".join(" " if sign == "." or not sign.isprintable() else sign for sign in name)
    return " ".join(plain.encode("utf-8", "ignore")[:LONGEST_LABEL].decode("utf-8", "ignore").split()) or "Roomtone"


def own_name() -> str:
    """Return what this machine is called, without a domain."""
    return socket.gethostname().partition(".")[0]


def own_address(host: str) -> str:
    """Return the address at which others reach what listens at ``host``: itself, unless it means every address.

    Raises OSError where the machine has no network.
    """
    if not ipaddress.ip_address(host).is_unspecified:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("224.0.0.251", 5353))  # mDNS's group: nothing is sent, the route tells the address
        return str(probe.getsockname()[0])


# -------------------------------------------------------------------------------------------- finding


@dataclass(frozen=True, slots=True)
class Found:
    """Where a hub's broker is, and the ``name`` (``hub.local``) that its certificate must be for."""

    address: str
    port: int
    name: str


async def find_hub(
    home: str | None,
    within_s: float = FIND_S,
    host: str = "0.0.0.0",  # noqa: S104
    kind: str = HUB,
) -> Found | None:
    """Look for the hub of a home (None: of any); None where none answers.

    ``host`` is this machine's address in the network; ``kind`` is ``DOOR`` for a hub that lets a device in now.
    """
    try:
        from zeroconf import Error, ServiceStateChange
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf
    except ImportError as error:
        mend = installed.bringing("hub")
        log.warning("the hub cannot be looked for: %s is not installed; run: %s", error.name, mend)
        return None
    names: asyncio.Queue[str] = asyncio.Queue()

    def seen(name: str, state_change: ServiceStateChange, **_: Any) -> None:
        if state_change is not ServiceStateChange.Removed:
            names.put_nowait(name)

    try:
        async with AsyncZeroconf(interfaces=[own_address(host)]) as network:
            browser = AsyncServiceBrowser(network.zeroconf, kind, handlers=[seen])
            try:
                async with asyncio.timeout(within_s):
                    return await _first_of(home, kind, names, network.zeroconf)
            finally:
                await browser.async_cancel()
    except (TimeoutError, OSError, Error) as error:
        log.debug("no hub%s was found: %s", f" of the home {home}" if home else "", str(error) or "none answered")
        return None


async def _first_of(home: str | None, kind: str, names: asyncio.Queue[str], network: Any) -> Found:
    from zeroconf.asyncio import AsyncServiceInfo

    while True:
        info = AsyncServiceInfo(kind, await names.get())
        if not await info.async_request(network, FIND_S * 1000) or info.port is None:
            continue
        addresses = info.parsed_addresses()
        if addresses and (home is None or (info.properties or {}).get(b"home") == home.encode()):
            return Found(addresses[0], info.port, (info.server or "").rstrip("."))


# ---------------------------------------------------------------------------------------- remembering


def last_found(folder: Path | None) -> Found | None:
    """Return where the hub was found last; None where that is not known."""
    if folder is None:
        return None
    try:
        return Found(**json.loads((folder / "found.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def remember(folder: Path | None, found: Found) -> None:
    """Keep where the hub was found, for a start at which nobody answers; losing it does no harm."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "found.json").write_text(json.dumps(asdict(found)), "utf-8")
    except OSError as error:
        log.info("the address of the hub is not kept: %s", error)
