"""Getting models: the catalogue of those Roomtone knows, and fetching them from the Hugging Face Hub.

Nothing is fetched unless ``pull`` is called. A file arrives under another name, is taken up again where it broke
off, and is compared with the size and the hash that the hub gives for it; only a whole model is moved to its place.
``HF_ENDPOINT`` names another hub, ``HF_TOKEN`` is shown to it where it is set.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

import yaml

from roomtone import __version__, models
from roomtone.config_sources import guess
from roomtone.core.errors import ModelError, StateBusy, UsageError
from roomtone.engines import lacking
from roomtone.shipped import shipped

HUB = "https://huggingface.co"
PARTIAL = 206
TRIES, AGAIN_S = 5, 1.0
"""Connections in a row that may bring nothing, and seconds between them."""


# ----------------------------------------------------------------------------------------- catalogue


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue. ``files`` are paths in ``repo`` at ``revision``; ``megabytes`` where known."""

    kind: str
    name: str
    repo: str
    revision: str
    files: tuple[str, ...]
    language: str
    licence: str
    megabytes: int | None = None

    @property
    def typed(self) -> str:
        """The name as people type it."""
        return models.typed(self.kind, self.name)


def catalogue(file: Path | None = None) -> dict[str, Entry]:
    """Read the catalogue that came with Roomtone: models by the names people type."""
    content = yaml.safe_load((file or shipped("models") / "catalogue.yaml").read_text("utf-8"))
    entries = [_folder(model) for model in content["models"]]
    entries += [_weights(model, content["languages"]) for model in content["languages"]["models"]]
    voices = content["voices"]
    entries += [_voice(name, size, voices) for name, size in voices["names"].items()]
    return {entry.typed: entry for entry in entries}


def _folder(model: dict[str, Any]) -> Entry:
    """Make an entry of a model whose name says its kind, and which is a folder of files."""
    kind, name = models.read_name(model["name"])
    return Entry(
        kind=kind,
        name=name,
        repo=model["repo"],
        revision=model.get("revision", "main"),
        files=tuple(model["files"]),
        language=model["language"],
        licence=model["licence"],
        megabytes=model.get("megabytes"),
    )


def _weights(model: dict[str, Any], common: dict[str, Any]) -> Entry:
    """Make an entry of a language model, one file, which is kept under another name than it has in its repository."""
    return Entry(
        kind="llama",
        name=model["name"].removeprefix("llm-"),
        repo=model["repo"],
        revision=model.get("revision", "main"),
        files=(model["file"],),
        language=common["language"],
        licence=model["licence"],
        megabytes=model.get("megabytes"),
    )


def _voice(name: str, size: int | None, voices: dict[str, Any]) -> Entry:
    """Make an entry of a voice's name, which says where its files are."""
    locale, speaker, quality = name.split("-")
    path = f"{locale.partition('_')[0]}/{locale}/{speaker}/{quality}/{name}.onnx"
    files = (f"{path}.json", path)
    return Entry("piper", name, voices["repo"], voices["revision"], files, locale, voices["licence"], size)


def find(text: str, known: dict[str, Entry]) -> Entry:
    """Return the entry that is meant. Raises UsageError with what was probably meant where there is none."""
    prefixed = (f"{form.prefix}{text}" for form in models.FORMS.values() if form.prefix)
    for name in (text, text.removesuffix(".onnx"), *prefixed):
        if name in known:
            return known[name]
    near = guess(text, known)
    hint = near if "mean" in near else "roomtone models list shows those there are"
    raise UsageError(f"there is no model '{text}'; {hint}", model=text)


# ---------------------------------------------------------------------------------------------- pull


class Bar(Protocol):
    """Shows a person how a pull goes on."""

    def begin(self, file: str, done: int, total: int) -> None:
        """Say which file comes now, and how many of its bytes are there."""

    def move(self, count: int) -> None:
        """Say that so many bytes more (or fewer, where the hub began anew) have come."""


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file as the hub describes it: ``etag`` is a SHA-256, or git's SHA-1 of small files. Here it is ``name``."""

    name: str
    url: str
    size: int
    etag: str
    commit: str


Ask = Callable[[str, int], None]
"""Told the host that is about to be asked for a model, with its port, and the bytes of the addresses it is told."""


def pull(entry: Entry, folder: Path, bar: Bar, on_ask: Ask = lambda *_: None) -> models.Pin:
    """Fetch a model into the models folder, replacing what was there under its name once the new one is whole.

    What has arrived when this ends early stays for the next time. Raises ModelError, one line with what mends it;
    StateBusy where another process is fetching the same model.
    """
    hub = _hub()
    try:
        return _pulled(hub, entry, folder, bar, on_ask)
    except OSError as error:
        line = f"{entry.typed} cannot be written ({error.strerror}); mend that and {_again(entry)}"
        raise ModelError(line) from error


def _pulled(hub: Any, entry: Entry, folder: Path, bar: Bar, on_ask: Ask) -> models.Pin:
    with _incoming(entry, folder) as incoming:
        remote = _describe(hub, entry, on_ask)
        there = sum((incoming / file.name).stat().st_size for file in remote if (incoming / file.name).is_file())
        models.need_room(folder, sum(file.size for file in remote) - there, entry.typed)
        for file in remote:
            _fetch(hub, entry, file, incoming, bar)
        source = f"{entry.repo}@{remote[0].commit}"
        return models.put_in_place(incoming, entry.kind, entry.name, folder, source)


@contextmanager
def _incoming(entry: Entry, folder: Path) -> Iterator[Path]:
    """Own the folder in which the model is put together; one process at a time."""
    models.need_room(folder, 0, entry.typed)
    incoming = models.incoming_of(entry.kind, entry.name, folder)
    incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(incoming.with_name(f"{incoming.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield incoming
    except BlockingIOError:
        raise StateBusy(f"{entry.typed} is being fetched by another process; wait for that one") from None
    finally:
        os.close(lock)


def _hub() -> Any:
    """Import the hub's library. It is told to be quiet, and to send nothing about this machine."""
    reason = lacking("huggingface_hub", "whisper")
    if reason is not None:
        raise ModelError(f"models cannot be fetched: {reason}; or take in a folder: roomtone models import PATH")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub.utils

    hub: Any = huggingface_hub
    hub.utils.disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return hub


def _describe(hub: Any, entry: Entry, on_ask: Ask) -> list[_Remote]:
    """Ask for each file's size and hash; all at the commit that the first answer names."""
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    revision, found = entry.revision, []
    addresses = [hub.hf_hub_url(entry.repo, path, revision=revision, endpoint=endpoint) for path in entry.files]
    on_ask(urlsplit(endpoint).netloc, 2 * sum(map(len, addresses)))  # what a file is, then for it
    for path in entry.files:
        url = hub.hf_hub_url(entry.repo, path, revision=revision, endpoint=endpoint)
        with _said_plainly(hub, entry, endpoint):
            told = hub.get_hf_file_metadata(url, token=_token(), endpoint=endpoint)
        if not told.etag or told.size is None:
            raise ModelError(f"{endpoint} does not say how large {path} is; see what HF_ENDPOINT names")
        revision = told.commit_hash or revision
        url = hub.hf_hub_url(entry.repo, path, revision=revision, endpoint=endpoint)
        name = f"{entry.name}.gguf" if entry.kind == "llama" else path.rpartition("/")[2]
        found.append(_Remote(name, url, told.size, told.etag, revision))
    return found


def _token() -> str | bool:
    return os.environ.get("HF_TOKEN") or False


def _fetch(hub: Any, entry: Entry, file: _Remote, incoming: Path, bar: Bar) -> None:
    """Bring one file whole into the incoming folder, going on where the last try ended."""
    whole, part = incoming / file.name, incoming / f"{file.name}.{re.sub(r'[^0-9a-zA-Z]', '', file.etag)[:16]}.part"
    if whole.is_file() and _as_told(whole, file):
        return
    if part.is_file() and part.stat().st_size > file.size:
        part.unlink()
    with part.open("ab") as arriving:
        done = arriving.tell()
        bar.begin(file.name, done, file.size)
        _download(hub, entry, file, arriving, bar)
    if not _as_told(part, file):
        part.unlink()
        raise ModelError(
            f"{entry.typed}: {file.name} did not arrive as the hub has it, and was thrown away; {_again(entry)}"
        )
    part.replace(whole)


def _download(hub: Any, entry: Entry, file: _Remote, arriving: BinaryIO, bar: Bar) -> None:
    """Fetch the rest of a file, connecting anew where that breaks off, until ``TRIES`` in a row bring nothing."""
    tries = 0
    with _said_plainly(hub, entry, file.url):
        while (done := arriving.tell()) < file.size:
            broken = None
            try:
                _read_on(hub, file, arriving, bar)
            except hub.errors.HfHubHTTPError:
                raise
            except hub.errors.HTTPError as error:  # the HTTP client's own: it broke off, or nothing came for too long
                broken = error
            tries = 0 if arriving.tell() > done else tries + 1
            if tries == TRIES and broken is not None:
                raise broken
            if tries == TRIES:
                return
            if broken is not None:
                time.sleep(AGAIN_S)


def _read_on(hub: Any, file: _Remote, arriving: BinaryIO, bar: Bar) -> None:
    """Ask for what comes after what is there, and write it down as it comes."""
    done = arriving.tell()
    headers = hub.utils.build_hf_headers(token=_token(), library_name="roomtone", library_version=__version__)
    headers |= {"Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
    bound_s = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    with hub.utils.get_session().stream("GET", file.url, headers=headers, timeout=bound_s) as response:
        hub.utils.hf_raise_for_status(response)
        if done and response.status_code != PARTIAL:
            bar.move(-done)
            arriving.seek(0)
            arriving.truncate()
        for block in response.iter_bytes():
            if arriving.tell() + len(block) > file.size:
                return  # more than was promised: it will not be taken for the file
            arriving.write(block)
            bar.move(len(block))


def _as_told(path: Path, file: _Remote) -> bool:
    """Tell whether a file is what the hub described: its size, and its SHA-256 or git's SHA-1 of a blob."""
    size = path.stat().st_size
    if size != file.size:
        return False
    if re.fullmatch(r"[0-9a-f]{64}", file.etag):
        return models.stamp(path).sha256 == file.etag
    if not re.fullmatch(r"[0-9a-f]{40}", file.etag):
        return True  # a mirror's own mark, which says nothing about the content
    head = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: head).hexdigest() == file.etag


def _again(entry: Entry) -> str:
    return f"run again: roomtone models pull {entry.typed}"


@contextmanager
def _said_plainly(hub: Any, entry: Entry, where: str) -> Iterator[None]:
    """Let what goes wrong with the hub be one line: what it is, and what mends it."""
    try:
        yield
    except hub.errors.OfflineModeIsEnabled:
        raise ModelError(
            "HF_HUB_OFFLINE is set; unset it, or take in a folder: roomtone models import PATH"
        ) from None
    except hub.errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403, 404):
            line = f"{entry.typed} is not at {where} ({status}); upgrade Roomtone, or see what HF_ENDPOINT names"
        else:
            line = f"{where} answers with an error ({status}); try later: roomtone models pull {entry.typed}"
        raise ModelError(line, status=status) from error
    except OSError:
        raise  # the disk's
    except Exception as error:  # the library's HTTP client has its own kinds, another in each major version
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"{where} cannot be reached ({reason}); connect this machine and {_again(entry)}, or fetch it elsewhere "
            "and take in the folder: roomtone models import PATH"
        ) from error
