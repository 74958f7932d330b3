"""A persona is a folder; what is wrong with it is told with file, key and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from roomtone import personas
from roomtone.core.errors import PersonaError, PersonaNotFound
from roomtone.personas import Library
from roomtone.shipped import shipped


def folder(tmp_path: Path, config: str, name: str = "guide", prompt: str | None = "You are one of several.") -> Path:
    made = tmp_path / name
    made.mkdir()
    (made / "config.yaml").write_text(config, "utf-8")
    if prompt is not None:
        (made / "system_prompt.md").write_text(prompt, "utf-8")
    return made


def test_the_default_persona_ships_with_a_voice_and_a_prompt() -> None:
    companion = personas.load(shipped("personas") / "companion")
    assert companion.id == "companion"
    assert companion.name
    assert companion.voice.engine is None, "the best voice on the disk speaks"
    assert companion.system_prompt


def test_every_shipped_persona_loads() -> None:
    place = shipped("personas")
    assert "companion" in personas.ids(place)
    for persona in personas.ids(place):
        personas.load(place / persona)


def test_a_persona_is_read_from_its_folder(tmp_path: Path) -> None:
    config = "name: Guide\ndescription: Knows the way\nversion: '2'\nvoice: {voice_id: en-gb, speed: 1.2}\n"
    guide = personas.load(folder(tmp_path, config, prompt="Show the way.\n"))
    assert (guide.id, guide.name, guide.version, guide.system_prompt) == ("guide", "Guide", "2", "Show the way.")
    assert (guide.voice.voice_id, guide.voice.speed) == ("en-gb", 1.2)


@pytest.mark.parametrize(
    ("config", "key", "reason"),
    [
        ("name: Guide\ncolour: red", "colour", "there is no such key"),
        ("name: Guide\nvoice: {speed: fast}", "voice.speed", "number"),
        ("name: Guide\nvoice: {speed: 9}", "voice.speed", "less than or equal to 2"),
        ("description: nobody", "name", "is missing"),
        ("name: Guide\nversion: 2", "version", "2 is not a text; put it in quotes"),
    ],
)
def test_a_mistake_is_told_with_file_key_and_reason(tmp_path: Path, config: str, key: str, reason: str) -> None:
    with pytest.raises(PersonaError) as refused:
        personas.load(folder(tmp_path, config))
    assert f"{tmp_path / 'guide' / 'config.yaml'}: {key}: " in refused.value.message
    assert reason in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("config", ["just words", "name: [", ""])
def test_a_file_that_is_no_config_is_refused_in_one_line(tmp_path: Path, config: str) -> None:
    with pytest.raises(PersonaError) as refused:
        personas.load(folder(tmp_path, config))
    assert "config.yaml" in refused.value.message
    assert "\n" not in refused.value.message


def test_a_folder_that_is_not_there_is_a_persona_not_found(tmp_path: Path) -> None:
    with pytest.raises(PersonaNotFound, match="there is no persona 'nobody'"):
        personas.load(tmp_path / "nobody")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PersonaError, match=r"config\.yaml: is missing"):
        personas.load(tmp_path / "empty")


def test_an_id_is_plain(tmp_path: Path) -> None:
    with pytest.raises(PersonaError, match="named with a-z"):
        personas.load(folder(tmp_path, "name: Guide", name="My Guide"))


def test_a_persona_of_the_household_speaks_and_one_that_is_nowhere_is_told_with_those_there_are(
    tmp_path: Path,
) -> None:
    folder(tmp_path, "name: Guide")
    library = Library([tmp_path, shipped("personas")])
    assert library.load("guide").name == "Guide"
    with pytest.raises(PersonaNotFound, match=r"no persona 'nobody'; choose one of .*companion.*guide"):
        library.load("nobody")
