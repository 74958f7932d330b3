"""A person speaks, a household answers: every skill, in a household that lives in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from conftest import Run
from home import Home, whole
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import ToolError
from roomtone.mind import Answer
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind

SKILLS = Skills.load()

Ask = Callable[[str], str]


@pytest.fixture
def home() -> Home:
    return Home()


@pytest.fixture
def answer(run: Run[Answer], home: Home) -> Callable[[str], Answer]:
    mind = Mind(SKILLS, Phrases.load())
    return lambda text: run(mind.answer(text, home))


@pytest.fixture
def ask(answer: Callable[[str], Answer], run: Run[str]) -> Ask:
    return lambda text: run(whole(answer(text).deltas))


@pytest.mark.parametrize(
    ("hour", "minute", "said"),
    [
        (16, 20, "It's twenty past four."),
        (0, 0, "It's midnight."),
        (12, 0, "It's noon."),
        (13, 0, "It's one o'clock."),
        (23, 45, "It's quarter to twelve."),
        (11, 35, "It's twenty-five to twelve."),
        (12, 50, "It's ten to one."),
        (0, 30, "It's half past twelve."),
        (9, 7, "It's nine oh seven."),
        (9, 23, "It's nine twenty-three."),
    ],
)
def test_the_time_is_told_as_people_tell_it(ask: Ask, home: Home, hour: int, minute: int, said: str) -> None:
    home.clock = home.clock.replace(hour=hour, minute=minute)
    assert ask("What time is it?") == said


class Ticking(Home):
    """A household whose time does not stand still while a skill thinks."""

    def now(self) -> datetime:
        self.pass_time(milliseconds=1)
        return self.clock


def test_the_last_hour_is_no_longer_than_an_hour_while_time_goes_on(run: Run[str]) -> None:
    home = Ticking()
    home.said_at = [home.clock - timedelta(minutes=30)]

    async def asked() -> str:
        return await whole((await Mind(SKILLS, Phrases.load()).answer("forget the last hour", home)).deltas)

    assert run(asked()) == "Forgotten."


def test_the_date_and_the_day_are_told(ask: Ask) -> None:
    assert ask("what's the date today") == "It's Saturday, the twenty-first of November."
    assert ask("what day is it") == "It's Saturday."
    assert ask("what year is it") == "It's twenty twenty-six."


@pytest.mark.parametrize(
    ("text", "seconds", "name"),
    [
        ("set a pasta timer for nine minutes", 540, "pasta"),
        ("Set a timer for 9 minutes for the eggs, please.", 540, "egg"),
        ("hey, can you set a timer for an hour and a half", 5400, ""),
        ("timer for one minute thirty", 90, ""),
        ("timer for one minute and thirty seconds", 90, ""),
        ("start a timer for half an hour", 1800, ""),
        ("set a two and a half hour timer", 9000, ""),
        ("an hour and twenty minutes", 4800, ""),
        ("set a half hour timer", 1800, ""),
        ("set a timer for 1 hour", 3600, ""),
        ("set a timer for one minute", 60, ""),
        ("set a timer for 1 minute 1 second", 61, ""),
        ("start a 10 minutes timer", 600, ""),
        ("wake me up in three quarters of an hour", 2700, ""),
        ("set a twenty-five minute tea timer", 1500, "tea"),
        ("set a dragon timer for three minutes", 180, "dragon"),
        ("set a timer for 120 minutes", 7200, ""),
        ("set a timer for a minute and a half", 90, ""),
        ("um set a timer for uh ten seconds", 10, ""),
    ],
)
def test_a_timer_runs_as_long_as_was_said(ask: Ask, home: Home, text: str, seconds: int, name: str) -> None:
    ask(text)
    assert [(timer.seconds, timer.name) for timer in home.running] == [(seconds, name)]


def test_a_set_timer_is_acknowledged_with_what_was_understood(ask: Ask) -> None:
    assert ask("set a timer for 90 minutes") == "One hour and thirty minutes, starting now."
    assert ask("pasta timer for nine minutes") == "Pasta timer, nine minutes, starting now."


def test_a_timer_without_a_length_asks_for_one_and_takes_it(ask: Ask, home: Home) -> None:
    assert ask("set a timer") == "For how long?"
    assert home.running == []
    ask("nine minutes")
    assert [timer.seconds for timer in home.running] == [540]


def test_what_is_left_is_told_by_name(ask: Ask, home: Home) -> None:
    ask("set a pasta timer for nine minutes")
    home.pass_time(minutes=4, seconds=30)
    assert ask("how long is left on the pasta timer") == "Four minutes and thirty seconds left on the pasta timer."
    assert ask("how long is left on the tea timer") == "There is no tea timer."


def test_several_timers_are_told_one_by_one_the_next_to_ring_first(ask: Ask) -> None:
    ask("set a timer for an hour")
    ask("set a tea timer for 5 minutes")
    assert ask("what timers do i have") == (
        "You have two timers. Five minutes left on the tea timer. One hour left on your one hour timer."
    )


def test_a_timer_is_cancelled_by_its_name_its_length_or_being_the_only_one(ask: Ask, home: Home) -> None:
    ask("set a pasta timer for nine minutes")
    ask("set a timer for ten minutes")
    assert ask("cancel the pasta timer") == "Pasta timer cancelled."
    ask("set a timer for an hour")
    assert ask("cancel the 10 minute timer") == "Ten minute timer cancelled."
    assert [timer.seconds for timer in home.running] == [3600]
    assert ask("turn off the timer") == "One hour timer cancelled."
    assert ask("cancel the timer") == "No timer is running."


def test_which_of_several_timers_to_cancel_is_asked_not_guessed(ask: Ask, home: Home) -> None:
    ask("set a timer for ten minutes")
    ask("set a timer for an hour")
    told = ask("cancel the timer")
    assert "ten minute" in told
    assert told.endswith("Tell me which one, by its name or its length.")
    assert len(home.running) == 2


def test_all_timers_are_cancelled_at_once(ask: Ask, home: Home) -> None:
    ask("set a timer for ten minutes")
    ask("set a timer for an hour")
    assert ask("cancel all timers") == "Two timers cancelled."
    assert home.running == []


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("louder", 0.6),
        ("turn it up a little", 0.55),
        ("quieter please", 0.4),
        ("much quieter", 0.25),
        ("set the volume to 70 percent", 0.7),
        ("volume 30%", 0.3),
        ("volume seven", 0.7),
        ("turn it up to eight", 0.8),
        ("set the volume to twenty five", 0.25),
        ("volume three out of ten", 0.3),
        ("maximum volume", 1.0),
        ("volume a hundred percent", 1.0),
    ],
)
def test_the_volume_follows(ask: Ask, home: Home, text: str, volume: float) -> None:
    ask(text)
    assert home.loudness == pytest.approx(volume)


def test_the_volume_stays_within_what_can_be_heard(ask: Ask, home: Home) -> None:
    home.loudness = 1.0
    assert ask("louder") == "That's as loud as I go."
    home.loudness = 0.05
    assert ask("quieter") == "That's as quiet as I go."
    assert home.loudness == 0.05
    assert ask("what's the volume") == "Volume five percent."


@pytest.mark.parametrize(
    "text", ["stop", "Be quiet!", "never mind", "hold on", "wait", "cancel that", "that's enough"]
)
def test_who_wants_silence_gets_it(answer: Callable[[str], Answer], text: str) -> None:
    assert answer(text).dismisses


def test_other_answers_do_not_dismiss(answer: Callable[[str], Answer]) -> None:
    assert not answer("what time is it").dismisses
    assert not answer("stop the timer").dismisses


def test_an_answer_is_said_again_and_its_question_told(ask: Ask, home: Home) -> None:
    assert ask("say that again") == "I haven't said anything yet."
    assert ask("what did you hear") == "I haven't heard anything yet."
    home.last = turn(heard="What time is it?", said="It's noon.")
    assert ask("say that again") == "It's noon."
    assert ask("what did you hear") == "I heard: What time is it."


def test_help_names_some_skills_and_counts_the_rest(ask: Ask) -> None:
    told = ask("what can you do?")
    alone = [skill for skill in SKILLS.skills if skill.about and not skill.data.get("between_rooms")]
    named = [skill for skill in alone if skill.about in told]
    more = len(alone) - len(named)
    assert len(named) >= 5
    assert f"and {Phrases.load().number(more)} things more" in told
    assert sum(bool(skill.about) for skill in SKILLS.skills) >= 4


def test_greetings_are_returned(ask: Ask) -> None:
    assert ask("good morning") == "Hello."
    assert ask("thank you") == "You're welcome."
    assert ask("goodnight") == "Good night. Sleep well."
    assert ask("how are you") == "I'm well, thank you."
    assert ask("who are you") == "I'm Companion."


def test_a_sign_of_listening_is_answered_by_nothing(answer: Callable[[str], Answer], run: Run[str]) -> None:
    heard = answer("mhm")
    assert heard.intent == "backchannel.nod"
    assert run(whole(heard.deltas)) == ""


def test_an_answer_records_who_gave_it(answer: Callable[[str], Answer]) -> None:
    assert (answer("set a timer for a minute").answered_by, answer("set a timer for a minute").intent) == (
        "skill",
        "timer.set",
    )
    assert answer("").answered_by == "none"
    assert answer("who won the world cup in nineteen seventy four").answered_by == "offline"


def test_what_cannot_be_answered_is_said_honestly(ask: Ask) -> None:
    assert ask("") == "I didn't catch that."
    assert "can't help with that" in ask("who won the world cup in nineteen seventy four")


def test_a_skill_that_fails_leaves_a_sentence_to_say(ask: Ask, home: Home) -> None:
    home.disk_full = True
    with pytest.raises(ToolError) as failed:
        ask("set a timer for nine minutes")
    assert failed.value.message == "Sorry, I couldn't do that."
    assert failed.value.details["intent"] == "timer.set"


def test_a_receipt_that_is_not_whole_is_not_told(ask: Ask, home: Home) -> None:
    home.disk_full = True
    assert ask("what did you send out today") == "I can't say: my disk takes no more, so the receipt is not whole."


def test_sentences_of_an_answer_come_one_by_one(answer: Callable[[str], Answer], run: Run[list[str]]) -> None:
    async def deltas() -> list[str]:
        return [delta async for delta in answering]

    answering = answer("what can you do").deltas
    assert len(run(deltas())) > 1


def turn(heard: str, said: str) -> Turn:
    return Turn(
        turn=1,
        trace="t",
        session="s",
        room="kitchen",
        persona="companion",
        source=Source.VOICE,
        heard=heard,
        said=said,
    )
