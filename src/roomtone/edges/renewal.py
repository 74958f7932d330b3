"""A room renews the certificate that it joined the house with, long before it ends."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

from roomtone.core.errors import HouseError, PayloadError
from roomtone.core.wire import Renew
from roomtone.credentials import RENEW, certifies, expires, read_key, request
from roomtone.durable import write_durably
from roomtone.link import Link

log = logging.getLogger(__name__)

LOOK_S = 24 * 3600.0
"""How often it is looked whether it is time; the first time after so long, too."""

ANSWER_S = 30.0


async def keep_renewed(link: Link, id_: str, folder: Path) -> None:
    """Renew ``cert.pem`` in a folder whenever it is time, for as long as this runs; the next connection uses it."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            if is_due(folder):
                await renew(link, id_, folder)
        except (HouseError, OSError, ValueError) as error:
            log.warning("this room's certificate could not be renewed: %s; tried again tomorrow", error)


def is_due(folder: Path) -> bool:
    """Say whether a certificate that joining left ends soon. One that the household made itself is its own affair."""
    cert = folder / "cert.pem"
    return cert.exists() and expires(cert) - datetime.now(UTC) < RENEW


async def renew(link: Link, id_: str, folder: Path) -> None:
    """Ask the hub for a new certificate of the same key, and keep it. Raises HouseError, OSError and ValueError."""
    key = read_key(folder / "key.pem")
    topics = link.topics
    wish = Renew(csr=request(key, id_).decode())
    to, back = topics.device(id_, "request"), topics.device(id_, "reply")
    reply = await link.ask(to, wish, response_topic=back, within_s=ANSWER_S)
    if not reply.ok:
        raise PayloadError(reply.message)
    cert = str(reply.data.get("cert", "")).encode()
    if not certifies(cert, key):
        raise PayloadError("the hub sent a certificate of another key")
    write_durably(folder / "cert.pem", cert)
    log.info("this room's certificate was renewed: it is good until %s", expires(folder / "cert.pem").date())
