"""What a model is told before it answers: all that fits, and from turn to turn as much of it as can be the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise, takewhile
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from home import BERLIN
from roomtone.clock import run_skipping
from roomtone.core.dialog import Message, Role
from roomtone.core.errors import EngineError
from roomtone.core.persona import ModelUse, Persona
from roomtone.mind.context import (
    AROUND_A_MESSAGE,
    CUT,
    Budget,
    Count,
    Counted,
    Past,
    Prompt,
    Told,
    build,
    estimated,
    shortened,
)
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings, lasting

PHRASES = Phrases.load()
GUIDE = Persona(id="guide", name="Guide", system_prompt="You are Guide.", llm=ModelUse(max_response_tokens=100))
AT = Surroundings("kitchen", datetime(2026, 11, 21, 19, 30, tzinfo=BERLIN))


@dataclass
class Conversation:
    """A conversation with one persona, told to a model turn by turn, and kept as the recorder keeps it."""

    persona: Persona = GUIDE
    budget: Budget = field(default_factory=Budget)
    count: Count | None = None
    messages: list[Message] = field(default_factory=list)
    where: Surroundings = AT
    summary: str = ""

    async def asks(self, question: str, answer: str = "Yes.", *, facts: Sequence[str] = (), **kept: Any) -> Prompt:
        self.where = replace(self.where, now=self.where.now + timedelta(minutes=1))
        past = Past(self.messages[-self.budget.messages :], self.summary)
        prompt = await build(
            self.persona,
            PHRASES,
            self.where,
            past,
            question,
            facts=facts,
            budget=self.budget,
            count=self.count,
        )
        trace = str(len(self.messages))
        self._said(Role.PERSON, question, {"trace": trace})
        if answer:
            self._said(Role.ROOMTONE, answer, {"trace": trace, "told": prompt.told.model_dump(mode="json"), **kept})
        return prompt

    def _said(self, role: Role, text: str, data: dict[str, Any]) -> None:
        said = {"session": self.persona.id, "persona": self.persona.id}
        id_ = f"{self.persona.id}{len(self.messages)}"
        self.messages.append(Message(id=id_, role=role, text=text, data=data, **said))


def texts(prompt: Prompt) -> list[str]:
    return [message.text for message in prompt.messages]


def whole(prompt: Prompt) -> str:
    return "\n".join(f"{message.role}: {message.text}" for message in prompt.messages)


def tokens(prompt: Prompt) -> int:
    return sum(estimated(text) + AROUND_A_MESSAGE for text in texts(prompt))


def reused(before: str, after: str) -> float:
    """Return how much of a prompt stood at the beginning of the one before it."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    return same / len(after)


def test_it_begins_with_who_it_is_and_ends_with_the_question(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation(summary="They spoke of bread.")
        await talk.asks("Is it good?", "It is.")
        prompt = await talk.asks("And cake?", facts=["Anna likes cake"])
        assert [message.role for message in prompt.messages] == ["system", "user", "assistant", "user"]
        first, asked, answered, question = texts(prompt)
        told = "<context>\nWhat was said before, in short: They spoke of bread.\n</context>"
        assert first == f"{lasting(GUIDE, PHRASES, AT)}\n\n{told}"
        assert asked == "<context>\nIt is Saturday, 2026-11-21 19:31.\n</context>\n\nIs it good?"
        assert answered == "It is."
        assert question == "<context>\nWhat you remember:\n- Anna likes cake\n</context>\n\nAnd cake?"

    run(scenario())


def test_what_was_recalled_is_told_once_while_it_is_still_there(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation(budget=Budget(messages=8))
        cat, dog = "the cat is called  Minka", "the dog is called Bello"
        for number in range(30):
            prompt = whole(await talk.asks(f"Question {number}?", facts=[cat, dog] if number > 4 else [cat]))
            assert prompt.count("- the cat is called Minka") == 1
            assert prompt.count(f"- {dog}") == (number > 4)

    run(scenario())


def test_the_time_is_told_anew_when_it_is_another_or_was_told_to_somebody_else(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation(budget=Budget(messages=100))
        told = ["It is Saturday" in texts(await talk.asks("One?"))[-1] for _ in range(21)]
        assert [number for number, each in enumerate(told) if each] == [0, 10, 20]
        guest = Conversation(GUIDE.model_copy(update={"id": "guest"}), messages=talk.messages, where=talk.where)
        assert "It is Saturday" in texts(await guest.asks("Two?"))[-1]
        talk.where = replace(talk.where, now=talk.where.now - timedelta(hours=1))
        assert "It is Saturday" in texts(await talk.asks("Three?"))[-1]

    run(scenario())


def test_a_window_that_begins_anew_never_loses_the_time(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation(budget=Budget(messages=6))
        for number in range(30):
            assert "It is Saturday" in whole(await talk.asks(f"Question {number}?"))

    run(scenario())


def test_a_prompt_goes_on_from_the_one_before_it(run: Run[None]) -> None:
    """Also what was recalled for a question is told again, word by word: a model that has read it keeps it."""

    async def scenario() -> None:
        talk = Conversation()
        first = await talk.asks("Is it good?", "It is.", facts=["Anna likes cake"])
        second = await talk.asks("And cake?")
        assert texts(second)[: len(texts(first))] == texts(first)

    run(scenario())


def test_what_another_persona_was_told_is_not_told_again(run: Run[None]) -> None:
    async def scenario() -> None:
        guide = Conversation()
        await guide.asks("Is it good?", "It is.", facts=["the code is 1234"])
        guest = Conversation(GUIDE.model_copy(update={"id": "guest"}), messages=guide.messages)
        shared = whole(await guest.asks("And cake?"))
        assert "Is it good?" in shared
        assert "1234" not in shared

    run(scenario())


def test_a_reply_is_told_as_far_as_it_was_heard_else_as_it_was_meant(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation()
        await talk.asks("One?", "First flour, then", cut=True)
        await talk.asks("Two?", "It is five percent.", meant="It is 5 %.")
        said = texts(await talk.asks("Three?"))
        assert "First flour, then —" in said
        assert "It is 5 %." in said
        assert "It is five percent." not in said

    run(scenario())


def test_an_answer_stands_behind_its_question_though_somebody_spoke_in_between(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation()
        await talk.asks("One?", "First")
        await talk.asks("Two?", "Second")
        first, late, second, answer = talk.messages
        talk.messages = [first, second, late, answer]
        order = [text.rpartition("\n")[2] for text in texts(await talk.asks("Three?"))[1:]]
        assert order == ["One?", "First", "Two?", "Second", "Three?"]

    run(scenario())


def test_only_what_person_and_room_said_is_told(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation()
        talk._said(Role.TOOL, "a tool's result", {})
        talk._said(Role.SYSTEM, "a step", {})
        talk._said(Role.ROOMTONE, " ", {})
        assert len((await talk.asks("One?")).messages) == 2

    run(scenario())


def test_no_more_messages_are_told_than_allowed_and_they_begin_anew_in_leaps(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation(budget=Budget(messages=20))
        sizes = [len((await talk.asks(f"Question {number}?")).messages) - 1 for number in range(60)]
        assert max(sizes) <= 20
        assert sizes[:10] == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
        leaps = [number for number in range(1, 60) if sizes[number] < sizes[number - 1]]
        assert min(later - earlier for earlier, later in pairwise(leaps)) >= 4
        assert min(sizes[10:]) >= 9, "a leap leaves half of them"

    run(scenario())


def test_where_nothing_was_kept_of_the_last_prompt_the_newest_are_told(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation()
        for number in range(30):
            await talk.asks(f"Question {number}?")
        talk.messages = [message.model_copy(update={"data": {}}) for message in talk.messages]
        said = texts(await talk.asks("Last?"))
        assert len(said) > 10
        assert said[-3:-1] == ["Question 29?", "Yes."]

    run(scenario())


def test_one_gigantic_message_loses_its_middle_and_costs_no_other(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation(budget=Budget(tokens=2000))
        await talk.asks("One?", "begin " + "word " * 20_000 + "end")
        prompt = await talk.asks("Two?")
        assert tokens(prompt) <= 2000
        gigantic = texts(prompt)[2]
        assert gigantic.startswith("begin word")
        assert gigantic.endswith("word end")
        assert gigantic.count(CUT.strip()) == 1
        assert "One?" in texts(prompt)[1]

    run(scenario())


def test_the_question_is_told_whole_while_it_can_be_and_its_ends_in_any_case(run: Run[None]) -> None:
    async def scenario() -> None:
        talk = Conversation(budget=Budget(tokens=1000), summary="They spoke of bread. " * 100)
        await talk.asks("One?", "Yes. " * 300)
        long = "why " * 400
        prompt = await talk.asks(f"So {long}now?", facts=["Anna likes cake"] * 50)
        assert texts(prompt)[-1].endswith(f"So {long}now?")
        assert tokens(prompt) <= 1000
        asked = texts(await talk.asks(f"Tell me {'why ' * 4000}now?"))[-1]
        assert "\n\nTell me why" in asked
        assert asked.endswith("why now?")

    run(scenario())


def test_the_persona_is_never_dropped(run: Run[None]) -> None:
    async def scenario() -> None:
        wordy = GUIDE.model_copy(update={"system_prompt": "You are a guide of many words. " * 300})
        prompt = await Conversation(wordy, Budget(tokens=500)).asks("One?")
        assert texts(prompt)[0].startswith("You are a guide of many words. You")
        assert texts(prompt)[-1] == "One?"

    run(scenario())


@pytest.mark.parametrize(
    ("budget", "reply", "room"),
    [
        (Budget(tokens=8000), 300, 8000),
        (Budget(tokens=8000, context=4096), 300, 4096 - 300 - AROUND_A_MESSAGE),
        (Budget(tokens=8000, context=2048), 4000, 1024),
        (Budget(tokens=1000, context=4096), 300, 1000),
    ],
)
def test_a_prompt_leaves_room_for_its_reply(budget: Budget, reply: int, room: int) -> None:
    assert budget.for_prompt(reply) == room


ANY_MESSAGE = st.builds(
    Message,
    session=st.just("s"),
    role=st.sampled_from(list(Role)),
    text=st.text(max_size=400),
    persona=st.sampled_from(["guide", "guest", None]),
    data=st.fixed_dictionaries(
        {},
        optional={
            "trace": st.sampled_from("abcdef"),
            "cut": st.booleans(),
            "meant": st.text(max_size=50),
            "told": st.one_of(
                st.text(),
                st.dictionaries(st.sampled_from(["before", "since", "clock", "later"]), st.text(max_size=99)),
            ),
        },
    ),
)


@given(st.lists(ANY_MESSAGE, max_size=30), st.text(min_size=1, max_size=100), st.integers(600, 3000))
def test_whatever_was_said_a_prompt_is_one_that_any_model_takes(said: list[Message], asked: str, most: int) -> None:
    built = build(GUIDE, PHRASES, AT, Past(said, "So far."), asked, facts=[asked], budget=Budget(10, most))
    prompt = run_skipping(built)
    first, *told, question = prompt.messages
    assert (first.role, question.role) == (Role.SYSTEM, Role.PERSON)
    assert question.text.endswith(f"\n\n{asked}")
    assert {message.role for message in told} <= {Role.PERSON, Role.ROOMTONE}
    assert all(message.text.strip() for message in told)
    assert tokens(prompt) <= most
    assert len(told) < 10
    assert prompt.told.since == (told[0].id if told else "")


# ---------------------------------------------------------------------------------------------- counting


def test_tools_take_room_too(run: Run[None]) -> None:
    async def scenario() -> None:
        messages = Conversation()
        for number in range(9):
            await messages.asks(f"Question {number}?", "Yes. " * 50)
        past = Past(messages.messages)
        budget = Budget(tokens=2000)
        alone = await build(GUIDE, PHRASES, AT, past, "Now?", budget=budget)
        beside = await build(GUIDE, PHRASES, AT, past, "Now?", budget=budget, besides=["a schema " * 300])
        assert len(beside.messages) < len(alone.messages)

    run(scenario())


def test_the_models_own_tokenizer_decides_where_the_estimate_comes_near(run: Run[None]) -> None:
    async def words(texts: Sequence[str]) -> list[int]:
        asked.append(list(texts))
        return [len(text.split()) for text in texts]

    asked: list[list[str]] = []

    async def scenario() -> None:
        estimating = Conversation(budget=Budget(messages=100, tokens=1500))
        counting = replace(estimating, count=Counted(words), messages=[])
        for number in range(40):
            fewer = await estimating.asks(f"Question {number}?", "incomprehensibilities " * 20)
            more = await counting.asks(f"Question {number}?", "incomprehensibilities " * 20)
            if number == 1:
                assert asked == [], "it fits by far"
        assert len(more.messages) > len(fewer.messages) * 2
        flat = [text for texts in asked for text in texts]
        assert len(flat) == len(set(flat)), "each text is counted once"

    run(scenario())


def test_a_tokenizer_that_fails_costs_nothing_but_exactness(run: Run[None]) -> None:
    async def fails(_: Sequence[str]) -> list[int]:
        raise EngineError("the child is gone")

    async def scenario() -> None:
        talk = Conversation(budget=Budget(tokens=600), count=fails)
        for number in range(10):
            assert tokens(await talk.asks(f"Question {number}?", "Yes. " * 30)) <= 600

    run(scenario())


@given(st.text(), st.integers(0, 200))
def test_a_shortened_text_is_no_longer_than_asked(text: str, most: int) -> None:
    short = shortened(text, most)
    assert estimated(short) <= most
    assert short == text or CUT in short or not short


@given(st.text(st.characters()))
def test_an_estimate_is_never_of_nothing(text: str) -> None:
    assert len(text.encode(errors="replace")) >= estimated(text) >= len(text) / 3


# ------------------------------------------------------------------------------------------------ a week

WORDS = (
    "bread",
    "in",
    "the",
    "oven",
    "smells",
    "of",
    "thyme",
    "while",
    "rain",
    "falls",
    "Straße",
    "水を",
    "1984",
    "£5",
)


def words(random: Random, most: int) -> str:
    return " ".join(random.choices(WORDS, k=random.randint(1, most)))


async def turn(random: Random, talk: Conversation, number: int) -> Prompt:
    """Let somebody ask something: mostly little, at times a great deal; some answers are cut short or never heard."""
    length = random.choices((12, 60, 5000), (90, 9, 1))[0]
    heard = random.random()
    answer = "" if heard < 0.05 else f"{talk.persona.id}-says {words(random, length * 3)}"
    kept = {"cut": True} if heard > 0.85 else {}
    facts = [f"{talk.persona.id}-knows {words(random, 20)}" for _ in range(random.choice((0, 0, 1, 5)))]
    return await talk.asks(f"Question {number}: {words(random, length)}?", answer, facts=facts, **kept)


@pytest.mark.parametrize("budget", [Budget(), Budget(tokens=8000, context=2048), Budget(messages=200, tokens=3000)])
def test_a_week_of_conversation_keeps_to_its_budget(run: Run[None], budget: Budget) -> None:
    async def scenario() -> None:
        random = Random(7)
        personas = [GUIDE.model_copy(update={"id": id_, "name": id_}) for id_ in ("ann", "bob", "eve")]
        talks = [Conversation(persona, budget) for persona in personas]
        before: dict[str, str] = {}
        shares = []
        speaking = talks[0]
        for number in range(2000):
            speaking = random.choice(talks) if random.random() < 0.1 else speaking
            if number % 100 == 99:
                speaking.summary = f"{speaking.persona.id}-says {words(random, 80)}"
            prompt = await turn(random, speaking, number)
            id_ = speaking.persona.id
            assert tokens(prompt) <= budget.for_prompt(100)
            assert len(prompt.messages) <= budget.messages + 1
            last = prompt.messages[-1]
            assert last.role is Role.PERSON
            assert f"Question {number}:" in last.text
            question = speaking.messages[-1 if speaking.messages[-1].role is Role.PERSON else -2]
            assert last.text.endswith(question.text) or estimated(question.text) > budget.for_prompt(100) // 2
            assert not [other for other in personas if other.id != id_ and f"{other.id}-" in whole(prompt)]
            shares.append(reused(before.get(id_, ""), whole(prompt)))
            before[id_] = whole(prompt)
        print(f"reused {sum(shares) / len(shares):.0%}, median {sorted(shares)[1000]:.0%}")
        assert sum(shares) / len(shares) > 0.6

    run(scenario())


def test_what_was_kept_of_a_prompt_is_read_with_care(run: Run[None]) -> None:
    """A store outlives a version: what it holds of an older one is passed over."""

    async def scenario() -> None:
        talk = Conversation()
        await talk.asks("One?", told="<context>as it was kept once</context>")
        assert "as it was" not in whole(await talk.asks("Two?"))
        assert Told.model_validate(talk.messages[-1].data["told"]).since == talk.messages[0].id

    run(scenario())
