"""How well a text belongs to a question: by its words, by its meaning, and by how lately it was told."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable
from datetime import datetime

WORD = re.compile(r"[^\W_]+")

USUAL_LENGTH = 20
"""Words of a fact, about. A longer one holds some word of any question, so its words count for less."""

FEWEST_TEXTS = 1000
"""As if there were so many at least: where all of five facts are about Anna, her name still tells what is asked."""

RELATED = 0.3
"""Cosine from which two texts have to do with each other. What is usual for encoders of the MiniLM family, which put
texts that have not around 0.1; taken over, not measured here."""

HALF_LIFE_DAYS = 90.0
NEWNESS = 0.2
"""How much of a score goes with time, and how fast: of two facts that fit alike the newer goes first, and an old one
that fits better still wins. That memories fade exponentially is from Park et al. 2023, "Generative Agents"; theirs
fade within days, which is right for what was seen and wrong for what was to be remembered."""


def telling_words(text: str, small: Container[str], most: int) -> list[str]:
    """Return the words of a text that say what it is about, each once, in order; at most so many."""
    words = WORD.findall(text.lower().replace("'", "").replace("\u2019", ""))
    return list(dict.fromkeys(word for word in words if word not in small))[:most]


def rarity(held_by: float, texts: int) -> float:
    """Return what a word weighs that so many of all texts hold: BM25's inverse document frequency, never negative.

    Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", with 1 added inside the logarithm, as Lucene
    has it. A word that no text holds weighs as much as one that a single text does.
    """
    held, of = max(held_by, 1.0), max(texts, FEWEST_TEXTS)
    return math.log(1 + max(of - held + 0.5, 0.0) / (held + 0.5))


def brevity(words: int) -> float:
    """Return what BM25 (k1 = 1.2, b = 0.75) leaves of a word's weight in a text of so many words, 1 at most."""
    return min(1.0, 2.2 / (1 + 1.2 * (0.25 + 0.75 * words / USUAL_LENGTH)))


def in_words(held: Iterable[float], asked: Iterable[float]) -> float:
    """Return how much of a question a text holds, 0 to 1, from the weights of the words."""
    whole = sum(asked)
    return min(1.0, sum(held) / whole) if whole else 0.0


def in_meaning(cosine: float) -> float:
    """Return how near two texts are, 0 to 1, from the cosine of their vectors."""
    return min(1.0, max(0.0, (cosine - RELATED) / (1 - RELATED)))


def together(words: float, meaning: float) -> float:
    """Return how well a text belongs to a question by either evidence: as of two that are independent, 0 to 1."""
    return 1 - (1 - words) * (1 - meaning)


def with_time(relevance: float, told: datetime, now: datetime) -> float:
    """Return the score of what was told then: its relevance, less a little for its age; 0 to 1."""
    days = max(0.0, (now - told).total_seconds() / 86400)
    fading: float = 0.5 ** (days / HALF_LIFE_DAYS)
    return relevance * (1 - NEWNESS + NEWNESS * fading)
