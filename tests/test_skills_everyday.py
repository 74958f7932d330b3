"""Lists, sums, measures, dates and chance: what stands in no single dialogue."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import Run
from home import Home, whole
from rooms import room, scripted, speaks
from roomtone.core.dialog import Item
from roomtone.core.errors import ToolError
from roomtone.mind.numbers import in_digits, rough, spoken
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.skills.lists import lines
from roomtone.mind.thinking import SKILL_BOUND_S, Mind
from roomtone.store import FILE_NAME, open_store

SKILLS = Skills.load()
PHRASES = Phrases.load()
LISTS: Any = next(skill for skill in SKILLS.skills if skill.name == "lists").data

ITEM = st.text("abcdefghij klm", min_size=1, max_size=20).map(lambda text: " ".join(text.split())).filter(bool)

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
import fixture_phrases  # noqa: E402


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        *((text, "lists.") for text in fixture_phrases.LISTS),
        ("How many days until Christmas?", "dates.until"),
        ("What is two plus two?", "arithmetic.work_out"),
        ("What's 7 x 8?", "arithmetic.work_out"),
        ("What is 10% of 50?", "arithmetic.work_out"),
        ("Convert 5 miles to kilometers.", "conversion.convert"),
        ("How many grams are in a pound?", "conversion.convert"),
        ("Flip a coin.", "chance.coin"),
        ("Roll the dice.", "chance.dice"),
        ("Tell me a joke.", "joke.tell"),
        ("What can you do in the kitchen?", "help.there"),
        ("Why were you slow?", "why.slow"),
    ],
)
def test_what_a_recogniser_writes_is_understood(text: str, intent: str) -> None:
    match = SKILLS.recognise(text)
    assert match is not None
    assert match.intent.startswith(intent)


@pytest.mark.parametrize("text", [*fixture_phrases.FACTS, *fixture_phrases.ROOM])
def test_no_household_phrase_is_beyond_the_skills(text: str) -> None:
    assert SKILLS.recognise(text) is not None


@pytest.mark.parametrize(
    "text",
    ["What is the capital of France?", "What should I cook for dinner?", "what is five", "How do I boil an egg?",
     "how many days until my surgery", "add some meaning to my life", "what is your plan for may"],
)  # fmt: skip
def test_what_wildcards_could_swallow_is_left_alone(text: str) -> None:
    assert SKILLS.recognise(text) is None


# ------------------------------------------------------------------------------------------------ lists


@given(st.lists(ITEM.filter(lambda item: "and" not in item.split()), min_size=1, max_size=12, unique=True))
def test_what_is_enumerated_comes_apart_as_it_was_put_together(items: list[str]) -> None:
    data = {**LISTS, "leave_off": []}
    assert lines(PHRASES.joined(items), data) == items
    assert lines(", ".join(items), data) == items


@given(st.text(max_size=80))
def test_any_text_is_cut_into_lines_without_complaint(text: str) -> None:
    assert all(line.strip() for line in lines(text, LISTS))


def test_a_line_that_is_too_long_is_not_kept(run: Run[Any]) -> None:
    home = Home()
    answer = run(Mind(SKILLS, PHRASES).answer(f"add {'x' * 300} to the shopping list", home))
    assert run(whole(answer.deltas)) == "That is too long for a line of a list."
    assert home.listed == {}


def test_a_list_is_not_said_to_hold_what_the_disk_does_not(run: Run[Any]) -> None:
    home = Home(disk_full=True)
    with pytest.raises(ToolError):
        run(Mind(SKILLS, PHRASES).answer("add milk to the shopping list", home))


def test_lists_outlive_the_program_and_so_does_what_was_cleared(run: Run[Any], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(
            scripted("add milk and bread to the shopping list", "clear the shopping list"), tmp_path
        ) as one:
            await speaks(one)
            await speaks(one)
        async with room(scripted("put the shopping list back", "read the shopping list"), tmp_path) as other:
            await speaks(other)
            [turn] = await speaks(other)
            assert turn.said == "On the shopping list: milk and bread."

    run(scenario())


def test_a_list_of_a_thousand_is_read_on_only_to_who_says_so(run: Run[Any], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            await store.save_items([Item(list="shopping", text=f"thing {number}") for number in range(1000)])
        async with room(scripted("read the shopping list", "yes", "no", "yes"), tmp_path) as rehearsal:
            read, on, no, late = [(await speaks(rehearsal))[0] for _ in range(4)]
            assert read.said.endswith("thing 7, and nine hundred ninety-two more. Shall I go on?")
            assert on.said.endswith("thing 15, and nine hundred eighty-four more. Shall I go on?")
            assert (no.intent, no.said) == ("consent.refuse", "Okay.")
            assert late.said == ""

    run(scenario())


def test_only_what_was_removed_last_is_kept(run: Run[Any], tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        async with open_store(tmp_path / FILE_NAME) as store:
            milk, tea = Item(list="shopping", text="milk"), Item(list="shopping", text="tea")
            await store.save_items([milk, tea])
            for item in (milk, tea):
                await store.save_items([item.model_copy(update={"removed": item.added})])
            return [item.text for item in await store.items()]

    assert run(scenario()) == ["tea"]


def test_who_has_an_hour_forgotten_can_put_back_what_was_taken_off_before_it_but_nothing_since(
    run: Run[Any], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
            removed = {"wine": noon - timedelta(hours=2), "secret gift": noon, "milk": None}
            items = [Item(list=text, text=text, added=noon, removed=at) for text, at in removed.items()]
            await store.save_items(items)
            await store.erase(since=noon - timedelta(hours=1))
            assert [item.text for item in await store.items()] == ["wine", "milk"]
            await store.erase()
            assert [item.text for item in await store.items()] == ["milk"]

    run(scenario())
    assert not any(b"secret gift" in file.read_bytes() for file in tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------- numbers


@given(st.integers(-999_999, 999_999))
def test_a_number_that_is_said_is_read_back(number: int) -> None:
    words = PHRASES.number(abs(number))
    assert in_digits(words, "en") == str(abs(number))


@given(st.fractions(min_value=Fraction(1, 1000), max_value=10**9))
def test_rough_is_never_far_off_and_never_long(number: Fraction) -> None:
    shown = rough(number)
    assert abs(shown - number) <= max(number / 100, Fraction(1, 2000))
    assert spoken(shown, PHRASES)


@given(st.text("0123456789+-*/(). xroot%of", max_size=40))
@example("0//0")
def test_whatever_looks_like_a_sum_is_answered_or_left_alone(text: str) -> None:
    match = SKILLS.recognise(f"what is {text}")
    if match is not None and match.skill == "arithmetic":
        said: list[str] = []

        async def ask() -> None:
            said.append(await whole((await Mind(SKILLS, PHRASES).answer(f"what is {text}", Home())).deltas))

        asyncio.run(ask())
        assert said[0]


@given(st.integers(0, 10**6))
def test_dice_never_leave_their_sides(seed: int) -> None:
    async def ask() -> str:
        return await whole((await Mind(SKILLS, PHRASES, Random(seed)).answer("roll the dice", Home())).deltas)

    assert asyncio.run(ask()) in {"One.", "Two.", "Three.", "Four.", "Five.", "Six."}


# ---------------------------------------------------------------------------------- a household's own skills

PETS = """
language: en
intents:
  fed:
    sentences: ["is the {pet} fed"]
lists: {pet: {values: [dog, cat]}}
replies: {fed: "Yes."}
"""


def own(folder: Path, name: str = "pets", code: str | None = None, dialogues: str | None = None) -> Skills:
    (folder / name).mkdir()
    for file, text in (("en.yaml", PETS), ("__init__.py", code), ("dialogues.en.yaml", dialogues)):
        if text is not None:
            (folder / name / file).write_text(text, "utf-8")
    return Skills.load(own=folder)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_the_kind", "nothing_of_the_kind"),
        ("raise SystemExit('no')", "no"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "division by zero"),
        ("def answer(asked): return []", "async def answer(asked)"),
        ("async def answer(): return []", "async def answer(asked)"),
        ("answer = 3", "async def answer(asked)"),
        ("", "answer"),
        ("async def answer(asked:", "never closed"),
    ],
)
def test_code_that_cannot_be_used_refuses_its_skill_alone(tmp_path: Path, code: str, reason: str) -> None:
    skills = own(tmp_path, code=code)
    [refused] = skills.refused
    assert str(tmp_path / "pets" / "__init__.py") in refused
    assert reason in refused
    assert skills.recognise("is the dog fed") is None
    assert skills.recognise("what time is it") is not None


def test_a_skill_does_not_take_the_place_of_a_shipped_one(tmp_path: Path) -> None:
    skills = own(tmp_path, name="clock")
    assert "Roomtone has a skill of this name" in skills.refused[0]
    assert skills.recognise("what time is it") is not None


@pytest.mark.parametrize(
    ("dialogues", "reason"),
    [
        ("a talk: [{heard: 'is the dog fed', intent: fed}]", None),
        ("a talk: [{heard: 'what time is it', intent: fed}]", "understood as clock.time, not as pets.fed"),
        ("a talk: [{heard: 'is the moon fed', intent: fed}]", "understood as nothing, not as pets.fed"),
        ("a talk: [{said: 'is the dog fed'}]", "heard"),
        ("a talk: [", "expected"),
    ],
)
def test_a_household_skill_is_held_to_its_dialogues(tmp_path: Path, dialogues: str, reason: str | None) -> None:
    skills = own(tmp_path, dialogues=dialogues)
    assert (skills.recognise("is the dog fed") is not None) == (reason is None)
    assert [reason in refused for refused in skills.refused if reason] == ([True] if reason else [])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import asyncio\nasync def answer(asked):\n    await asyncio.Event().wait()", "Sorry, that took too long"),
        ("async def answer(asked):\n    return 'Yes.'", "Sorry, I couldn't do that."),
        ("async def answer(asked):\n    return None", "Sorry, I couldn't do that."),
        ("async def answer(asked):\n    return ['Yes.', 3]", "Sorry, I couldn't do that."),
        ("async def answer(asked):\n    raise KeyError('food')", "Sorry, I couldn't do that."),
    ],
)
def test_a_skill_that_misbehaves_costs_one_apology(run: Run[Any], tmp_path: Path, code: str, said: str) -> None:
    mind = Mind(own(tmp_path, code=code), PHRASES)
    with pytest.raises(ToolError, match=said):
        run(mind.answer("is the dog fed", Home()))
    assert run(whole(run(mind.answer("what time is it", Home())).deltas)) == "It's twenty past four."
    assert SKILL_BOUND_S <= 10
