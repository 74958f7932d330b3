"""What can be wrong between here and the broker, each in one line that says what mends it."""

from __future__ import annotations

import re
import socket
import ssl
from datetime import UTC, datetime

JOIN = "join the house again: roomtone hub join"

TWIN_WAIT_S = 30.0
"""Two devices with one name throw each other out: not more often than this."""


class Trouble(Exception):
    """The broker cannot be used now: the message is for a person. ``wait_s``: trying again sooner does harm."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def of_code(code: int, broker: str, client_id: str) -> Trouble | None:
    """Return what a reason code of MQTT 5 (section 2.4) means for who meets it; None for one that says nothing."""
    if code == 0x8E:
        return Trouble(f"another device is called {client_id}; give each its own device.id", TWIN_WAIT_S)
    known = {
        0x84: "does not speak MQTT 5; Mosquitto does from 2.0 on",
        0x85: f"refuses the name {client_id}; change device.id",
        0x86: f"refuses user name or password; see hub.username, or {JOIN}",
        0x87: f"does not let {client_id} in (user, password or certificate); {JOIN}",
        0x88: "is not available now",
        0x89: "is busy",
        0x8A: f"has shut {client_id} out; {JOIN}",
        0x8B: "is being stopped",
        0x95: "takes no payload as long as was sent; raise its max_packet_size",
        0x97: "has reached its quota",
        0x9F: "takes no more connections for now",
    }
    return Trouble(f"the broker at {broker} {known[code]}") if code in known else None


def of_failure(error: BaseException, broker: str, *, tls: bool = False) -> Trouble:
    """Return what an error of the network, or of ``tls``, means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Trouble(_of_certificate(error, broker))
    if isinstance(error, ssl.SSLError):
        return of_words(str(error), broker) or Trouble(f"no TLS with the broker at {broker}: {_plain(error)}")
    if isinstance(error, socket.gaierror | ValueError):
        return Trouble(f"the name of the broker at {broker} is not known here; is the hub on, and in this network?")
    if isinstance(error, ConnectionRefusedError):
        return Trouble(f"no broker listens at {broker}; is Mosquitto running there?")
    if isinstance(error, ConnectionResetError):
        return closed(broker, tls=tls)
    if isinstance(error, TimeoutError):
        return silent(broker)
    return Trouble(f"the broker at {broker} cannot be reached: {_plain(error)}")


def of_words(words: str, broker: str) -> Trouble | None:
    """Return what the broker's TLS alert means, as OpenSSL writes it; None where the words hold none."""
    alerts = (
        (r"certificate[ _]required|handshake[ _]failure", f"the broker at {broker} asks for a certificate; {JOIN}"),
        (
            r"unknown[ _]ca|bad[ _]certificate",
            f"the broker at {broker} does not know this room's certificate; {JOIN}",
        ),
        (
            r"alert[ _]certificate[ _]expired",
            f"this room's certificate has expired (its clock says {_clock()}); {JOIN}",
        ),
        (r"certificate[ _]revoked", f"this room's certificate was revoked; {JOIN}"),
        (r"wrong[ _]version[ _]number|record[ _]layer", f"what listens at {broker} speaks no TLS; see hub.url"),
    )
    for pattern, meaning in alerts:
        if re.search(pattern, words, re.IGNORECASE):
            return Trouble(meaning)
    return None


def silent(broker: str) -> Trouble:
    """Return what it means that nothing comes back."""
    return Trouble(f"the broker at {broker} does not answer; is the hub on, and in this network?")


def lost(broker: str) -> Trouble:
    """Return what it means that a connection ended without a reason."""
    return Trouble(f"the connection to the broker at {broker} was lost")


def closed(broker: str, *, tls: bool = False) -> Trouble:
    """Return what it means that the broker closes before it has answered.

    With TLS 1.3 (RFC 8446, 4.4.2) it judges a certificate after the handshake, and its reset may overtake its reason.
    """
    if tls:
        return Trouble(f"the broker at {broker} hangs up; it may not take this room's certificate any more: {JOIN}")
    return Trouble(f"what listens at {broker} hangs up; is it the broker, and mqtt or mqtts as hub.url says?")


def _of_certificate(error: ssl.SSLCertVerificationError, broker: str) -> str:
    whose = f"the certificate of the broker at {broker}"
    match error.verify_code:  # X509_V_ERR_*: openssl/x509_vfy.h
        case 9:
            return f"{whose} is not valid yet: this machine's clock says {_clock()}; set it"
        case 10:
            return (
                f"{whose} has expired (this machine's clock says {_clock()}); renew it on the hub: roomtone hub setup"
            )
        case 62 | 64:
            return f"{whose} is for another name; write in hub.url the name that the hub was set up with"
        case 2 | 18 | 19 | 20 | 21:
            return f"{whose} is of another house; {JOIN}"
    return f"{whose} is no good: {error.verify_message}"


def _clock() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _plain(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
