"""Templates as a graph of words: what becomes of each piece of the notation, as JSGF and as something to follow."""

from __future__ import annotations

import re
from random import Random

import pytest
from hassil.intents import Intents
from hassil.parse_expression import parse_sentence
from hypothesis import given
from hypothesis import strategies as st

from roomtone.mind import grammar
from roomtone.mind.grammar import Converter, Node, begins, factored, sample
from roomtone.mind.sentences import Skills

SKILLS = Skills.load()

LISTS = {
    "room": {"values": ["kitchen", {"in": "living room", "out": "lr"}]},
    "count": {"range": {"from": 1, "to": 99}},
    "few": {"range": {"from": 1, "to": 3}},
    "anything": {"wildcard": True},
}


def graph(template: str) -> Node | None:
    content = {
        "language": "en",
        "intents": {},
        "lists": LISTS,
        "expansion_rules": {"please": "[please|kindly]", "both": "{few} in the {room}"},
    }
    intents = Intents.from_dict(content)
    return Converter("en", intents.slot_lists, intents.expansion_rules).node(parse_sentence(template).expression)


def said(node: Node | None) -> set[str]:
    """Draw until nothing new comes."""
    assert node is not None
    return {sample(node, Random(seed)) for seed in range(300)}


@pytest.mark.parametrize(
    ("template", "sentences"),
    [
        ("turn it up", {"turn it up"}),
        ("turn (up|down) the radio", {"turn up the radio", "turn down the radio"}),
        ("stop [the] timer", {"stop timer", "stop the timer"}),
        ("timer[s] off", {"timer off", "timers off"}),
        ("[the ]light[s]", {"light", "lights", "the light", "the lights"}),
        ("(on;now)", {"on now", "now on"}),
        ("in the {room}", {"in the kitchen", "in the living room"}),
        ("{few} times", {"one times", "two times", "three times"}),
        ("({few} percent|{few}%)", {"one percent", "two percent", "three percent"}),
        ("go <please>", {"go", "go please", "go kindly"}),
        ("What's up", {"what's up"}),
        ("twenty-one", {"twenty one"}),
        ("say [{anything}]", {"say"}),
    ],
)
def test_templates_come_to_the_sentences_they_stand_for(template: str, sentences: set[str]) -> None:
    assert said(graph(template)) == sentences


@pytest.mark.parametrize("template", ["tell me about {anything}", "{few}%", "press 1"])
def test_what_cannot_be_spoken_word_by_word_is_left_out(template: str) -> None:
    assert graph(template) is None


def test_numbers_share_their_words() -> None:
    node = graph("{count}")
    assert node is not None
    assert len(re.findall(r"[a-z]+", grammar.jsgf({}, {"count": node}, {}).splitlines()[-1])) < 45
    assert begins(node, ["twenty"])
    assert not begins(node, ["twelve"])


@given(st.sets(st.lists(st.sampled_from(["a", "b", "c"]), max_size=4).map(tuple), min_size=1, max_size=12))
def test_factoring_loses_and_adds_nothing(phrases: set[tuple[str, ...]]) -> None:
    node = factored(sorted(phrases))
    assert node is not None
    assert {tuple(sample(node, Random(seed)).split()) for seed in range(400)} <= phrases
    for phrase in phrases:
        assert len(phrase) in grammar.Reader(phrase).ends(node, frozenset({0}))


def test_the_grammar_is_lower_case_words_with_every_rule_defined() -> None:
    text = SKILLS.grammar()
    header, name, *rules = text.splitlines()
    assert (header, name) == ("#JSGF V1.0;", "grammar roomtone;")
    assert all(re.fullmatch(r"(public )?<[a-z_]+> = [a-z_'<>()\[\]| ]+;", rule) for rule in rules)
    assert undefined(text) == set()


def test_the_grammar_stays_small_enough_to_search_on_a_pi() -> None:
    assert len(re.findall(r"[a-z']+", SKILLS.grammar())) < 3_000


def undefined(text: str) -> set[str]:
    defined = set(re.findall(r"^(?:public )?<(\w+)> =", text, re.MULTILINE))
    return set(re.findall(r"<(\w+)>", text)) - defined - {"NULL"}


def test_a_beginning_has_more_to_come_and_a_stranger_has_not() -> None:
    node = graph("set [a] timer for {few} minutes")
    assert node is not None
    assert begins(node, ["set", "a", "timer"])
    assert begins(node, ["set", "timer", "for", "two"])
    assert not begins(node, ["set", "a", "timer", "for", "two", "minutes"])
    assert not begins(node, ["play", "music"])


def test_a_nod_is_listened_for_only_over_a_reply() -> None:
    skills = Skills.load("en")
    assert "mhm" in skills.besides(interrupting=True)
    assert "mhm" not in skills.grammar() + skills.besides(asked=True)
    assert all(word in skills.grammar() for word in ("stop", "hello"))


def test_yes_and_no_are_listened_for_only_after_a_question() -> None:
    skills = Skills.load("en")
    assert {"yes", "no"} <= set(re.findall(r"\w+", skills.besides(asked=True)))
    assert "yes" not in re.findall(r"\w+", skills.grammar())
    assert skills.besides() == ""


def test_the_words_that_ask_for_silence_are_known() -> None:
    words = Skills.load("en").dismissing_words()
    assert {"stop", "quiet", "enough"} <= set(words)
    assert not {"timer", "hello", "time"} & set(words)
