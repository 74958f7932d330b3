"""What is said to other rooms, asked of them, and told of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from conftest import Run
from home import Home, whole
from neighbours import Neighbours
from roomtone.core.dialog import Timer, TimerKind
from roomtone.core.errors import BrokerUnreachable, DeviceOffline, HouseError, HubGone, ToolError
from roomtone.core.wire import Code
from roomtone.mind.house import ElsewhereTimer, Neighbour
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind
from roomtone.mind.tools.rooms import announce

SKILLS = Skills.load()

Ask = Callable[[str], str]


@pytest.fixture
def others() -> Neighbours:
    return Neighbours()


@pytest.fixture
def home(others: Neighbours) -> Home:
    return Home(house=others)


@pytest.fixture
def ask(run: Run[str], home: Home) -> Ask:
    mind = Mind(SKILLS, Phrases.load())

    async def asked(text: str) -> str:
        return await whole((await mind.answer(text, home)).deltas)

    return lambda text: run(asked(text))


# -------------------------------------------------------------------------------------- announcements


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        ("tell the kitchen that dinner is ready", "dinner is ready", "kitchen"),
        ("Tell the kitchen Anna is on the phone.", "Anna is on the phone", "kitchen"),
        ("announce in the bedroom that we leave", "we leave", "bedroom"),
        ("say good night in the bedroom", "good night", "bedroom"),
        ("tell everyone dinner is ready", "dinner is ready", None),
        ("announce that dinner is ready", "dinner is ready", None),
        ("say that we leave to everyone", "we leave", None),
    ],
)
def test_a_text_is_announced_where_it_is_meant_for(
    ask: Ask, others: Neighbours, text: str, said: str, where: str | None
) -> None:
    told = ask(text)
    assert others.said == [(said, where)]
    assert told == ("Said in the kitchen and the bedroom." if where is None else f"Said in the {where}.")


@pytest.mark.parametrize("text", ["announce that dinner is ready", "who is where", "continue in the kitchen"])
def test_a_room_that_has_met_no_other_says_whether_it_cannot_reach_them_or_is_alone(
    ask: Ask, others: Neighbours, text: str
) -> None:
    others.known = []
    assert ask(text) == "There is no other room here: I run in this one alone."
    others.cut_off = True
    assert ask(text) == "I can't reach the other rooms at the moment."


def test_what_became_of_it_is_told_room_by_room(ask: Ask, others: Neighbours) -> None:
    others.known.append(Neighbour("hall-1", "hall"))
    others.missed = (("bedroom", Code.QUIET), ("hall", DeviceOffline.code))
    assert ask("tell everyone dinner is ready") == (
        "Said in the kitchen. It's quiet in the bedroom, so I'll say it there later. The hall is off."
    )


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (BrokerUnreachable("gone"), "I can't reach the other rooms at the moment."),
        (HubGone("gone"), "I can't reach the other rooms at the moment."),
        (HouseError("no"), "Sorry, that did not get through."),
    ],
)
def test_trouble_on_the_way_is_told(ask: Ask, others: Neighbours, trouble: HouseError, told: str) -> None:
    others.broken = trouble
    assert ask("tell everyone dinner is ready") == told
    assert ask("send a message to the kitchen") == told


def test_a_room_that_there_is_not_is_no_room_to_speak_to(ask: Ask, others: Neighbours) -> None:
    assert ask("tell the attic that it rains") == "I know no room of that name."
    assert others.said == []


# ----------------------------------------------------------------------------------------- intercom


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("send a message to the kitchen", "kitchen"),
        ("record a message for the bedroom", "bedroom"),
        ("send a message to everyone", None),
        ("send a message to everybody", None),
        ("make an announcement", None),
        ("announce", None),
    ],
)
def test_a_message_is_what_is_said_next(ask: Ask, others: Neighbours, text: str, where: str | None) -> None:
    assert ask(text) == "Go ahead."
    assert others.recording == [where]


def test_nobody_is_asked_to_go_ahead_for_a_room_that_is_off(ask: Ask, others: Neighbours) -> None:
    others.known[0] = Neighbour("kitchen-1", "kitchen", online=False)
    assert ask("send a message to the kitchen") == "The kitchen is off."
    assert others.recording == []


def test_an_answer_goes_to_who_asked(ask: Ask, others: Neighbours) -> None:
    assert ask("send a reply") == "Nobody is waiting for an answer."
    assert ask("reply ten minutes") == "Nobody is waiting for an answer."
    others.asker = others.known[1]
    assert ask("send a reply") == "Go ahead."
    assert ask("reply: ten minutes") == "Said in the bedroom."
    assert (others.recording, others.said) == (["bedroom"], [("ten minutes", "bedroom")])


# -------------------------------------------------------------------------------------------- where


def test_who_is_where_is_told_in_few_words(ask: Ask, others: Neighbours) -> None:
    others.known = [
        Neighbour("kitchen-1", "kitchen", state="speaking", persona="chef"),
        Neighbour("bedroom-1", "bedroom", state="idle", idle_s=30.0, quiet=True),
        Neighbour("bath-1", "bathroom", state="idle", idle_s=3 * 3600.0),
        Neighbour("hall-1", "hall", state="idle"),
        Neighbour("attic-1", "attic", state="idle", idle_s=80 * 3600.0),
        Neighbour("shed-1", "garage", online=False),
    ]
    assert ask("who is where") == (
        "In the kitchen somebody is talking with chef. "
        "Somebody was in the bedroom just now. It is not to be disturbed there. "
        "Somebody spoke in the bathroom three hours ago. "
        "I heard nobody in the hall and the attic. The garage can't be reached now."
    )
    assert ask("what's going on in the kitchen") == "In the kitchen somebody is talking with chef."
    assert ask("is anybody in the garage") == "The garage can't be reached now."


# ------------------------------------------------------------------------------------------- timers


def there(home: Home, room: str, name: str = "", minutes: float = 3, **more: object) -> ElsewhereTimer:
    fields = {"name": name, "seconds": 600, "due": home.clock + timedelta(minutes=minutes), **more}
    return ElsewhereTimer(room, Timer.model_validate(fields))


def test_timers_of_other_rooms_are_told_after_ones_own(ask: Ask, home: Home, others: Neighbours) -> None:
    ask("set a tea timer for five minutes")
    others.ringing = [there(home, "kitchen", "pasta"), there(home, "kitchen", minutes=7, paused_s=120)]
    assert ask("what timers do I have") == (
        "Five minutes left on the tea timer. "
        "And in the kitchen: the pasta timer, three minutes and the ten minute timer, paused with two minutes left."
    )
    assert ask("how long is left on the tea timer") == "Five minutes left on the tea timer."


def test_a_timer_is_found_by_its_name_wherever_it_runs(ask: Ask, home: Home, others: Neighbours) -> None:
    others.ringing = [there(home, "kitchen", "pasta"), there(home, "bedroom", "nap", 20)]
    assert ask("how long is left on the pasta timer") == "In the kitchen: the pasta timer, three minutes."
    assert ask("cancel the pasta timer") == "Pasta timer in the kitchen cancelled."
    assert [each.timer.name for each in others.ringing] == ["nap"]
    assert ask("cancel the egg timer") == "There is no egg timer."


def test_a_timer_without_a_name_is_cancelled_in_no_other_room(ask: Ask, home: Home, others: Neighbours) -> None:
    others.ringing = [there(home, "kitchen", "pasta")]
    assert ask("cancel the timer") == "No timer is running. In the kitchen: the pasta timer, three minutes."
    assert len(others.ringing) == 1


def test_a_timer_of_a_room_that_is_gone_is_not_said_to_be_cancelled(ask: Ask, home: Home, others: Neighbours) -> None:
    others.ringing, others.broken = [there(home, "kitchen", "pasta")], DeviceOffline("off")
    with pytest.raises(ToolError):
        ask("cancel the pasta timer")
    assert len(others.ringing) == 1


def test_reminders_of_other_rooms_are_told_too(ask: Ask, home: Home, others: Neighbours) -> None:
    others.ringing = [there(home, "kitchen", "call mom", 40, kind=TimerKind.REMINDER, seconds=0)]
    assert ask("what are my reminders") == "In the kitchen: call mom at five o'clock this afternoon."
    ask("remind me to feed the cat in ten minutes")
    told = ask("what are my reminders")
    assert told.startswith("You have one reminder: feed the cat")
    assert told.endswith("And in the kitchen: call mom at five o'clock this afternoon.")


def test_a_reminder_whose_text_another_room_keeps_is_told_by_its_time(
    ask: Ask, home: Home, others: Neighbours
) -> None:
    others.ringing = [there(home, "kitchen", minutes=40, kind=TimerKind.REMINDER, seconds=0)]
    assert ask("what are my reminders") == "In the kitchen: a reminder at five o'clock this afternoon."


def test_help_names_what_needs_other_rooms_where_there_are_some(ask: Ask, home: Home) -> None:
    count = len([skill for skill in SKILLS.skills if skill.about])
    apart = len([skill for skill in SKILLS.skills if skill.about and skill.data.get("between_rooms")])
    number = Phrases.load().number
    told = ask("what can you do")
    named = len([skill for skill in SKILLS.skills if skill.about and skill.about in told])
    assert f"and {number(count - named)} things more" in told
    home.house = Home().house
    assert f"and {number(count - apart - named)} things more" in ask("what can you do")


# --------------------------------------------------------------------------------------- a model's tool


def test_a_model_announces_and_is_told_where_it_was_said(run: Run[str], home: Home, others: Neighbours) -> None:
    others.missed = (("bedroom", Code.QUIET),)

    async def announced(**arguments: str) -> str:
        return str((await announce.run(arguments, home)).text)

    assert run(announced(text="Dinner.", room="")) == "said in: kitchen; not in the bedroom (DEVICE_QUIET)"
    assert others.said == [("Dinner.", None)]
    with pytest.raises(ToolError, match="no room called attic"):
        run(announced(text="Dinner.", room="attic"))
    others.broken = HubGone("the hub is off")
    with pytest.raises(ToolError, match="the hub is off"):
        run(announced(text="Dinner.", room="kitchen"))
