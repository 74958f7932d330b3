"""Announce a service in the local network (mDNS), as Home Assistant looks for it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from typing import Any

log = logging.getLogger(__name__)

SERVICE = "_wyoming._tcp.local."

LONGEST_LABEL = 63
"""Bytes of a name in DNS (RFC 1035)."""

LOOK_S = 60.0
"""How often it is looked whether the machine has another address."""


async def announce(name: str, host: str, port: int) -> None:
    """Announce the Wyoming service that listens at ``host`` for as long as this runs; never fails.

    A machine without a network, or with another address than before, is announced when that has changed.
    """
    from zeroconf import Error
    from zeroconf.asyncio import AsyncZeroconf

    told = ""
    while True:
        try:
            address = own_address(host)
            async with AsyncZeroconf(interfaces=[address]) as network:
                await (await network.async_register_service(service(name, address, port), allow_name_change=True))
                told = ""
                while own_address(host) == address:  # noqa: ASYNC110  # nobody tells of a new one
                    await asyncio.sleep(LOOK_S)
        except (OSError, Error) as error:
            if str(error) != told:
                told = str(error)
                log.warning("the Wyoming server is not announced: %s", told or type(error).__name__)
            await asyncio.sleep(LOOK_S)


def service(name: str, address: str, port: int) -> Any:
    """Return what is announced: the room's name, its address and its port."""
    from zeroconf.asyncio import AsyncServiceInfo

    return AsyncServiceInfo(SERVICE, f"{label(name)}.{SERVICE}", parsed_addresses=[address], port=port)


def label(name: str) -> str:
    """Return a name as it can stand in DNS: no dots, no control characters, not too long, never empty."""
    plain = "".join(" " if sign == "." or not sign.isprintable() else sign for sign in name)
    return " ".join(plain.encode("utf-8", "ignore")[:LONGEST_LABEL].decode("utf-8", "ignore").split()) or "Roomtone"


def own_address(host: str) -> str:
    """Return the address at which others reach what listens at ``host``: itself, unless it means every address.

    Raises OSError where the machine has no network.
    """
    if not ipaddress.ip_address(host).is_unspecified:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("224.0.0.251", 5353))  # mDNS's group: nothing is sent, the route tells the address
        return str(probe.getsockname()[0])
