"""Fetching the files of a model: taken up where they broke off, compared with what was told of them.

A file arrives under another name; only a whole model is moved to its place. The HTTP client is huggingface_hub's,
for the hub and for plain mirrors alike. Who is asked is noted at the checkpoint of what leaves this machine.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from roomtone import __version__, models, outbound
from roomtone.core.errors import ModelError, RoomtoneError, StateBusy
from roomtone.engines import lacking

PARTIAL = 206
TRIES, AGAIN_S = 5, 1.0
"""Connections in a row that may bring nothing, and seconds between them."""

LOOK_BYTES = 16_000_000
"""After so many bytes it is looked whether the disk has room left: others write to it meanwhile."""

WHY = "model download"


class Bar(Protocol):
    """Shows a person how a pull goes on."""

    def begin(self, file: str, done: int, total: int) -> None:
        """Say which file comes now, and how many of its bytes are there."""

    def move(self, count: int) -> None:
        """Say that so many bytes more (or fewer, where the server began anew) have come."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as its server describes it: ``mark`` is a SHA-256, git's SHA-1 of a small file, or says nothing.

    Here it is called ``name``. ``headers`` go with each request for it.
    """

    name: str
    url: str
    size: int
    mark: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that is to be fetched, and what is pinned of it: other bytes are not taken for it."""

    kind: str
    name: str
    pin: models.Pin | None = None

    @property
    def typed(self) -> str:
        """The name as people type it."""
        return models.typed(self.kind, self.name)

    @property
    def again(self) -> str:
        """The command that goes on with it."""
        return f"run again: roomtone models pull {self.typed}"


Told = tuple[str, list[Remote]]
"""Where a model comes from, as it will be pinned, and its files."""


def bring(wanted: Wanted, folder: Path, describe: Callable[[], Told], bar: Bar) -> models.Pin:
    """Fetch a model into the models folder, replacing what was there under its name once the new one is whole.

    ``describe`` asks for what there is to fetch. What has arrived when this ends early stays for the next time.
    Raises ModelError, one line with what mends it; StateBusy where another process is fetching the same model.
    """
    try:
        with _incoming(wanted, folder) as incoming:
            source, remote = describe()
            _refuse_others(wanted, remote)
            missing = [file for file in remote if not _had(wanted, file, incoming, folder)]
            models.need_room(folder, sum(_lacks(file, incoming) for file in missing), wanted.typed)
            for file in missing:
                _fetch(wanted, file, incoming, folder, bar)
            return models.put_in_place(incoming, wanted.kind, wanted.name, folder, source, wanted.pin)
    except OSError as error:
        raise models.cannot_write(error, folder, wanted.typed) from error


def _refuse_others(wanted: Wanted, remote: list[Remote]) -> None:
    """Raise ModelError where what would come is not what is pinned, before any of it is fetched."""
    pinned = wanted.pin.files if wanted.pin else {}
    for file in remote:
        was = pinned.get(file.name)
        other_hash = was is not None and _is_sha256(file.mark) and file.mark != was.sha256
        if was is not None and (file.size != was.size or other_hash):
            raise ModelError(
                f"{wanted.typed}: {file.name} is another there than {models.LOCK} pins; for the one that is there "
                f"now, run: roomtone models pull --update {wanted.typed}"
            )


@contextmanager
def _incoming(wanted: Wanted, folder: Path) -> Iterator[Path]:
    """Own the folder in which the model is put together; one process at a time."""
    models.need_room(folder, 0, wanted.typed)
    incoming = models.incoming_of(wanted.kind, wanted.name, folder)
    incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(incoming.with_name(f"{incoming.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield incoming
    except BlockingIOError:
        raise StateBusy(f"{wanted.typed} is being fetched by another process; wait for that one") from None
    finally:
        os.close(lock)


# ------------------------------------------------------------------------------------------- the client


def client() -> Any:
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


def ask(url: str, size: int) -> None:
    """Note that a server is about to be asked, with ``size`` bytes. Raises ModelError where it is too far."""
    asyncio.run(_leaving(urlsplit(url).netloc.rpartition("@")[2], size))


async def _leaving(host: str, size: int) -> None:
    """Pass the checkpoint, which looks names up and takes its time on a loop."""
    await outbound.look_up(host)
    if not outbound.allows(host):
        raise ModelError(
            f"{host} is beyond the house, and features.offline_mode is on; take in a folder or a stick: roomtone "
            "models import PATH, or name a mirror in the house: models.mirror"
        )
    outbound.leaving(host, size, "text", WHY)


@contextmanager
def said_plainly(wanted: Wanted, where: str) -> Iterator[None]:
    """Let what goes wrong with a server be one line: what it is, and what mends it."""
    hub = client()
    try:
        yield
    except RoomtoneError:
        raise
    except hub.errors.OfflineModeIsEnabled:
        raise ModelError(
            "HF_HUB_OFFLINE is set; unset it, or take in a folder: roomtone models import PATH"
        ) from None
    except hub.errors.HfHubHTTPError as error:
        raise _refused(wanted, where, error.response.status_code) from error
    except OSError:
        raise  # the disk's
    except Exception as error:  # the library's HTTP client has its own kinds, another in each major version
        reason = " ".join(str(error).split()) or type(error).__name__
        mend = "see whether its clock is right (timedatectl)" if "certificate" in reason.lower() else "connect it"
        raise ModelError(
            f"{where} cannot be reached from this machine ({reason}); {mend} and {wanted.again}, or fetch it "
            "elsewhere and take in the folder: roomtone models import PATH"
        ) from error


def _refused(wanted: Wanted, where: str, status: int) -> ModelError:
    if status not in (401, 403, 404):
        line = f"{where} answers with an error ({status}); try later: roomtone models pull {wanted.typed}"
    elif wanted.pin is not None:
        line = (
            f"{wanted.typed} is no longer at {where} as {models.LOCK} pins it ({status}); for what is there now, "
            f"run: roomtone models pull --update {wanted.typed}"
        )
    else:
        line = f"{wanted.typed} is not at {where} ({status}); upgrade Roomtone, or see HF_ENDPOINT and models.mirror"
    return ModelError(line, status=status)


# --------------------------------------------------------------------------------------------- a file


def _part(file: Remote, incoming: Path) -> Path:
    """Return under which name a file arrives: another one where it has become another there."""
    return incoming / f"{file.name}.{re.sub(r'[^0-9a-zA-Z]', '', file.mark)[:16]}.part"


def _lacks(file: Remote, incoming: Path) -> int:
    """Return how many bytes of a file have not arrived yet."""
    arrived = [path.stat().st_size for path in (incoming / file.name, _part(file, incoming)) if path.is_file()]
    return max(0, file.size - max(arrived, default=0))


def _had(wanted: Wanted, file: Remote, incoming: Path, folder: Path) -> bool:
    """Take a file from the model that is here, by a link, where it is what was told: only the rest is fetched."""
    place, whole = models.path_of(wanted.kind, wanted.name, folder), incoming / file.name
    here = (place.parent if models.FORMS[wanted.kind].endings else place) / file.name
    if whole.exists() or not _says_what(file.mark) or not here.is_file() or not _as_told(here, file):
        return False
    try:
        whole.hardlink_to(here)
    except OSError:  # a file system without links
        return False
    return True


def _fetch(wanted: Wanted, file: Remote, incoming: Path, folder: Path, bar: Bar) -> None:
    """Bring one file whole into the incoming folder, going on where the last try ended."""
    whole, part = incoming / file.name, _part(file, incoming)
    if whole.is_file() and _as_told(whole, file):
        return
    if part.is_file() and part.stat().st_size > file.size:
        part.unlink()
    with part.open("ab") as arriving:
        bar.begin(file.name, arriving.tell(), file.size)
        _download(wanted, file, arriving, folder, bar)
    if not _as_told(part, file):
        part.unlink()
        raise ModelError(
            f"{wanted.typed}: {file.name} did not arrive as the hub has it, and was thrown away; {wanted.again}"
        )
    part.replace(whole)


def _download(wanted: Wanted, file: Remote, arriving: BinaryIO, folder: Path, bar: Bar) -> None:
    """Fetch the rest of a file, connecting anew where that breaks off, until ``TRIES`` in a row bring nothing."""
    hub, tries = client(), 0
    with said_plainly(wanted, file.url):
        while (done := arriving.tell()) < file.size:
            broken = None
            try:
                for _ in _read_on(hub, file, arriving, bar):
                    models.need_room(folder, file.size - arriving.tell(), wanted.typed)
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


def _read_on(hub: Any, file: Remote, arriving: BinaryIO, bar: Bar) -> Iterator[None]:
    """Ask for what comes after what is there, and write it down as it comes; yield now and then."""
    done = arriving.tell()
    headers = {"User-Agent": f"roomtone/{__version__}", **file.headers, "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={done}-"} if done else {}
    bound_s = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    with hub.utils.get_session().stream("GET", file.url, headers=headers, timeout=bound_s) as response:
        hub.utils.hf_raise_for_status(response)
        if done and response.status_code != PARTIAL:
            bar.move(-done)
            arriving.seek(0)
            arriving.truncate()
        looked = arriving.tell()
        for block in response.iter_bytes():
            if arriving.tell() + len(block) > file.size:
                return  # more than was promised: it will not be taken for the file
            arriving.write(block)
            bar.move(len(block))
            if arriving.tell() - looked >= LOOK_BYTES:
                looked = arriving.tell()
                yield


def _as_told(path: Path, file: Remote) -> bool:
    """Tell whether a file is what was described: its size, and its SHA-256 or git's SHA-1 of a blob."""
    size = path.stat().st_size
    if size != file.size:
        return False
    if not _says_what(file.mark):
        return True
    if _is_sha256(file.mark):
        return models.stamp(path).sha256 == file.mark
    head = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: head).hexdigest() == file.mark


def _says_what(mark: str) -> bool:
    """Tell whether a mark is a hash; a server's own says nothing about the content."""
    return _is_sha256(mark) or re.fullmatch(r"[0-9a-f]{40}", mark) is not None


def _is_sha256(mark: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", mark) is not None
