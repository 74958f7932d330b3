"""How much each device may ask: a bucket that fills slowly and holds a burst."""

from __future__ import annotations

PER_S = 10.0
BURST = 30.0


class Rates:
    """What each device has left."""

    def __init__(self, per_s: float = PER_S, burst: float = BURST) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left: dict[str, tuple[float, float]] = {}

    def allows(self, device: str, at: float) -> bool:
        """Take one from a device's bucket, at the second ``at``; False where it is empty."""
        left, since = self._left.get(device, (self._burst, at))
        left = min(self._burst, left + (at - since) * self._per_s)
        allowed = left >= 1
        self._left[device] = (left - 1 if allowed else left, at)
        return allowed
