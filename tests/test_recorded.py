"""Recorded messages come in pieces: out of order, twice, too many, too long, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone.core.errors import PayloadError
from roomtone.core.recorded import LONGEST, MOST, Recordings, pieces
from roomtone.core.wire import PIECE, Piece, read, write


def piece(n: int, of: int, id_: str = "m", sound: bytes = b"x") -> Piece:
    return Piece.model_construct(id=id_, n=n, of=of, seconds=1.0, sound=sound)


@given(st.binary(min_size=1, max_size=5 * PIECE), st.randoms(use_true_random=False))
def test_a_message_is_whole_in_whatever_order_its_pieces_come_and_however_often(sound: bytes, random: object) -> None:
    recordings, sent = Recordings(120.0), pieces("m", sound, 3.0)
    shuffled = [*sent, *sent]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for each in shuffled:
        recordings.add(read(Piece, write(each)), 0.0)
    found = recordings.get("m", 1.0)
    assert found is not None
    assert found.sound == sound


def test_a_message_that_lacks_a_piece_is_none() -> None:
    recordings = Recordings(120.0)
    recordings.add(piece(0, 2), 0.0)
    assert recordings.get("m", 0.0) is None


def test_a_message_is_kept_for_its_time_alone() -> None:
    recordings = Recordings(120.0)
    recordings.add(piece(0, 1), 0.0)
    assert recordings.get("m", 119.0) is not None
    assert recordings.get("m", 120.0) is None


def test_nobody_can_send_what_another_has_recorded() -> None:
    recordings = Recordings(120.0)
    recordings.add(piece(0, 1), 0.0, "kitchen-1")
    assert recordings.get("m", 0.0, "bedroom-1") is None


def test_a_piece_that_fits_nowhere_is_refused_and_harms_nothing() -> None:
    recordings = Recordings(120.0)
    recordings.add(piece(0, 2), 0.0)
    for wrong in (piece(1, 3), piece(2, 2), piece(1, 2, sound=bytes(PIECE + 1))):
        with pytest.raises(PayloadError):
            recordings.add(wrong, 0.0)
    recordings.add(piece(1, 2), 0.0)
    assert recordings.get("m", 0.0) is not None


def test_a_message_cannot_grow_without_end() -> None:
    recordings, full = Recordings(120.0), LONGEST // PIECE
    for n in range(full):
        recordings.add(piece(n, 64, sound=bytes(PIECE)), 0.0)
    with pytest.raises(PayloadError, match="too long"):
        recordings.add(piece(full, 64, sound=bytes(PIECE)), 0.0)
    with pytest.raises(PayloadError):
        pieces("m", bytes(LONGEST + 1), 30.0)
    with pytest.raises(PayloadError):
        pieces("m", b"", 0.0)


def test_who_sends_many_pushes_out_their_own_and_all_together_stay_few() -> None:
    recordings = Recordings(120.0, each=2)
    for n in range(3):
        recordings.add(piece(0, 1, f"m{n}"), float(n), "kitchen-1")
    assert [recordings.get(f"m{n}", 3.0, "kitchen-1") is None for n in range(3)] == [True, False, False]
    for n in range(MOST):
        recordings.add(piece(0, 1), 4.0, f"device-{n}")
    assert recordings.get("m2", 5.0, "kitchen-1") is None
    assert all(recordings.get("m", 5.0, f"device-{n}") for n in range(MOST))
