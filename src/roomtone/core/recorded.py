"""Recorded messages on their way from room to room, in pieces: a bounded number of them, for a bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from roomtone.core.errors import PayloadError
from roomtone.core.wire import PIECE, Piece

MOST = 8
"""Messages that are kept at once, the oldest go first; one of 30 s has some 100 kB."""

LONGEST = 512 * 1024
"""Bytes of one message: four times what 30 s of speech come to."""


@dataclass(slots=True)
class Recording:
    """A message of which ``of`` pieces are to come; ``at`` is when the first came, in the receiver's seconds."""

    id: str
    of: int
    at: float
    pieces: dict[int, Piece] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return len(self.pieces) == self.of

    @property
    def sound(self) -> bytes:
        """What is there, in order (Ogg Opus, mono)."""
        return b"".join(self.pieces[n].sound for n in sorted(self.pieces))

    def in_order(self) -> Iterator[Piece]:
        """Yield what is there, in order."""
        yield from (self.pieces[n] for n in sorted(self.pieces))


class Recordings:
    """Puts pieces together, in whatever order and however often they come.

    Each message is kept ``kept_s``, and no more of one sender's than ``each``.
    """

    def __init__(self, kept_s: float, each: int = MOST) -> None:
        self._kept_s = kept_s
        self._each = each
        self._kept: dict[tuple[str, str], Recording] = {}

    def add(self, piece: Piece, now: float, sender: str = "") -> None:
        """Take a piece. Raises PayloadError for one that fits nowhere."""
        self._forget(now)
        known = self._kept.get((sender, piece.id))
        recording = known or Recording(piece.id, piece.of, now)
        if piece.n >= piece.of or piece.of != recording.of:
            raise PayloadError(f"piece {piece.n} of {piece.of} does not fit a message of {recording.of}")
        if len(piece.sound) > PIECE or len(recording.sound) + len(piece.sound) > LONGEST:
            raise PayloadError(f"a recorded message is too long; at most {LONGEST} bytes are carried")
        if known is None:
            self._make_room(sender)
            self._kept[sender, piece.id] = recording
        recording.pieces.setdefault(piece.n, piece)

    def get(self, id_: str, now: float, sender: str = "") -> Recording | None:
        """Return a message that is there as a whole."""
        self._forget(now)
        recording = self._kept.get((sender, id_))
        return recording if recording is not None and recording.whole else None

    def _forget(self, now: float) -> None:
        self._kept = {key: each for key, each in self._kept.items() if now - each.at < self._kept_s}

    def _make_room(self, sender: str) -> None:
        own = [key for key in self._kept if key[0] == sender]
        if len(own) >= self._each:
            del self._kept[own[0]]
        elif len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]


def pieces(id_: str, sound: bytes, seconds: float) -> list[Piece]:
    """Cut a message (Ogg Opus, mono) into pieces that fit a payload. Raises PayloadError for one that is too long."""
    if not 0 < len(sound) <= LONGEST:
        raise PayloadError(f"a recorded message has {len(sound)} bytes; at most {LONGEST} are carried")
    parts = [sound[start : start + PIECE] for start in range(0, len(sound), PIECE)]
    return [
        Piece.model_construct(id=id_, n=n, of=len(parts), seconds=seconds, sound=part) for n, part in enumerate(parts)
    ]
