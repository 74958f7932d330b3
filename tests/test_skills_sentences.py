"""What a text means, whether more is to come, and a household's own skills."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from home import Home, whole
from roomtone.core.endpoint import Completeness
from roomtone.core.errors import ConfigError
from roomtone.mind import grammar, skillfiles
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind

SKILLS = Skills.load()

PETS = """
language: en
about: say what the dog did
intents:
  fed:
    sentences: ["(did|has) [anyone] feed the {pet}", "is the {pet} fed"]
    loose: ["tell me about {anything} the dog"]
    samples: ["is the dog fed"]
lists:
  pet: {values: [dog, cat]}
  anything: {wildcard: true}
replies:
  fed: "Ask {persona}, not me."
"""


@pytest.mark.parametrize(("intent", "text"), list(SKILLS.samples()))
def test_every_sample_means_what_its_file_says(intent: str, text: str) -> None:
    match = SKILLS.recognise(text)
    assert match is not None
    assert match.intent == intent


@given(st.randoms(use_true_random=False))
def test_whatever_the_grammar_can_hear_is_understood_as_it_was_meant(random: Random) -> None:
    intent, sentence = SKILLS.sample(random)
    match = SKILLS.recognise(sentence)
    assert match is not None
    assert match.intent == intent


WORDS = {
    "any_name": ["chicken", "sunday roast"], "any_text": ["call Anna", "fetch the children"], "named": ["camping"],
    "item": ["milk", "rye bread"], "lone": ["milk", "rye bread"], "date": ["christmas", "the fifth of may"],
    "year": ["nineteen hundred"], "amount": ["two", "half a", "ninety"], "options": ["tea or coffee"], "low": ["one"],
    "high": ["ten"], "sum": ["two plus two", "the square root of nine"], "place": ["kitchen"], "stuff": ["flour"],
    "stranger": ["pirate"], "text": ["the cat is called Rex"], "clause": ["my sister lives in Oslo"],
    "own": ["my car"], "name": ["Anna"],
}  # fmt: skip
"""What may stand where a template leaves the words open."""


def _has_no_words(values: dict[str, Any]) -> bool:
    return values.get("range", {}).get("words") is False


@cache
def loose_sentences() -> list[tuple[str, grammar.Node]]:
    """Return what only a good recogniser hears: the graph of each intent's loose templates, open words filled in."""
    graphs = []
    for folder in skillfiles.folders(skillfiles.SHIPPED, "en"):
        file = skillfiles.load(folder, "en").file
        open_ = {name: {"values": WORDS[name]} for name, values in file.lists.items() if values.get("wildcard")}
        unspelt = {name: {"values": ["150"]} for name, values in file.lists.items() if _has_no_words(values)}
        filled = skillfiles._intents(file.model_copy(update={"lists": {**file.lists, **open_, **unspelt}}), "loose")
        graphs += [(f"{folder.name}.{name}", node) for name, node in skillfiles._graphs(filled, "en").items()]
    return graphs


@settings(derandomize=True, max_examples=300)
@given(st.randoms(use_true_random=False))
def test_no_sentence_of_one_skill_is_taken_by_another(random: Random) -> None:
    intent, node = random.choice(loose_sentences())
    sentence = grammar.sample(node, random)
    match = SKILLS.recognise(sentence)
    assert match is not None, sentence
    assert match.skill == intent.partition(".")[0], sentence


@pytest.mark.parametrize("text", ["one hundred minute timer", "set a timer for one hundred and twenty minutes"])
def test_numbers_beyond_ninety_nine_are_understood_in_words_as_in_digits(text: str) -> None:
    match = SKILLS.recognise(text)
    assert match is not None
    assert match.intent == "timer.set"


@given(st.text(max_size=80))
def test_any_text_is_read_without_complaint(text: str) -> None:
    SKILLS.recognise(text)
    SKILLS.completeness(text)


@pytest.mark.parametrize(
    "text",
    [
        "WHAT TIME IS IT",
        "What time is it?",
        "hey, what time is it please",
        "um, can you, uh, tell me the time",
        "okay what time is it now",
        "hey roomtone what time is it",
        "what’s the time",
    ],
)
def test_case_punctuation_and_politeness_do_not_matter(text: str) -> None:
    match = SKILLS.recognise(text)
    assert match is not None
    assert match.intent == "clock.time"


@pytest.mark.parametrize(
    "text", ["", " ", "please", "the weather is nice", "play the beatles", "what time is", "ten"]
)
def test_what_is_no_command_is_none(text: str) -> None:
    assert SKILLS.recognise(text) is None


@pytest.mark.parametrize(
    ("text", "intent"),
    [("okay thanks", "smalltalk.thanks"), ("no thanks", "stop.stop"), ("stop the timer", "timer.cancel")],
)
def test_the_longer_meaning_wins(text: str, intent: str) -> None:
    match = SKILLS.recognise(text)
    assert match is not None
    assert match.intent == intent


@pytest.mark.parametrize(
    "text",
    [
        "what time is it",
        "stop",
        "louder",
        "set a timer for nine minutes",
        "timer for 1 hour",
        "set a dragon timer for 9 minutes",
    ],
)
def test_a_whole_command_is_complete(text: str) -> None:
    assert SKILLS.completeness(text) is Completeness.COMPLETE


@pytest.mark.parametrize(
    "text",
    [
        "set a timer",
        "set a timer for",
        "set a timer for twenty",
        "set a timer for 20",
        "what time",
        "can you",
        "please turn it",
        "what time is it and",
        "what time is it um",
        "i was in the",
        "how long is",
    ],
)
def test_the_beginning_of_a_sentence_is_incomplete(text: str) -> None:
    assert SKILLS.completeness(text) is Completeness.INCOMPLETE


@pytest.mark.parametrize("text", ["", "okay", "the weather is nice", "play the beatles"])
def test_of_other_words_nothing_is_known(text: str) -> None:
    assert SKILLS.completeness(text) is Completeness.UNKNOWN


@pytest.mark.parametrize("text", ["mhm", "Uh huh.", "okay", "yeah", "right", "Yeah, yeah"])
def test_signs_of_listening_take_no_floor(text: str) -> None:
    assert SKILLS.is_backchannel(text)


@pytest.mark.parametrize("text", ["stop", "okay stop", "yeah what time is it", "right set a timer", ""])
def test_real_words_take_the_floor(text: str) -> None:
    assert not SKILLS.is_backchannel(text)


def own_skill(folder: Path, name: str, text: str, code: str | None = None) -> Path:
    (folder / name).mkdir()
    (folder / name / "en.yaml").write_text(text, "utf-8")
    if code is not None:
        (folder / name / "__init__.py").write_text(code, "utf-8")
    return folder


def test_a_household_adds_a_skill_by_a_file(tmp_path: Path) -> None:
    skills = Skills.load(own=own_skill(tmp_path, "pets", PETS))
    assert skills.refused == ()
    assert "<pets_fed> =" in skills.grammar()
    assert {"dog", "fed"} <= set(skills.own_words())
    assert not {"the", "is"} & set(skills.own_words())
    assert SKILLS.own_words() == ()

    async def asked() -> str:
        answer = await Mind(skills, Phrases.load()).answer("Is the dog fed?", Home())
        assert answer.intent == "pets.fed"
        return await whole(answer.deltas)

    assert asyncio.run(asked()) == "Ask Companion, not me."


def test_a_households_skill_may_bring_code(tmp_path: Path) -> None:
    code = "async def answer(asked):\n    return ['Fed the ' + asked.match.get('pet') + '.']\n"
    skills = Skills.load(own=own_skill(tmp_path, "pets", PETS, code))

    async def asked() -> str:
        return await whole((await Mind(skills, Phrases.load()).answer("is the cat fed", Home())).deltas)

    assert asyncio.run(asked()) == "Fed the cat."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("language: en\nintents: {}", "intents"),
        ("language: en\nintents: {a: {sentences: ['hi'], colour: red}}", "colour"),
        ("language: en\nintents: {a: {sentences: ['turn {nothing}']}}", "{nothing}"),
        ("language: en\nintents: {a: {sentences: ['turn <nothing>']}}", "<nothing>"),
        ("language: en\nintents: {a: {sentences: ['turn (it']}}", "turn (it"),
        ("language: en\nintents: {a: {sentences: ['hi'], samples: ['bye']}}\nreplies: {a: ho}", "bye"),
        ("language: en\nintents: {a: {sentences: ['hi']}}", "replies"),
        ("language: en\nintents: {a: {sentences: ['hi']}}\nlists: {b: {}}", "list"),
        ("language: en\nintents: {a: {sentences: ['hi']}}\nlists: {b: {values: 3}}", "not iterable"),
        ("just words", "dictionary"),
        ("a: [", "expected"),
    ],
)
def test_a_broken_skill_is_refused_with_file_and_reason_and_the_rest_goes_on(
    tmp_path: Path, text: str, reason: str
) -> None:
    skills = Skills.load(own=own_skill(own_skill(tmp_path, "pets", PETS), "broken", text))
    (refused,) = skills.refused
    assert str(tmp_path / "broken" / "en.yaml") in refused
    assert reason in refused
    assert "\n" not in refused
    assert skills.recognise("is the dog fed") is not None


def test_broken_code_refuses_its_skill_alone(tmp_path: Path) -> None:
    skills = Skills.load(own=own_skill(tmp_path, "pets", PETS, "import nothing_of_the_kind"))
    assert "nothing_of_the_kind" in skills.refused[0]
    assert skills.recognise("is the dog fed") is None


def test_a_language_without_a_file_is_refused_in_a_line() -> None:
    with pytest.raises(ConfigError, match=r"language: there is no 'xx'; choose one of en"):
        Skills.load("xx")
