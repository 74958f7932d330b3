"""The recogniser's other half, in a process of its own: pocketsphinx holds the interpreter for a whole decode.

It does without numpy, which would take 10 MB more of a small machine.

A grammar always finds something. What it found is believed only where the grammar's words fit the sound nearly as
well as any phones at all would: the same sound is decoded again by a loop over the language's phones, and the score
is the difference of the two acoustic log-likelihoods, in nats a frame, over the frames of the words. A short
sentence has to fit about as well as any one everyday word does, too.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from roomtone.engines.stt._everyday import WORDS
from roomtone.engines.stt._jsgf import graph, signs

PHONES = """
AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH
"""

KEPT_STEPS = 20_000
"""Steps of all compiled grammars that are kept, the last used ones: a step takes 2.5 kB. All that is shipped has
3,100, so six whole personas stay; to compile one again takes some tenths of a second."""

SHORT = 3
"""Words of a sentence that is compared with everyday words; a longer one is like none of them."""

EVERYDAY_MARGIN = 0.5
"""Nats a frame by which an everyday word may fit better than a short sentence."""

EXPECTED_MARGIN = 1.2
"""The same for a sentence of words that are not to be missed, such as "stop" over a reply."""

SHORT_BONUS = 0.5
"""Nats a frame added to the score of a short sentence that no everyday word explains: it has been tried twice."""

PACE = (6.0, 18.0)
"""Frames (10 ms) a phone that somebody who gives a command takes, from hurried to drawn out, over the whole of it."""

QUICKEST_WORD = 3.5
"""Frames a phone of its quickest word of three phones or more. Sentences that are forced onto another sound have
words that nobody could say so fast."""

NOTHING = -99.0
"""Score where no words were found at all."""


class Found(NamedTuple):
    """Words and how well they fit: nats a frame against free phones, higher is better, 0 is as good."""

    text: str = ""
    score: float = NOTHING


class Decoded(NamedTuple):
    """A whole sentence of the grammar, and the beginning of one that fits the sound best so far."""

    sentence: Found = Found()
    beginning: Found = Found()


class Segment(NamedTuple):
    """A word or phone, its first and last frame (10 ms), its acoustic log-likelihood in nats."""

    word: str
    first: int
    last: int
    likelihood: float


class Hypothesis(NamedTuple):
    """The best path through a grammar, and the log-likelihood of the whole of it, in nats."""

    segments: list[Segment]
    score: float


class Compiled(NamedTuple):
    """A grammar's name in the decoder, and the steps of its graph."""

    name: str
    steps: int


class Recogniser:
    """One decoder with a search for every grammar, and one for free phones."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder, get_model_path

        # compallsen: scores are relative to the best of ALL senones, so that two searches can be compared.
        # bestpath off: no pass over the word lattice; it costs time and finds fewer exact sentences.
        # Of the dictionary only the words that are asked for are taken: all 135,000 of them take 22 MB.
        options = {"lm": None, "dict": os.devnull, "compallsen": True, "bestpath": False}
        self._decoder = Decoder(loglevel="FATAL", **options)
        self._dictionary = Path(get_model_path("en-us/cmudict-en-us.dict"))
        self._looked_up: set[str] = set()
        self._grammars: dict[str, Compiled] = {}
        self._compiled = 0
        for phone in PHONES.split():  # words of one phone, named so that none of them is in the dictionary
            self._decoder.add_word(f"qx{phone.lower()}", phone, False)
        loop = " | ".join(f"qx{phone.lower()}" for phone in PHONES.split())
        self._decoder.add_jsgf_string("phones", f"#JSGF V1.0;\ngrammar phones;\npublic <phones> = ({loop})+;")

        everyday = list(dict.fromkeys(WORDS.split()))
        self._look_up(everyday)
        self._add("everyday", 1, [(0, 1, 1 / len(everyday), word) for word in everyday if self._knows(word)])

    def prepare(self, grammar: str) -> list[str]:
        """Compile a JSGF grammar unless that is done; return the words it has to do without, once.

        Raises ValueError where nothing is left of it.
        """
        if grammar in self._grammars:
            self._grammars[grammar] = self._grammars.pop(grammar)
            return []
        self._look_up(signs(grammar))
        found = graph(grammar, self._knows, self._endings)
        end = 1 + max(max(start, to) for start, to, _ in found.steps)
        steps: list[tuple[Any, ...]] = [(start, to, 1.0, word) for start, to, word in found.steps]
        steps += [(start, to, 1.0) for start, to in (*found.skips, *((last, end) for last in found.ends))]
        self._compiled += 1
        name = f"grammar {self._compiled}"
        self._add(name, end, steps)
        self._grammars[grammar] = Compiled(name, len(steps))
        self._forget()
        _give_back()
        return list(found.unknown)

    def _add(self, name: str, end: int, steps: list[tuple[Any, ...]]) -> None:
        self._decoder.add_fsg(name, self._decoder.create_fsg(name, 0, end, steps))

    def _forget(self) -> None:
        """Drop what was not used for longest until the rest is small enough. The last two, which may be used
        together, stay however large they are."""
        while len(self._grammars) > 2 and sum(each.steps for each in self._grammars.values()) > KEPT_STEPS:
            oldest = self._grammars.pop(next(iter(self._grammars)))
            self._decoder.remove_search(oldest.name)

    def decode(self, pcm: bytes, grammars: Sequence[str], expected: tuple[str, ...] = ()) -> Decoded:
        """Decode 16 kHz 16-bit sound as one whole: the cepstral mean is then taken over just this sound.

        The sentence that fits best of all that the ``grammars`` have is found. A short one of nothing but
        ``expected`` words is believed more readily.
        """
        try:
            return self._decode(pcm, grammars, expected)
        finally:
            _give_back()

    def _decode(self, pcm: bytes, grammars: Sequence[str], expected: tuple[str, ...]) -> Decoded:
        for grammar in grammars:
            self.prepare(grammar)
        paths = [self._search(self._grammars[grammar].name, pcm) for grammar in grammars]
        beginning, sentence = _likelier(so_far for so_far, _ in paths), _likelier(whole for _, whole in paths)
        if not _words(beginning) and not _words(sentence):
            return Decoded()
        if not self._pronounceable(_words(sentence)):
            sentence = []
        phones = self._search("phones", pcm)[1].segments
        found = _found(sentence, phones)
        if 0 < len(_words(sentence)) <= SHORT:
            everyday = self._search("everyday", pcm)[1].segments
            likely = all(_spelt(word) in expected for word in _words(sentence))
            if everyday and _gain(sentence, everyday) < -(EXPECTED_MARGIN if likely else EVERYDAY_MARGIN):
                return Decoded()
            found = found._replace(score=found.score + SHORT_BONUS)
        return Decoded(found, _found(beginning, phones))

    def _search(self, name: str, pcm: bytes) -> tuple[Hypothesis, Hypothesis]:
        """Return the best path so far, and the best one that ends where the grammar may end."""
        decoder = self._decoder
        decoder.activate_search(name)
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        so_far = _best_yet(decoder)
        decoder.end_utt()
        whole = _best_yet(decoder)
        decoder.start_utt()  # a search keeps its last paths, some megabytes, until its next utterance
        decoder.end_utt()
        return so_far, whole

    def _pronounceable(self, words: list[Segment]) -> bool:
        """Whether somebody could have said the words in the time that they are given."""
        if not words:
            return True
        frames = [word.last - word.first + 1 for word in words]
        phones = [len(self._decoder.lookup_word(word.word).split()) for word in words]
        pace = sum(frames) / sum(phones)
        whole = [time / count for time, count in zip(frames, phones, strict=True) if count > 2]
        return PACE[0] <= pace <= PACE[1] and min(whole, default=QUICKEST_WORD) >= QUICKEST_WORD

    def _look_up(self, words: Iterable[str]) -> None:
        """Add every pronunciation that the dictionary has for words; its lines are such as "read(2) R IY D"."""
        wanted = set(words) - self._looked_up
        self._looked_up |= wanted
        with self._dictionary.open(encoding="utf-8") as lines:
            for line in lines if wanted else ():
                word, _, phones = line.strip().partition(" ")
                if word.partition("(")[0] in wanted:
                    self._decoder.add_word(word, phones, False)

    def _endings(self, word: str) -> Iterator[str]:
        """Give the last phone of each pronunciation of a word."""
        for number in itertools.count(1):
            phones = self._decoder.lookup_word(word if number == 1 else f"{word}({number})")
            if phones is None:
                return
            yield phones.rpartition(" ")[2]

    def _knows(self, word: str) -> bool:
        return self._decoder.lookup_word(word) is not None


def _give_back() -> None:
    """Give freed memory back: for a sentence of nine seconds it is 16 MB, which glibc would keep. Takes 0.4 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _best_yet(decoder: Any) -> Hypothesis:
    hypothesis = decoder.hyp()
    if hypothesis is None:
        return Hypothesis([], -math.inf)
    # Without bestpath scores are exp(log-likelihood / 1024).
    segments = [
        Segment(found.word, found.start_frame, found.end_frame, _nats(found.ascore)) for found in decoder.seg()
    ]
    return Hypothesis(segments, _nats(hypothesis.best_score))


def _nats(score: float) -> float:
    return 1024 * math.log(max(score, 1e-300))


def _likelier(some: Iterable[Hypothesis]) -> list[Segment]:
    return max(some, key=lambda each: each.score).segments


def _words(segments: Iterable[Segment]) -> list[Segment]:
    """Drop silences, noises and empty steps: ``<sil>``, ``[NOISE]``, ``(NULL)``."""
    return [segment for segment in segments if segment.word[0] not in "<[("]


def _found(segments: list[Segment], phones: list[Segment]) -> Found:
    words = _words(segments)
    if not words:
        return Found()
    return Found(" ".join(_spelt(word) for word in words), _gain(segments, phones))


def _spelt(segment: Segment) -> str:
    """Return a word without the number that the dictionary gives its further pronunciations: "a(2)"."""
    return segment.word.partition("(")[0]


def _gain(segments: list[Segment], other: list[Segment]) -> float:
    """Return how much better a path's words fit than another path does there, in nats a frame."""
    words = _words(segments)
    frames = sum(word.last - word.first + 1 for word in words)
    return sum(word.likelihood - _within(other, word.first, word.last) for word in words) / max(frames, 1)


def _within(segments: list[Segment], first: int, last: int) -> float:
    """Return the likelihood of the part of a path between two frames, each segment's spread evenly over it."""
    total = 0.0
    for segment in segments:
        overlap = min(segment.last, last) - max(segment.first, first) + 1
        if segment.first >= 0 and overlap > 0:
            total += segment.likelihood * overlap / (segment.last - segment.first + 1)
    return total
