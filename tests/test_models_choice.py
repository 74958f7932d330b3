"""Which models are recommended: by a machine's memory and cores, the language, and what is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_making import json_rows, roomtone
from roomtone.commands import models_list
from roomtone.engines.embed import onnx
from roomtone.engines.llm import llama_cpp
from roomtone.engines.stt import _whisper_models as whisper
from roomtone.engines.tts import piper
from roomtone.model_supply import choice
from roomtone.model_supply.catalogue import catalogue
from roomtone.model_supply.choice import Machine, recommended, this_machine

KNOWN = catalogue()


def names(memory: int, cores: int, language: str = "en", *, quick: bool = True) -> list[str]:
    everything = recommended(KNOWN.values(), Machine(memory, cores, quick), language, lambda *_: None)
    return [choice.entry.typed for choice in everything]


BASE = ["whisper-base.en", "en_US-amy-medium", "embed-all-MiniLM-L6-v2"]


@pytest.mark.parametrize(
    ("board", "memory", "suits"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", 430, []),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", 920, ["whisper-tiny.en", "en_US-amy-low"]),
        ("Raspberry Pi 4 Model B Rev 1.4", 1850, BASE),
        ("Raspberry Pi 4 Model B Rev 1.4", 7900, [*BASE, "llm-qwen2.5-0.5b-instruct"]),
        ("Raspberry Pi 5 Model B Rev 1.0", 4000, ["whisper-small.en", *BASE[1:], "llm-qwen2.5-1.5b-instruct"]),
    ],
)
def test_a_board_is_recommended_what_it_can_do(tmp_path: Path, board: str, memory: int, suits: list[str]) -> None:
    (tmp_path / "model").write_bytes(board.encode() + b"\0")
    assert names(memory, 4, quick=this_machine(tmp_path / "model").quick) == suits


def test_a_machine_of_one_core_is_recommended_nothing() -> None:
    assert names(8000, 1) == []


@pytest.mark.parametrize(
    ("board", "quick"),
    [
        ("Raspberry Pi Model B Rev 2", False),
        ("Raspberry Pi 400 Rev 1.0", False),
        ("Raspberry Pi Compute Module 4 Rev 1.0", False),
        ("Raspberry Pi Compute Module 5 Rev 1.0", True),
        ("Raspberry Pi 500 Rev 1.0", True),
        ("", True),
    ],
)
def test_boards_that_are_not_quick_are_known_by_their_names(tmp_path: Path, board: str, quick: bool) -> None:
    (tmp_path / "model").write_bytes(board.encode() + b"\0")
    assert this_machine(tmp_path / "model").quick is quick


@pytest.mark.parametrize(
    ("language", "voice", "recogniser"),
    [
        ("de", "de_DE-thorsten-medium", "whisper-small"),
        ("de-AT", "de_DE-thorsten-medium", "whisper-small"),
        ("fr", "fr_FR-siwis-medium", "whisper-small"),
        ("en-GB", "en_GB-alba-medium", "whisper-small.en"),
        ("nl-BE", "nl_BE-nathalie-medium", "whisper-small"),
        ("it", "it_IT-paola-medium", "whisper-small"),
    ],
)
def test_the_language_of_the_house_counts(language: str, voice: str, recogniser: str) -> None:
    suits = names(4000, 4, language)
    assert voice in suits
    assert recogniser in suits
    assert "embed-all-MiniLM-L6-v2" not in suits or language.startswith("en")


def test_a_language_without_a_voice_is_recommended_the_rest() -> None:
    assert not any(name.count("_") and "-" in name for name in names(4000, 4, "sw") if name[:2] == "sw")
    assert "whisper-small" in names(4000, 4, "sw")


@given(
    memory=st.integers(0, 200_000), cores=st.integers(1, 128), language=st.sampled_from(["en", "de", "nl-BE", "xx"])
)
def test_all_that_is_recommended_fits_into_memory_together(memory: int, cores: int, language: str) -> None:
    suits = [KNOWN[name] for name in names(memory, cores, language)]
    assert sum(choice._memory(entry) for entry in suits) <= max(0, choice.SHARE * memory - choice.REST_MB)
    assert len({entry.kind for entry in suits}) == len(suits)
    assert all(entry.speaks(language) for entry in suits)


def test_every_kind_of_model_says_what_runs_it() -> None:
    assert set(choice.LIBRARIES) == {entry.kind for entry in KNOWN.values()}


def test_this_machine_has_memory_and_cores() -> None:
    machine = this_machine()
    assert machine.memory > 100
    assert machine.cores >= 1


def test_list_says_what_suits_and_what_has_to_be_installed_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(module: str, extra: str) -> str | None:
        return f"run: pip install 'roomtone[{extra}]'" if module == "piper" else None

    monkeypatch.setattr(models_list, "this_machine", lambda: Machine(4000, 4))
    monkeypatch.setattr(models_list, "recommended", lambda *given: recommended(*given, lacks))
    assert roomtone(tmp_path, "list", "--recommended", "--json") == 0
    rows = json_rows(capsys)
    assert [row["name"] for row in rows] == [
        *("whisper-small.en", "en_US-amy-medium", "llm-qwen2.5-1.5b-instruct", "embed-all-MiniLM-L6-v2")
    ]
    assert (rows[0]["memory_megabytes"], rows[0]["suits"], rows[0]["licence"]) == (1000, "Pi 5 with 4 GB", "MIT")
    assert json.dumps(rows)
    assert roomtone(tmp_path, "list", "--recommended") == 0
    out = capsys.readouterr().out
    assert "This machine has 4.0 GB of memory and 4 cores; the language is en." in out
    assert "for en_US-amy-medium: run: pip install 'roomtone[piper]'" in out
    assert "whisper-tiny" not in out


def test_a_machine_that_can_do_nothing_of_it_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_list, "this_machine", lambda: Machine(400, 1))
    assert roomtone(tmp_path, "list", "--recommended") == 0
    assert "What comes with Roomtone is what it can run." in capsys.readouterr().out
    assert roomtone(tmp_path, "pull", "recommended") == 0


def test_what_engines_say_is_to_be_pulled_first_is_in_the_catalogue() -> None:
    told = [
        *(whisper.missing(None, Path("nowhere"), language) for language in ("en", "de")),
        f"pull {piper.FIRST}",
        f"pull {llama_cpp.FIRST}",
        f"pull {onnx.RECOMMENDED}",
    ]
    for line in told:
        assert str(line).rpartition("pull ")[2] in KNOWN
