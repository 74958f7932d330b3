"""Becoming a device of a house: one short code makes a key that both sides share, under which a certificate comes.

The code itself never travels (SPAKE2, RFC 9382, by the package ``spake2``): whoever listens learns nothing of it, and
whoever guesses has one guess for each connection, which the hub counts. Four lines of JSON, each at most ``LINE``
bytes: both sides' half of the key; the device's request, sealed with it; the hub's answer, sealed too. The device
speaks first under the key, so the hub proves nothing to one who does not know the code.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from roomtone.core.errors import ConfigError, HubGone, PayloadError, RegistrationError, UsageError
from roomtone.credentials import certifies, key_pem, new_key, read_key, request, was_issued_by
from roomtone.discovery import DOOR, Found, Service, announce, find_hub, own_name
from roomtone.durable import write_durably
from roomtone.flow import keep_trying
from roomtone.settings import Device, Hub, Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

PORT = 8882
LINE = 16 * 1024
STEP_S = 10.0
"""Longest wait for one line."""

FIRST_S, AGAIN_S = 1.0, 30.0
"""Shortest and longest pause in which a room with a code does not look for the hub."""

DIGITS = 6
WRONG_CODE = "WRONG_CODE"

log = logging.getLogger(__name__)

T = TypeVar("T", bound=BaseModel)


HALF_BYTES = 33
"""Of one side's half: which side it is, and a point of Ed25519."""


class Half(BaseModel):
    """One side's half of the key; ``v`` is the version of this exchange."""

    v: int = 1
    pake: str = Field(pattern=r"^[0-9a-f]{2,200}$")


class Sealed(BaseModel):
    """Something under the shared key."""

    sealed: str = Field(max_length=LINE)


class Refused(BaseModel):
    """Why the hub does not go on: a code and a sentence for a person."""

    code: str = Field(max_length=64)
    message: str = Field(max_length=400)


class Wish(BaseModel):
    """Who wants to be a device: its id, its name for people, its room, and its key's certificate request (PEM)."""

    id: str = Field(pattern=r"^[a-z0-9_-]{1,64}$")
    name: str = Field("", max_length=60)
    room: str = Field("", max_length=60)
    csr: str = Field(max_length=4000)


class Welcome(BaseModel):
    """What makes a device: the house's name, its broker, whom to trust and the certificate (PEM)."""

    home: str = Field(pattern=r"^[a-z0-9_-]{1,64}$")
    url: str = Field(pattern=r"^mqtts://[^/\s]+$", max_length=300)
    ca: str = Field(max_length=8000)
    cert: str = Field(max_length=8000)


class House(BaseModel):
    """What a room remembers of the house that it joined, beside its certificate."""

    id: str
    home: str
    url: str


# --------------------------------------------------------------------------------------------- the code


def new_code() -> str:
    """Draw a code: right once in a million guesses, and five are allowed."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"


def read_code(text: str) -> str:
    """Read a code as a person types it: 6 to 8 digits, with spaces or hyphens. Raises UsageError."""
    code = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9]{6,8}", code):
        raise UsageError("a code has 6 to 8 digits, as in 481 233")
    return code


def shown(code: str) -> str:
    """Write a code as a person reads it."""
    return f"{code[:3]} {code[3:]}"


# ------------------------------------------------------------------------------------------- the exchange


class Shared:
    """One side of the key exchange: ``half`` goes to the other, whose half makes ``seal`` and ``unseal`` work.

    ``device`` says which side this is: each side seals with a key of its own, so nothing can be sent back to it.
    """

    def __init__(self, code: str, *, device: bool) -> None:
        from spake2 import SPAKE2_A, SPAKE2_B

        names = {"idA": b"roomtone device", "idB": b"roomtone hub"}
        self._device = device
        self._pake = (SPAKE2_A if device else SPAKE2_B)(code.encode(), **names)
        self.half = Half(pake=self._pake.start().hex())

    def meet(self, other: Half) -> None:
        """Take the other's half. Raises PayloadError for one that cannot be."""
        from cryptography.fernet import Fernet
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        if other.v > 1:
            raise PayloadError("the other side has a later Roomtone; upgrade this one")
        try:
            half = bytes.fromhex(other.pake)
            if len(half) != HALF_BYTES:
                raise ValueError(f"{len(half)} bytes")
            key = self._pake.finish(half)
        except Exception as error:  # spake2 raises errors of several families, of its curve too
            raise PayloadError("the other side's half of the key is none") from error

        def _keyed(side: bytes) -> Fernet:
            return Fernet(base64.urlsafe_b64encode(HKDF(SHA256(), 32, None, b"roomtone join, " + side).derive(key)))

        sides = (_keyed(b"device"), _keyed(b"hub"))
        self._mine, self._theirs = sides if self._device else reversed(sides)

    def seal(self, what: BaseModel) -> Sealed:
        """Seal something for the other side."""
        return Sealed(sealed=self._mine.encrypt(what.model_dump_json().encode()).decode())

    def unseal(self, kind: type[T], sealed: Sealed) -> T:
        """Open what the other side sealed. Raises RegistrationError where its code was another one."""
        from cryptography.fernet import InvalidToken

        try:
            opened = self._theirs.decrypt(sealed.sealed.encode())
        except InvalidToken:
            raise RegistrationError("the code was wrong", why=WRONG_CODE) from None
        return _read(kind, opened)


async def receive(reader: asyncio.StreamReader, kind: type[T], within_s: float = STEP_S) -> T:
    """Read one line. Raises PayloadError for what is none of ours, and HubGone where none comes in time."""
    try:
        async with asyncio.timeout(within_s):
            line = await reader.readline()
    except ValueError as error:
        raise PayloadError(f"a line of more than {LINE} bytes came") from error
    except (TimeoutError, OSError) as error:
        raise HubGone("the other side does not answer; try again") from error
    if not line.endswith(b"\n"):
        raise HubGone("the other side hung up; try again")
    return _read(kind, line)


async def send(writer: asyncio.StreamWriter, what: BaseModel, within_s: float = STEP_S) -> None:
    """Write one line. Raises HubGone where the other side does not take it."""
    writer.write(what.model_dump_json().encode() + b"\n")
    try:
        async with asyncio.timeout(within_s):
            await writer.drain()
    except (TimeoutError, OSError) as error:
        raise HubGone("the other side hung up; try again") from error


def _read(kind: type[T], line: bytes) -> T:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise PayloadError("what came is not JSON") from None
    if isinstance(said, dict) and "message" in said:
        _raise(said)
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        raise PayloadError(f"what came is no {kind.__name__.lower()}") from error


def _raise(said: dict[str, Any]) -> None:
    try:
        refused = Refused.model_validate(said)
    except ValidationError:
        raise PayloadError("what came cannot be read") from None
    raise RegistrationError(refused.message, why=refused.code)


# ---------------------------------------------------------------------------------------------- the device


async def join(host: str, port: int, code: str, device: Device, state_dir: Path) -> House:
    """Become a device of the house whose hub enrolls at this address, and keep what makes it one.

    Raises HubGone where nobody enrolls there, and RegistrationError where the hub says why not.
    """
    folder = state_dir / "hub"
    key = _own_key(folder)
    wish = Wish(id=device.id, name=device.name, room=device.room, csr=request(key, device.id).decode())
    welcome = await _exchange(host, port, code, wish)
    _check(welcome, key)
    house = House(id=device.id, home=welcome.home, url=welcome.url)
    write_durably(folder / "ca.pem", welcome.ca.encode())
    write_durably(folder / "cert.pem", welcome.cert.encode())
    write_durably(folder / "house.json", house.model_dump_json().encode())
    return house


async def find_door() -> Found:
    """Find the hub that lets a device in now. Raises HubGone where none does."""
    found = await find_hub(None, kind=DOOR)
    if found is None:
        raise HubGone(
            "no hub that enrolls was found in the network; at the hub, run: roomtone hub enroll; "
            "else say where it is: --hub HOST"
        )
    return found


async def announcing_door(home: str, port: int) -> None:
    """Tell the network, while this runs, that a device may come in at a port of this machine."""
    machine = f"{own_name()}.local."
    await announce(Service(DOOR, f"Roomtone {home}", port, {"home": home}, machine), "0.0.0.0")  # noqa: S104


def split_address(text: str) -> tuple[str, int]:
    """Read HOST, HOST:PORT or [ADDRESS]:PORT. Raises UsageError."""
    try:
        url = urlsplit(f"//{text}")
        if url.hostname and not url.path:
            return url.hostname, url.port or PORT
    except ValueError:
        pass
    raise UsageError(f"'{text}' is not where a hub can be; write it as in hub.local or 192.168.1.5:{PORT}")


async def _exchange(host: str, port: int, code: str, wish: Wish) -> Welcome:
    async with _connected(host, port) as (reader, writer):
        shared = Shared(code, device=True)
        await send(writer, shared.half)
        shared.meet(await receive(reader, Half))
        await send(writer, shared.seal(wish))
        answer = await receive(reader, Sealed)
        return shared.unseal(Welcome, answer)


@asynccontextmanager
async def _connected(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        async with asyncio.timeout(STEP_S):
            reader, writer = await asyncio.open_connection(host, port, limit=LINE)
    except (TimeoutError, OSError) as error:
        raise HubGone(f"nobody enrolls devices at {host}:{port}; at the hub, run: roomtone hub enroll") from error
    try:
        yield reader, writer
    finally:
        writer.close()


async def membership(settings: Settings) -> Hub:
    """Return how this room reaches its house; where it has a code and no house yet, it joins as soon as it can.

    Raises RegistrationError where the hub does not let it in, and ConfigError as ``known``.
    """
    hub = known(settings.hub, settings.state_dir)
    if hub.code is None or hub.cert is not None:
        return hub
    code = read_code(hub.code.get_secret_value())

    async def come_in() -> None:
        host = urlsplit(hub.url or "").hostname
        found = Found(host, PORT, host) if host else await find_door()
        await join(found.address, found.port, code, settings.device, settings.state_dir)

    told: set[str] = set()

    def notice(error: Exception, wait_s: float) -> None:
        if str(error) not in told:
            told.add(str(error))
            log.info("this room has not joined the house yet: %s; it goes on trying", error)
        log.debug("trying again in %.0f s", wait_s)

    await keep_trying(come_in, on=HubGone, first_s=FIRST_S, longest_s=AGAIN_S, notice=notice)
    return known(settings.hub, settings.state_dir)


def known(hub: Hub, state_dir: Path) -> Hub:
    """Fill in what this room was given when it joined; what the configuration says goes first.

    Without either, ``url`` stays None. Raises ConfigError where what was kept cannot be read.
    """
    folder = state_dir / "hub"
    try:
        house = House.model_validate_json((folder / "house.json").read_bytes())
    except FileNotFoundError:
        return hub
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{folder / 'house.json'} cannot be read; run: roomtone hub join CODE") from error
    given: dict[str, Any] = {"url": house.url, "home": house.home}
    given |= {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    return hub.model_copy(update={key: value for key, value in given.items() if key not in hub.model_fields_set})


def _own_key(folder: Path) -> EllipticCurvePrivateKey:
    """Return this device's key; it is made once, so that one who tries again is known by it."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "key.pem"
    try:
        return read_key(path)
    except (FileNotFoundError, ValueError):
        made = new_key()
        write_durably(path, key_pem(made))
        return made


def _check(welcome: Welcome, key: EllipticCurvePrivateKey) -> None:
    """Raise RegistrationError for a certificate that is not this key's: it would replace one that may be good."""
    if not (certifies(welcome.cert.encode(), key) and was_issued_by(welcome.cert.encode(), welcome.ca.encode())):
        raise RegistrationError("the hub sent a certificate for another key, or not its own; look into its log")
