"""The bench on local models: what it makes of when decodes ran, and of a folder with phrases to know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roomtone.bench.local_models import Heard, Interval, measure, phrases_of, words
from roomtone.clock import run_skipping
from roomtone.core.dialog import Latency, Turn
from roomtone.core.errors import UsageError

MODELS = Path(__file__).parent / "models"


def a_turn(heard: str = "Stop.", **latency: float) -> Turn:
    known = {"turn": 1, "trace": "t", "session": "s", "room": "r", "persona": "p", "source": "voice"}
    return Turn.model_validate({**known, "heard": heard, "latency_ms": Latency.model_validate(latency)})


def heard(decodes: list[Interval], first_sound: float, **latency: float) -> Heard:
    return Heard("Stop.", [a_turn(**latency)], decodes, first_sound)


def test_a_decode_that_was_done_when_the_utterance_ended_saved_all_of_its_time() -> None:
    one = heard([(9.6, 9.8)], 10.05, stt=0.0, think=10.0, tts=40.0)  # decided at 10.0
    assert one.decided == pytest.approx(10.0)
    assert one.saved() == pytest.approx(0.2)
    assert one.share_ahead() == pytest.approx(1.0)
    assert one.after_text() == pytest.approx(0.05), "the person was waited for, not the text"


def test_a_decode_that_was_half_done_saved_half() -> None:
    one = heard([(9.0, 9.2), (9.9, 10.1)], 10.15, stt=100.0, think=10.0, tts=40.0)
    assert one.saved() == pytest.approx(0.1)
    assert one.share_ahead() == pytest.approx(0.5)
    assert one.after_text() == pytest.approx(0.05)


def test_a_decode_that_began_at_the_end_saved_nothing() -> None:
    one = heard([(10.0, 10.2)], 10.25, stt=200.0, think=10.0, tts=40.0)
    assert (one.saved(), one.share_ahead()) == (pytest.approx(0), pytest.approx(0))


def test_a_phrase_is_right_when_one_turn_heard_its_words() -> None:
    assert Heard("Stop.", [a_turn("stop")], [], None).is_right
    assert not Heard("Stop.", [a_turn("stop"), a_turn("")], [], None).is_right
    assert not Heard("Stop.", [], [], None).is_right
    assert words("Read the to-do list.") == words("read the to do list")


def test_a_folder_without_phrases_has_none(tmp_path: Path) -> None:
    assert phrases_of(tmp_path)[0] == []


@pytest.mark.parametrize(
    "content", ["", "[]", '{"phrases": ["Stop."]}', '{"phrases": [1], "voices": ["en-gb"]}', "\0"]
)
def test_broken_phrases_are_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "whisper" / "fixture" / "phrases.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(UsageError, match=r"phrases\.json is broken"):
        phrases_of(tmp_path)


def test_an_empty_folder_is_told_of_and_gives_no_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_skipping(measure(tmp_path)) == []
    whisper, piper = capsys.readouterr().err.splitlines()
    assert "whisper" in whisper
    assert "piper" in piper


def test_whisper_and_piper_are_measured_with_the_models_of_a_folder(tmp_path: Path) -> None:
    if not (MODELS / "whisper" / "fixture" / "model.bin").is_file():
        pytest.skip("there is no Whisper among the fixture models yet")
    pytest.importorskip("faster_whisper")
    pytest.importorskip("piper")
    (tmp_path / "whisper" / "fixture").mkdir(parents=True)
    (tmp_path / "piper").symlink_to(MODELS / "piper")
    for file in (MODELS / "whisper" / "fixture").iterdir():
        if file.name != "phrases.json":
            (tmp_path / "whisper" / "fixture" / file.name).symlink_to(file)
    few = {"phrases": ["What time is it?", "Read the shopping list."], "voices": ["en-us+m3", "en-gb+f3"]}
    (tmp_path / "whisper" / "fixture" / "phrases.json").write_text(json.dumps(few))
    figures = {figure.name: figure for figure in run_skipping(measure(tmp_path))}
    assert figures["household_phrases_right"].value == 100
    assert figures["whisper_first_sound_after_stt_ms_p95"].n == 4
    assert figures["whisper_partials_share"].n == 4
    assert figures["piper_gap_ms_p95"].n >= 10
