"""The demo as a newcomer runs it, and what it says when it does not go as its script expects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from roomtone import cli
from roomtone.core.dialog import Ended
from roomtone.core.sound import decode_wav

MODELS = Path(__file__).parent / "models"


def test_every_visitor_is_answered_and_the_conversation_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--pace", "fast", "--out", str(tmp_path), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kept = [json.loads(line) for line in (tmp_path / "turns.jsonl").read_text().splitlines()]
    assert printed == kept
    assert [turn["ended"] for turn in kept].count(Ended.INTERRUPTED) == 1
    assert decode_wav((tmp_path / "conversation.wav").read_bytes()).seconds > 30
    for turn in kept:
        reply = decode_wav(Path(turn["reply_wav"]).read_bytes())
        assert reply.seconds > 0.3
        loud = np.flatnonzero(np.abs(reply.samples.astype(np.int32)) > 300) / reply.rate
        assert loud[0] < 0.1, "it begins with the reply's first sound"


def test_a_day_goes_by_with_a_wake_word_buttons_a_bedtime_three_personas_and_a_power_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--scene", "day", "--pace", "fast", "--out", str(tmp_path)]) == 0
    assert "nothing understood" not in capsys.readouterr().out, "what is said by itself answers nobody"
    turns = [json.loads(line) for line in (tmp_path / "turns.jsonl").read_text("utf-8").splitlines()]
    assert [turn["persona"] for turn in turns] == ["companion", *["chef"] * 3, *["storyteller"] * 4]
    bedtime, back, offered, gone_on = turns[-4:]
    assert (bedtime["source"], bedtime["spoken"]) == ("schedule", "Time for bed.")
    assert back["spoken"].startswith("I was off for")
    assert "tea timer" in back["spoken"]
    assert offered["spoken"].endswith("Shall I go on?")
    assert (gone_on["heard"], gone_on["intent"]) == ("yes", "repeat.go_on")
    assert gone_on["turn"] == bedtime["turn"] + 4, "the story that was cut off is the turn between"
    assert all(decode_wav(Path(turn["reply_wav"]).read_bytes()).seconds > 0.3 for turn in turns if turn["reply_wav"])
    assert decode_wav((tmp_path / "conversation.wav").read_bytes()).seconds > 120


def test_with_a_recogniser_of_free_speech_and_a_piper_voice_it_goes_the_same_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(MODELS, tmp_path / "state" / "models")
    options = ["--pace", "fast", "--json", "--state-dir", str(tmp_path / "state"), "--out", str(tmp_path / "out")]
    assert cli.main(["demo", *options]) == 0
    heard = [json.loads(line)["heard"] for line in capsys.readouterr().out.splitlines()]
    assert "what should i cook for dinner" in heard


def test_what_is_not_as_expected_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMTONE__STT__ENGINE", "script")
    monkeypatch.setenv("ROOMTONE__TTS__ENGINE", "tone")
    assert cli.main(["demo", "--pace", "fast", "--out", str(tmp_path)]) == 1
    assert "not as expected: Anna (what time is it)" in capsys.readouterr().err
