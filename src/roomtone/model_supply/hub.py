"""Pulling a model of the catalogue from the Hugging Face Hub, or from the page that keeps it.

``HF_ENDPOINT`` names another hub, ``HF_TOKEN`` is shown to it where it is set. A pinned model is asked for at the
commit it was pinned at.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from roomtone import __version__, installed, models
from roomtone.core.errors import ModelError
from roomtone.model_supply.catalogue import Entry
from roomtone.model_supply.fetching import Bar, Remote, Told, Wanted, ask, bring, client, said_plainly

HUB = "https://huggingface.co"


def pull(entry: Entry, folder: Path, bar: Bar, pin: models.Pin | None = None) -> models.Pin:
    """Fetch a model into the models folder (see ``fetching.bring``); other bytes than ``pin``'s are refused."""
    wanted = Wanted(entry.kind, entry.name, pin)
    if not entry.files:
        raise ModelError(f"{entry.typed} {entry.use}, and needs no fetching; run: {installed.bringing('wake')}")
    if entry.url:
        return bring(wanted, folder, lambda: _at_a_page(entry, wanted), bar)
    return bring(wanted, folder, lambda: _at_the_hub(entry, wanted), bar)


def _at_the_hub(entry: Entry, wanted: Wanted) -> Told:
    """Ask for each file's size and hash; all at the commit that is pinned, else the one the first answer names."""
    hub, endpoint = client(), os.environ.get("HF_ENDPOINT") or HUB
    revision, found = _revision(entry, wanted.pin), []
    addresses = [hub.hf_hub_url(entry.repo, path, revision=revision, endpoint=endpoint) for path in entry.files]
    ask(endpoint, 2 * sum(map(len, addresses)))  # what a file is, then for it
    headers = hub.utils.build_hf_headers(token=_token(), library_name="roomtone", library_version=__version__)
    for path in entry.files:
        url = hub.hf_hub_url(entry.repo, path, revision=revision, endpoint=endpoint)
        with said_plainly(wanted, endpoint):
            told = hub.get_hf_file_metadata(url, token=_token(), endpoint=endpoint)
        if not told.etag or told.size is None:
            raise ModelError(f"{endpoint} does not say how large {path} is; see what HF_ENDPOINT names")
        revision = told.commit_hash or revision
        url = hub.hf_hub_url(entry.repo, path, revision=revision, endpoint=endpoint)
        found.append(Remote(entry.kept_as(path), url, told.size, told.etag, headers))
    return f"{entry.repo}@{revision}", found


def _revision(entry: Entry, pin: models.Pin | None) -> str:
    """Return the commit that is pinned, where it is of the same repository, else the catalogue's."""
    repo, _, commit = pin.source.rpartition("@") if pin else ("", "", "")
    return commit if repo == entry.repo and re.fullmatch(r"[0-9a-f]{40}", commit) else entry.revision


def _token() -> str | bool:
    return os.environ.get("HF_TOKEN") or False


def _at_a_page(entry: Entry, wanted: Wanted) -> Told:
    """Ask for each file's size; its hash is the catalogue's."""
    addresses = [f"{entry.url}/{path}" for path in entry.files]
    ask(entry.url, 2 * sum(map(len, addresses)))
    found = []
    for path, address in zip(entry.files, addresses, strict=True):
        with said_plainly(wanted, entry.url):
            found.append(Remote(path, address, _size(address), entry.hashes[path]))
    return entry.url, found


def _size(url: str) -> int:
    """Ask a plain server how large a file is. Raises what the HTTP client does."""
    hub: Any = client()
    headers = {"User-Agent": f"roomtone/{__version__}", "Accept-Encoding": "identity"}
    bound_s = hub.constants.HF_HUB_ETAG_TIMEOUT
    answer = hub.utils.get_session().head(url, headers=headers, follow_redirects=True, timeout=bound_s)
    hub.utils.hf_raise_for_status(answer)
    return int(answer.headers["Content-Length"])
