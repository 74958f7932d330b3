"""A household's own code may block, never end, or try to end the program: it costs its answer and nothing else."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from home import Home, whole
from roomtone import outbound
from roomtone.core.errors import ToolError
from roomtone.core.persona import Egress
from roomtone.flow import worker
from roomtone.mind import own_code, thinking
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind

SAUNA = """
language: en
intents:
  hot: {sentences: ["is the {what} hot"]}
lists: {what: {wildcard: true}}
replies: {hot: "Yes."}
"""

BLOCKS = """
import threading
go = threading.Event()
async def answer(asked):
    go.wait()
    await asked.household.set_volume(1.0)
    return ["Yes."]
"""


def skills_with(folder: Path, code: str) -> Skills:
    (folder / "sauna").mkdir()
    (folder / "sauna" / "en.yaml").write_text(SAUNA, "utf-8")
    (folder / "sauna" / "__init__.py").write_text(code, "utf-8")
    skills = Skills.load(own=folder)
    assert not skills.refused
    return skills


def mind_with(folder: Path, code: str) -> Mind:
    return Mind(skills_with(folder, code), Phrases.load())


@pytest.fixture
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking, "SKILL_BOUND_S", 0.3)
    monkeypatch.setattr(own_code, "PATIENCE_S", 0.2)


@pytest.mark.usefixtures("_short_patience")
def test_code_that_blocks_is_given_up_while_the_room_hears_on_and_is_not_asked_again(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        home, mind = Home(), mind_with(tmp_path, BLOCKS)
        async with asyncio.TaskGroup() as group:
            stuck = group.create_task(given_up(mind, home))
            await asyncio.sleep(0)
            answer = await mind.answer("what time is it", home)
            assert await whole(answer.deltas) == "It's twenty past four."
            assert not stuck.done()
        await given_up(mind, home)
        assert "skill sauna has not come back" in caplog.text
        sys.modules["roomtone_household_skills.sauna"].go.set()
        with worker("waits") as waiting:
            for thread in [thread for thread in threading.enumerate() if thread.name == "skill sauna"]:
                await waiting.call(thread.join)
        assert home.loudness == 0.5, "what was given up may change nothing"
        assert await whole((await mind.answer("is the sauna hot", home)).deltas) == "Yes."
        assert home.loudness == 1.0

    run(scenario())


async def given_up(mind: Mind, home: Home) -> None:
    with pytest.raises(ToolError, match="took too long"):
        await mind.answer("is the sauna hot", home)


@pytest.mark.usefixtures("_short_patience")
def test_code_that_awaits_for_ever_is_ended(run: Run[Any], tmp_path: Path) -> None:
    code = "import asyncio\nasync def answer(asked):\n    await asyncio.Event().wait()"
    with pytest.raises(ToolError, match="took too long"):
        run(mind_with(tmp_path, code).answer("is the sauna hot", Home()))


@pytest.mark.parametrize("raised", ["SystemExit(0)", "KeyboardInterrupt()", "asyncio.CancelledError()"])
def test_code_cannot_end_the_program(run: Run[Any], tmp_path: Path, raised: str) -> None:
    code = f"import asyncio\nasync def answer(asked):\n    raise {raised}"
    with pytest.raises(ToolError, match="Sorry, I couldn't do that"):
        run(mind_with(tmp_path, code).answer("is the sauna hot", Home()))


def test_code_knows_and_changes_the_household_as_shipped_code_does(run: Run[None], tmp_path: Path) -> None:
    code = """
from roomtone.core.dialog import Timer
from datetime import timedelta
async def answer(asked):
    house, now = asked.household, asked.household.now()
    await house.save_timers([Timer(name="sauna", seconds=60, set_at=now, due=now + timedelta(minutes=1))])
    return [f"{house.persona.name}, {house.volume()}, {len(await house.timers())} running."]
"""

    async def scenario() -> None:
        home = Home()
        answer = await mind_with(tmp_path, code).answer("is the sauna hot", home)
        assert await whole(answer.deltas) == "Companion, 0.5, 1 running."
        assert [timer.name for timer in home.running] == ["sauna"]

    run(scenario())


def test_what_code_brings_about_is_its_turns_and_happens_in_the_room(run: Run[None], tmp_path: Path) -> None:
    code = """
async def answer(asked):
    await asked.household.set_volume(0.5)
    return [str(await asked.household.memory.count())]
"""
    seen: list[tuple[Egress, threading.Thread]] = []

    class Sees(Home):
        async def set_volume(self, volume: float) -> None:
            seen.append((outbound.limit(), threading.current_thread()))

    class Remembers:
        async def count(self) -> int:
            seen.append((outbound.limit(), threading.current_thread()))
            return 3

    async def scenario() -> None:
        home = Sees()
        home.memory = Remembers()  # type: ignore[assignment]
        with outbound.within(Egress.NONE):
            answer = await mind_with(tmp_path, code).answer("is the sauna hot", home)
        assert await whole(answer.deltas) == "3"
        assert seen == [(Egress.NONE, threading.current_thread())] * 2

    run(scenario())


def test_an_accepts_that_fails_refuses_and_leaves_the_sentence_to_others(tmp_path: Path) -> None:
    code = "def accepts(heard):\n    raise SystemExit\nasync def answer(asked):\n    return []"
    skills = skills_with(tmp_path, code)
    assert skills.recognise("is the sauna hot") is None
    assert skills.recognise("what time is it") is not None
