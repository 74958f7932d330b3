"""The way to the broker: from its URL, or found in the network; with the certificates that joining the house left."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from roomtone.discovery import Found, find_hub, last_found, remember
from roomtone.link.trouble import JOIN, Trouble
from roomtone.settings import Hub

if TYPE_CHECKING:
    from roomtone.link.connection import NamedContext, Way

PORT = 1883
TLS_PORT = 8883
"""The ports that IANA has registered for MQTT."""


class Wayfinder:
    """Finds the broker anew for each connection: certificates are renewed, and addresses change.

    With ``url: auto`` the hub is first sought where it was found last, and after a failure in the network.
    """

    def __init__(self, hub: Hub, folder: Path | None = None) -> None:
        self._hub = hub
        self._folder = folder
        self._look = False
        self.host = "" if hub.url in (None, "auto") else urlsplit(hub.url or "").hostname or ""

    def failed(self) -> None:
        """Take note that the last way led nowhere, or not any more."""
        self._look = not self._look

    async def find(self) -> Way:
        """Return the way. Raises Trouble, which says what is missing."""
        from roomtone.link.connection import Way

        if self._hub.url == "auto":
            found = await self._in_the_network()
            self.host = found.address
            return Way(found.address, found.port, self._tls(found.name), *self._who())
        url = urlsplit(self._hub.url or "")
        try:
            host, port = url.hostname or "", url.port
        except ValueError:
            raise Trouble(
                f"hub.url {self._hub.url} has no port that can be; write it as in mqtts://hub.local:8883"
            ) from None
        user, password = self._who()
        tls = self._tls(None) if url.scheme == "mqtts" else None
        written = (unquote(each) if each is not None else None for each in (url.username, url.password))
        user, password = (each or other for each, other in zip(written, (user, password), strict=True))
        return Way(host, port or (PORT if tls is None else TLS_PORT), tls, user, password)

    def _who(self) -> tuple[str | None, str | None]:
        secret = self._hub.password
        return self._hub.username, secret.get_secret_value() if secret is not None else None

    async def _in_the_network(self) -> Found:
        known = last_found(self._folder)
        if known is not None and not self._look:
            return known
        found = await find_hub(self._hub.home)
        if found is not None and found != known:
            remember(self._folder, found)
        if found is None and known is None:
            raise Trouble(f"no hub of the home '{self._hub.home}' was found in the network; is it on? see hub.url")
        return found or known  # type: ignore[return-value]  # one of them is there

    def _tls(self, name: str | None) -> NamedContext:
        from roomtone.link.connection import NamedContext

        context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.name = name
        ca, cert, key = (self._file(each) for each in ("ca", "cert", "key"))
        try:
            if ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(ca)
            if cert is not None:
                context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            which = f"hub.ca ({ca})" if not context.get_ca_certs() and ca else f"hub.cert and hub.key ({cert}, {key})"
            raise Trouble(f"{which} cannot be used: {error.strerror or error}; {JOIN}") from None
        return context

    def _file(self, what: str) -> Path | None:
        """Return a PEM file that the configuration names, or that joining the house left."""
        named: Path | None = getattr(self._hub, what)
        if named is not None or self._folder is None:
            return named
        left = self._folder / f"{what}.pem"
        return left if left.exists() else None
