"""Voice detectors: every engine of the seam keeps the same contract."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from roomtone.core.errors import EngineUnavailable
from roomtone.core.sound import FRAME, Audio, to_int16
from roomtone.engines import EngineSettings, load, names, open_engine
from roomtone.engines.vad import silero

VOWEL = (730.0, 1090.0, 2440.0)
"""Formants of "ah" in Hz (Peterson and Barney, 1952)."""


def vowel(seconds: float) -> Audio:
    """A buzz of 120 Hz through three formants, getting louder and softer four times a second, as speech does."""
    time = np.arange(round(seconds * 16000)) / 16000
    voice = np.zeros(len(time))
    for harmonic in range(1, 33):
        pitch = 120.0 * harmonic
        weight = sum(1 / (1 + ((pitch - formant) / 80) ** 2) for formant in VOWEL)
        voice += weight * np.sin(2 * np.pi * pitch * time)
    return Audio(to_int16(voice * (1 - np.cos(2 * np.pi * 4 * time)) * 2500))


def frames(audio: Audio) -> list[Audio]:
    return [audio.cut(start, start + FRAME) for start in range(0, len(audio) - FRAME + 1, FRAME)]


@pytest.fixture(params=names("vad"))
def engine(request: pytest.FixtureRequest) -> tuple[str, EngineSettings]:
    settings = load("vad", request.param).Settings()
    if reason := load("vad", request.param).missing(settings):
        pytest.skip(reason)
    return request.param, settings


def scores(run: Callable[..., Any], engine: tuple[str, EngineSettings], audio: Audio) -> list[float]:
    async def listen() -> list[float]:
        async with open_engine("vad", *engine) as vad:
            return [vad.probability(frame) for frame in frames(audio)]

    heard: list[float] = run(listen())
    return heard


def test_silence_is_not_speech(run: Callable[..., Any], engine: tuple[str, EngineSettings]) -> None:
    heard = scores(run, engine, Audio.silence(2))
    assert max(heard[5:]) < 0.5


def test_scores_are_probabilities(run: Callable[..., Any], engine: tuple[str, EngineSettings]) -> None:
    noise = Audio(np.random.default_rng(1).integers(-9000, 9000, 32000).astype(np.int16))
    assert all(0 <= score <= 1 for score in scores(run, engine, noise))


def test_it_can_be_opened_again_and_then_knows_nothing_of_before(
    run: Callable[..., Any], engine: tuple[str, EngineSettings]
) -> None:
    assert scores(run, engine, vowel(1)) == scores(run, engine, vowel(1))


@pytest.mark.parametrize("length", [0, FRAME - 1, 2 * FRAME])
def test_a_frame_of_another_length_is_refused(
    run: Callable[..., Any], engine: tuple[str, EngineSettings], length: int
) -> None:
    async def feed() -> None:
        async with open_engine("vad", *engine) as vad:
            vad.probability(Audio(np.zeros(length, np.int16)))

    with pytest.raises(ValueError, match="320 samples"):
        run(feed())


def test_webrtc_hears_a_vowel(run: Callable[..., Any]) -> None:
    heard = scores(run, ("webrtc", load("vad", "webrtc").Settings()), vowel(2))
    assert np.mean(heard) > 0.8


class Model:
    """Stands where Silero's model stands: keeps what it is shown; its score is its state plus a hundredth."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray[Any, Any]] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        shapes = {"input": [None, 576], "state": [2, None, 128], "sr": []}
        return [SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]

    def run(self, _outputs: None, given: dict[str, Any]) -> tuple[Any, Any]:
        self.seen.append(given["input"][0])
        state = given["state"] + np.float32(0.01)
        return np.array([[state[0, 0, 0]]], np.float32), state


def test_silero_sees_every_sample_once_and_the_64_before_each_window_again() -> None:
    model = Model()
    vad = silero.SileroVad(model)
    sound = Audio(np.arange(1, 16 * FRAME + 1, dtype=np.int16))
    heard = [vad.probability(frame) for frame in frames(sound)]
    assert np.concatenate([window[64:] for window in model.seen]) * 32768 == pytest.approx(sound.samples)
    assert not model.seen[0][:64].any()
    for before, after in zip(model.seen, model.seen[1:], strict=False):
        assert (after[:64] == before[-64:]).all()
    assert heard[:4] == pytest.approx([0, 0.01, 0.01, 0.02])
    assert heard[-1] == pytest.approx(0.1)


def test_silero_without_its_model_says_which_command_brings_it(run: Callable[..., Any], tmp_path: Path) -> None:
    settings = silero.Settings(model=tmp_path / "absent.onnx")
    with pytest.raises(EngineUnavailable, match="pip install"):
        run(open_engine("vad", "silero", settings).__aenter__())


def test_silero_finds_its_model_without_importing_the_package_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "faster_whisper"
    (package / "assets").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    model = package / "assets" / "silero_vad_v6.onnx"
    model.write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faster_whisper", raising=False)  # the real one, if another test has used it
    assert silero.find_model(silero.Settings()) == model
