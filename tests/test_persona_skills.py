"""Skills that stand in a persona's own folder: files beside them, answers to their questions, their own "go on"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import Run
from home import Home, whole
from roomtone.core.dialog import Session, Source, Turn
from roomtone.core.errors import ConfigError
from roomtone.mind.own_code import OwnCode
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind
from roomtone.store import open_store

EVERYONE = Skills.load()

SONGS = """
language: en
intents:
  sing:
    sentences: ["sing [the] {song}"]
    samples: ["sing the moon"]
  go_on:
    agrees: true
    bare: true
    sentences: ["go on"]
  guess:
    replies: true
    sentences: ["[it's] {word}"]
lists:
  song: {files: songs}
  word: {files: songs, of: words}
replies: {}
"""

CODE = """
from roomtone.mind.skills import Offering

def prepare(data):
    return {"songs": {name: {"text": str(song["text"])} for name, song in data["songs"].items()}}

async def answer(asked):
    if asked.match.name == "sing":
        return Offering([asked.data["songs"][asked.match.get("song")]["text"]], "sing", {"song": "moon"})
    return [f"{asked.match.name} {asked.match.get('word')}"]
"""

MOON = "called: [moon, the lullaby]\ntext: The moon is up.\nwords: [silver, sea]\n"


def skill(home: Path, persona: str = "singer", *, code: str = CODE, **songs: str) -> Path:
    """Make a persona's skill with songs in files; return the folder of its skills."""
    folder = home / persona / "skills" / "song"
    (folder / "songs").mkdir(parents=True)
    (home / persona / "config.yaml").write_text("name: Singer\n")
    (folder / "en.yaml").write_text(SONGS)
    (folder / "__init__.py").write_text(code)
    for name, text in (songs or {"moon": MOON}).items():
        (folder / "songs" / f"{name}.en.yaml").write_text(text)
    return folder.parent


async def said(skills: Skills, text: str, home: Home | None = None) -> str:
    return await whole((await Mind(skills, Phrases.load()).answer(text, home or Home())).deltas)


def test_a_file_that_is_put_beside_a_skill_can_be_asked_for_by_each_of_its_names(
    run: Run[None], tmp_path: Path
) -> None:
    sun = "called: [sun]\ntext: The sun is up.\n"
    skills = EVERYONE.of([], skill(tmp_path, moon=MOON, sun=sun))
    assert all(skills.holds(tuple(words.split())) for words in ("sing moon", "sing the lullaby", "sing the sun"))

    async def scenario() -> None:
        assert await said(skills, "sing the lullaby") == "The moon is up."
        assert await said(skills, "sing the sun") == "The sun is up."

    run(scenario())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("just words", "expected keys"),
        ("text: The sun.\n", "expected keys, among them 'called:"),
        ("called: sun\ntext: The sun.\n", "expected keys, among them 'called:"),
        ("called: [\n", "flow"),
    ],
)
def test_a_file_that_is_broken_is_told_with_its_place(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        EVERYONE.of([], skill(tmp_path, sun=content))
    assert "song/songs/sun.en.yaml: " in refused.value.message
    assert "\n" not in refused.value.message


def test_what_a_skill_cannot_read_of_its_files_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="text"):
        EVERYONE.of([], skill(tmp_path, sun="called: [sun]\n"))


def test_an_answer_is_listened_for_after_a_question_and_into_one_but_not_out_of_the_blue(tmp_path: Path) -> None:
    skills = EVERYONE.of([], skill(tmp_path))
    assert "silver" not in skills.grammar()
    assert "silver" in skills.besides(asked=True)
    assert "silver" in skills.besides(interrupting=True)
    match = skills.recognise("it's silver")
    assert match is not None
    assert (match.intent, match.get("word")) == ("song.guess", "silver")


def test_a_personas_own_go_on_goes_on_at_any_time_but_answers_a_question_of_another_skill(
    run: Run[None], tmp_path: Path
) -> None:
    skills = EVERYONE.of(["lists"], skill(tmp_path))
    assert re.search(r"\bgo on\b", skills.grammar())

    async def scenario() -> None:
        home, mind = Home(), Mind(skills, Phrases.load())
        assert await said(skills, "go on", home) == "go_on None"
        for text in [f"add thing{number} to the list" for number in range(10)]:
            await mind.answer(text, home)
        answer = await mind.answer("read the list", home)
        home.last = turn("lists.read", offers=answer.offers)
        assert (await said(skills, "go on", home)).endswith("That's all.")
        sung = await mind.answer("sing moon", home)
        home.last = turn("song.sing", offers=sung.offers)
        assert await said(skills, "go on", home) == "go_on None", "it knows itself what that means"
        assert await said(skills, "yes", home) == "The moon is up."

    run(scenario())


def test_a_households_persona_runs_on_a_thread_of_its_own_and_shares_no_code_with_another(
    run: Run[None], tmp_path: Path
) -> None:
    louder = CODE.replace("return [f", "return ['LOUD', f")
    one, other = EVERYONE.of([], skill(tmp_path)), EVERYONE.of([], skill(tmp_path, "shouter", code=louder))
    assert all(isinstance(skills.skills[0].answer, OwnCode) for skills in (one, other))

    async def scenario() -> None:
        assert await said(one, "it's sea") == "guess sea"
        assert await said(other, "it's sea") == "LOUD guess sea"

    run(scenario())


def test_a_persona_that_lost_a_tool_need_not_lose_the_skill_that_speaks_of_it(tmp_path: Path) -> None:
    place = skill(tmp_path)
    (place / "song" / "dialogues.en.yaml").write_text(
        "it is sung:\n  - {heard: sing moon, intent: sing}\n  - {heard: what time is it, intent: clock.time}\n"
    )
    assert EVERYONE.of([], place).skills[0].dialogues
    assert EVERYONE.of(["clock"], place).skills[0].dialogues
    (place / "song" / "dialogues.en.yaml").write_text("it is sung:\n  - {heard: sing sun, intent: sing}\n")
    with pytest.raises(ConfigError, match=r"'sing sun' is understood as nothing, not as song\.sing"):
        EVERYONE.of([], place)


def test_a_skill_is_told_its_last_answer_by_the_same_persona_in_whatever_session(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "store.db") as store:
            for number, (intent, persona) in enumerate(
                [
                    ("song.sing", "singer"),
                    ("songs.other", "singer"),
                    ("song.sing", "shouter"),
                    ("clock.time", "singer"),
                ]
            ):
                session = Session(room="kitchen", persona=persona)
                last = turn(intent, persona=persona, session=session.id, said=f"answer {number}")
                await store.save_turn(last, closed=True, session=session)
            found = await store.last_answer("song", "singer")
            assert found is not None
            assert found.said == "answer 0"
            assert await store.last_answer("song", "companion") is None

    run(scenario())


def turn(intent: str, **more: object) -> Turn:
    usual = {"turn": 1, "trace": "t", "session": "s", "room": "kitchen", "persona": "singer", "source": Source.VOICE}
    return Turn.model_validate({**usual, "heard": "anything", "intent": intent, **more})
