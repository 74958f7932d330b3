"""The README says what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from roomtone import engines
from roomtone.commands import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "prints"), [("state_diagram", "diagram"), ("config_keys", "listing")])
def test_what_is_printed_from_the_code_is_fresh(name: str, prints: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    printed = script(name)
    fresh = script("readme_block").replaced(README, printed.NAME, getattr(printed, prints)())
    assert fresh == README, f"run: python scripts/{name}.py --write"


def test_every_command_is_told() -> None:
    for command in COMMANDS:
        assert f"`roomtone {command}" in README


def test_every_engine_is_told() -> None:
    table = README.partition("## Engines")[2].partition("## The command line")[0]
    for seam in engines.SEAMS:
        for name in engines.names(seam):
            assert f"| `{name}` |" in table, f"{seam}.{name}"
