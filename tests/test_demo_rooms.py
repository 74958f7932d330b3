"""The house of three rooms as a newcomer plays it: real engines, a real hub, a real broker, at real pace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker import needs_mosquitto
from roomtone import cli
from roomtone.core.sound import decode_wav


@pytest.mark.long
def test_a_conversation_walks_on_in_mid_sentence_and_the_house_goes_on_without_its_broker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_mosquitto()
    assert cli.main(["demo", "--rooms", "3", "--out", str(tmp_path), "--json"]) == 0, capsys.readouterr().err
    turns = [json.loads(line) for line in (tmp_path / "turns.jsonl").read_text("utf-8").splitlines()]
    [begun] = [turn for turn in turns if turn["ended"] == "interrupted"]
    rest = next(turn for turn in turns if turn["source"] == "hub" and turn["session"] == begun["session"])
    assert (begun["room"], rest["room"]) == ("kitchen", "living room")
    assert f"{begun['spoken']} {rest['spoken']}".split() == begun["said"].split(), "no word lost, none said twice"
    assert decode_wav((tmp_path / "conversation.wav").read_bytes()).seconds > 30
