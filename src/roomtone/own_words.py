"""What of a text is Roomtone's own: its messages are known, and all else that stands in them can be taken out.

What is said and heard, names, addresses and secrets are not looked for: nobody could list them. It is the other way
round. The program's own messages are read from its source; of a line only what is such a message is kept, with short
numbers and known names (of engines, units, errors) in its gaps. So what is left is nothing that a household wrote.
"""

from __future__ import annotations

import ast
import builtins
import errno
import importlib.resources
import itertools
import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from roomtone import __version__, engines
from roomtone.core import errors
from roomtone.core.dialog import Ended, Source
from roomtone.core.machine import Mode
from roomtone.model_supply.catalogue import catalogue
from roomtone.shipped import shipped

REMOVED = "[removed]"

FEWEST_LETTERS, FEWEST_WORDS = 8, 2
"""A shorter message without gaps may be what somebody said as well."""

FEWEST_BESIDE_GAPS = 4
"""Letters: of a message with gaps only the fixed parts are kept, whoever said the rest."""

MOST_GAPS, LONGEST_LINE, DEEPEST = 8, 2000, 6
"""Messages with more gaps match anything; longer lines take long to match; a gap may hold a message with gaps."""

SPOKEN = ("demo", "bench", "mind")
"""Modules whose texts are what people say."""

NUMBER = re.compile(r"[+-]?\d{1,4}([.,]\d{1,3})?(ms|s|%)?|\d{1,6}(\.\d)? [kMG]B")
"""Longer ones may be codes, telephone numbers or addresses."""

VERSION = re.compile(r"\d{1,2}\.\d{1,2}\.\d{1,2}(-[0-9a-f]{8})?")
"""Of Roomtone, as its folder is called. An address has one part more."""

TRIED = 8
"""Messages that fit a line, of which the one is taken whose gaps can be kept best."""

EVENT = re.compile(r"[a-z]+\.[a-z_]+")
"""A kind of event on the feed: turn.ended."""

GAP = re.compile(r"%(?:\.\d+)?[sdrfgx]|\{[^{}]*\}")

SEAMS = ("audio", "vad", "wake", "echo", "stt", "llm", "tts", "embed", "tools")

KNOWN = """
    auto none ok warn fail *** open true false True False debug info warning error DEBUG INFO WARNING ERROR CRITICAL
    conversation ears store house idle sqlite text json wake_word button
    endpoint think first_sound total overhead skill tool routine offline
    loaded active inactive failed activating deactivating running dead enabled disabled static linked not-found
    success exit-code watchdog oom-kill timeout exited killed dumped start-limit-hit auto-restart waiting resources
    protocol FAILURE EXEC CHDIR USER GROUP CREDENTIALS NAMESPACE EXCEPTION SUCCESS
    /var/lib/roomtone /var/lib/roomtone/roomtone.db /etc/roomtone/config.yaml /run/roomtone/control.sock /tmp
    /opt/roomtone/current/install.sh roomtone.db x86_64 aarch64 armv7l UTC Etc/UTC
"""
"""Words that may stand in a gap: of settings, of a turn, of systemd, and where Roomtone's own files are."""

SYSTEMD = (
    "Starting {}...",
    "Started {}.",
    "Started {} - {}.",
    "Starting {} - {}...",
    "Stopping {} - {}...",
    "Stopped {} - {}.",
    "Stopping {}...",
    "Stopped {}.",
    "Deactivated successfully.",
    "Main process exited, code={}, status={}/{}",
    "Failed with result '{}'.",
    "Scheduled restart job, restart counter is at {}.",
    "Watchdog timeout (limit {})!",
    "Consumed {} CPU time.",
    "Killing process {} ({}) with signal {}.",
    "A process of this unit has been killed by the OOM killer.",
    "Start request repeated too quickly.",
    "State '{}' timed out. Killing.",
    "Finished {} - {}.",
    "{} - {} was skipped because of an unmet condition check ({}={}).",
    "Failed to start {}.",
    "Failed to start {} - {}.",
    "Failed to kill control group {}, ignoring: {}",
)
"""What systemd says of a unit (its src/core/job.c, service.c and unit.c)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the program's: its fixed parts, between which there are gaps."""

    parts: tuple[str, ...]

    @property
    def letters(self) -> int:
        """How many letters are fixed."""
        return sum(character.isalpha() for part in self.parts for character in part)

    @property
    def longest(self) -> str:
        """The longest fixed part: what does not hold it is not this message."""
        return max(self.parts, key=len)

    def fits(self, text: str) -> re.Match[str] | None:
        """Match a whole text; the gaps are the groups."""
        return re.fullmatch("(.*?)".join(re.escape(part) for part in self.parts), text)

    @property
    def is_telling(self) -> bool:
        """Whether nobody would say it by chance."""
        if len(self.parts) > 1:
            return self.letters >= FEWEST_BESIDE_GAPS and len(self.parts) <= MOST_GAPS + 1
        return self.letters >= FEWEST_LETTERS and len(self.parts[0].split()) >= FEWEST_WORDS


class OwnWords:
    """Keeps of texts what is the program's own. ``names`` are words that may stand in a gap, as they are."""

    def __init__(self, messages: Iterable[Message], names: Iterable[str]) -> None:
        told = sorted({each for each in messages if each.is_telling}, key=lambda each: (-each.letters, each.parts))
        self._messages = [(each.longest, each) for each in told]
        self._names = frozenset(names)
        self._known: dict[str, str] = {}

    def names(self, text: str) -> bool:
        """Tell whether a word is one of the names, or a short number."""
        if text in self._names or NUMBER.fullmatch(text) or VERSION.fullmatch(text):
            return True
        return " " in text and all(word in self._names for word in text.split(" "))

    def only(self, text: str) -> str:
        """Return a text with all taken out that is not the program's own."""
        lines = [self._line(line, DEEPEST) for line in text.splitlines()]
        return "\n".join(lines)

    def _line(self, line: str, depth: int) -> str:
        if not line or self.names(line):
            return line
        if depth == 0 or len(line) > LONGEST_LINE:
            return REMOVED
        if line not in self._known:
            self._known[line] = self._matched(line, depth)
        return self._known[line]

    def _matched(self, line: str, depth: int) -> str:
        head, found, tail = line.partition(": ")
        if found and self.names(head):  # who says it
            return f"{head}: {self._line(tail, depth)}"
        fitting = (
            (each, match) for longest, each in self._messages if longest in line and (match := each.fits(line))
        )
        filled = [self._filled(each, match, depth) for each, match in itertools.islice(fitting, TRIED)]
        if filled:
            return min(filled, key=lambda text: text.count(REMOVED))
        for joint in (": ", "; ", ", "):
            head, found, tail = line.partition(joint)
            if found and (kept := self._line(head, depth - 1)) != REMOVED:
                return kept + joint + self._line(tail, depth - 1)
        return REMOVED

    def _filled(self, message: Message, match: re.Match[str], depth: int) -> str:
        gaps = (self._line(gap, depth - 1) for gap in match.groups())
        return "".join(part + gap for part, gap in zip(message.parts, [*gaps, ""], strict=True))


@cache
def own_words() -> OwnWords:
    """Return those of this installation; reading its source takes a second or two."""
    root = Path(str(importlib.resources.files("roomtone")))
    files = [file for file in sorted(root.rglob("*.py")) if file.relative_to(root).parts[0] not in SPOKEN]
    trees = {file: ast.parse(file.read_text("utf-8")) for file in files}
    found = [message for tree in trees.values() for message in messages_in(tree)]
    return OwnWords([*found, *(as_message(text) for text in SYSTEMD)], _names(root, trees))


def messages_in(tree: ast.Module) -> Iterator[Message]:
    """Read the messages from a module: its texts but for docstrings, and their halves around a semicolon."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            inner.add(id(node.value))  # a docstring, or one beside a constant
        if isinstance(node, ast.JoinedStr):
            yield from _halves("".join(_text(part) for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield from _halves(node.value)


def _alternatives(tree: ast.Module) -> Iterator[str]:
    """List the words between which a gap of a message chooses, what findings are of, and the kinds of events."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Finding", "split"):
            yield from (str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and EVENT.fullmatch(node.value):
            yield node.value
        if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.IfExp):
            for side in (node.value.body, node.value.orelse):
                if isinstance(side, ast.Constant) and isinstance(side.value, str):
                    yield side.value


def _text(part: ast.expr) -> str:
    return str(part.value).replace("{", "(").replace("}", ")") if isinstance(part, ast.Constant) else "{}"


def _halves(text: str) -> Iterator[Message]:
    if "\n" in text:
        return
    yield as_message(text)
    said, found, mend = text.partition("; ")
    if found:
        yield as_message(said)
        yield as_message(mend)


def as_message(text: str) -> Message:
    """Read a text whose gaps are written as in a log's or a format's text."""
    return Message(tuple(GAP.split(text)))


def _names(root: Path, trees: Mapping[Path, ast.Module]) -> Iterator[str]:
    """List what may stand in a gap: names that come with the program, with Python or with the system."""
    yield from (word for tree in trees.values() for word in _alternatives(tree))
    for unit in shipped("systemd").glob("*.*"):
        yield from (unit.name, unit.stem, *re.findall(r"^Description=(.*)", unit.read_text("utf-8"), re.MULTILINE))
    yield from (folder.name for folder in shipped("personas").iterdir() if folder.is_dir())
    yield from catalogue()
    modules = [file.parent if file.name == "__init__.py" else file.with_suffix("") for file in trees]
    yield from (".".join(("roomtone", *module.relative_to(root).parts)) for module in modules)
    yield from (__version__, *KNOWN.split(), *(each.value for kind in (Mode, Ended, Source) for each in kind))
    yield from (name for seam in SEAMS for name in (seam, *engines.names(seam)))
    yield from (name for name in (*dir(builtins), *dir(errors)) if name.endswith(("Error", "Exception", "Warning")))
    yield from (name for each in signal.Signals for name in (each.name, each.name.removeprefix("SIG")))
    yield from (os.strerror(number) for number in errno.errorcode)


def scrub(value: Any, words: OwnWords, fields: frozenset[str]) -> Any:
    """Take out of plain data all that is not the program's own: keys that are no ``fields`` become numbers."""
    if isinstance(value, dict):
        kept = {}
        for number, (key, inner) in enumerate(value.items(), start=1):
            known = key in fields or words.names(str(key))
            plain = known and isinstance(inner, (int, float))
            kept[str(key) if known else f"[{number}]"] = inner if plain else scrub(inner, words, fields)
        return kept
    if isinstance(value, (list, tuple)):
        return [scrub(inner, words, fields) for inner in value]
    if isinstance(value, str):
        return words.only(value)
    own = value is None or isinstance(value, bool) or words.names(str(value))
    return value if own else REMOVED
