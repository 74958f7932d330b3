"""Every version that ever spoke is kept and can be put back; the commands tell of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted
from roomtone import cli
from roomtone.core.dialog import Source
from roomtone.core.errors import PersonaError, PersonaNotFound
from roomtone.core.signals import Prompt, Switch
from roomtone.personas import Library
from roomtone.personas import files as persona_files
from roomtone.personas import versions as persona_versions
from roomtone.rehearsal import Rehearsal
from roomtone.shipped import shipped
from roomtone.store import FILE_NAME, Store, open_store

ROWING = """
language: en
intents:
  row: {sentences: ["shall we row"], samples: ["shall we row"]}
replies: {row: "Across the lake."}
"""


def write(state_dir: Path, config: str, name: str = "guide", prompt: str = "You guide.") -> Path:
    made = state_dir / "personas" / name
    made.mkdir(parents=True, exist_ok=True)
    (made / "config.yaml").write_text(config)
    (made / "system_prompt.md").write_text(prompt)
    return made


def library(state_dir: Path) -> Library:
    return Library([state_dir / "personas", shipped("personas")])


async def spoke(store: Store, state_dir: Path, persona: str) -> str:
    """Note that a persona spoke as it is now; return the hash of its version."""
    known = library(state_dir)
    read = known.load(persona)
    await persona_versions.keep_version(store, known, read)
    return read.content


async def became(rehearsal: Rehearsal, persona: str) -> None:
    rehearsal.room.conversation.post(Switch(persona, Source.CLI))
    await rehearsal.at_rest()


def test_who_speaks_at_the_start_and_after_a_switch_is_kept(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, "name: Guide\nversion: '7'\n")
        async with room(scripted(), tmp_path) as rehearsal:
            await became(rehearsal, "guide")
        async with open_store(tmp_path / FILE_NAME) as store:
            [guide] = await persona_versions.versions(store, "guide")
            assert guide.version == "7"
            assert len(await persona_versions.versions(store, "companion")) == 1
            [row] = await store.read("SELECT files FROM persona_versions WHERE persona = 'guide'")
            assert json.loads(row["files"])["system_prompt.md"] == "You guide."

    run(scenario())


def test_whose_files_broke_while_the_room_was_off_speaks_as_it_was(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        made = write(tmp_path, "name: Guide\n")
        skill = made / "skills" / "rowing"
        skill.mkdir(parents=True)
        (skill / "en.yaml").write_text(ROWING)
        async with room(scripted(), tmp_path) as rehearsal:
            await became(rehearsal, "guide")
        write(tmp_path, "name: [Gui")
        async with room(scripted(), tmp_path) as rehearsal:
            assert rehearsal.room.conversation.speaker.persona.name == "Guide"
            turn = await rehearsal.room.conversation.answer(Prompt("shall we row", Source.CLI))
            assert turn.said == "Across the lake."
            write(tmp_path, "name: Leader\n")
            await became(rehearsal, "guide")
            assert rehearsal.room.conversation.speaker.persona.name == "Leader", "its files are whole again"
        assert "Guide speaks as it was" in caplog.text

    run(scenario())


def test_whose_folder_is_gone_after_a_restart_speaks_no_more(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        made = write(tmp_path, "name: Guide\n")
        async with room(scripted(), tmp_path) as rehearsal:
            await became(rehearsal, "guide")
        shutil.rmtree(made)
        async with room(scripted(), tmp_path) as rehearsal:
            assert rehearsal.room.conversation.speaker.persona.id == "companion"

    run(scenario())


def test_an_earlier_version_comes_back_and_what_was_there_is_kept(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            made = write(tmp_path, "name: First\n")
            (made / "picture").write_bytes(b"\xff\x00")
            first = await spoke(store, tmp_path, "guide")
            write(tmp_path, "name: Second\n")
            second = await spoke(store, tmp_path, "guide")
            known = library(tmp_path)
            version, folder = await persona_versions.roll_back(store, known, "guide")
            assert (version.content, folder) == (first, made)
            assert known.load("guide").name == "First"
            assert (made / "picture").read_bytes() == b"\xff\x00"
            await persona_versions.roll_back(store, known, "guide", second[:4].upper())
            assert known.load("guide").name == "Second"
            assert [path.name for path in made.parent.iterdir()] == ["guide"], "nothing is left lying about"

    run(scenario())


def test_a_broken_edit_is_kept_before_it_is_rolled_back(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            write(tmp_path, "name: First\n")
            await spoke(store, tmp_path, "guide")
            broken = write(tmp_path, "name: [an hour of work")
            hash_ = persona_files.fingerprint(persona_files.read(broken))
            known = library(tmp_path)
            await persona_versions.roll_back(store, known, "guide")
            assert known.load("guide").name == "First"
            kept = {each.content: each.version for each in await persona_versions.versions(store, "guide")}
            assert kept[hash_] == persona_versions.BROKEN
            await persona_versions.roll_back(store, known, "guide", hash_)
            assert (broken / "config.yaml").read_text() == "name: [an hour of work"

    run(scenario())


def test_what_cannot_even_be_read_is_set_aside(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            made = write(tmp_path, "name: First\n")
            await spoke(store, tmp_path, "guide")
            (made / "large").write_bytes(b"x" * (persona_files.LARGEST_FILE + 1))
            await persona_versions.roll_back(store, library(tmp_path), "guide")
            assert library(tmp_path).load("guide").name == "First"
            [aside] = [path for path in made.parent.iterdir() if path.name.startswith(".guide.")]
            assert (aside / "large").exists()

    run(scenario())


def test_a_folder_that_is_gone_comes_back_and_shipped_ones_are_never_written(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            made = write(tmp_path, "name: First\n")
            await spoke(store, tmp_path, "guide")
            shutil.rmtree(made)
            await persona_versions.roll_back(store, library(tmp_path), "guide")
            assert library(tmp_path).load("guide").name == "First"
            content = await spoke(store, tmp_path, "companion")
            write(tmp_path, "name: Mine\n", name="companion")
            _, folder = await persona_versions.roll_back(store, library(tmp_path), "companion", content)
            assert folder == tmp_path / "personas" / "companion"
            assert library(tmp_path).load("companion").content == content

    run(scenario())


@pytest.mark.parametrize(
    ("persona", "content", "reason"),
    [
        ("nobody", None, "it never spoke here"),
        ("../guide", None, "is no persona's id"),
        ("guide", None, "no earlier version"),
        ("guide", "ffff", "there is no version 'ffff'"),
        ("guide", "", "there is no version ''"),
    ],
)
def test_a_version_that_there_is_not_cannot_be_gone_back_to(
    run: Run[None], tmp_path: Path, persona: str, content: str | None, reason: str
) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            write(tmp_path, "name: First\n")
            await spoke(store, tmp_path, "guide")
            with pytest.raises(PersonaNotFound, match=reason):
                await persona_versions.roll_back(store, library(tmp_path), persona, content)

    run(scenario())


def test_a_folder_that_may_not_be_written_keeps_what_it_has(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            made = write(tmp_path, "name: First\n")
            first = await spoke(store, tmp_path, "guide")
            write(tmp_path, "name: Second\n")
            (made.parent / ".guide.new").write_text("something is in the way")
            with pytest.raises(PersonaError, match="cannot be written"):
                await persona_versions.roll_back(store, library(tmp_path), "guide", first)
            assert library(tmp_path).load("guide").name == "Second"

    run(scenario())


def test_a_persona_in_use_that_is_gone_at_the_start_gives_way(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        made = write(tmp_path, "name: Guide\n")
        async with room(scripted(), tmp_path) as rehearsal:
            await became(rehearsal, "guide")
        shutil.rmtree(made)
        write(tmp_path, "name: [", name="companion")
        async with room(scripted(), tmp_path) as rehearsal:
            speaker = rehearsal.room.conversation.speaker.persona.id
            assert speaker not in ("guide", "companion"), "whoever can be loaded speaks"
            assert (await rehearsal.room.conversation.answer(Prompt("hello", Source.CLI))).spoken
            assert await persona_versions.in_use(rehearsal.room.store) == "guide", "who comes back, speaks again"

    run(scenario())


# ----------------------------------------------------------------------------------------- commands


def personas(capsys: pytest.CaptureFixture[str], state_dir: Path, *words: str) -> tuple[int, list[Any], str]:
    """Run ``roomtone personas ... --json``; return its exit code, what it printed, and its errors."""
    code = cli.main(["personas", *words, "--json", "--state-dir", str(state_dir)])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_the_list_marks_who_speaks_and_what_is_broken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write(tmp_path, "name: Guide\ntags: [house]\n")
    write(tmp_path, "name: [", name="wreck")
    code, events, _ = personas(capsys, tmp_path, "list")
    found = {event["persona"]["id"]: event["persona"] for event in events}
    assert code == 0
    assert found["companion"]["speaks"]
    assert found["companion"]["from"] == "roomtone"
    guide = found["guide"]
    assert (guide["name"], guide["version"], guide["tags"], guide["from"]) == ("Guide", "1", ["house"], "household")
    assert "config.yaml: is not YAML" in found["wreck"]["broken"][0]


def test_check_tells_every_mistake_and_ends_with_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert personas(capsys, tmp_path, "check") == (0, [], "")
    write(tmp_path, "nme: Guide\ntools: [flying]\n")
    code, events, _ = personas(capsys, tmp_path, "check", "guide")
    assert code == 1
    assert [event["mistake"].rpartition("config.yaml: ")[2].partition(":")[0] for event in events] == ["nme", "name"]
    write(tmp_path, "name: Guide\ntools: [flying]\n")
    code, [event], _ = personas(capsys, tmp_path, "check")
    assert code == 1
    assert "config.yaml: tools: there is no skill 'flying'" in event["mistake"]
    folder = str(tmp_path / "personas" / "guide")
    assert personas(capsys, tmp_path / "other", "check", folder)[0] == 1


def test_a_persona_is_chosen_and_its_history_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write(tmp_path, "name: Guide\n")
    code, [event], _ = personas(capsys, tmp_path, "use", "guide")
    assert (code, event["used"]["earlier"]) == (0, "companion")
    write(tmp_path, "name: Guide The Second\nversion: '2'\n")
    personas(capsys, tmp_path, "use", "companion")
    personas(capsys, tmp_path, "use", "guide")
    _, events, _ = personas(capsys, tmp_path, "history", "guide")
    assert [event["version"]["version"] for event in events if "version" in event] == ["2", "1"]
    switches = [event["switch"] for event in events if "switch" in event]
    assert [(each["earlier"], each["persona"]) for each in switches] == [
        ("companion", "guide"),
        ("guide", "companion"),
        ("companion", "guide"),
    ]
    assert {each["cause"] for each in switches} == {"roomtone personas use"}
    code, [event], _ = personas(capsys, tmp_path, "rollback", "guide")
    assert (code, event["version"]["version"]) == (0, "1")
    assert library(tmp_path).load("guide").name == "Guide"


def test_the_prompt_is_shown_as_a_model_would_read_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write(tmp_path, "name: Guide\ntone_rules: [be brief]\n", prompt="You are $persona.")
    _, [event], _ = personas(capsys, tmp_path, "show", "guide", "--prompt")
    assert event["prompt"].startswith("You are Guide.\n\n")
    assert "- be brief" in event["prompt"]


@pytest.mark.parametrize("words", [("show", "nobody"), ("use", "nobody"), ("check", "nobody"), ("history", "nobody")])
def test_an_unknown_persona_is_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, str]
) -> None:
    code, events, err = personas(capsys, tmp_path, *words)
    assert (code, events) == (1, [])
    assert err.startswith("roomtone: there is no persona 'nobody'; choose one of ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("action", ["list", "show", "check", "use", "history", "rollback"])
def test_a_person_reads_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path, action: str) -> None:
    write(tmp_path, "name: Old\n")
    personas(capsys, tmp_path, "use", "guide")
    write(tmp_path, "name: Guide\n")
    assert cli.main(["personas", action, *(["guide"] if action != "list" else []), "--state-dir", str(tmp_path)]) == 0
    assert "uide" in capsys.readouterr().out or action == "check"
