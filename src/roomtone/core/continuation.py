"""One answer out of several models' words: what a second says is joined to what the first had said.

A model that is asked to go on where another broke off rarely begins with the very next word. It says the whole answer
again, or the last sentence, or the last words, and writes them a little differently. All of these begin with some
end of what was said; the longest such end is passed over. What goes out always ends at the end of a word, so that
there is always a place to go on from.
"""

from __future__ import annotations

import re
import unicodedata

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese: written without spaces, so each letter may end a word."""

_LONE = re.compile(rf"\s*[{_UNSPACED}]\Z")
_WORD = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)")
_SIGNS = re.compile(r"[\W_]+")
_CLOSING = re.compile(r"[,.;:!?…)\]}»”’%、。，！？；：]")
_STOPS = re.compile(r"[,.;:!?…、。，！？；：]+\Z")
_ELLIPSIS = re.compile(r"\A\s*(?:\.{2,}|…)+")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]»]*\Z")

LONGEST_WORD = 64
"""Letters that are held back for the end of a word; a longer run is no word of any language."""

SHORT = 3
"""Fewer words than these that end a reply, said before but not last, are an answer and no repetition."""

RESTART, ANCHOR, NEAR = 4, 3, 2
"""A model that says so many words again begins again, and may word a thing differently on the way. It is in step
again with the last three words that were said; of what differs within the last two, one is taken for the other."""

REPEATS, REPEATED_WORDS, LONGEST_PHRASE = 4, 8, 60
"""A model loops when it says a phrase of up to 60 words four times running, eight words in all at least: people say
"very, very, very", and a chorus comes three times."""


class Words:
    """Takes deltas, gives whole words; the last is held back until it is known to be whole."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, delta: str) -> list[str]:
        """Add text; return the words that are complete now, each with the white space before it."""
        self._held += delta
        words, start = [], 0
        for found in _WORD.finditer(self._held):
            word = found.group()
            if found.end() == len(self._held) and len(word) <= LONGEST_WORD and not _LONE.match(word):
                break
            words.append(word)
            start = found.end()
        self._held = self._held[start:]
        return words

    def space(self) -> str:
        """Return the white space before the word that is held back: a sentence is known to end by it."""
        word = self._held.lstrip()
        space, self._held = self._held[: len(self._held) - len(word)], word
        return space

    def end(self) -> list[str]:
        """Return the word that was held back, if there is one: nothing more comes."""
        held, self._held = self._held, ""
        return [held] if held.strip() else []


class Continuation:
    """A reply that goes on from ``said``, the words of others; with nothing said, a reply from its beginning.

    ``loops`` becomes true where the model says the same again and again; from there on nothing goes out.
    """

    def __init__(self, said: str = "") -> None:
        self.loops = False
        self._words = Words()
        self._said = said
        self._known = [bare for word in _WORD.findall(said) if (bare := _bare(word))]
        self._tail = list(self._known)
        self._starts = list(range(len(self._known)))
        self._met = 0
        self._pending: list[str] = []
        self._repeated = 0
        self._drift: _Drift | None = None
        self._joined = self._begun = not said

    def feed(self, delta: str) -> str:
        """Add what the model says; return what may go out."""
        out = "".join([self._weighed(word) for word in self._words.feed(delta)])
        return out + self._words.space() if self._begun and not self.loops else out

    def end(self) -> str:
        """Return what is still held back and is no repetition: the reply has ended regularly."""
        out = "".join([self._weighed(word) for word in self._words.end()])
        if self._joined or not self._pending:
            return out
        if self._drift is not None:
            self._repeated = min(self._drift.position, len(self._pending))
        elif self._met >= SHORT and self._repeated < len(self._pending):
            return out  # it only said again what stands somewhere before
        return self._join()

    @property
    def met_the_end(self) -> bool:
        """Whether the model said again what was said, to its end: it knows where it goes on."""
        return self._repeated > 0

    def _weighed(self, word: str) -> str:
        """Hold a word back while it may be one that was said; return all that is new once that is settled."""
        if self._joined:
            return self._told(word)
        self._pending.append(word)
        bare = _bare(word)
        if not bare:
            return ""
        if self._drift is not None:
            return self._drifted(bare)
        before, self._starts = self._starts, [s for s in self._starts if self._known[s + self._met] == bare]
        self._met += 1
        if self._starts and self._starts[-1] + self._met == len(self._known):
            self._starts.pop()
            self._repeated = len(self._pending)
        if self._starts:
            return ""
        if before and not self._repeated and self._met > RESTART:
            missing = self._known[before[-1] + self._met - 1 :]
            self._drift = _Drift(missing, len(self._pending) - 1)
            return self._drifted(bare)
        return self._join()

    def _drifted(self, bare: str) -> str:
        """Look for the end of what was said in a repetition that words it differently."""
        assert self._drift is not None
        settled = self._drift.met(bare)
        if settled is None:
            return ""
        self._repeated = len(self._pending) if settled else self._drift.position
        return self._join()

    def _join(self) -> str:
        self._joined = True
        repeated, new = self._pending[: self._repeated], self._pending[self._repeated :]
        stop = _STOPS.search(repeated[-1]) if repeated else None
        added = stop.group() if stop and not _SIGNS.search(self._said[-1:]) else ""
        self._said += added
        return added + "".join([self._told(word) for word in new])

    def _told(self, word: str) -> str:
        """Return a word that goes out, or nothing where the model has begun to loop."""
        if not self._begun:
            word = _fitted(self._said, word, whole=self._repeated > 0)
            self._begun = bool(word)
        bare = _bare(word)
        if bare:
            self._tail = [*self._tail[-REPEATS * LONGEST_PHRASE :], bare]
            self.loops = self.loops or _loops(self._tail)
        return "" if self.loops else word


class _Drift:
    """A repetition that has left the words of ``missing``, the rest of what was said, at a word of its own."""

    def __init__(self, missing: list[str], at: int) -> None:
        self._missing = missing
        self._anchor = missing[1:][-ANCHOR:] or missing
        self._since: list[str] = []
        is_near = len(missing) <= NEAR
        self._patience = len(missing) + 1 if is_near else 2 * len(missing)
        self.position = at + len(missing) if is_near else 0

    def met(self, bare: str) -> bool | None:
        """Take a word; return True where it ends what was said, False where that is looked for in vain."""
        self._since.append(bare)
        if self._since[-len(self._anchor) :] == self._anchor:
            return True
        return False if len(self._since) >= self._patience else None


def ends_sentence(text: str) -> bool:
    """Say whether a text ends where a sentence does."""
    return _SENTENCE_END.search(text.rstrip()) is not None


def unspoken(said: str, spoken: str) -> str:
    """Return what is left of a text behind the words of it that were spoken, from the next word on.

    What no voice can say (an emoji, a rule) is passed over; white space counts for nothing. Where the two do not fit
    together, more is left rather than less.
    """
    place = 0
    for word in spoken.split():
        place += len(said[place:]) - len(said[place:].lstrip())
        if not said.startswith(word, place):
            later = re.search(rf"(?<!\S){re.escape(word)}(?!\S)", said[place:])
            place = place + later.start() if later else max(place, said.find(word, place))
        if said.startswith(word, place):
            place += len(word)
    return said[place:].strip()


def _bare(word: str) -> str:
    """Return a word without what two models write differently: case, signs, how an accent is coded."""
    return _SIGNS.sub("", unicodedata.normalize("NFKC", word).casefold())


def _fitted(said: str, word: str, *, whole: bool) -> str:
    """Return the first new word with the space and the capital that it needs behind ``said``, "" for an ellipsis.

    ``whole``: the model began with words of ``said`` itself, so its capitals are those of the sentence.
    """
    ends = ends_sentence(said)
    bare = (word if ends else _ELLIPSIS.sub("", word)).lstrip()
    if not bare:
        return ""
    if ends:
        bare = bare[0].upper() + bare[1:] if bare.islower() else bare
    elif not whole and bare.istitle() and re.search(rf"\b{re.escape(bare.lower())}\b", said):
        bare = bare.lower()
    unspaced = _LONE.match(said[-1]) is not None or _LONE.match(bare[0]) is not None
    if said[-1].isspace() or _CLOSING.match(bare) or (unspaced and word[0] == bare[0]):
        return bare
    return ("\n" if "\n" in word[: len(word) - len(word.lstrip())] else " ") + bare


def _loops(words: list[str]) -> bool:
    """Say whether the last words are one phrase, again and again."""
    for length in range(1, min(LONGEST_PHRASE, len(words) // REPEATS) + 1):
        count = max(REPEATS * length, REPEATED_WORDS)
        if len(words) < count or words[-1] != words[-1 - length]:
            continue
        if words[-count:-length] == words[-count + length :]:
            return True
    return False
