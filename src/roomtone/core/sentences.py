"""Text deltas in, speakable sentences out: cut so that the first sound comes soon and nothing is cut amiss.

Every cut depends on the text alone, never on how it was divided into deltas. What comes out, put together, is what
came in, white space aside.
"""

from __future__ import annotations

import re

FIRST_CLAUSE = 40
"""Characters after which the first piece of a reply may end at a comma, so that speech begins early."""

LONGEST = 200
"""Characters after which a run without a sentence's end is cut at a space, at a comma where one is near."""

_LOOKAHEAD = 5
"""Characters that every rule needs to see after a place before it can say that nothing ends there."""

UNBROKEN = 2 * LONGEST
"""Characters after which a run without even a space is cut anyway."""

_ENGLISH = """
mr mrs ms dr prof rev gen sen rep st sr jr mt ft vs etc approx dept est fig no nos vol inc ltd co corp cf al
jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
min max sec hr hrs lb lbs oz tbsp tsp ave blvd rd
"""
_ENGLISH_LAST = "etc inc ltd co corp jr sr min max sec hr hrs lb lbs oz tbsp tsp rd ave blvd mon fri dec no al"

ABBREVIATIONS = {"en": frozenset(_ENGLISH.split())}
"""Words after which a full stop ends no sentence, by language."""

_MAY_END = {"en": frozenset(_ENGLISH_LAST.split())}
"""Of those, words that may well be the last of a sentence: a capital letter after them tells."""

_CLOSERS = "\"'”’)]*_"
_STOP = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s)|[。！？]+[」』”]*(?=[^。！？」』”])")
_CLAUSE = re.compile(r"[,;:–—](?=\s)|[，、；]")
_NEW_BLOCK = re.compile(r"\n(?=[ \t]*(?:\n|[-*+#>|•][ \t]|#|```|\d{1,3}[.)][ \t]))")
_HEADING = re.compile(r"\s*#{1,6}[ \t][^\n]*")
_FENCE = re.compile(r"\s*```")
_INITIALS = re.compile(r"(?:^|[^\w.])(?:[^\W\d]\.)+$")
_LAST_WORD = re.compile(r"(\w+)\.$")
_SPACE = re.compile(r"\s")


class Sentences:
    """Cuts one reply; make a new one for the next."""

    def __init__(self, language: str = "en") -> None:
        self._abbreviations = ABBREVIATIONS.get(language.split("-")[0], frozenset())
        self._may_end = _MAY_END.get(language.split("-")[0], frozenset())
        self._ordinals_take_a_stop = not language.startswith("en")
        self._text = ""
        self._first = True

    def feed(self, delta: str) -> list[str]:
        """Take more text and return what can be said now, in order."""
        self._text += delta
        pieces, start = [], 0
        while (end := self._next_cut(start)) is not None:
            piece = self._text[start:end].strip()
            start = end
            if piece:
                pieces.append(piece)
                self._first = False
        self._text = self._text[start:]
        return pieces

    def flush(self) -> list[str]:
        """Return all that is left: the reply has ended, or more is long in coming."""
        rest, self._text = self._text.strip(), ""
        if rest:
            self._first = False
        return [rest] if rest else []

    def stall(self) -> list[str]:
        """Return what is left but a word that may be unfinished: the source has stopped for a while."""
        if self._text[-1:] in tuple(".!?…"):
            return self.flush()
        cut = max((space.end() for space in _SPACE.finditer(self._text)), default=0)
        held, self._text = self._text[cut:], self._text[:cut]
        pieces = self.flush()
        self._text = held
        return pieces

    def _next_cut(self, start: int) -> int | None:
        """Return where the piece that begins at ``start`` ends, or None while that cannot be known."""
        text, limit = self._text, start + LONGEST
        if fence := _FENCE.match(text, start):
            closing = text.find("```", fence.end())
            return closing + 3 if closing >= 0 else None
        if (heading := _HEADING.match(text, start)) and heading.end() < limit:
            return heading.end() if heading.end() < len(text) else None
        cuts = [self._block_end(start, limit), self._sentence_end(start, limit)]
        if self._first:
            clause = _CLAUSE.search(text, start + FIRST_CLAUSE, limit)
            cuts.append(clause.end() if clause else None)
        known = [cut for cut in cuts if cut is not None]
        if known:
            return min(known)
        return self._long_cut(start) if len(text[limit : limit + UNBROKEN].lstrip()) >= _LOOKAHEAD else None

    def _block_end(self, start: int, limit: int) -> int | None:
        for block in _NEW_BLOCK.finditer(self._text, start):
            if block.end() > limit:
                return None
            if self._text[start : block.start()].strip():
                return block.end()
        return None

    def _sentence_end(self, start: int, limit: int) -> int | None:
        for stop in _STOP.finditer(self._text, start):
            if stop.end() > limit:
                return None
            if self._ends_sentence(start, stop):
                return stop.end()
        return None

    def _ends_sentence(self, start: int, stop: re.Match[str]) -> bool:
        before = self._text[start : stop.start() + 1]
        following = self._text[stop.end() : stop.end() + LONGEST].lstrip()[:1]
        if stop.group()[-1] in _CLOSERS:  # "They (all of them!) left."
            return following != "" and not following.islower()
        if stop.group() != ".":
            return True
        if _INITIALS.search(before):  # "e.g.", "U.S.", "p.m.", "J. Smith"
            return before.endswith("m.") and following.isupper()
        word = _LAST_WORD.search(before)
        if word is None:
            return True
        if word.group(1).isdigit():  # "1. Wash the rice": a list's number
            return not self._ordinals_take_a_stop and before.strip() != word.group()
        known = word.group(1).lower()
        return known not in self._abbreviations or (known in self._may_end and following.isupper())

    def _long_cut(self, start: int) -> int | None:
        text, limit = self._text, start + LONGEST
        for pattern, earliest in ((_CLAUSE, start + LONGEST // 2), (_SPACE, start + 1)):
            found = [match.end() for match in pattern.finditer(text, earliest, limit)]
            if found:
                return found[-1]
        if later := _SPACE.search(text, limit, start + UNBROKEN):
            return later.end()
        return start + UNBROKEN if len(text) >= start + UNBROKEN else None
