"""Certificates are renewed before they end, for the key that a device has had from the start."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from roomtone.core.errors import RegistrationError
from roomtone.credentials import RENEW
from roomtone.hub.authority import key_of
from roomtone.hub.setting_up import own_authority


def renew(state_dir: Path, id_: str, csr_pem: bytes) -> bytes:
    """Return a certificate (PEM) for a device that has one of the same key: the newest, or a new one where that ends.

    Raises RegistrationError for another key, so that nobody comes in anew by a connection of a device's, and where
    this hub is not what signs certificates.
    """
    authority = own_authority(state_dir)
    newest = authority.newest(id_, key_of(csr_pem))
    if newest is None:
        raise RegistrationError(f"this is not the key with which {id_} joined; run there: roomtone hub join")
    if newest.not_valid_after_utc - datetime.now(UTC) > RENEW:
        return newest.public_bytes(Encoding.PEM)
    return authority.issue(csr_pem, id_)
