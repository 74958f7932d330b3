"""What two hypotheses in a row say alike: the beginning of a text that is still growing, and does not flicker.

A recogniser that hears an utterance again and again, each time with more of it, changes its mind about the last
words, seldom about what two passes agreed on (LocalAgreement-2; Liu, Spanakis and Niehues, Interspeech 2020).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Agreement:
    """The words ``kept`` for good, and the ``last`` hypothesis, which the next one is held against."""

    kept: tuple[str, ...] = ()
    last: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What was kept, as one text."""
        return " ".join(self.kept)


def agree(before: Agreement, text: str) -> Agreement:
    """Take the next hypothesis: where it begins as the last one did, that beginning is kept.

    What was kept once is never taken back; a hypothesis that contradicts it adds nothing.
    """
    words = tuple(text.split())
    common = 0
    while common < min(len(words), len(before.last)) and words[common] == before.last[common]:
        common += 1
    alike = words[:common]
    grown = len(alike) > len(before.kept) and alike[: len(before.kept)] == before.kept
    return Agreement(alike if grown else before.kept, words)
