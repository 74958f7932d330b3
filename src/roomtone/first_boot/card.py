"""The file ``roomtone.yaml`` that an installer edits on the SD card: what it says, and how its secrets leave it.

It has the shape of the configuration. Beside that it takes the short keys of ``SHORT``, and ``secrets``, a section
of names and values which the rest of the file, and of the configuration, names as ``credential:NAME``.
"""

from __future__ import annotations

import dataclasses
import os
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from roomtone import engines
from roomtone.config_sources import SECRET_NAME, Mistake, Raw, guess, parse, read_text
from roomtone.durable import write_durably
from roomtone.settings import EngineSection, Settings

Key = tuple[str, ...]

LARGEST = 100_000
"""Bytes. A card's file is a page or two; what is larger is no such file."""

DEEPEST = 20
"""Sections within one another; the configuration has six. PyYAML's time grows with the square of it."""

SHORT: Mapping[str, Key] = {
    "name": ("device", "name"),
    "room": ("device", "room"),
    "id": ("device", "id"),
    "persona": ("personas", "default"),
    "hub_code": ("hub", "code"),
}
"""Keys an installer needs, and where they stand in the configuration."""

NOT_OURS: Mapping[str, str] = dict.fromkeys(
    ("wifi", "wi_fi", "wlan", "ssid", "network", "user", "ssh"),
    "set it in Raspberry Pi Imager, or in the file the imager leaves on the card",
)
"""Keys people look for here that are the system's, which has a way of its own for them."""

WIPED = "_"
"""What a secret is overwritten with, in its place and as long as it was, before the file is written anew."""


@dataclass(slots=True)
class Card:
    """What a card's file says: values as the configuration has them, secrets by the names of their credentials."""

    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    spans: list[tuple[int, int, str]] = field(default_factory=list)
    """Where in the text each secret stands, from and to, and the name of its credential."""
    lines: dict[Key, str] = field(default_factory=dict)
    """On which line each key stands."""
    written: dict[str, str] = field(default_factory=dict)
    """Dotted keys of the configuration, and how they are written on the card."""
    mistakes: list[Mistake] = field(default_factory=list)


def read_card(path: Path) -> Card:
    """Read a card's file. Raises nothing: what is wrong is in ``mistakes``, and the rest is empty then."""
    raw = Raw("")
    text = read_text(path, raw, LARGEST)
    if text is None:
        return Card(mistakes=raw.mistakes)
    text = path.read_bytes().decode("utf-8-sig")  # with its line ends as they are, so that it can be overwritten
    if _is_plain(text, raw):
        parse(text, raw)
    card = Card(text, mistakes=raw.mistakes)
    if not raw.mistakes and raw.values:
        root = yaml.compose(card.text, yaml.SafeLoader)
        assert isinstance(root, yaml.MappingNode)
        _take_in(card, dict(raw.values), dict(_nodes(root, ())))
    return card


def _is_plain(text: str, raw: Raw) -> bool:
    """Say whether a text can be read with bounded work: ten lines of references stand for gigabytes.

    A file full of brackets takes longer than a boot may.
    """
    if not text.strip("\0 \n\r\t"):
        return False
    depth = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            line = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
            if isinstance(event, yaml.AliasEvent):
                wrong = f"{line}there is a reference (*{event.anchor})"
                raw.mistake((), wrong, "write the value itself, or in quotes")
                return False
            if depth > DEEPEST:
                raw.mistake((), f"{line}sections stand within one another too often", "take that line out")
                return False
    except yaml.YAMLError:
        return True  # told by who reads it next
    return True


def _nodes(node: yaml.Node, path: Key) -> Iterator[tuple[Key, tuple[int, yaml.Node]]]:
    """List every value of a document: its key, the line on which it begins, and its node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                below = (*path, key.value)
                yield below, (key.start_mark.line + 1, value)
                yield from _nodes(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), (value.start_mark.line + 1, value)
            yield from _nodes(value, (*path, str(index)))


def _take_in(card: Card, values: dict[str, Any], nodes: dict[Key, tuple[int, yaml.Node]]) -> None:
    for key, (line, node) in nodes.items():
        place = (*SHORT[key[0]], *key[1:]) if key[0] in SHORT else key
        card.lines[place] = f"line {line}"
        card.written[".".join(place)] = ".".join(key)
        if isinstance(node, yaml.ScalarNode) and _is_secret(place, node):
            _move_secret(card, key, place, node, values)
    card.values = {key: value for key, value in values.items() if key not in SHORT and key != "secrets"}
    for short, place in SHORT.items():
        if short in values:
            _put_at(card, short, place, values[short])


def _is_secret(place: Key, node: yaml.ScalarNode) -> bool:
    if not node.value.strip() or node.tag == "tag:yaml.org,2002:null" or node.value.startswith("credential:"):
        return False
    return place[0] == "secrets" or takes_secret(place, is_text=node.tag == "tag:yaml.org,2002:str")


def _move_secret(card: Card, key: Key, place: Key, node: yaml.ScalarNode, values: dict[str, Any]) -> None:
    name = place[-1] if place[0] == "secrets" else re.sub(r"[^A-Za-z0-9_.-]", "-", ".".join(place))
    if place[0] == "secrets" and (len(place) != 2 or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name)):
        wrong = f"'{name[:40]}' cannot be a secret's name"
        card.mistakes.append(Mistake(card.lines[place], "secrets", wrong, "use letters, digits, _ and -"))
        return
    if set(node.value) - set(WIPED + " "):  # else it was taken in before the power went
        # as it is written: 012345 is a code, not a number to the base of eight
        card.secrets[name] = node.value.strip()
    card.spans.append((node.start_mark.index, node.end_mark.index, name))
    inner: Any = values
    for part in key[:-1]:
        inner = inner[int(part)] if isinstance(inner, list) else inner[part]
    inner[int(key[-1]) if isinstance(inner, list) else key[-1]] = f"credential:{name}"


def _put_at(card: Card, short: str, place: Key, value: Any) -> None:
    """Write a short key's value where the configuration has it."""
    section = card.values.setdefault(place[0], {})
    line = card.lines.get(place, "")
    if section is None:
        section = card.values[place[0]] = {}
    if not isinstance(section, dict):
        return  # what stands there is wrong by itself and will be reported
    if place[1] in section:
        card.mistakes.append(Mistake(line, short, f"stands also at {'.'.join(place)}", "keep one of the two"))
    elif value is not None:
        section[place[1]] = value


def takes_secret(key: Key, *, is_text: bool = True) -> bool:
    """Say whether a key of the configuration holds a secret; one that nobody knows does where it is called so."""
    kind: Any = Settings
    for part in key:
        if get_origin(kind) is dict:
            kind = get_args(kind)[-1]
            continue
        sections = [found for each in (kind, *get_args(kind)) if (found := _fields(each, key[0])) is not None]
        if sections and part in sections[0]:
            kind = sections[0][part]
        else:
            return is_text and SECRET_NAME.search(key[-1]) is not None
    return "SecretStr" in str(kind)


def _fields(kind: Any, seam: str) -> dict[str, Any] | None:
    """Return a section's fields, with the keys of the engines it may choose; None for what is no section."""
    if not hasattr(kind, "model_fields"):
        return None
    fields = {name: info.annotation for name, info in kind.model_fields.items()}
    if issubclass(kind, EngineSection):
        for name in engines.names(seam):
            own = engines.load(seam, name).Settings.model_fields
            fields = {**{key: info.annotation for key, info in own.items()}, **fields}
    return fields


def told(card: Card, mistakes: list[Mistake]) -> list[Mistake]:
    """Return mistakes in the values from top to bottom, told with keys and mends of the card."""
    return [_told(card, mistake) for mistake in sorted(mistakes, key=_line)]


def _line(mistake: Mistake) -> int:
    found = re.fullmatch(r"line (\d+)", mistake.where)
    return int(found[1]) if found else 0


def _told(card: Card, mistake: Mistake) -> Mistake:
    key = card.written.get(mistake.key, mistake.key)
    if "." in mistake.key and takes_secret(tuple(mistake.key.split("."))):
        mistake = dataclasses.replace(mistake, wrong=re.sub(r"^'.*'", "the value", mistake.wrong))
    mend = mistake.mend
    if mistake.wrong == "unknown key" and "." not in key:
        known = {*SHORT, "secrets", *Settings.model_fields}
        mend = NOT_OURS.get(key.lower().replace("-", "_")) or guess(key, known)
    return dataclasses.replace(mistake, key=key, mend=mend)


# -------------------------------------------------------------------------------------------- wiping


def wipe(path: Path, card: Card) -> None:
    """Take the secrets off the card: overwrite them where they stand, then write the file with their names instead.

    Cut off between the two, the file holds marks that are known for what they are. What flash has kept of the old
    blocks, out of reach of the file system, nobody can overwrite: who must be sure makes a new key. Raises OSError.
    """
    mark = BOM_UTF8 if path.read_bytes().startswith(BOM_UTF8) else b""
    with open(path, "r+b") as file:
        file.write(mark + _replaced(card, lambda secret, _: _blot(secret)).encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
    named = _replaced(card, lambda secret, name: f'"credential:{name}"' + _line_end(secret))
    # its own mode: FAT refuses every other one
    write_durably(path, mark + named.encode("utf-8"), path.stat().st_mode & 0o777)


def _replaced(card: Card, replacement: Callable[[str, str], str]) -> str:
    text = card.text
    for start, end, name in sorted(card.spans, reverse=True):
        text = text[:start] + replacement(text[start:end], name) + text[end:]
    return text


def _blot(secret: str) -> str:
    """Return marks instead of a secret, as many bytes as it has, with its lines as they are."""
    return "".join(one if one in " \r\n" else WIPED * len(one.encode("utf-8")) for one in secret)


def _line_end(secret: str) -> str:
    """Return the end of the line that a block of text has within it."""
    return secret[len(secret.rstrip("\r\n")) :]
