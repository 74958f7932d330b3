"""How much anybody may ask: a bucket that fills slowly and holds what comes at once."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """So many a second, and ``most`` at once after a rest. ``at`` are the caller's seconds."""

    a_second: float
    most: float
    at: float
    _left: float = field(init=False)

    def __post_init__(self) -> None:
        self._left = self.most

    def take(self, at: float) -> bool:
        """Say whether one more is allowed now."""
        self._left = min(self.most, self._left + (at - self.at) * self.a_second)
        self.at = at
        if self._left < 1:
            return False
        self._left -= 1
        return True
