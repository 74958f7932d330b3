"""How endpointing is measured: against sounds whose end is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from roomtone.bench import Figure
from roomtone.bench.endpointing import Heard, figures, last_speech_s, measure, recordings
from roomtone.core.errors import UsageError
from roomtone.core.sound import Audio, join
from test_vad import vowel


def room(seconds: float, rate: int = 16_000) -> Audio:
    return Audio(np.random.default_rng(1).integers(-20, 20, round(seconds * rate)).astype(np.int16), rate)


def test_speech_ends_where_its_last_loud_stretch_does() -> None:
    word = Audio(np.tile(np.array([8000, -8000], np.int16), 4000))
    click = Audio(word.samples[:320])
    assert last_speech_s(join([room(0.4), word, room(0.6)])) == pytest.approx(0.9)
    assert last_speech_s(join([room(0.4), word, room(0.2), click, room(0.4)])) == pytest.approx(0.9)


def test_a_quiet_room_holds_no_speech() -> None:
    assert last_speech_s(room(2)) == 0
    assert last_speech_s(room(0)) == 0


def test_who_was_never_heard_out_counts_as_cut_and_cuts_are_no_waits() -> None:
    heard = [Heard("a", "wake", 0.3), Heard("b", "wake", -0.4), Heard("c", "wake", None), Heard("d", "wake", -0.02)]
    cutoffs, p50, _ = figures(heard)
    assert cutoffs == Figure("cutoffs", 50.0, "%", "<= 2", 4)
    assert p50.n == 2
    assert p50.value == pytest.approx(140)


def test_recordings_are_measured_by_their_manifest(tmp_path: Path) -> None:
    sound = join([room(0.3), vowel(0.75), room(0.3)])
    soundfile.write(tmp_path / "one.wav", sound.samples, 16_000)
    soundfile.write(tmp_path / "other.wav", sound.samples, 16_000)
    (tmp_path / "manifest.csv").write_text("file,kind\none.wav,command\nother.wav,noise\n")
    cutoffs, p50, p95 = measure(tmp_path)
    assert (cutoffs.value, cutoffs.n) == (0, 1)
    assert p50.value == p95.value
    assert p50.value is not None
    assert 100 < p50.value < 1100


def test_recordings_are_those_of_one_person_with_speech_in_them_at_the_listening_rate(tmp_path: Path) -> None:
    spoken = join([room(0.3, 8000), Audio(vowel(0.75).samples[::2], 8000), room(0.3, 8000)], 8000)
    for name, sound in (("spoken", spoken), ("silent", room(1, 8000)), ("music", spoken)):
        soundfile.write(tmp_path / f"{name}.wav", sound.samples, 8000)
    (tmp_path / "manifest.csv").write_text("file,kind\nspoken.wav,wake\nsilent.wav,wake\nmusic.wav,noise\n")
    ((row, audio),) = recordings(tmp_path)
    assert row == {"file": "spoken.wav", "kind": "wake"}
    assert audio.rate == 16_000
    assert audio.seconds == pytest.approx(spoken.seconds, abs=0.01)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest\.csv"):
        measure(tmp_path)
