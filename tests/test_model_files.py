"""What a model's files look like: whole ones are told from cut ones and from others, without loading any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_making import ARCHITECTURE, VOICE, WAKE, WEIGHTS, ct2, gguf, gguf_word, onnx
from roomtone import models
from roomtone.core.model_files import (
    GGML_BLOCKS,
    Flawed,
    Gguf,
    check_ct2,
    check_gguf,
    check_json,
    check_onnx,
    check_tflite,
    check_voice,
    check_wake,
    read_gguf,
)


@pytest.mark.parametrize("fixture", ["whisper/fixture/model.bin", "piper/en_US-fixture-x_low.onnx"])
def test_real_models_of_both_formats_are_known(fixture: str) -> None:
    file = Path(__file__).parent / "models" / fixture
    if not file.exists():
        pytest.skip("the fixture has not been made")
    models.check_format(file)


@given(st.integers(0, len(ct2()) - 1))
def test_a_recogniser_cut_anywhere_is_told(length: int) -> None:
    with pytest.raises(Flawed):
        check_ct2(ct2()[:length])


@given(st.integers(0, len(onnx()) - 1))
def test_a_voice_cut_anywhere_is_told(length: int) -> None:
    with pytest.raises(Flawed):
        check_onnx(onnx()[:length])


def told(check: Callable[[Any], object], content: Any) -> str:
    """Return what a check finds wrong, in words."""
    try:
        check(content)
    except Flawed as error:
        return str(error)
    return ""


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_another_error(content: bytes) -> None:
    for check in (check_ct2, check_onnx, check_json):
        told(check, content)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.sampled_from(list(VOICE)), inner)
    )
)
def test_any_configuration_of_a_voice_is_judged_without_another_error(config: Any) -> None:
    told(check_voice, config)


def test_a_configuration_with_all_it_needs_is_a_voices() -> None:
    check_voice(VOICE)
    for key in VOICE:
        with pytest.raises(Flawed):
            check_voice({name: value for name, value in VOICE.items() if name != key})


def test_the_head_of_a_gguf_file_says_what_it_is() -> None:
    assert read_gguf(WEIGHTS) == Gguf("llama", adapter=False, context=4096)
    adapter = gguf(("general.type", 8, gguf_word("adapter")), ARCHITECTURE, data=bytes(128))
    assert read_gguf(adapter) == Gguf("llama", adapter=True, context=0)
    assert read_gguf(gguf(data=bytes(128))) == Gguf("", adapter=False, context=0)


@given(end=st.integers(0, len(WEIGHTS) - 1))
def test_a_gguf_file_that_is_cut_anywhere_is_told(end: int) -> None:
    check_gguf(WEIGHTS)
    with pytest.raises(Flawed):
        check_gguf(WEIGHTS[:end])


@given(content=st.binary(max_size=200), at=st.integers(0, len(WEIGHTS)))
def test_whatever_a_gguf_file_holds_it_is_taken_or_told(content: bytes, at: int) -> None:
    for damaged in (content, b"GGUF\x03\0\0\0" + content, WEIGHTS[:at] + content + WEIGHTS[at + len(content) :]):
        for look in (check_gguf, read_gguf):
            try:
                look(damaged)
            except Flawed:
                continue


@pytest.mark.parametrize("wrong", [b"", b"GGML" + WEIGHTS[4:], b"GGUF\x01" + WEIGHTS[5:], b"PK" + WEIGHTS])
def test_what_is_no_gguf_file_is_told(wrong: bytes) -> None:
    with pytest.raises(Flawed):
        check_gguf(wrong)


def test_the_sizes_of_tensors_are_those_of_ggml() -> None:
    from gguf.constants import GGML_QUANT_SIZES

    assert {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()} == GGML_BLOCKS


def test_a_wake_word_is_its_description_and_the_network_it_names(tmp_path: Path) -> None:
    described = json.loads(WAKE["stop.json"])
    check_wake(described, "stop.tflite")
    check_tflite(WAKE["stop.tflite"])
    for wrong in (
        [],
        {},
        described | {"micro": 1},
        described | {"model": "../stop.tflite"},
        described | {"type": "x"},
    ):
        assert told(lambda config: check_wake(config, "stop.tflite"), wrong)
    for key in ("probability_cutoff", "sliding_window_size"):
        less = {name: value for name, value in described["micro"].items() if name != key}
        assert key in told(lambda config: check_wake(config, "stop.tflite"), described | {"micro": less})


@given(st.binary(max_size=40))
def test_any_network_is_judged_without_another_error(content: bytes) -> None:
    assert told(check_tflite, content) == ("" if content[4:8] == b"TFL3" else "is not a TensorFlow Lite model")
