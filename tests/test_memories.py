"""What is told is kept, found again by its words, and forgotten whole; no persona knows what another was told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Run
from remembering import Flat, remembering, texts, told
from roomtone.core.errors import ConfigError
from roomtone.memories import keeping, open_memory
from roomtone.mind import relevance
from roomtone.mind.memory import Fact, Level
from roomtone.settings import Settings
from roomtone.store import FILE_NAME, open_store

MODELS = Path(__file__).parent / "models"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ODD = [
    "NUL \x00 in the middle",
    "\U0001f408 \U0001f9c2",
    'AND OR NOT NEAR("cat", 3) * ^ : - + { } "',
    "text : cat",
    "'; DROP TABLE memories; --",
    "Ö ß ſ İ \u202e \u0301",
    "word " * 400,
    "cat" * 666,
]


# ---------------------------------------------------------------------------------------------- found again


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("what is my cat called", ["The cat is called Minka"]),
        ("who plays the trumpets?", ["Ben plays the trumpet"]),
        ("MINKA", ["The cat is called Minka"]),
        ("what should I cook for Anna", ["Anna is allergic to nuts"]),
        ("who won the football game", []),
        ("what is the", []),
        ("", []),
    ],
)
def test_what_was_told_is_found_by_its_telling_words(
    run: Run[None], tmp_path: Path, question: str, found: list[str]
) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "The cat is called Minka", "Ben plays the trumpet", "Anna is allergic to nuts")
            assert texts(await memory.recall(question, "companion")) == found

    run(scenario())


def test_a_name_says_most_of_a_question_though_all_facts_have_it(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "Anna lives in Oslo", "Anna eats no nuts", "Anna works at night")
            assert len(await memory.recall("what should I cook for Anna tonight", "companion")) == 3

    run(scenario())


def test_what_holds_more_of_the_question_goes_first_and_then_what_is_newer(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "the blue car is in the garage", at=LONG_AGO)
            await told(memory, "the green car is in the garage")
            assert texts(await memory.recall("where is the blue car", "companion"))[0].startswith("the blue")
            assert texts(await memory.recall("where is the car", "companion"))[0].startswith("the green")

    run(scenario())


def test_a_search_for_what_is_meant_leaves_out_what_has_only_a_word_of_it(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "The cat is called Minka", "Anna sleeps late", "Ben gets up early")
            assert texts(await memory.facts("companion", "the cat Minka")) == ["The cat is called Minka"]
            assert texts(await memory.facts("companion", "the cat sleeps in the blue basket")) == []

    run(scenario())


def test_what_is_meant_is_found_also_where_its_words_are_small_or_it_is_long(run: Run[None], tmp_path: Path) -> None:
    long = f"the safe opens {'with a little patience and ' * 30}a key"

    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "I am not", long, "the safe is small")
            assert texts(await memory.facts("companion", "i am not!")) == ["I am not"]
            assert texts(await memory.facts("companion", "the safe")) == ["the safe is small", long]

    run(scenario())


def test_preferences_reach_every_prompt_and_are_not_recalled_besides(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "I like short answers", level=Level.PREFERENCE, persona="companion")
            await told(memory, "I want metric units", level=Level.PREFERENCE)
            assert texts(await memory.preferences("companion")) == ["I want metric units", "I like short answers"]
            assert texts(await memory.preferences("chef")) == ["I want metric units"]
            assert await memory.recall("short answers", "companion") == []

    run(scenario())


# ------------------------------------------------------------------------------------------------- kept


def test_the_same_words_are_one_memory_brought_up_to_date(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            [first] = await told(memory, "the cat is called minka", at=LONG_AGO)
            [again] = await told(memory, "The cat is called Minka!")
            assert again.id == first.id
            assert (again.text, again.at > LONG_AGO) == ("The cat is called Minka!", True)
            await told(memory, "The cat is called Minka", persona="chef")
            assert await memory.count() == 2
            changed = await memory.keep(again.model_copy(update={"text": "The cat is called Rex"}))
            assert (changed.id, await memory.count()) == (first.id, 2)
            assert texts(await memory.recall("Rex", "companion")) == ["The cat is called Rex"]
            assert await memory.recall("Minka", "companion") == []

    run(scenario())


def test_memories_are_there_after_a_restart_and_after_a_kill(run: Run[None], tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from roomtone.memories import StoreMemory\n"
        "from roomtone.mind.memory import Fact\n"
        "from roomtone.store import open_store\n"
        "async def main():\n"
        "    async with open_store(Path(sys.argv[1])) as store:\n"
        "        await StoreMemory(store).keep(Fact(text='the cat is called Minka'))\n"
        "        os._exit(9)\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / FILE_NAME)], check=False, env=os.environ)
    assert ended.returncode == 9

    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            assert texts(await memory.recall("what is the cat called", "companion")) == ["the cat is called Minka"]

    run(scenario())


def test_a_fact_is_on_the_disk_before_it_is_acknowledged(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, store):
            durable = []
            write = store.write

            async def noting(*statements: Any, **how: Any) -> None:
                durable.append(how.get("durable"))
                await write(*statements, **how)

            store.write = noting  # type: ignore[method-assign]
            [fact] = await told(memory, "the cat is called Minka")
            await memory.forget([fact.id])
            assert durable == [True, True]

    run(scenario())


def test_what_has_expired_is_never_told_and_leaves_by_itself(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, store):
            await told(memory, "the visitor is called Rex", expires=LONG_AGO)
            await told(memory, "the visitor likes tea", expires=datetime.now(UTC) + timedelta(days=1))
            assert texts(await memory.recall("the visitor Rex", "companion")) == ["the visitor likes tea"]
            assert texts(await memory.facts()) == ["the visitor likes tea"]
            assert not await memory.tidy()
            assert len(await store.read("SELECT 1 FROM memories")) == 1

    run(scenario())


# --------------------------------------------------------------------------------------------- by whom


FACTS = st.lists(
    st.tuples(st.sampled_from(["cat", "dog", "car", "tea", "cup"]), st.sampled_from([None, "a", "b", "a-b", "A"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    facts=FACTS, question=st.sampled_from(["cat", "cat dog", "car tea cup", "the cat of the dog"]), gone=st.booleans()
)
def test_no_persona_knows_what_another_was_told(
    run: Run[None],
    tmp_path_factory: pytest.TempPathFactory,
    facts: list[tuple[str, str | None]],
    question: str,
    gone: bool,
) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path_factory.mktemp("store")) as (memory, _):
            for place, (word, persona) in enumerate(facts):
                expires = LONG_AGO if gone and place % 2 else None
                await memory.keep(Fact(text=f"{word} number {place}", persona=persona, expires=expires))
            for persona in ("a", "b", "a-b", "A", "nobody"):
                recalled = await memory.recall(question, persona, 100)
                assert all(0 <= each.score <= 1 for each in recalled)
                assert [each.score for each in recalled] == sorted((each.score for each in recalled), reverse=True)
                known = [each.fact for each in recalled]
                known += [*await memory.facts(persona), *await memory.facts(persona, question)]
                assert {fact.persona for fact in known} <= {None, persona}
                assert all(fact.expires is None for fact in known)
                wanted = {
                    place
                    for place, (word, whose) in enumerate(facts)
                    if word in question and whose in (None, persona) and not (gone and place % 2)
                }
                assert {int(each.fact.text.split()[-1]) for each in recalled} == wanted

    run(scenario())


@given(
    st.lists(st.floats(0, 20), max_size=8),
    st.floats(-1, 1),
    st.integers(0, 5000),
    st.integers(-100_000, 100_000),
)
def test_a_score_is_between_nothing_and_one(weights: list[float], cosine: float, length: int, days: int) -> None:
    words = relevance.in_words(weights[: len(weights) // 2], weights) * relevance.brevity(length)
    fits = relevance.together(words, relevance.in_meaning(cosine))
    assert 0 <= relevance.with_time(fits, LONG_AGO, LONG_AGO + timedelta(days=days)) <= fits <= 1


def test_a_rare_word_weighs_more_and_time_takes_only_a_part() -> None:
    assert relevance.rarity(1, 1000) > relevance.rarity(10, 1000) > relevance.rarity(900, 1000) > 0
    assert relevance.brevity(10) == 1 > relevance.brevity(100) > relevance.brevity(400) > 0
    now = datetime(2026, 1, 1, tzinfo=UTC)
    aged = [relevance.with_time(1, now - timedelta(days=days), now) for days in (0, 90, 36500)]
    assert aged == pytest.approx([1, 1 - relevance.NEWNESS / 2, 1 - relevance.NEWNESS])


# ------------------------------------------------------------------------------------------- much, and odd


def test_a_fact_is_found_among_ten_thousand_whose_words_it_shares(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, store):
            await told(memory, "the old piano key is under the third stair", at=LONG_AGO)
            many = [
                Fact(text=f"the piano lesson number {n} is at the old school under the bridge") for n in range(10_000)
            ]
            await store.write(*(statement for fact in many for statement in keeping(fact)))
            [first, *_] = await memory.recall("where is the key of the old piano", "companion")
            assert first.fact.text.startswith("the old piano key")
            assert len(await memory.recall("the old piano", "companion", 5)) == 5
            assert await memory.count() == 10_001
            rows = await store.read("SELECT count(*) AS held FROM memory_index WHERE memory_index MATCH 'piano'")
            assert rows[0]["held"] == 10_001

    run(scenario())


def test_of_words_that_all_facts_hold_the_old_one_that_holds_both_is_found(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, store):
            await told(memory, "the kitchen window sticks", at=LONG_AGO)
            some = [Fact(text=f"{'kitchen' if n % 2 else 'window'} plan {n}") for n in range(2000)]
            await store.write(*(statement for fact in some for statement in keeping(fact)))
            [first, *_] = await memory.recall("kitchen window", "companion")
            assert first.fact.text == "the kitchen window sticks"

    run(scenario())


@pytest.mark.parametrize("odd", ODD)
def test_odd_texts_are_kept_and_searched_like_others(run: Run[None], tmp_path: Path, odd: str) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, store):
            [kept] = await told(memory, odd[:2000])
            [again] = await told(memory, odd[:2000])
            assert (kept.text, again.id) == (odd[:2000], kept.id)
            await memory.recall(odd, "companion")
            await memory.facts(None, odd)
            assert await memory.forget([kept.id]) == [again]
            await store.read("INSERT INTO memory_index (memory_index) VALUES ('integrity-check')")

    run(scenario())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_no_question_breaks_a_search(run: Run[None], tmp_path: Path, text: str) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "the cat is called Minka", text)
            await memory.recall(text, text)

    run(scenario())


# ---------------------------------------------------------------------------------------------- forgotten


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob(f"{FILE_NAME}*"))


def test_what_is_forgotten_leaves_no_byte_in_the_file(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            kept = await told(memory, "the safe opens with xylophone", "the cat is called Minka")
            assert texts(await memory.forget([kept[0].id[:6], "none such", "ab"])) == [
                "the safe opens with xylophone"
            ]
            await memory.tidy()
            content = on_disk(tmp_path)
            assert b"xylophon" not in content
            assert b"Minka" in content

    run(scenario())


def test_what_a_kill_left_of_a_forgotten_fact_goes_when_the_store_is_opened(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            [kept] = await told(memory, "the safe opens with xylophone")
            await memory.forget([kept.id])
        async with open_store(tmp_path / FILE_NAME):
            content = on_disk(tmp_path)
        assert b"xylophon" not in content

    run(scenario())


def test_an_id_that_several_begin_with_forgets_none(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await memory.keep(Fact(id="abcd1", text="one"))
            await memory.keep(Fact(id="abcd2", text="two"))
            await memory.keep(Fact(id="abcd", text="three"))
            assert texts(await memory.forget(["abc", "ab%", "abcd_"])) == []
            assert texts(await memory.forget(["abcd"])) == ["three"]
            assert texts(await memory.forget(["abcd"])) == []
            assert texts(await memory.forget(["abcd2", "abcd2"])) == ["two"]

    run(scenario())


def test_erasing_what_was_said_leaves_facts_and_takes_what_conversations_were_about(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, store):
            await told(memory, "the cat is called Minka")
            await told(memory, "they spoke of a cat", level=Level.SUMMARY)
            await store.erase()
            assert texts(await memory.facts()) == ["the cat is called Minka"]

    run(scenario())


def test_the_feed_is_told_what_became_of_memories_and_never_a_text(run: Run[None], tmp_path: Path) -> None:
    events: list[tuple[str, dict[str, Any]]] = []

    async def scenario() -> None:
        async with remembering(tmp_path, on_event=lambda kind, data: events.append((kind, data))) as (memory, _):
            [kept] = await told(memory, "the cat is called Minka", persona="chef")
            await memory.recall("the cat", "chef")
            await memory.recall("the cat", "companion")
            await memory.forget([kept.id])

    run(scenario())
    assert [kind for kind, _ in events] == ["memory.kept", "memory.recalled", "memory.forgotten"]
    assert "Minka" not in json.dumps(events)


# ---------------------------------------------------------------------------------------------- the seam


def test_the_memory_keeps_itself_in_order_while_it_is_open(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store, open_memory(Settings(), store, embed=Flat()) as memory:
            kept = [await memory.keep(Fact(text=f"fact number {n}")) for n in range(20)]
            await asyncio.sleep(60)
            assert len(await store.read("SELECT 1 FROM memory_vectors")) == 20
            await memory.forget([kept[0].id])
            await asyncio.sleep(60)
            assert (await store.read("PRAGMA user_version"))[0][0] == 0, "its bytes are still there"

    run(scenario())


@pytest.mark.parametrize("engine", ["postgres", "my.memory", "json.decoder"])
def test_a_memory_that_there_is_not_is_a_mistake_of_the_configuration(
    run: Run[None], tmp_path: Path, engine: str
) -> None:
    async def scenario() -> None:
        wanted = Settings.model_validate({"memory": {"engine": engine}})
        async with open_store(tmp_path / FILE_NAME) as store:
            with pytest.raises(ConfigError, match=r"memory\.engine"):
                async with open_memory(wanted, store):
                    pass

    run(scenario())
