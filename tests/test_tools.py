"""The house's own tools: what a model asks of clock, timers, volume, lists, memory, personas and sums is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from home import BERLIN, Home
from roomtone.core.dialog import Timer, TimerKind
from roomtone.core.errors import ToolError
from roomtone.core.persona import Persona
from roomtone.engines.tools import Result
from roomtone.memories import open_memory
from roomtone.mind.memory import Fact, Level
from roomtone.mind.sentences import Skills
from roomtone.mind.tools import BUILT_IN, FAMILIES, TAKING_BACK, allowed
from roomtone.settings import Settings
from roomtone.store import FILE_NAME, open_store

BY_NAME = {tool.spec.name: tool for tool in (*BUILT_IN, *TAKING_BACK)}

Do = Callable[..., Result]


@pytest.fixture
def home() -> Home:
    return Home()


@pytest.fixture
def do(run: Run[Result], home: Home) -> Do:
    """Run a tool as the toolbox does: with arguments that were checked and have been JSON."""

    def call(called: str, /, **arguments: Any) -> Result:
        tool = BY_NAME[called]
        return run(tool.run(tool.checked(json.loads(json.dumps(arguments))), home))

    return call


@pytest.fixture
def take_back(do: Do) -> Callable[[Result], Result]:
    def call(result: Result) -> Result:
        assert result.undo is not None
        name, arguments = result.undo
        return do(name, **arguments)

    return call


TakeBack = Callable[[Result], Result]


def test_every_tool_says_what_it_takes() -> None:
    for tool in BUILT_IN:
        told = tool.spec.parameters
        assert told["type"] == "object"
        assert set(told["properties"]) == set(tool.parameters.model_fields)
        assert "title" not in json.dumps(told)
        assert "$ref" not in json.dumps(told)


def test_a_family_has_the_name_of_the_skill_that_does_the_same() -> None:
    skills = {skill.name for skill in Skills.load().skills}
    assert FAMILIES - skills <= {"memory", "announce", "handoff", "plan", "agent"}


def test_a_persona_s_tools_may_name_skills_and_families_and_those_of_servers() -> None:
    skills = Skills.load()
    kept = skills.of(["clock", "announce", "weather.*", "home.light_off"])
    assert "clock" in {skill.name for skill in kept.skills}
    with pytest.raises(
        Exception, match=r"there is no skill 'flying'; choose of .*, or a server's tools as 'flying\.\*'"
    ):
        skills.of(["flying"])


@pytest.mark.parametrize(
    ("tools", "name", "may"),
    [
        (None, "home.light", True),
        ((), "clock.now", False),
        (("clock",), "clock.now", True),
        (("clock",), "clockwork.now", False),
        (("home.light*",), "home.light_off", True),
        (("home.light*",), "home.oven", False),
        (("home",), "home.oven.off", True),
    ],
)
def test_a_persona_may_use_what_its_tools_name(tools: tuple[str, ...] | None, name: str, may: bool) -> None:
    assert allowed(Persona(id="one", name="One", tools=tools), name) is may


# ------------------------------------------------------------------------------------- clock


def test_the_time_is_told_here_and_elsewhere(do: Do) -> None:
    assert do("clock.now").text == "Saturday 2026-11-21 16:20, Europe/Berlin"
    assert do("clock.now", zone="Asia/Tokyo").text == "Sunday 2026-11-22 00:20, Asia/Tokyo"
    assert do("clock.now", zone="new york").text == "Saturday 2026-11-21 10:20, America/New_York"
    with pytest.raises(ToolError, match="no time zone 'Gotham'"):
        do("clock.now", zone="Gotham")


def test_a_clock_that_is_not_set_tells_no_time(do: Do, home: Home) -> None:
    home.clock_set = False
    with pytest.raises(ToolError, match="clock is not set"):
        do("clock.now")


# ------------------------------------------------------------------------------------- timers


def rings(timer: Timer) -> str:
    return f"{timer.due.astimezone(BERLIN):%Y-%m-%d %H:%M}"


def test_a_timer_is_set_listed_and_cancelled_by_its_name(do: Do, home: Home) -> None:
    assert "timer 'pasta' Saturday 2026-11-21 16:29:00, in 540 s" in do("timer.set", seconds=540, name="pasta").text
    [timer] = home.running
    assert (timer.seconds, rings(timer)) == (540, "2026-11-21 16:29")
    home.pass_time(seconds=40)
    assert "in 500 s" in do("timer.list").text
    do("timer.cancel", which="Pasta")
    assert home.running == []
    assert do("timer.list").text == "nothing is set"


@pytest.mark.parametrize(
    ("at", "every", "due", "repeat"),
    [
        ("18:00", "", "2026-11-21 18:00", None),
        ("7:05", "", "2026-11-22 07:05", None),
        ("2026-12-24 18:00", "", "2026-12-24 18:00", None),
        ("2026-12-24T18:00:00", "", "2026-12-24 18:00", None),
        ("07:00", "weekday", "2026-11-23 07:00", "0 7 * * 1-5"),
        ("07:00", "day", "2026-11-22 07:00", "0 7 * * *"),
        ("10:00", "weekend", "2026-11-22 10:00", "0 10 * * 0,6"),
    ],
)
def test_an_alarm_rings_at_a_time_on_the_wall(
    do: Do, home: Home, at: str, every: str, due: str, repeat: str | None
) -> None:
    do("timer.set", kind="alarm", at=at, every=every)
    [alarm] = home.running
    assert (alarm.kind, rings(alarm), alarm.repeat) == (TimerKind.ALARM, due, repeat)


def test_an_alarm_over_the_end_of_summer_time_rings_by_the_clock(do: Do, home: Home) -> None:
    home.clock = datetime(2026, 10, 24, 22, 0, tzinfo=BERLIN)
    do("timer.set", kind="alarm", at="07:00")
    assert rings(home.running[0]) == "2026-10-25 07:00"
    do("timer.set", seconds=9 * 3600)
    assert rings(home.running[0]) == "2026-10-25 06:00"


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({}, "give seconds or at"),
        ({"seconds": 5, "at": "07:00"}, "give seconds or at"),
        ({"at": "seven"}, "at: write it as 07:30"),
        ({"at": "25:00"}, "there is no 25:00"),
        ({"at": "2026-02-30 07:00"}, "there is no 2026-02-30 07:00"),
        ({"at": "2026-11-21 07:00"}, "is over: it is 2026-11-21 16:20"),
        ({"at": "0000-01-01 07:00"}, "there is no 0000"),
        ({"seconds": 60, "every": "day"}, "every: needs at as HH:MM"),
        ({"at": "2026-12-24 18:00", "every": "day"}, "every: needs at as HH:MM"),
        ({"seconds": 60, "kind": "reminder"}, "name: say what to remind of"),
        ({"seconds": 10**9}, "seconds: Input should be less than"),
    ],
)
def test_what_cannot_be_set_is_told_so_that_it_can_be_mended(
    do: Do, home: Home, arguments: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(ToolError, match=wrong):
        do("timer.set", **arguments)
    assert home.running == []


def test_without_a_set_clock_only_seconds_are_counted(do: Do, home: Home) -> None:
    home.clock_set = False
    do("timer.set", seconds=60)
    with pytest.raises(ToolError, match="only seconds can be counted"):
        do("timer.set", at="07:00")


def test_of_several_one_must_be_named(do: Do, home: Home) -> None:
    for name in ("pasta", "pasta", "tea"):
        do("timer.set", seconds=60, name=name)
    with pytest.raises(ToolError, match="several; name the id of one") as told:
        do("timer.cancel", which="pasta")
    assert home.running[0].id[:6] in str(told.value)
    do("timer.cancel", which=home.running[0].id[:6])
    assert len(home.running) == 2
    with pytest.raises(ToolError, match="none of that name; set: timer 'pasta'"):
        do("timer.cancel", which="eggs")
    do("timer.cancel", which="all")
    assert home.running == []


def test_a_persona_touches_those_kinds_only_that_it_may(do: Do, home: Home) -> None:
    do("timer.set", kind="alarm", at="07:00")
    home.persona = Persona(id="tutor", name="Tutor", tools=("timer",))
    with pytest.raises(ToolError, match="Tutor sets no alarms"):
        do("timer.set", kind="alarm", at="08:00")
    assert do("timer.list").text == "nothing is set"
    with pytest.raises(ToolError, match="none of that name"):
        do("timer.cancel", which="all")
    assert len(home.running) == 1


def test_setting_and_cancelling_are_taken_back(do: Do, home: Home, take_back: TakeBack) -> None:
    was_set = do("timer.set", seconds=60, name="tea")
    [timer] = home.running
    cancelled = do("timer.cancel", which="tea")
    take_back(cancelled)
    assert home.running == [timer]
    take_back(was_set)
    assert home.running == []
    home.pass_time(minutes=2)
    with pytest.raises(ToolError, match="would have rung already"):
        take_back(cancelled)


# ------------------------------------------------------------------------------------- volume, lists


def test_the_volume_is_set_told_and_set_back(do: Do, home: Home, take_back: TakeBack) -> None:
    changed = do("volume.set", percent=20)
    assert do("volume.get").text == "volume 20 percent"
    take_back(changed)
    assert home.loudness == 0.5


def test_lists_are_filled_read_and_emptied(do: Do, take_back: TakeBack) -> None:
    added = do("lists.add", items=["milk", " eggs ", "milk"])
    do("lists.add", items=["call Anna"], list="To-do")
    assert do("lists.add", items=["Milk"]).text == "already on the shopping list"
    assert do("lists.read").text == "shopping: milk, eggs\nto-do: call Anna"
    removed = do("lists.remove", items=["Eggs"])
    assert do("lists.read", list="shopping").text == "shopping: milk"
    with pytest.raises(ToolError, match="not on the shopping list; on it: milk"):
        do("lists.remove", items=["wine"])
    take_back(removed)
    take_back(added)
    assert do("lists.read", list="shopping").text == "nothing is on that list"


def test_taking_an_addition_back_leaves_what_was_there_before(do: Do, take_back: TakeBack) -> None:
    do("lists.add", items=["milk"])
    take_back(do("lists.add", items=["milk", "tea"]))
    assert do("lists.read").text == "shopping: milk"


@pytest.mark.parametrize("items", [[], [""], ["x" * 201], ["x"] * 51, "milk"])
def test_what_is_no_line_of_a_list_is_not_taken(do: Do, home: Home, items: Any) -> None:
    with pytest.raises(ToolError, match="items"):
        do("lists.add", items=items)
    assert home.listed == {}


# ------------------------------------------------------------------------------------- memory


def test_what_is_remembered_is_known_and_forgotten_again(do: Do, home: Home, take_back: TakeBack) -> None:
    kept = do("memory.remember", text="The cat is called Minka.")
    do("memory.remember", text="Anna likes short answers", kind="preference")
    assert {(fact.level, fact.persona) for fact in home.memory.known.values()} == {
        (Level.FACT, "companion"),
        (Level.PREFERENCE, "companion"),
    }
    assert do("memory.recall", text="what is the cat called").text == "The cat is called Minka."
    assert do("memory.recall", text="").text == "Anna likes short answers\nThe cat is called Minka."
    assert do("memory.recall", text="the weather on Mars").text == "nothing is known of that"
    forgotten = do("memory.forget", text="the cat is called minka")
    assert len(home.memory.known) == 1
    take_back(forgotten)
    assert len(home.memory.known) == 2
    take_back(kept)
    assert [fact.text for fact in home.memory.known.values()] == ["Anna likes short answers"]


def test_what_was_known_before_is_not_lost_by_taking_back(do: Do, home: Home) -> None:
    do("memory.remember", text="The cat is called Minka.")
    again = do("memory.remember", text="the cat is called Minka")
    assert (again.text, again.undo) == ("that is known already", None)


def test_another_persona_s_facts_are_neither_told_nor_forgotten(do: Do, home: Home) -> None:
    secret = Fact(text="The surprise party is on Friday", persona="butler")
    home.memory.known[secret.id] = secret
    assert do("memory.recall", text="surprise party").text == "nothing is known of that"
    with pytest.raises(ToolError, match="not known in these words; known: nothing like it"):
        do("memory.forget", text=secret.text)
    assert home.memory.known == {secret.id: secret}


def test_the_store_s_memory_is_told_and_forgets_by_its_own_words(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store, open_memory(Settings(), store) as memory:
            home = Home(memory=memory)  # type: ignore[arg-type]  # a household's memory is a seam
            remember, recall, forget = (BY_NAME[f"memory.{name}"] for name in ("remember", "recall", "forget"))
            kept = await remember.run({"text": "The Wi-Fi key is: *hunter 2*!"}, home)
            await remember.run({"text": "The cat is called Minka."}, home)
            [told] = (await recall.run({"text": "what is the wi-fi key"}, home)).text.splitlines()
            assert told == "The Wi-Fi key is: *hunter 2*!"
            forgotten = await forget.run({"text": told}, home)
            assert [fact.text for fact in await memory.facts()] == ["The cat is called Minka."]
            assert forgotten.undo is not None
            assert kept.undo == ("memory.forget", {"text": told})
            await BY_NAME["memory.restore"].run(forgotten.undo[1], home)
            assert len(await memory.facts()) == 2

    run(scene())


# ------------------------------------------------------------------------------------- personas


def test_another_persona_is_called_by_name_or_id(do: Do, home: Home) -> None:
    home.cast = {
        "chef": Persona(id="chef", name="Marco", description="Cooks."),
        "companion": home.persona,
    }
    assert do("persona.list").text == "Companion\nMarco: Cooks."
    assert do("persona.switch", persona="marco").text == "Marco speaks now"
    assert home.persona.id == "chef"
    do("persona.switch", persona="companion")
    with pytest.raises(ToolError, match="there is no Ghost; there are Companion, Marco"):
        do("persona.switch", persona="Ghost")


def test_a_persona_that_cannot_be_loaded_is_told(do: Do, home: Home) -> None:
    class Broken(Home):
        async def personas(self) -> list[Persona]:
            return [Persona(id="broken", name="Broken")]

    home.__class__ = Broken
    with pytest.raises(ToolError, match="there is no persona 'broken'"):
        do("persona.switch", persona="broken")


# ------------------------------------------------------------------------------------- sums


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12*12", "144"),
        ("0.1+0.2", "0.3"),
        ("7/2", "3.5"),
        ("2^10", "1024"),
        ("15 ÷ 4 × 2 =", "7.5"),
        ("-(3 - 10) % 4", "3"),
        ("sqrt(2)", "1.41421356237"),
        ("round(2.567, 2)", "2.57"),
        ("max(3, 9) // 2", "4"),
        ("2*pi", "6.28318530718"),
        ("10**20", "1" + "0" * 20),
        ("10**40", "about 10 to the 40.0"),
    ],
)
def test_sums_are_worked_out(do: Do, expression: str, result: str) -> None:
    assert do("arithmetic.calculate", expression=expression).text == result


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("1/0", "divided by zero"),
        ("9**9**9", "too big"),
        ("2**3999*2**3999", "too big"),
        ("1e308*10", "too big"),
        ("(-8)**0.5", "no such root"),
        ("sqrt(-1)", "no sum"),
        ("round(5, -999999999) + x", "'x' is not defined"),
        ("__import__('os')", "write numbers"),
        ("__import__(1)", "not defined"),
        ("'a'*9**9", "write numbers"),
        ("(5).to_bytes(10**9)", "no sum"),
        ("[1]*10**9", "write numbers"),
        ("1 if 2 else 3", "no sum"),
        ("True", "no number"),
        ("1,5", "no sum"),
        ("()", "no sum"),
        ("2 +", "no sum"),
        ("1" * 201, "at most 200"),
        ("", "at least 1"),
    ],
)
def test_what_is_no_sum_or_would_never_end_is_refused_at_once(do: Do, expression: str, wrong: str) -> None:
    with pytest.raises(ToolError, match=wrong):
        do("arithmetic.calculate", expression=expression)


# ------------------------------------------------------------------------------------- other rooms


def test_without_a_hub_there_is_honestly_no_other_room(do: Do) -> None:
    with pytest.raises(ToolError, match="there is no other room here"):
        do("handoff.to", room="kitchen")
    with pytest.raises(ToolError, match="there is no other room here"):
        do("announce.say", text="Dinner is ready.", room="kitchen")
    assert "say it here yourself, word for word: Dinner is ready." in do("announce.say", text="Dinner is ready.").text
