"""Pulling a model from a mirror: the models folder of another machine, served as plain files over HTTP.

Its ``models.lock`` says what there is, and the size and SHA-256 of each file. Any web server does, such as
``python3 -m http.server --directory /var/lib/roomtone/models 8000``.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from roomtone import models
from roomtone.core.errors import ModelError
from roomtone.model_supply.fetching import Bar, Remote, Told, Wanted, ask, bring, client, said_plainly


def pull(url: str, kind: str, name: str, folder: Path, bar: Bar, pin: models.Pin | None = None) -> models.Pin:
    """Fetch a model from the mirror at ``url`` (see ``fetching.bring``); other bytes than ``pin``'s are refused."""
    wanted = Wanted(kind, name, pin)
    return bring(wanted, folder, lambda: _described(url.rstrip("/"), wanted), bar)


def _described(url: str, wanted: Wanted) -> Told:
    """Read what the mirror's lock says of a model."""
    held = _lock(url, wanted)
    pin = held.get(wanted.typed)
    if pin is None or pin.spoilt:
        there = ", ".join(sorted(name for name in held if not held[name].spoilt)) or "none"
        raise ModelError(
            f"{url} has no whole {wanted.typed} (it has: {there}); pull it there first, or take out models.mirror"
        )
    parts = models.FORMS[wanted.kind]
    base = f"{url}/{wanted.kind}" if parts.endings else f"{url}/{wanted.kind}/{quote(wanted.name)}"
    expected = {file.name for file in parts.parts(parts.path(wanted.name, Path()))} | set(parts.extras)
    found = [Remote(file, f"{base}/{quote(file)}", was.size, was.sha256) for file, was in pin.files.items()]
    if any(file.name not in expected for file in found):
        raise ModelError(f"{url}/{models.LOCK} names files that {wanted.typed} does not have; mend it there")
    return pin.source, sorted(found, key=lambda file: file.size)


def _lock(url: str, wanted: Wanted) -> dict[str, models.Pin]:
    hub = client()
    address = f"{url}/{models.LOCK}"
    ask(address, len(address))
    with said_plainly(wanted, url):
        answer = hub.utils.get_session().get(
            address, follow_redirects=True, timeout=hub.constants.HF_HUB_ETAG_TIMEOUT
        )
        hub.utils.hf_raise_for_status(answer)
    held = models.read_lock(answer.content)
    if held is None:
        raise ModelError(f"{address} is no lock of models; models.mirror is to name a models folder")
    return held
