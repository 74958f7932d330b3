"""Whether what Whisper wrote was said: it writes sentences over silence, noise and music as readily as over speech.

Nothing here knows any sentence. What is not believed is too much text for the voice there was, text that repeats
itself, and text of which the model itself was not sure.
"""

from __future__ import annotations

import math

from roomtone.engines.stt._whisper_child import LEAST_VOICED_S, Decoded

LETTERS, LETTERS_PER_S = 12, 28
"""Letters that can be said in no voiced time (the detector misses ends) and in a second more. The fastest readers
say 5 words a second, of 5 letters each."""

COMPRESSION = 2.4
"""Whisper's own bound: text that zlib makes smaller than this repeats itself."""

REPEATS, REPEATED_WORDS = 3, 5
"""Times that words in a row, two or more, or a single word, are said again at once before it is a loop."""


def confidence(decoded: Decoded) -> float:
    """Return how sure the model was, 0 to 1: its mean probability of a token, times that there is speech."""
    return min(1.0, math.exp(decoded.log_probability)) * max(0.0, 1.0 - decoded.no_speech)


def refusal(decoded: Decoded, least: float, expected: tuple[str, ...] = ()) -> str | None:
    """Say why a text is not believed; None where it is. ``least`` is the confidence it needs.

    A text of nothing but ``expected`` words may repeat itself: people say "stop stop stop".
    """
    words = decoded.text.split()
    letters = sum(len(word) for word in words)
    if decoded.voiced_s < LEAST_VOICED_S:
        return "no voice"
    if letters > LETTERS + LETTERS_PER_S * decoded.voiced_s:
        return f"{letters} letters in {decoded.voiced_s:.2f} s of voice"
    if not set(words) <= set(expected) and (decoded.compression > COMPRESSION or repeats(words)):
        return "it repeats itself"
    if confidence(decoded) < least:
        return f"confidence {confidence(decoded):.2f}"
    return None


def repeats(words: list[str]) -> bool:
    """Tell whether some words are said again and again, one after the other."""
    for size in range(1, len(words) // REPEATS + 1):
        times = REPEATED_WORDS if size == 1 else REPEATS
        run = 0
        for at in range(size, len(words)):
            run = run + 1 if words[at] == words[at - size] else 0
            if run >= size * (times - 1):
                return True
    return False
