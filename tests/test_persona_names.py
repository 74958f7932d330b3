"""Names that people give to personas, and what a room makes of them when somebody calls."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from conftest import Run
from home import Home
from rooms import room, scripted
from roomtone import personas
from roomtone.answers import Answers
from roomtone.core.dialog import Source
from roomtone.core.errors import PersonaNotFound
from roomtone.core.persona import Persona
from roomtone.core.signals import Prompt
from roomtone.metrics import Metrics
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind
from test_persona_edits import asked, guided, write


def person(state_dir: Path, id_: str, config: str) -> None:
    write(state_dir / "personas" / id_, config_yaml=config, system_prompt_md="You are one of several.")


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("Mr [x] (y|z) {persona}", "mr x y z persona"),
        ("{persona}", "persona"),
        ("[", "odd one"),
        ("<rule>", "rule"),
        ("Dr. Watson", "Dr. Watson"),
        ("Jean-Luc", "jean luc"),
        ("Jean-Luc", "Jean-Luc"),
        ("O'Brien", "O'Brien"),
        ("\N{FATHER CHRISTMAS}", "odd one"),
        ("Saint Nicholas of the North Pole", "saint nicholas of the north pole"),
        ("李小龙", "李小龙"),
    ],
)
def test_whatever_signs_are_in_a_name_it_can_be_called_and_disturbs_nobody(
    run: Run[None], tmp_path: Path, name: str, called: str
) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            person(tmp_path, "odd_one", f"name: '{name.replace(chr(39), chr(39) * 2)}'\n")
            person(tmp_path, "gardener", "name: Gardener\n")
            await rehearsal.room.conversation.reload()
            await asked(rehearsal, f"let me talk to {called}")
            assert rehearsal.room.conversation.speaker.persona.id == "odd_one"
            assert await asked(rehearsal, "let me talk to the gardener") == "Gardener here."

    run(scenario())


def test_who_came_broken_is_known_by_the_id_and_said_to_be_broken(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        person(tmp_path, "chef", "name: [Chef\n")
        person(tmp_path, "oma-gerda", "name: no\n")
        async with room(scripted(), tmp_path) as rehearsal:
            told = await asked(rehearsal, "let me talk to the chef")
            assert told == "Something is wrong with the files of chef, so I stay."
            told = await asked(rehearsal, "let me talk to oma gerda")
            assert told == "Something is wrong with the files of oma gerda, so I stay."

    run(scenario())


def test_a_name_that_two_have_calls_the_one_whose_id_it_is_and_that_is_told(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        person(tmp_path, "boss", "name: Chef\n")
        async with room(scripted(), tmp_path) as rehearsal:
            await asked(rehearsal, "let me talk to the chef")
            assert rehearsal.room.conversation.speaker.persona.id == "chef"
            await asked(rehearsal, "let me talk to the boss")
            assert rehearsal.room.conversation.speaker.persona.id == "boss"

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert caplog.text.count("'chef' calls chef, and boss only by its id: give one another name") == 1


def test_of_many_only_some_are_named_and_none_twice(run: Run[None]) -> None:
    async def scenario() -> None:
        home = Home()
        home.cast = {f"p{n:02}": Persona(id=f"p{n:02}", name=f"Guest {n}") for n in range(40)}
        home.cast["twin"] = Persona(id="twin", name="Guest 1")
        mind = Mind(Skills.load(), Phrases.load())
        answer = await mind.answer("who can I talk to", home)
        assert "".join([delta async for delta in answer.deltas]) == (
            "You can talk to Guest 0, Guest 1, Guest 2, Guest 3, Guest 4 and thirty-five more."
        )

    run(scenario())


def test_of_many_the_nearest_is_named_where_an_id_is_not_found(tmp_path: Path) -> None:
    for number in range(40):
        person(tmp_path, f"guest-{number:02}", "name: Guest\n")
    person(tmp_path, "gardener", "name: Gardener\n")
    library = personas.Library([tmp_path / "personas"])
    with pytest.raises(
        PersonaNotFound, match=r"no persona 'gardner'; did you mean gardener\? see: roomtone personas"
    ):
        library.load("gardner")
    with pytest.raises(PersonaNotFound, match=r"no persona 'zzz'; see: roomtone personas list$"):
        library.load("zzz")


def test_a_yes_to_nothing_is_not_said_to_be_somebody_elses_business(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            person(tmp_path, "terse", "name: Terse\ntools: []\n")
            await rehearsal.room.conversation.reload()
            await asked(rehearsal, "let me talk to terse")
            turn = await rehearsal.room.conversation.answer(Prompt("yes please", Source.CLI))
            assert turn.spoken == rehearsal.room.conversation.speaker.phrases.say("beyond_me", persona="Terse")
            turn = await rehearsal.room.conversation.answer(Prompt("set a timer for nine minutes", Source.CLI))
            assert turn.spoken == rehearsal.room.conversation.speaker.phrases.say("not_mine", persona="Terse")

    run(scenario())


def test_a_voice_of_an_engine_that_is_not_here_is_another_engines_and_that_is_told_once(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        person(tmp_path, "guide", "name: Guide\nvoice: {engine: elevenlabs, voice_id: rachel, stability: 0.4}\n")
        async with room(scripted(), tmp_path) as rehearsal:
            assert await asked(rehearsal, "let me talk to the guide") == "Guide here."
            assert await asked(rehearsal, "who are you") == "I'm Guide."

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert caplog.text.count("tts engine 'elevenlabs' is not open here, tone speaks instead") == 1


def test_a_link_that_leads_nowhere_hides_nobody(tmp_path: Path) -> None:
    person(tmp_path, "gardener", "name: Gardener\n")
    (tmp_path / "personas" / "loop").symlink_to("loop")
    (tmp_path / "personas" / "gone").symlink_to("nowhere")
    assert personas.ids(tmp_path / "personas") == ["gardener"]


def test_who_speaks_and_has_no_folder_any_more_is_listed_with_what_brings_it_back(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            shutil.rmtree(tmp_path / "personas")
            answers = Answers(rehearsal.room, Metrics(rehearsal.room.feed, {}, (), tmp_path))
            listed = [event async for event in answers.answer({"command": "personas", "do": "list"})]
            [guide] = [event["persona"] for event in listed if event.get("persona", {}).get("id") == "guide"]
            assert guide["speaks"]
            assert guide["broken"] == ["its folder is gone; put it back, or run: roomtone personas rollback guide"]

    run(scenario())
