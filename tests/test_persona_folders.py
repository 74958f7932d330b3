"""All that a persona's folder may hold, and all that may be wrong with it: one line, with file, key and reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone import personas
from roomtone.core.errors import PersonaError, PersonaNotFound
from roomtone.core.persona import AdaptationMode
from roomtone.personas import Library
from roomtone.personas import files as persona_files
from roomtone.personas.reading import parse
from roomtone.shipped import shipped

CONFIG = "name: Guide\n"
PROMPT = "You are one of several."


def folder(place: Path, name: str = "guide", **files: str) -> Path:
    """Make a persona's folder; a file's name is written with _ for / and __ for a dot."""
    made = place / name
    for path, text in {"config__yaml": CONFIG, "system_prompt__md": PROMPT, **files}.items():
        where = made / path.replace("system_prompt", "SP").replace("__", ".").replace("_", "/").replace(
            "SP", "system_prompt"
        )
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text, "utf-8")
    return made


def refused(made: Path) -> PersonaError:
    with pytest.raises(PersonaError) as error:
        personas.load(made)
    assert "\n" not in error.value.message
    assert error.value.code == "PERSONA_LOAD_ERROR"
    return error.value


# ------------------------------------------------------------------------------------ what is read


def test_everything_in_the_folder_is_read(tmp_path: Path) -> None:
    config = """
name: Guide
adaptation_mode: instruction_rag
trigger_types: [button, schedule]
schedule_cron: "@daily"
button: left
voice: {speed: 0.8, stability: 0.4}
llm: {route: [pi], max_response_tokens: 100, temperature: 0.2}
context_retention_hours: 2
tone_rules: [be brief]
behavior_constraints: [no politics]
tools: [timer]
egress: lan
quiet_hours: {start: 22:00, end: 07:30}
tags: [house]
"""
    example = {"user_message": "Hi", "assistant_response": "Hello.", "context": "in the morning"}
    made = folder(
        tmp_path,
        config__yaml=config,
        examples_a__json=json.dumps(example),
        examples_b__json=json.dumps([{"user_message": "Bye", "assistant_response": "Good bye."}]),
        knowledge_paths__md="# Paths\n\nKeep left.",
        jokes__en__yaml="- One.\n- Two.\n",
        phrases__en__yaml="greeting: Hello from {persona}.\nbeyond_me: [Not me., Sorry.]\ntimer.set: Set.\n",
    )
    guide = personas.load(made)
    assert guide.adaptation_mode is AdaptationMode.INSTRUCTION_RAG
    assert guide.quiet_hours is not None
    assert (guide.quiet_hours.start.hour, guide.quiet_hours.end.minute) == (22, 30), "not numbers to the base of 60"
    assert [each.user_message for each in guide.examples] == ["Hi", "Bye"]
    assert [(each.name, each.text) for each in guide.knowledge] == [("paths", "# Paths\n\nKeep left.")]
    assert guide.jokes == {"en": ("One.", "Two.")}
    assert guide.phrases["en"]["beyond_me"] == ["Not me.", "Sorry."]
    assert len(guide.content) == 64


def test_the_hash_changes_with_every_edit_and_with_nothing_else(tmp_path: Path) -> None:
    made = folder(tmp_path)
    first = personas.load(made).content
    for noise in (".config.yaml.swp", "config.yaml~", "#config.yaml#", "notes.bak"):
        (made / noise).write_text("what an editor leaves behind")
    (made / "skills" / "greet" / "__pycache__").mkdir(parents=True)
    (made / "skills" / "greet" / "__pycache__" / "x.pyc").write_bytes(b"\x00")
    assert personas.load(made).content == first
    (made / "skills" / "greet" / "__init__.py").write_text("")
    assert personas.load(made).content != first
    assert personas.load(folder(tmp_path / "elsewhere")).content == first


# ----------------------------------------------------------------------------- what is wrong with it

BAD = [
    ({"config__yaml": "name: ["}, "config.yaml", "", "is not YAML"),
    ({"config__yaml": "name: Guide\nname: \t x: y"}, "config.yaml", "", "is not YAML"),
    (
        {"config__yaml": "name: a\ntags: [x\nvoice: {}"},
        "config.yaml",
        "",
        "is not YAML: line 3: broken YAML: expected",
    ),
    ({"config__yaml": "name: no"}, "config.yaml", "name", "False is not a text; put it in quotes"),
    ({"config__yaml": "[" * 5000}, "config.yaml", "", "is not YAML"),
    ({"config__yaml": "just words"}, "config.yaml", "", "holds no keys"),
    ({"config__yaml": "name: Guide\nverion: '2'"}, "config.yaml", "verion", "did you mean version?"),
    ({"config__yaml": "name: Guide\nid: other"}, "config.yaml", "id", "the folder's name is its id"),
    ({"config__yaml": f"name: {'x' * 101}"}, "config.yaml", "name", "at most 100"),
    ({"config__yaml": f"name: a\ndescription: {'x' * 501}"}, "config.yaml", "description", "at most 500"),
    ({"config__yaml": "name: a\nvoice: {speed: 2.5}"}, "config.yaml", "voice.speed", "less than or equal to 2"),
    ({"config__yaml": "name: a\nllm: {max_response_tokens: 49}"}, "config.yaml", "llm.max_response_tokens", "50"),
    ({"config__yaml": "name: a\nllm: {temperature: 2.1}"}, "config.yaml", "llm.temperature", "2"),
    ({"config__yaml": "name: a\ncontext_retention_hours: 169"}, "config.yaml", "context_retention_hours", "168"),
    ({"config__yaml": "name: a\negress: moon"}, "config.yaml", "egress", "'any'"),
    ({"config__yaml": "name: a\ntags: [x, 3]"}, "config.yaml", "tags.2", "3 is not a text; put it in quotes"),
    ({"config__yaml": "name: a\nadaptation_mode: fine_tuned"}, "config.yaml", "model_reference", "needs the model"),
    ({"config__yaml": "name: a\nadaptation_mode: instruction_rag"}, "config.yaml", "adaptation_mode", "knowledge/"),
    ({"config__yaml": "name: a\ntrigger_types: [schedule]"}, "config.yaml", "schedule_cron", "needs one"),
    ({"config__yaml": "name: a\nschedule_cron: '0 0 30 2 *'"}, "config.yaml", "schedule_cron", "is no schedule"),
    ({"config__yaml": "name: a\nschedule_cron: '0 0 31 4,6 *'"}, "config.yaml", "schedule_cron", ""),
    ({"config__yaml": "name: a\nschedule_cron: '@reboot'"}, "config.yaml", "schedule_cron", "is no schedule"),
    ({"config__yaml": "name: a\nschedule_cron: sometimes"}, "config.yaml", "schedule_cron", "instead of 5"),
    ({"config__yaml": "name: a\nbutton: ' '"}, "config.yaml", "button", "is empty"),
    ({"config__yaml": "name: a\nquiet_hours: {start: 25:00, end: 07:00}"}, "config.yaml", "quiet_hours.start", ""),
    ({"system_prompt__md": "  \n"}, "system_prompt.md", "", "is empty"),
    ({"system_prompt__md": "You are in $kitchen."}, "system_prompt.md", "$kitchen", "no such placeholder"),
    ({"system_prompt__md": "It costs 5 $."}, "system_prompt.md", "$", "write $$"),
    ({"examples_a__json": "{"}, "examples/a.json", "", "is not JSON"),
    ({"examples_a__json": "3"}, "examples/a.json", "", ""),
    ({"examples_a__json": "{}"}, "examples/a.json", "user_message", "is missing"),
    (
        {"examples_a__json": '[{"user_message": "a", "assistant_response": 3}]'},
        "examples/a.json",
        "1.assistant_response",
        "",
    ),
    ({"examples_a__txt": "hello"}, "examples/a.txt", "", "is not read"),
    ({"knowledge_a__pdf": "hello"}, "knowledge/a.pdf", "", "is not read"),
    ({"knowledge_deep_a__md": "hello"}, "knowledge/deep/a.md", "", "is not read"),
    ({"jokes__en__yaml": "a: b"}, "jokes.en.yaml", "", "a list of texts"),
    ({"jokes__yaml": "- a"}, "jokes.yaml", "", "name it as in jokes.en.yaml"),
    ({"phrases__xx__yaml": "greeting: a"}, "phrases.xx.yaml", "", "there is no 'xx'"),
    ({"phrases__en__yaml": "greting: a"}, "phrases.en.yaml", "greting", "did you mean greeting?"),
    ({"phrases__en__yaml": "greeting: 'I am {room}'"}, "phrases.en.yaml", "greeting", "there is no {room}"),
    ({"phrases__en__yaml": "greeting: 'odd {'"}, "phrases.en.yaml", "greeting", "odd brace"),
    ({"phrases__en__yaml": "greeting: []"}, "phrases.en.yaml", "greeting", "is empty"),
    ({"phrases__en__yaml": "timer.set: 'in {years}'"}, "phrases.en.yaml", "timer.set", "there is no {years}"),
]


@pytest.mark.parametrize(("files", "file", "key", "reason"), BAD)
def test_a_mistake_is_told_with_file_key_and_reason(
    tmp_path: Path, files: dict[str, str], file: str, key: str, reason: str
) -> None:
    error = refused(folder(tmp_path, **files))
    where = f"{tmp_path / 'guide' / file}: {key + ': ' if key else ''}"
    assert error.message.startswith(where)
    assert reason in error.message.removeprefix(where)
    assert (error.details["file"], error.details["key"]) == (str(tmp_path / "guide" / file), key)


def test_a_prompt_is_needed(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made / "system_prompt.md").unlink()
    assert "system_prompt.md: is missing" in refused(made).message


def test_all_mistakes_are_there_a_line_each(tmp_path: Path) -> None:
    made = folder(tmp_path, config__yaml="colour: red", examples_a__json="[", system_prompt__md="$nobody")
    error = refused(made)
    assert len(error.details["mistakes"]) == 4
    assert error.message.endswith("(and 3 more; run: roomtone personas check guide)")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made / "config.yaml").write_bytes(b"name: \xff")
    assert "config.yaml: is not UTF-8 text" in refused(made).message


def test_a_knowledge_file_of_fifty_megabytes_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder(tmp_path, knowledge_a__md="a")
    os.truncate(made / "knowledge" / "a.md", 50 * 1024**2)
    monkeypatch.setattr(persona_files, "_content", lambda path: pytest.fail(f"{path} was read"))
    assert "a.md: has 50 MB; at most 256 kB are read" in refused(made).message


def test_many_notes_are_bounded_together(tmp_path: Path) -> None:
    made = folder(tmp_path, **{f"knowledge_{n}__md": "x" * 250_000 for n in range(9)})
    assert "larger than 2 MB together" in refused(made).message


def test_ten_thousand_files_are_refused_before_they_are_all_looked_at(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made / "knowledge").mkdir()
    for number in range(10_000):
        (made / "knowledge" / f"{number}.md").touch()
    assert "holds more than 500 files" in refused(made).message


def test_links_that_go_round_are_refused(tmp_path: Path) -> None:
    for name, target in (("loop.md", "loop.md"), ("up", ".."), ("gone.md", "nowhere")):
        made = folder(tmp_path, name=f"guide-{name.partition('.')[0]}")
        (made / "knowledge").mkdir()
        (made / "knowledge" / name).symlink_to(target)
        assert name in refused(made).message


def test_a_pipe_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    made = folder(tmp_path)
    os.mkfifo(made / "notes")
    assert "notes: is no file" in refused(made).message


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made / "config.yaml").chmod(0)
    if os.access(made / "config.yaml", os.R_OK):
        pytest.skip("this user may read everything")
    assert "config.yaml: Permission denied" in refused(made).message


@given(
    st.dictionaries(
        st.sampled_from(["config.yaml", "system_prompt.md", "examples/a.json", "phrases.en.yaml"]), st.binary()
    )
)
def test_no_bytes_make_reading_fail_in_another_way(files: dict[str, bytes]) -> None:
    persona, mistakes = parse("guide", files)
    assert (persona is None) == bool(mistakes)


# ---------------------------------------------------------------------------------------- the library


def test_two_personas_on_one_button_the_second_is_told(tmp_path: Path) -> None:
    for name in ("alf", "bea", "cid"):
        folder(tmp_path, name, config__yaml=f"name: {name}\nbutton: left\n")
    library = Library([tmp_path])
    assert library.load("alf").button == "left"
    for second in ("bea", "cid"):
        with pytest.raises(PersonaError, match=r"config\.yaml: button: 'left' calls alf already"):
            library.load(second)
    folder(tmp_path, "alf", config__yaml="name: alf\nbutton: right\n")
    assert library.load("bea").button == "left"


def test_the_households_own_persona_goes_before_on_a_button(tmp_path: Path) -> None:
    folder(tmp_path / "shipped", "alf", config__yaml="name: a\nbutton: left\n")
    folder(tmp_path / "own", "zoe", config__yaml="name: z\nbutton: left\n")
    library = Library([tmp_path / "own", tmp_path / "shipped"])
    assert library.load("zoe").id == "zoe"
    with pytest.raises(PersonaError, match="calls zoe already"):
        library.load("alf")


def test_a_household_hides_a_persona_that_came_with_roomtone(tmp_path: Path) -> None:
    folder(tmp_path, "companion", config__yaml="name: Somebody Else\n")
    library = Library([tmp_path, shipped("personas")])
    assert library.load("companion").name == "Somebody Else"
    assert library.ids().count("companion") == 1


def test_what_was_read_is_not_read_again_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder(tmp_path)
    for file in made.iterdir():
        os.utime(file, (1, 1))
    library = Library([tmp_path])
    first = library.load("guide")
    monkeypatch.setattr(persona_files, "_content", lambda path: pytest.fail(f"{path} was read again"))
    assert library.load("guide") is first
    monkeypatch.undo()
    (made / "config.yaml").write_text("name: Another\n")
    assert library.load("guide").name == "Another"


def test_an_edit_in_the_same_instant_is_noticed(tmp_path: Path) -> None:
    made, library = folder(tmp_path), Library([tmp_path])
    for letter in "abcdefgh":
        (made / "config.yaml").write_text(f"name: {letter}\n")
        assert library.load("guide").name == letter


@pytest.mark.parametrize("id_", ["../guide", "", "Guide!", "a/b", "x" * 300, "."])
def test_what_is_no_id_is_nobody(tmp_path: Path, id_: str) -> None:
    folder(tmp_path)
    with pytest.raises(PersonaNotFound, match="is no persona's id"):
        Library([tmp_path / "guide"]).load(id_)
