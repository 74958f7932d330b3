"""A question that is asked without a daemon: the room that is opened for it can do what the daemon can."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest
import yaml

from roomtone import cli
from roomtone.engines import lacking
from roomtone.store import FILE_NAME

HOUSE = Path(__file__).parent / "mcp_house.py"


@pytest.mark.skipif(lacking("mcp") is not None, reason="the Python package mcp is not installed")
def test_tools_of_servers_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = {"name": "town.weather", "arguments": '{"city": "Rome"}'}
    replies = [{"calls": [call]}, "It is warm in Rome."]
    config = {
        "audio": {"engine": "wav"},
        "tts": {"engine": "tone"},
        "llm": {"providers": {"pi": {"engine": "script", "texts": replies}}},
        "mcp": {
            "town": {"command": sys.executable, "args": [str(HOUSE), "new"], "reach": "none"},
            "gone": {"command": str(tmp_path / "nothing")},
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    where = ["--config", str(tmp_path / "config.yaml"), "--state-dir", str(tmp_path)]
    assert cli.main(["ask", "what is it like in Rome", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["said"].endswith("It is warm in Rome.")
    with sqlite3.connect(tmp_path / FILE_NAME) as store:
        [(run,)] = store.execute("SELECT data FROM tool_runs").fetchall()
    assert (json.loads(run)["tool"], json.loads(run)["status"]) == ("town.weather", "done")
