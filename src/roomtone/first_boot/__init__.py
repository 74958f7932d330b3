"""At boot: take in the file ``roomtone.yaml`` that an installer edited on the SD card, before the daemon starts.

It is laid over ``/etc/roomtone/config.yaml``. What the card says wins where it has changed since it was last taken
in; whatever else was edited in the configuration meanwhile stays. Secrets go into a folder of credentials and are
wiped from the card. A card that is wrong changes nothing: what is wrong is kept for the daemon, which says it aloud.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from roomtone.config import LAST_GOOD, SYSTEM_FILE, checked
from roomtone.config_sources import CREDENTIALS, Mistake, Raw, as_written, completed
from roomtone.durable import write_durably
from roomtone.first_boot.card import Card, read_card, takes_secret, told, wipe
from roomtone.settings import SERVICE_STATE, as_id, machine_time_zone

log = logging.getLogger(__name__)

OUTCOME = "first-boot.json"
"""In the state folder: what the last taking-in came to, until the daemon has said it."""

TAKEN = "card.yaml"
"""Beside the configuration: the card's file as it was when it was last taken in, without secrets."""

BEFORE = "config.before-card.yaml"
"""Beside the configuration: what it was before a card last changed it."""

HEADER = f"# Written at boot: roomtone.yaml of the card over what stood here before, which is in {BEFORE}.\n"
SLOW_S = 30
"""Longest that setting the machine's name, zone or locale may take."""

Run = Callable[[Sequence[str]], str]
"""Runs a command and returns what it prints. Raises OSError and subprocess.SubprocessError."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the card's file may be, and where what it says goes."""

    cards: tuple[Path, ...] = (Path("/boot/firmware/roomtone.yaml"), Path("/boot/roomtone.yaml"))
    config: Path = SYSTEM_FILE
    credentials: Path = CREDENTIALS
    state_dir: Path = SERVICE_STATE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What taking in a card came to: ``ready`` or ``refused``, the mistakes, and what else did not work."""

    outcome: str
    file: str = ""
    mistakes: list[dict[str, str]] = field(default_factory=list)
    secrets_left: bool = False
    troubles: list[str] = field(default_factory=list)


def take_in(places: Places, run: Run | None = None) -> Outcome | None:
    """Take in the card; return what it came to, None where there was nothing to do.

    Raises OSError where the state's folder cannot be written, so that no word can be left for the daemon.
    """
    try:
        return _taken_in(places, run or _run)
    except OSError as error:
        wrong = f"{error.filename or 'the disk'} cannot be written ({error.strerror})"
        mistake = Mistake("", "", wrong, "look at: findmnt, df -h")
        return _left(places, Outcome("refused", mistakes=[asdict(mistake)]))


def _taken_in(places: Places, run: Run) -> Outcome | None:
    file = next((each for each in places.cards if os.path.lexists(each)), None)
    card = read_card(file) if file is not None else Card()
    known = places.config.with_name(TAKEN)
    if file is None or not (card.values or card.spans or card.mistakes):
        if known.exists():
            return None
        _remember(known, file, card)
        return _left(places, Outcome("ready", str(file or "")))
    brought = keep_secrets(places.credentials, card)
    values, mistakes = _laid_over(places, card)
    secrets_left = not _wiped(file, card)
    if mistakes:
        return _left(places, Outcome("refused", str(file), [asdict(each) for each in mistakes], secrets_left))
    is_news = brought or read_card(known).values != card.values or not places.config.exists()
    troubles = _apply(places, card, values, run) if is_news else []
    outcome = Outcome("ready", str(file), [], secrets_left, troubles) if is_news or secrets_left else None
    if outcome is not None:
        _left(places, outcome)
    _remember(known, None if secrets_left else file, card)  # last: cut off before, all of it is done once more
    return outcome


def _remember(known: Path, file: Path | None, card: Card) -> None:
    """Keep what has been taken in: the file as it is, or where secrets are left in it what else it says."""
    text = yaml.safe_dump(card.values).encode() if file is None else file.read_bytes()
    if not known.is_file() or known.read_bytes() != text:
        _write(known, text, like=known.parent, mode=0o640)


def _left(places: Places, outcome: Outcome) -> Outcome:
    """Leave word for the daemon."""
    places.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps({"v": 1, **asdict(outcome)}, ensure_ascii=False, indent=1) + "\n"
    _write(places.state_dir / OUTCOME, text, like=places.state_dir)
    return outcome


# ----------------------------------------------------------------------------------------- what it says


def keep_secrets(folder: Path, card: Card) -> bool:
    """Write each secret into a file of its own, which only root reads; say whether any is new. Raises OSError."""
    new = False
    if card.secrets:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, secret in card.secrets.items():
        kept = folder / name
        if not kept.is_file() or kept.read_text("utf-8") != secret:
            write_durably(kept, secret.encode("utf-8"))
            new = True
    return new


def _wiped(file: Path, card: Card) -> bool:
    if not card.spans:
        return True
    try:
        wipe(file, card)
    except OSError as error:
        log.warning("%s: the secrets stay on the card (%s)", file, error.strerror)
        return False
    return True


def _laid_over(places: Places, card: Card) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the configuration with the card's values in it, and what is wrong with it."""
    base, since = _base(places)
    values = merged(base, since, card.values)
    device = values.get("device")
    if isinstance(device, dict) and "id" not in device and (made := _id_of(device)):
        device["id"] = made  # only a room that has none: by its id it is known to the house
    raw = Raw(str(places.config), _opened(values, (), places.credentials), dict(card.lines), list(card.mistakes))
    if not raw.mistakes:
        checked(completed(raw, _environment(places)))
    return values, told(card, raw.mistakes)


def _opened(values: Any, key: tuple[str, ...], folder: Path) -> Any:
    """Return the values with the secrets themselves where they belong, so that these are checked like all others."""
    if isinstance(values, dict):
        return {name: _opened(value, (*key, name), folder) for name, value in values.items()}
    named = values.startswith("credential:") if isinstance(values, str) else False
    file = folder / values.removeprefix("credential:").strip() if named else folder
    if named and takes_secret(key) and file.parent == folder and file.is_file():
        return file.read_text("utf-8", "replace")
    return values


def _base(places: Places) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what to lay a card over, the last good configuration where it is broken, and what the card last said."""
    now = _read_good(places, places.config)
    if now is not None:
        return now, read_card(places.config.with_name(TAKEN)).values
    return _read_good(places, places.state_dir / LAST_GOOD) or {}, {}


def _read_good(places: Places, file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    raw = as_written(file)
    values = raw.values
    if not raw.mistakes:
        checked(completed(raw, _environment(places)))
    # another unit may bring credentials that are not in the folder
    grave = [each for each in raw.mistakes if "no credential" not in each.wrong]
    return None if grave else values


def _environment(places: Places) -> dict[str, str]:
    return {"CREDENTIALS_DIRECTORY": str(places.credentials)}


def _id_of(device: dict[str, Any]) -> str:
    return as_id(str(device.get("name") or device.get("room") or ""))


def merged(base: dict[str, Any], last: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """Lay what changed on a card, between ``last`` and ``card``, over ``base``, key by key; nothing else changes."""
    values = dict(base)
    for key in [*card, *(gone for gone in last if gone not in card)]:
        before, wanted, present = last.get(key), card.get(key), values.get(key)
        if before == wanted and key in values:
            continue
        if isinstance(wanted, dict):
            values[key] = merged(_section(present), _section(before), wanted)
        elif key in card:
            values[key] = wanted
        elif isinstance(before, dict) and isinstance(present, dict):
            values[key] = merged(present, before, {})
            if not values[key]:
                del values[key]
        elif present == before:
            values.pop(key, None)
    return values


def _section(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# ------------------------------------------------------------------------------------------ what is done


def _apply(places: Places, card: Card, values: dict[str, Any], run: Run) -> list[str]:
    """Write the configuration and set up the machine; return what did not work."""
    old = places.config.read_bytes() if places.config.is_file() else b""
    if not old or as_written(places.config).values != values:
        if old:
            _write(places.config.with_name(BEFORE), old, like=places.config)
        _write_values(places.config, values, HEADER)
    return [trouble for command in wanted(card.values, values) if (trouble := _do(command, run))]


def wanted(card: dict[str, Any], values: dict[str, Any]) -> list[list[str]]:
    """List the commands that make the machine what a card says: its name, its time zone, its locale."""
    commands = []
    name = str(_section(values.get("device")).get("id") or "").replace("_", "-").strip("-")
    if "device" in card and name and name != socket.gethostname():
        commands.append(["hostnamectl", "--no-ask-password", "set-hostname", name])
    zone = card.get("time_zone")
    if zone and zone != machine_time_zone():
        commands.append(["timedatectl", "--no-ask-password", "set-timezone", zone])
    if card.get("language"):
        commands.append(["localectl", "--no-ask-password", "set-locale", card["language"]])
    return commands


def _do(command: list[str], run: Run) -> str:
    """Run a command; return what hindered it, if anything. A machine without systemd's tools is left as it is."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        if command[0] == "localectl":
            locale = _locale(command[-1], run(["localectl", "--no-pager", "list-locales"]).split())
            if locale is None:
                return ""
            command = [*command[:-1], f"LANG={locale}"]
        run(command)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return f"{' '.join(command)}: {said[-1] if said else 'did not work'}"
    return ""


def _locale(language: str, there: Sequence[str]) -> str | None:
    """Choose the locale of a language among those installed: that of its country, else any of the language."""
    whole = language.replace("-", "_")
    for start in (whole + ".", whole + "_", language.partition("-")[0] + "_"):
        found = next((each for each in there if each.startswith(start) and each.upper().endswith("UTF-8")), None)
        if found:
            return found
    return None


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=SLOW_S, check=True).stdout


def _write_values(file: Path, values: dict[str, Any], header: str = "") -> None:
    text = header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    _write(file, text, like=file if file.exists() else file.parent, mode=0o640)


def _write(file: Path, content: str | bytes, like: Path, mode: int = 0o600) -> None:
    """Write a file that belongs to whom another one does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    had = like.stat()
    owner = (had.st_uid, had.st_gid) if os.geteuid() == 0 else None
    write_durably(file, content.encode("utf-8") if isinstance(content, str) else content, mode, owner)


# ---------------------------------------------------------------------------------------- what is told


def what_came_of_it(state_dir: Path) -> Outcome | None:
    """Return what the last boot left word of, once; None where it left none."""
    file = state_dir / OUTCOME
    try:
        read = json.loads(file.read_text("utf-8"))
        file.unlink()
        return Outcome(**{key: value for key, value in read.items() if key != "v"})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read: %s", file, error)
        return None
