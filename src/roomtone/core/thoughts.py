"""What of a model's reply is for the ear: not what it thinks aloud between tags before it answers."""

from __future__ import annotations

TAGS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<reasoning>", "</reasoning>"))
"""As reasoning models write them (DeepSeek R1, Qwen 3, some prompts of others)."""


class Aloud:
    """Lets a reply through, piece by piece, but for what stands between such tags."""

    def __init__(self) -> None:
        self._held = ""
        self._until = ""

    def of(self, text: str) -> str:
        """Take more of a reply; return what of it can be said. The beginning of a tag is held back."""
        self._held += text
        said = ""
        while self._held:
            if self._until:
                _, tag, rest = self._held.partition(self._until)
                if not tag:
                    self._held = self._held[-len(self._until) + 1 :]
                    break
                self._held, self._until = rest.lstrip(), ""
                continue
            opening = min((at for tag, _ in TAGS if (at := self._held.find(tag)) >= 0), default=-1)
            if opening < 0:
                keep = _begun(self._held)
                said, self._held = said + self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                break
            said += self._held[:opening]
            tag, self._until = next(pair for pair in TAGS if self._held.startswith(pair[0], opening))
            self._held = self._held[opening + len(tag) :]
        return said

    def rest(self) -> str:
        """Return what was held back and is no tag after all: the reply has ended."""
        held, self._held = self._held, ""
        return "" if self._until else held


def _begun(text: str) -> int:
    """Return how many of the last characters of a text may be the beginning of a tag."""
    longest = max(len(tag) for tag, _ in TAGS) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(tag.startswith(text[-length:]) for tag, _ in TAGS):
            return length
    return 0
