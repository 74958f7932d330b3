"""A simulated house on a real broker and a real hub, as ``roomtone hub simulate`` and the bench measure it."""

from __future__ import annotations

import json

import pytest

from broker import needs_mosquitto
from conftest import Run
from roomtone import cli
from roomtone.bench import house


def test_a_house_of_simulated_devices_says_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    needs_mosquitto()
    assert cli.main(["hub", "simulate", "--devices", "20", "--seconds", "8", "--json"]) == 0
    figures = {figure["name"]: figure for figure in map(json.loads, capsys.readouterr().out.splitlines())}
    assert figures["house_20_handoffs_failed"]["value"] == 0
    assert figures["house_20_handoff_ms_p50"]["n"] >= 1
    assert figures["house_20_hub_cpu"]["value"] > 0
    assert figures["house_20_hub_mb"]["value"] > 0


def test_a_story_walks_to_and_fro_between_two_whole_rooms(
    run_in_real_time: Run[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_mosquitto()
    monkeypatch.setattr(house, "ROUNDS", 2)
    took = run_in_real_time(house._handoffs())
    assert len(took) == 2
    assert min(took) > 0
