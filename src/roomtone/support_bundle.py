"""A bundle for whoever helps from afar: findings, versions, settings, units, journal, metrics; no secrets, no texts.

All that goes into it passes ``own_words``: nothing is left but the program's own messages, known names and short
numbers. So whoever writes one need not read it through; they can, for it is plain text.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import io
import json
import platform
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from roomtone import __version__, control, engines
from roomtone.config import Settings, masked
from roomtone.config_sources import SECRET_NAME
from roomtone.control import ask_daemon, find_daemon
from roomtone.core.errors import ConfigError, RoomtoneError
from roomtone.doctor import board, units
from roomtone.doctor.findings import Finding
from roomtone.own_words import REMOVED, SEAMS, OwnWords, own_words, scrub

LINES = 500
"""Of the journal, the last ones: about a day of a room that is talked with."""

JOURNAL = ("journalctl", "--no-pager", "--output=json", f"--lines={LINES}", "--unit=roomtone*")

TEXT_LINE = re.compile(r"(\d\d:\d\d:\d\d) ([A-Z]+) ([\w.]+): (.*?)(?: \[[^\]]*\])?")
"""A line of the log as a person reads it (``logs.TextLines``)."""

FRAME = re.compile(r'\s*File "[^"]*/(roomtone/[\w/]+)\.py", line (\d+), in .*')
"""A line of a traceback; the folders above the package's own are somebody's."""

SAMPLE = re.compile(r"([a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+|NaN|[+-]Inf)")
LABEL = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"')

BOUND = re.compile(r"le(\d+(\.\d+)?|\+Inf)")
"""A label with the upper end of a histogram's bucket."""

README = """What this is: the state of a Roomtone, for whoever helps.
Everything that is not Roomtone's own (names, texts, addresses, secrets) was taken out and reads {removed}.
Still, look through it before it is given away: tar -xzOf FILE | less
"""


@dataclass(frozen=True, slots=True)
class Sources:
    """What goes into a bundle, as it was found: nothing is taken out yet."""

    settings: Settings
    findings: Sequence[Finding] = ()
    journal: str | None = None
    units: str | None = None
    metrics: str | None = None
    status: Mapping[str, Any] = field(default_factory=dict)


async def gather(
    settings: Settings, findings: Sequence[Finding], *, named: bool, asks: board.Ask = board.ask
) -> Sources:
    """Ask systemd and, where one runs, the daemon; what does not answer is left out."""
    metrics: str | None = None
    status: dict[str, Any] = {}
    try:
        daemon = await find_daemon(settings.state_dir, named=named)
        if daemon is not None:
            status = await _result(daemon, "status") or {}
            metrics = await _result(daemon, "metrics")
    except RoomtoneError as error:
        findings = [*findings, Finding("bundle", "warn", error.message)]
    log = asks(JOURNAL)
    if log is None:
        mend = "run it once more with sudo: it will be in the bundle then"
        findings = [*findings, Finding("bundle", "warn", "the journal cannot be read by this user", mend)]
    return Sources(settings, findings, log, asks(units.SHOW), metrics, status)


async def _result(daemon: Path, command: str) -> Any:
    async for message in ask_daemon(daemon, {"command": command}):
        if "result" in message:
            return message["result"]
    return None


def write(file: Path, sources: Sources, words: OwnWords | None = None) -> None:
    """Write the bundle, a tar.gz that only its owner may read. Raises ConfigError where that cannot be done."""
    content = bundle(sources, words or own_words())
    try:
        file.touch(0o600, exist_ok=False)
        file.write_bytes(content)
    except FileExistsError:
        raise ConfigError(f"{file} is there already; choose another name") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror}); choose another place") from None


def bundle(sources: Sources, words: OwnWords) -> bytes:
    """Return the bytes of a bundle."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb") as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, text in members(sources, words):
            content = text.encode()
            info = tarfile.TarInfo(f"roomtone-support/{name}")  # no owner, no machine's name
            info.size, info.mtime, info.mode = len(content), int(datetime.now(UTC).timestamp()), 0o600
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def members(sources: Sources, words: OwnWords) -> Iterator[tuple[str, str]]:
    """Yield the files of a bundle: their names and what is in them."""
    keys = fields()
    yield "README", README.format(removed=REMOVED)
    yield "versions.json", _json(versions())
    yield "findings.jsonl", _lines(scrub(asdict(finding), words, FINDING_KEYS) for finding in sources.findings)
    yield "config.json", _json(scrub(_unsecret(masked(sources.settings)), words, keys))
    yield "status.json", _json(scrub(dict(sources.status), words, keys | STATUS_KEYS))
    yield "units.jsonl", _lines(scrub(dict(unit), words, UNIT_KEYS) for unit in units.shown(sources.units or ""))
    yield "journal.jsonl", _lines(journal(sources.journal or "", words))
    yield "metrics.txt", "\n".join(metrics(sources.metrics or "", words)) + "\n"


FINDING_KEYS = frozenset(("subject", "level", "said", "mend"))
STATUS_KEYS = frozenset(("state", "muted", "engines", "health", "events", "count", "last"))
UNIT_KEYS = frozenset(units.ASKED.split(","))


# --------------------------------------------------------------------------------------------- what it is


def versions() -> dict[str, Any]:
    """Return what runs here: Roomtone, Python, what Roomtone is built on, the system. Nothing that names it."""
    release, model = board.release(board.ROOT), board.model(board.ROOT).said
    wanted = {re.split(r"[\s;<>=!~\[(]", each)[0] for each in importlib.metadata.requires("roomtone") or ()}
    return {
        "roomtone": __version__,
        "python": platform.python_version(),
        "kernel": re.sub(r"[^0-9.].*", "", platform.release()),
        "machine": platform.machine(),
        "system": f"{_plain(release.get('ID', ''))} {_plain(release.get('VERSION_ID', ''))}",
        "board": model if model.startswith("Raspberry Pi") else "other",
        "service": control.SERVICE_SOCKET.exists(),
        "packages": {name: version for name in sorted(wanted) if (version := _version(name)) is not None},
        "bits": sys.maxsize.bit_length() + 1,
    }


def _plain(text: str) -> str:
    return text if re.fullmatch(r"[a-z0-9.]{1,12}", text) else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ----------------------------------------------------------------------------------------- configuration


def fields() -> frozenset[str]:
    """Return every key that a configuration may have by Roomtone's own making, and no household's."""
    found: set[str] = set(_fields_of(Settings, set()))
    for seam in SEAMS:
        for name in engines.names(seam):
            found |= _fields_of(engines.load(seam, name).Settings, set())
    return frozenset(found)


def _fields_of(model: Any, seen: set[Any]) -> set[str]:
    """List the fields of a model and of the models in it."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        if model in seen:
            return set()
        seen.add(model)
        found = set(model.model_fields)
        for each in model.model_fields.values():
            found |= _fields_of(each.annotation, seen)
        return found
    return {name for part in getattr(model, "__args__", ()) for name in _fields_of(part, seen)}


def _unsecret(value: Any, name: str = "") -> Any:
    """Mask what may be a secret though it is a number: a PIN."""
    if isinstance(value, dict):
        return {key: _unsecret(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_unsecret(inner, name) for inner in value]
    own = value is None or isinstance(value, (bool, str)) or not SECRET_NAME.search(name)
    return value if own or name in NO_SECRETS else "***"


NO_SECRETS = ("tokens", "tokens_per_day", "max_response_tokens")


# ------------------------------------------------------------------------------------------- the journal


def journal(text: str, words: OwnWords) -> Iterator[dict[str, Any]]:
    """Yield what the journal's records say that is Roomtone's own (journalctl(1), --output=json)."""
    for line in text.splitlines():
        try:
            record = json.loads(line)
            at = int(record["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError, TypeError):
            continue
        message = record.get("MESSAGE")
        if isinstance(message, list):  # bytes that are no text
            message = bytes(message).decode("utf-8", "replace")
        unit = str(record.get("UNIT") or record.get("_SYSTEMD_UNIT") or "")
        yield {
            "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
            "unit": words.only(unit),
            "priority": str(record.get("PRIORITY", ""))[:1],
            "where": _where(f'File "{record.get("CODE_FILE")}", line {record.get("CODE_LINE")}, in x', words),
            "message": _message(str(message), words),
        }


def _message(text: str, words: OwnWords) -> str:
    """Keep of a log's line who wrote it, what of it is the program's own, and where a traceback came by."""
    first, *rest = text.replace("\\n", "\n").split("\n") or [""]
    try:
        told = json.loads(first)
        told = told if isinstance(told, dict) else {}
    except ValueError:
        told = {}
    if told:
        first = f"{told.get('logger', '')}: {told.get('message', '')}"
        rest = [*rest, *str(told.get("exception", "")).split("\n")]
    elif match := TEXT_LINE.fullmatch(first):
        first = f"{match.group(3)}: {match.group(4)}"
    where = [place for line in rest if (place := _where(line, words)) is not None]
    last = [words.only(rest[-1])] if rest and rest[-1] else []
    return " | ".join([words.only(first), *where, *last])


def _where(line: str, words: OwnWords) -> str | None:
    """Return the module and line that a line of a traceback names; None where it is none of Roomtone's."""
    frame = FRAME.fullmatch(line)
    module = frame.group(1).replace("/", ".") if frame else ""
    return f"{module}:{frame.group(2)}" if frame and words.names(module) else None


# ------------------------------------------------------------------------------------------- the metrics


def metrics(page: str, words: OwnWords) -> Iterator[str]:
    """Yield the samples of a page of metrics, without labels that are somebody's own."""
    for line in page.splitlines():
        match = SAMPLE.fullmatch(line)
        if match is None or not match.group(1).startswith(("roomtone_", "process_", "python_")):
            continue
        found = LABEL.findall(match.group(2) or "")
        labels = ",".join(
            f'{key}="{value if BOUND.fullmatch(key + value) else words.only(value)}"' for key, value in found
        )
        yield f"{match.group(1)}{{{labels}}} {match.group(3)}" if labels else f"{match.group(1)} {match.group(3)}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def _lines(values: Iterable[Any]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)
