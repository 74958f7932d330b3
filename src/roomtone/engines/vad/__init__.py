"""The voice activity seam: is there speech in these 20 ms?"""

from __future__ import annotations

from typing import Protocol

from roomtone.core.sound import Audio

AUTO = ("webrtc",)


class Vad(Protocol):
    """Stateful, cheap and synchronous: it is called fifty times a second on the loop."""

    def probability(self, frame: Audio) -> float:
        """Return how likely it is, 0 to 1, that a 20 ms frame (320 samples at 16 kHz) holds speech.

        Raises ValueError for a frame of another length.
        """
