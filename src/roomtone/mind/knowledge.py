"""A persona's own notes, cut into passages, and those that belong to a question."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roomtone.core.errors import EngineError
from roomtone.core.persona import KnowledgeFile
from roomtone.engines.embed import Embed
from roomtone.mind import relevance

log = logging.getLogger(__name__)

PASSAGE = 600
"""Characters of a passage, about; a paragraph is not cut."""

FEWEST = 2
"""Words of a question that must be in a passage; one alone may mean anything, unless the passage is about it, or
hardly another holds it."""

SHARE = 0.6
"""Of the words of a question, at least these must be in the passage that answers it."""

LONGEST_QUESTION = 16
"""Words of a question that are looked for."""

NEAR = 0.2
"""Nearness (``relevance.in_meaning``) from which a passage belongs to a question though it holds none of its words:
a cosine of 0.44."""

UNDERSTAND_S = 0.3
"""Longest that is waited for what a question means."""

SPOKEN = 300
"""Characters that are read out of a passage, about: twenty seconds."""

STEM = 5
"""Letters by which words of one family are known: cook, cooking."""

WORD = re.compile(r"\w+")
HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*$")
MARKS = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*_`]+(?=\S)|(?<=\S)[*_`]+|^\s*(?:>|[-*+]|\d+[.)])\s+", re.MULTILINE)
"""What Markdown puts around words: links keep their text, lists lose their marks."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of notes: the file's name and the headings above it, and its text without Markdown's marks."""

    about: str
    text: str

    def said(self, question: str) -> str:
        """Return what of it is spoken: from the sentence that holds most of a question's words, some sentences."""
        sentences = re.split(r"(?<=[.!?])\s+", self.text)
        beginnings = {word[:STEM] for word in WORD.findall(question.lower())}
        held = [len(beginnings & {word[:STEM] for word in WORD.findall(each.lower())}) for each in sentences]
        first, *later = sentences[held.index(max(held)) :]
        for sentence in later:
            if len(first) + len(sentence) > SPOKEN:
                break
            first = f"{first} {sentence}"
        return first


@dataclass(frozen=True, slots=True)
class Meanings:
    """What passages mean: a row of ``vectors`` each, by ``embed``."""

    embed: Embed
    vectors: npt.NDArray[np.float32]


class Notes:
    """The passages of some files, and an index of their words in memory. May be used from any thread."""

    def __init__(self, files: Sequence[KnowledgeFile], ignored: Iterable[str] = ()) -> None:
        self._ignored = frozenset(ignored)
        self._passages = [passage for file in files for passage in passages(file)]
        self._meanings: Meanings | None = None
        self._lock = threading.Lock()
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._index.close)
        self._index.execute("CREATE VIRTUAL TABLE notes USING fts5(about, text, tokenize = 'porter unicode61')")
        rows = ((passage.about, passage.text) for passage in self._passages)
        self._index.executemany("INSERT INTO notes VALUES (?, ?)", rows)

    def found(self, question: str, most: int = 3) -> list[Passage]:
        """Return the passages that hold the words of a question, the best first; none where too few words fit.

        Of those that hold equally many words the better is the one in which they weigh more (bm25).
        """
        words = self._words(question)
        with self._lock:
            held: dict[int, int] = {}
            for word in words:
                for (row,) in self._index.execute("SELECT rowid FROM notes WHERE notes MATCH ?", (_quoted(word),)):
                    held[row] = held.get(row, 0) + 1
            rare = len(held) < FEWEST
            fitting = {row for row, count in held.items() if self._fits(count, words, row, rare)}
            if not fitting:
                return []
            query = " OR ".join(map(_quoted, words))
            ranked = self._index.execute("SELECT rowid FROM notes WHERE notes MATCH ? ORDER BY rank", (query,))
            order = [row for (row,) in ranked if row in fitting]
        return [self._passages[row - 1] for row in sorted(order, key=lambda row: -held[row])[:most]]

    async def learn(self, embed: Embed) -> None:
        """Learn what the passages mean, for ``belonging``. Raises EngineError."""
        texts = [f"{passage.about}: {passage.text}" for passage in self._passages]
        self._meanings = Meanings(embed, await embed.embed(texts)) if texts else None

    async def belonging(self, question: str, most: int = 3) -> list[Passage]:
        """Return the passages that hold a question's words, then those that say it in others, where it was learnt."""
        found = self.found(question, most)
        if self._meanings is None or len(found) == most or not question.strip():
            return found
        try:
            async with asyncio.timeout(UNDERSTAND_S):
                [meant] = await self._meanings.embed.embed([question])
        except (TimeoutError, EngineError) as error:
            log.info("notes are searched by their words alone: %r", error)
            return found
        cosines = self._meanings.vectors @ meant
        near = [int(row) for row in np.argsort(-cosines) if relevance.in_meaning(float(cosines[row])) >= NEAR]
        return list(dict.fromkeys([*found, *(self._passages[row] for row in near)]))[:most]

    def _words(self, question: str) -> list[str]:
        words = WORD.findall(question.lower().replace("'", ""))
        return list(dict.fromkeys(word for word in words if word not in self._ignored))[:LONGEST_QUESTION]

    def _fits(self, count: int, words: Sequence[str], row: int, rare: bool) -> bool:
        """Say whether a passage that holds so many of the words can be what was asked for."""
        if count < SHARE * len(words):
            return False
        if count >= FEWEST or rare:
            return True
        about = f"about : {_quoted(words[0])}"
        query = "SELECT 1 FROM notes WHERE notes MATCH ? AND rowid = ?"
        return self._index.execute(query, (about, row)).fetchone() is not None


def passages(file: KnowledgeFile) -> Iterator[Passage]:
    """Cut a file at its headings, and what stands between two of them at paragraphs."""
    above: list[str] = []
    lines: list[str] = []
    for line in file.text.splitlines():
        heading = HEADING.fullmatch(line.strip())
        if heading is None:
            lines.append(line)
            continue
        yield from _cut(file.name, above, lines)
        lines = []
        level = len(line.strip()) - len(line.strip().lstrip("#"))
        above = [*above[: level - 1], heading[1]]
    yield from _cut(file.name, above, lines)


def _cut(name: str, above: Sequence[str], lines: Sequence[str]) -> Iterator[Passage]:
    about = ", ".join([re.sub(r"[-_]+", " ", name), *above])
    held = ""
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        text = " ".join(_sentences(paragraph)).strip()
        if held and len(held) + len(text) > PASSAGE:
            yield Passage(about, held)
            held = ""
        held = f"{held} {text}".strip()
    if held:
        yield Passage(about, held)


def _sentences(paragraph: str) -> Iterator[str]:
    """Yield the lines of a paragraph without marks; an entry of a list ends as a sentence does."""
    for line in paragraph.splitlines():
        entry = re.match(r"\s*(?:[-*+]|\d+[.)])\s", line) is not None
        plain = " ".join(MARKS.sub(lambda found: found[1] or "", line).split())
        yield f"{plain}." if entry and plain and plain[-1] not in ".:;,!?" else plain


def _quoted(word: str) -> str:
    return f'"{word}"'
