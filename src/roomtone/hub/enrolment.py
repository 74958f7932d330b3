"""The hub's door for new devices: it is open for minutes, for one device, and shuts after a few wrong codes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from roomtone.core.errors import ConfigError, HubGone, RegistrationError, RoomtoneError
from roomtone.enrolling import LINE, PORT, WRONG_CODE, Half, Refused, Sealed, Shared, Welcome, Wish, receive, send
from roomtone.flow import cancelling_group
from roomtone.hub.authority import RESERVED, Authority, key_of

log = logging.getLogger(__name__)

OPEN_S = 300.0
GUESSES = 5
CLIENTS = 8
"""Connections at a time: a few slow ones never keep the right one out, and many never fill the memory."""


@dataclass(frozen=True)
class Terms:
    """What a device gets (``home``, the broker's ``url``) by which ``code``; ``replace``: also for an id in use."""

    home: str
    url: str
    code: str
    replace: bool = False


async def enroll(
    authority: Authority,
    terms: Terms,
    *,
    host: str | None = None,
    port: int = PORT,
    open_s: float = OPEN_S,
    opened: Callable[[int], None] = lambda _: None,
) -> Wish:
    """Let one device in and return what it said of itself; ``opened`` is told the port.

    Raises RegistrationError after ``GUESSES`` wrong codes, or when nobody came in ``open_s`` seconds.
    """
    async with cancelling_group() as tasks:
        door = _Door(authority, terms)

        def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if door.clients >= CLIENTS:
                writer.transport.abort()
                return
            door.clients += 1
            task = tasks.create_task(door.serve(reader, writer), name="enrolling")
            task.add_done_callback(partial(door.leave, writer))

        server = await _listening(take, host, port)
        try:
            opened(server.sockets[0].getsockname()[1])
            async with asyncio.timeout(open_s):
                return await door.over
        except TimeoutError:
            raise RegistrationError(f"no device came in {open_s / 60:.3g} minutes; run it again") from None
        finally:
            server.close()


class _Door:
    """What all who come share: how many guesses are left, and whether one has come in (``over``)."""

    def __init__(self, authority: Authority, terms: Terms) -> None:
        self.over: asyncio.Future[Wish] = asyncio.get_running_loop().create_future()
        self.clients = 0
        self._authority = authority
        self._terms = terms
        self._left = GUESSES
        self._one = asyncio.Lock()

    def leave(self, writer: asyncio.StreamWriter, _: asyncio.Task[None]) -> None:
        """Let a client go, also where its task was cancelled before it began."""
        writer.close()
        self.clients -= 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client, who may be anybody: whatever it sends, only a right code gets further."""
        try:
            await self._serve(reader, writer)
        except RoomtoneError as error:
            log.info("a device could not be enrolled: %s", error.message)
            await self._refuse(writer, error)
        except Exception:
            log.exception("a device could not be enrolled")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shared = Shared(self._terms.code, device=False)
        shared.meet(await receive(reader, Half))
        await send(writer, shared.half)
        wish = self._check_code(shared, await receive(reader, Sealed))
        async with self._one:
            cert = self._admit(wish)
            welcome = Welcome(
                home=self._terms.home, url=self._terms.url, ca=self._authority.ca_pem.decode(), cert=cert
            )
            await send(writer, shared.seal(welcome))
            self.over.set_result(wish)

    def _check_code(self, shared: Shared, sealed: Sealed) -> Wish:
        """Open a wish. No await in here: guesses that come at once are counted one by one."""
        self._check_open()
        try:
            return shared.unseal(Wish, sealed)
        except RegistrationError as error:
            if error.details.get("why") != WRONG_CODE:
                raise
            self._left -= 1
            if self._left:
                raise RegistrationError(f"the code was wrong; {self._left} tries are left", why=WRONG_CODE) from None
            why = f"{GUESSES} wrong codes came, so nobody was enrolled; run it again for a new code"
            self.over.set_exception(RegistrationError(why, why=WRONG_CODE))
            raise RegistrationError("the code was wrong, and that was the last try", why=WRONG_CODE) from None

    def _check_open(self) -> None:
        if self.over.done():
            raise RegistrationError("the hub does not enroll any more; run there: roomtone hub enroll", why="CLOSED")

    def _admit(self, wish: Wish) -> str:
        """Make the device's certificate (PEM). Raises RegistrationError where it may not have that id."""
        self._check_open()
        if wish.id in RESERVED:
            raise RegistrationError(f"'{wish.id}' is a name of the house's own; give the device another id", why="ID")
        others = self._authority.keys(wish.id) - {key_of(wish.csr.encode())}
        if others and not self._terms.replace:
            why = f"there is a {wish.id} already; give this device another id, or run: roomtone hub enroll --replace"
            raise RegistrationError(why, why="ID")
        if others:
            self._authority.revoke(wish.id)
        return self._authority.issue(wish.csr.encode(), wish.id).decode()

    async def _refuse(self, writer: asyncio.StreamWriter, error: RoomtoneError) -> None:
        code = error.reason
        try:
            await send(writer, Refused(code=code, message=error.message[:400]))
        except HubGone:
            return  # it has hung up: there is nobody to tell


async def _listening(
    take: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None], host: str | None, port: int
) -> asyncio.Server:
    try:
        return await asyncio.start_server(take, host, port, limit=LINE)
    except OSError as error:
        raise ConfigError(
            f"port {port} cannot be listened on ({error.strerror}); another enrolment may run"
        ) from error
