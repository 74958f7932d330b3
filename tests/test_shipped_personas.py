"""The personas that come with Roomtone: each is whole, understands its own sentences, and talks as it promises."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from conftest import Run
from home import Home, whole
from rooms import room, scripted, somebody_speaks, speaks, until
from roomtone import personas
from roomtone.core.dialog import Ended, Turn
from roomtone.core.persona import Context, Egress
from roomtone.engines.tts import espeak
from roomtone.mind import skillfiles
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings, system_prompt
from roomtone.mind.sentences import Skills
from roomtone.mind.skills import Exchange
from roomtone.mind.thinking import Mind
from roomtone.personas.cast import spoken_names
from roomtone.rehearsal import Rehearsal
from roomtone.shipped import shipped
from test_skill_folders import play

PLACE = shipped("personas")
SHIPPED = {id_: personas.load(PLACE / id_) for id_ in personas.ids(PLACE)}
EVERYONE = Skills.load().knowing(
    {"personas": {name: one.id for one in SHIPPED.values() for name in spoken_names(one)}}
)
SKILLS = {id_: EVERYONE.of(one.tools, PLACE / id_ / "skills") for id_, one in SHIPPED.items()}
DIALOGUES = [
    pytest.param(id_, skill.name, talk, id=f"{id_}: {name}")
    for id_, skills in SKILLS.items()
    for skill in skills.skills
    if skill.persona
    for name, talk in skill.dialogues.items()
]
OWN_WAYS = {("storyteller", "good night"), ("storyteller", "goodnight"), ("chef", "set a timer")}
"""What a persona answers in its own way although every persona has an answer."""

every_persona = pytest.mark.parametrize("id_", SHIPPED)


def mind(id_: str) -> Mind:
    phrases = Phrases.load()
    own = phrases.of({**phrases.texts, **SHIPPED[id_].phrases["en"]})
    return Mind(SKILLS[id_], own, Random(1), everyone=EVERYONE)


async def replies(id_: str, *heard: str) -> list[str]:
    """Return what a persona says to one text after the other, in a household of its own."""
    home, answers = Home(persona=SHIPPED[id_]), []
    for text in heard:
        answers.append(await whole((await mind(id_).answer(text, home)).deltas))
    return answers


# --------------------------------------------------------------------------------------------- each of them


def test_five_personas_are_shipped_and_the_companion_is_who_speaks_first() -> None:
    assert {"companion", "chef", "storyteller", "tutor", "butler"} <= SHIPPED.keys()


@every_persona
def test_a_persona_is_described_and_has_examples_and_a_prompt_that_can_be_filled(id_: str) -> None:
    persona = SHIPPED[id_]
    assert persona.description
    assert persona.tags
    assert persona.tone_rules
    assert persona.behavior_constraints
    assert len(persona.examples) >= 3
    assert all(example.context for example in persona.examples)
    where = Surroundings("kitchen", Home().clock, ["Anna", "Tom"], {"music": "quiet"})
    prompt = system_prompt(persona, Phrases.load(), where)
    assert "$" not in prompt
    assert all(text in prompt for text in ("kitchen", "Anna and Tom", "music: quiet", "afternoon", persona.name))
    assert all(rule in prompt for rule in (*persona.tone_rules, *persona.behavior_constraints))


@every_persona
def test_nothing_of_a_persona_goes_over_to_another(id_: str) -> None:
    assert SHIPPED[id_].context is Context.OWN


@pytest.mark.parametrize(("one", "other"), list(combinations(SHIPPED, 2)))
def test_two_personas_are_told_apart_by_ear_with_any_synthesiser(one: str, other: str) -> None:
    voice, another = SHIPPED[one].voice, SHIPPED[other].voice
    assert voice.engine is None, "the best voice on the disk speaks"
    assert abs(voice.pitch - another.pitch) >= 0.05 or abs(voice.speed - another.speed) >= 0.1


def test_every_persona_has_a_voice_of_its_own_that_is_always_there(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with espeak.open(espeak.Settings()) as engine:
            for persona in SHIPPED.values():
                assert [piece async for piece in engine.speak("Hello.", persona.voice)]
        assert not caplog.records, "none had to be replaced by the nearest"

    run(scenario())
    assert len({persona.voice.voice_id for persona in SHIPPED.values()}) == len(SHIPPED)


@every_persona
def test_a_persona_keeps_to_what_the_recogniser_can_search_and_knows(id_: str) -> None:
    skills = SKILLS[id_]
    everything = [skills.grammar(), skills.besides(asked=True), skills.besides(interrupting=True)]
    assert len(re.findall(r"[a-z']+", everything[0])) < 3_000
    assert (
        unknown_words(set(re.findall(r"[a-z']+", re.sub(r"<\w+>|#.*|grammar \w+|public", "", " ".join(everything)))))
        == set()
    )


def unknown_words(words: set[str]) -> set[str]:
    """Return the words that the default recogniser's dictionary lacks."""
    import pocketsphinx as library

    dictionary = Path(library.get_model_path("en-us/cmudict-en-us.dict"))
    known = {line.split(" ", 1)[0] for line in dictionary.read_text("utf-8").splitlines()}
    return words - known


@every_persona
def test_own_sentences_are_understood_and_all_others_as_ever(id_: str) -> None:
    skills = SKILLS[id_]
    for intent, sample in skills.samples():
        found = skills.recognise(sample)
        assert found is not None, sample
        if found.intent != intent:
            assert (id_, sample) in OWN_WAYS or found.agrees, sample


@pytest.mark.parametrize("folder", sorted(PLACE.glob("*/skills/*")), ids=lambda folder: folder.name)
def test_a_folder_of_a_personas_own_skill_keeps_its_word(folder: Path) -> None:
    skillfiles.check(skillfiles.load(folder, "en"))


@pytest.mark.parametrize(("id_", "skill", "talk"), DIALOGUES)
def test_a_dialogue_of_a_personas_own_skill_goes_as_it_is_written(
    run: Run[None], id_: str, skill: str, talk: tuple[Exchange, ...]
) -> None:
    run(play(SKILLS[id_], skill, talk))


@every_persona
def test_each_has_skills_and_dialogues_of_its_own_and_tells_of_them_first(run: Run[None], id_: str) -> None:
    own = [skill for skill in SKILLS[id_].skills if skill.persona == id_]
    assert own
    assert all(skill.dialogues for skill in own)

    async def scenario() -> None:
        [told] = await replies(id_, "what can you do")
        assert told.startswith(f"I can {own[0].about}")
        assert f"Try saying: {own[0].examples[0].rstrip('.?!')}." in told

    run(scenario())


def test_a_shipped_skill_runs_beside_the_rooms_sounds_and_no_two_share_their_code() -> None:
    answers = {
        skill.name: skill.answer
        for skills in SKILLS.values()
        for skill in skills.skills
        if skill.persona and skill.answer
    }
    modules = [getattr(answer, "__module__", "") for answer in answers.values()]
    assert all(module.startswith("roomtone_skills.") for module in modules), "not on the household's own thread"
    assert len(set(modules)) == len(modules)


# ------------------------------------------------------------------------------------------- what they promise


def test_the_storyteller_has_few_tools_and_refuses_a_list_kindly(run: Run[None]) -> None:
    async def scenario() -> None:
        kept_out = [
            "add milk to the shopping list",
            "set an alarm for seven",
            "set a timer for ten minutes",
            "roll a die",
        ]
        for text in kept_out:
            assert await replies("storyteller", text) == ["That can wait until the morning. Ask the companion then."]
        assert await replies("storyteller", "what time is it", "stop") == ["It's twenty past four.", "Okay."]

    run(scenario())
    assert SHIPPED["storyteller"].egress is Egress.NONE
    assert SHIPPED["storyteller"].voice.volume < 0.8
    assert SHIPPED["storyteller"].voice.speed < 0.9


def test_the_butler_answers_in_a_word(run: Run[None]) -> None:
    async def scenario() -> None:
        said = await replies(
            *(
                "butler",
                "set a timer for ten minutes",
                "cancel the timer",
                "hello",
                "add milk to the list",
                "what time is it",
            ),
            *("sing me a song", "what is two plus two"),
        )
        assert said == [
            *("Ten minutes.", "Cancelled.", "Yes?", "Milk, noted.", "Twenty past four."),
            *("Not possible.", "Four."),
        ]

    run(scenario())


def test_the_chef_knows_what_stands_in_the_notes() -> None:
    notes = {file.name: file.text for file in SHIPPED["chef"].knowledge}
    assert notes.keys() == {"temperatures", "substitutions", "storage"}
    assert "seventy-four degrees" in notes["temperatures"]


def test_the_tutor_counts_right_answers_and_offers_another_round(run: Run[None]) -> None:
    async def scenario() -> None:
        home, tutor = Home(persona=SHIPPED["tutor"]), mind("tutor")
        said = await whole((await tutor.answer("quiz me on the nine times table", home)).deltas)
        for _ in range(10):
            [asked] = re.findall(r"What is ([\w-]+) times nine\?", said)
            number = next(n for n in range(13) if Phrases.load().number(n) == asked)
            answer = await tutor.answer(f"it's {number * 9}", home)
            said = await whole(answer.deltas)
        assert said.endswith("That was the last one. Ten of ten right. Another round?")
        assert answer.offers is not None
        assert (answer.offers.intent, answer.offers.slots["table"]) == ("more", 9)

    run(scenario())


def test_the_tutor_gives_no_answer_away_that_is_being_asked_for(run: Run[None]) -> None:
    async def scenario() -> None:
        home, tutor = Home(persona=SHIPPED["tutor"]), mind("tutor")
        said = await whole((await tutor.answer("quiz me on the seven times table", home)).deltas)
        [asked] = re.findall(r"What is ([\w-]+) times seven\?", said)
        told = await whole((await tutor.answer(f"what is {asked} times seven", home)).deltas)
        assert told.startswith("That one is yours.")

    run(scenario())


@pytest.mark.parametrize("topic", ["sums", "capitals", "months", "times tables"])
def test_whoever_knows_nothing_hears_every_answer_and_a_score(run: Run[None], topic: str) -> None:
    async def scenario() -> None:
        said = await replies("tutor", f"quiz me on {topic}", *["I don't know"] * 10)
        assert all("It is " in answer for answer in said[1:])
        assert said[-1].endswith("Zero of ten right. Another round?")

    run(scenario())


# ------------------------------------------------------------------------------------- a room with them in it


@asynccontextmanager
async def house(state_dir: Path, *heard: str) -> AsyncIterator[Rehearsal]:
    async with room(scripted(*heard), state_dir) as rehearsal:
        yield rehearsal


async def converse(rehearsal: Rehearsal, count: int) -> list[Turn]:
    """Let somebody speak so many times, and return the turns."""
    return [turn for _ in range(count) for turn in await speaks(rehearsal)]


@every_persona
def test_whom_somebody_asks_for_greets_in_words_and_voice_of_their_own(
    run: Run[None], tmp_path: Path, id_: str
) -> None:
    async def scenario() -> None:
        first = "butler" if id_ == "companion" else "companion"
        async with house(tmp_path, f"let me talk to the {first}", f"let me talk to the {id_}") as rehearsal:
            turn = (await converse(rehearsal, 2))[-1]
            assert turn.spoken == SHIPPED[id_].phrases["en"]["greeting"]
            assert rehearsal.room.conversation.speaker.persona.voice == SHIPPED[id_].voice

    run(scenario())


def test_a_recipe_is_where_it_was_when_the_power_comes_back(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        evening = [
            "let me talk to the chef",
            "let's make scrambled eggs",
            "next step",
            "next step",
            "next step",
            "yes please",
        ]
        async with house(tmp_path, *evening) as rehearsal:
            turns = await converse(rehearsal, len(evening))
            assert turns[3].spoken.startswith("Step two of four.")
            assert turns[4].spoken.endswith("Shall I set a timer for three minutes?")
            assert turns[5].spoken == "Eggs timer, three minutes, starting now."
        async with house(tmp_path, "where were we", "go on", "next step") as rehearsal:
            await rehearsal.at_rest()
            turns = await converse(rehearsal, 3)
            assert [turn.persona for turn in turns] == ["chef"] * 3
            assert turns[0].spoken.startswith("Step three of four. Pour in the eggs")
            assert turns[2].spoken == "That was all of it. Enjoy your meal."

    run(scenario())


def test_a_story_that_was_interrupted_goes_on_with_the_sentence_that_was_not_heard(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        night = [
            "let me talk to the storyteller",
            "tell us the story of the snail",
            "what time is it",
            "go on",
            "stop",
        ]
        async with house(tmp_path, *night, "go on") as rehearsal:
            await speaks(rehearsal)
            await interrupted(rehearsal, after_s=40)
            story, clock = await rehearsal.at_rest()
            assert (story.intent, story.ended, clock.intent) == ("stories.tell", Ended.INTERRUPTED, "clock.time")
            begun = len(sentences(story.spoken))
            await interrupted(rehearsal, after_s=20)
            rest, _ = await rehearsal.at_rest()
            assert rest.intent == "stories.go_on"
            assert rest.said.startswith("Where were we. ")
            heard = sentences(story.spoken)
            assert sentences(rest.said)[1] == sentences(story.said)[begun]
            assert begun > 3
            assert sentences(story.said)[:begun] == heard
            [end] = await speaks(rehearsal)
            assert end.spoken.endswith("And that is the end.")
            assert end.ended is Ended.COMPLETED
            assert sentences(end.said)[1] == sentences(story.said)[begun + len(sentences(rest.spoken)) - 1]

    run(scenario())


def sentences(text: str) -> list[str]:
    """Return the whole sentences of a text."""
    return [part for part in re.split(r"(?<=[.!?])[\"'”’]?\s+", text.strip()) if re.search(r"[.!?][\"'”’]?$", part)]


async def interrupted(rehearsal: Rehearsal, after_s: float) -> None:
    """Let somebody speak, and again into the answer."""
    rehearsal.device.visit(await somebody_speaks())
    await until(rehearsal, "turn.first_sound")
    await asyncio.sleep(after_s)
    rehearsal.device.visit(await somebody_speaks())


def test_a_quiz_is_answered_in_numbers(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        heard = [
            "let me talk to the tutor",
            "quiz me on the seven times table",
            "two hundred",
            "i don't know",
            "my score",
        ]
        async with house(tmp_path, *heard) as rehearsal:
            turns = await converse(rehearsal, len(heard))
            assert [turn.intent for turn in turns[1:]] == [
                *("lessons.quiz", "lessons.number", "lessons.skip", "lessons.score")
            ]
            assert turns[2].spoken.startswith("Not yet.")
            assert "Zero of one right." in turns[4].spoken

    run(scenario())


def test_the_butler_reports(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        heard = ["let me talk to the butler", "set a pasta timer for nine minutes", "report"]
        async with house(tmp_path, *heard) as rehearsal:
            turns = await converse(rehearsal, len(heard))
            assert turns[1].spoken == "Pasta, nine minutes."
            assert re.search(r"Pasta timer, (nine minutes|eight minutes and .* seconds)\.$", turns[2].spoken)

    run(scenario())


def test_the_companion_keeps_company(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path, "ask us a question", "ask us a question") as rehearsal:
            one, other = await converse(rehearsal, 2)
            assert one.spoken.endswith("?")
            assert other.spoken.endswith("?")
            assert one.spoken != other.spoken, "none comes twice"

    run(scenario())
