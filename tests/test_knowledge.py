"""A persona answers out of its own notes, and only where they hold what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from home import Home, whole
from remembering import Flat
from roomtone.core.errors import EngineError
from roomtone.core.persona import AdaptationMode, KnowledgeFile, Persona
from roomtone.engines.embed import onnx
from roomtone.mind.knowledge import Notes, passages
from roomtone.mind.phrases import Phrases, load_language
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind
from roomtone.personas.cast import notes_of

HOUSE = """
# The house

## Wifi

The network is called **attic**. Its [password](http://example.org) stands on the router.

## The boiler

- It rumbles; that is *normal*
- Press the red button when it stops. Wait for a minute, then press it again.

## Rubbish

Paper goes on Tuesdays. Glass goes to the corner of the street.
"""
FILE = KnowledgeFile(name="our_house", text=HOUSE)
SMALL = load_language("en").small_words


def test_notes_are_cut_at_their_headings_and_read_as_plain_sentences() -> None:
    found = list(passages(FILE))
    assert [each.about for each in found] == [
        "our house, The house, Wifi",
        "our house, The house, The boiler",
        "our house, The house, Rubbish",
    ]
    assert found[0].text == "The network is called attic. Its password stands on the router."
    assert found[1].text.startswith("It rumbles; that is normal. Press the red button when it stops.")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what's the wifi password", "Its password stands on the router."),
        ("when does the paper go", "Paper goes on Tuesdays."),
        ("the boiler has stopped, what do I press", "Press the red button when it stops."),
        ("where is the wifi", "The network is called attic."),
    ],
)
def test_a_question_finds_the_passage_and_the_sentence(question: str, answer: str) -> None:
    [best, *_] = Notes([FILE], SMALL).found(question)
    assert answer in best.said(question)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "what is the",
        "who won the football game",
        "thank you for watching",
        "tell me a story about a red dragon",
        '"*:( )',
    ],
)
def test_what_the_notes_do_not_hold_is_not_found(question: str) -> None:
    assert Notes([FILE], SMALL).found(question) == []


MODELS = Path(__file__).parent / "models"


def test_a_passage_is_found_that_says_it_in_other_words(run: Run[None]) -> None:
    async def scenario() -> None:
        notes = Notes([FILE], SMALL)
        assert await notes.belonging("how do I get onto the internet") == []
        async with onnx.open(onnx.Settings(models_dir=MODELS)) as embed:
            await notes.learn(embed)
            [first, *_] = await notes.belonging("how do I get onto the internet")
            assert first.about.endswith("Wifi")
            assert [each.about for each in await notes.belonging("who won the football game")] == []
            assert (await notes.belonging("when does the paper go", 1))[0].about.endswith("Rubbish")
            for question in ("", " ", "\x00", "words " * 500):
                await notes.belonging(question)

    run(scenario())


def test_notes_are_found_by_their_words_where_the_embedder_fails(run: Run[None]) -> None:
    async def scenario() -> None:
        flat, notes = Flat(), Notes([FILE], SMALL)
        await notes.learn(flat)
        flat.trouble = EngineError("it broke")
        assert [each.about for each in await notes.belonging("where is the wifi")] == ["our house, The house, Wifi"]

    run(scenario())


@given(st.text(max_size=60))
def test_no_question_breaks_the_search(question: str) -> None:
    Notes([FILE], SMALL).found(question)


@given(st.text(max_size=400))
def test_no_markdown_breaks_the_cutting(text: str) -> None:
    for passage in passages(KnowledgeFile(name="a", text=text)):
        assert passage.said("what")


def test_a_long_passage_is_not_read_out_whole() -> None:
    text = " ".join(f"Sentence {n} is about the garden gate." for n in range(40))
    [passage] = Notes([KnowledgeFile(name="garden", text=text)]).found("garden gate", 1)
    assert len(passage.said("garden gate")) < 400


def test_a_persona_answers_out_of_its_notes_where_no_skill_fits(run: Run[None], tmp_path: Path) -> None:
    rag = AdaptationMode.INSTRUCTION_RAG
    persona = Persona(id="guide", name="Guide", adaptation_mode=rag, knowledge=(FILE,))
    phrases = Phrases.load()

    async def scenario() -> None:
        mind = Mind(Skills.load(), phrases, notes=notes_of(persona, phrases))
        answer = await mind.answer("where does the glass go", Home())
        assert answer.answered_by == "notes"
        assert await whole(answer.deltas) == "From my notes: Glass goes to the corner of the street."
        assert (await mind.answer("what time is it", Home())).answered_by == "skill"
        assert (await mind.answer("who won the football game", Home())).answered_by == "offline"
        plain = persona.model_copy(update={"adaptation_mode": AdaptationMode.INSTRUCTION_ONLY})
        assert notes_of(plain, phrases) is None

    run(scenario())
