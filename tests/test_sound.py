"""Sound as data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone.core.sound import to_int16


@given(st.lists(st.floats(width=32), max_size=20), st.sampled_from([np.float32, np.float64]))
def test_any_number_becomes_a_sample_and_what_is_too_loud_is_clipped(
    numbers: list[float], kind: type[np.floating]
) -> None:
    wanted = [0 if number != number else round(max(-32768.0, min(32767.0, number))) for number in numbers]
    given_ = np.array(numbers, kind)
    assert to_int16(given_).tolist() == wanted
    assert np.array_equal(given_, np.array(numbers, kind), equal_nan=True)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_silence_and_the_rest_of_the_sound_stays(number: float) -> None:
    assert to_int16(np.array([1.0, number, -2.0]))[[0, 2]].tolist() == [1, -2]
