"""Quizzes with patient hints, and how sums are worked out in one's head."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter

from roomtone.core.dialog import Noun
from roomtone.mind.skills import Asked, Heard, Offering

ROUND = 10
"""Questions in a quiz."""

TRIES = 2
"""After so many wrong answers to one question the right one is told."""

PLACE = "quiz"
"""What an open quiz is remembered under."""

SUM = re.compile(r"(\d+)([*+])(\d+)")

ALONE = {1: "one", 2: "double", 3: "more", 4: "twice", 5: "half", 6: "more", 9: "less", 10: "ten", 11: "more"}
"""How a number is multiplied by these in one's head; by others it is done in two parts."""


class QuizFile(Noun):
    """Questions of one kind: ``ask`` with what each of the ``answers`` belongs to in the place of ``{of}``."""

    called: tuple[str, ...] = Field(min_length=1)
    ask: str = Field(pattern=r"\{of\}")
    answers: dict[str, str] = Field(min_length=1)


class Quiz(Noun):
    """An open quiz: questions are ``7*8``, ``47+38``, or an answer in the topic's file; ``left`` are to come."""

    topic: str
    table: int | None = None
    now: str = ""
    left: list[str]
    right: int = 0
    count: int = 0
    tries: int = 0


QUIZZES = TypeAdapter(dict[str, QuizFile])


def prepare(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the quizzes. Raises ValidationError for one that is wrong."""
    return {**data, "quizzes": QUIZZES.validate_python(data["quizzes"])}


def accepts(heard: Heard) -> bool:
    """Refuse to spell what is no word."""
    word = heard.match.get("word")
    return word is None or re.fullmatch(r"[^\W\d_]+(['’-][^\W\d_]+)*", str(word)) is not None


Reply = list[str] | Offering


async def answer(asked: Asked) -> Reply:
    """Do what was asked: of the quiz that is open, if it belongs to one."""
    if asked.match.name in EXPLAINS:
        return await EXPLAINS[asked.match.name](asked)
    if asked.match.name == "quiz":
        return await _more(asked)
    kept = await asked.household.remembered(PLACE)
    if kept is None:
        return [asked.say("nothing")]
    quiz = Quiz.model_validate(kept)
    if quiz.topic not in ("tables", "sums", *asked.data["quizzes"]):
        await asked.household.remember(PLACE, None)
        return [asked.say("nothing")]
    return await DO[asked.match.name](asked, quiz)


# ------------------------------------------------------------------------------------------- questions


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a topic."""

    asked: Asked
    topic: str
    text: str

    @property
    def sum(self) -> tuple[int, str, int] | None:
        """Its two numbers and the sign between them, where it is a sum."""
        found = SUM.fullmatch(self.text)
        return (int(found[1]), found[2], int(found[3])) if found else None

    def said(self) -> str:
        """Return the question."""
        number = self.asked.phrases.number
        match self.sum:
            case (m, "*", a):
                return self.asked.say("ask_times", m=number(m), a=number(a))
            case (a, _, b):
                return self.asked.say("ask_plus", a=number(a), b=number(b))
        file = self.asked.data["quizzes"][self.topic]
        return str(file.ask.format(of=file.answers.get(self.text, self.text)))

    def answer(self) -> str:
        """Return what is right, in words."""
        return self.text if self.sum is None else self.asked.phrases.number(self._result)

    @property
    def _result(self) -> int:
        assert self.sum is not None
        one, sign, other = self.sum
        return one * other if sign == "*" else one + other

    def holds(self, given: str) -> bool:
        """Say whether an answer is right."""
        right = self.text if self.sum is None else str(self._result)
        return given.casefold() == right.casefold()

    def hint(self) -> str:
        """Return the first step towards the answer."""
        if self.sum is None:
            return self.asked.say("hint_name", letter=self.text[0])
        one, sign, other = self.sum
        return times(self.asked, "hint", one, other) if sign == "*" else plus(self.asked, one, other)[0]

    def why(self) -> list[str]:
        """Return how the answer is found."""
        if self.sum is None:
            return []
        one, sign, other = self.sum
        return [times(self.asked, "why", one, other) if sign == "*" else plus(self.asked, one, other)[1]]


def times(asked: Asked, key: str, m: int, a: int) -> str:
    """Return a hint how ``m`` times ``a`` is worked out, or (``why``) how it is."""
    first = 10 if m > 10 else 5 if m > 5 else 2
    values = {
        "a": a,
        "p": m * a,
        "tens": 10 * a,
        "half": 2 * a,
        "x": first,
        "y": m - first,
        "xa": first * a,
        "ya": (m - first) * a,
    }
    words = {name: asked.phrases.number(value) for name, value in values.items()}
    return asked.say(f"{key}_{ALONE.get(m, 'split')}", **words)


def plus(asked: Asked, a: int, b: int) -> tuple[str, str]:
    """Return the first step of adding two numbers, and all of it."""
    ones = a % 10 + b % 10
    values = {
        "x": a % 10,
        "y": b % 10,
        "ones": ones,
        "kept": ones % 10,
        "v": a // 10,
        "w": b // 10,
        "tens": a // 10 + b // 10 + ones // 10,
        "sum": a + b,
    }
    words = {name: asked.phrases.number(value) for name, value in values.items()}
    return asked.say("hint_plus", **words), asked.say("why_carry" if ones > 9 else "why_plus", **words)


# ---------------------------------------------------------------------------------------------- a quiz


async def _begin(asked: Asked, topic: str, table: int | None) -> Reply:
    questions = _questions(asked, topic, table)
    quiz = Quiz(topic=topic, table=table, left=asked.random.sample(questions, min(ROUND, len(questions))))
    if table is not None:
        begun = asked.say("begun_table", table=asked.phrases.number(table))
    elif topic in ("tables", "sums"):
        begun = asked.say(f"begun_{topic}")
    else:
        begun = asked.say("begun", topic=asked.data["quizzes"][topic].called[0])
    return await _next(asked, quiz, [begun])


def _questions(asked: Asked, topic: str, table: int | None) -> list[str]:
    if topic == "tables":
        tables = range(2, 11) if table is None else [table]
        return [f"{m}*{a}" for a in tables for m in range(2, 13 if table else 11)]
    if topic == "sums":
        return [f"{a}+{b}" for a in range(11, 70) for b in range(11, 100 - a)]
    return list(asked.data["quizzes"][topic].answers)


async def _next(asked: Asked, quiz: Quiz, said: list[str]) -> Reply:
    """Ask the next question, or tell what came of the quiz."""
    if quiz.left:
        now, *left = quiz.left
        return await _open(asked, quiz.model_copy(update={"now": now, "left": left, "tries": 0}), said)
    await asked.household.remember(PLACE, None)
    return Offering(
        [*said, asked.say("over", score=_score(asked, quiz))], "more", {"topic": quiz.topic, "table": quiz.table}
    )


async def _open(asked: Asked, quiz: Quiz, said: list[str]) -> Reply:
    """Ask the question that is open; who says yes to it has not heard it."""
    await asked.household.remember(PLACE, quiz.model_dump())
    return Offering([*said, Question(asked, quiz.topic, quiz.now).said()], "question")


async def _judge(asked: Asked, quiz: Quiz) -> Reply:
    number = asked.match.get("number")  # of digits hassil makes a float
    given = str(asked.match.get("answer")) if number is None else str(int(number))
    question = Question(asked, quiz.topic, quiz.now)
    if question.holds(given):
        done = quiz.model_copy(update={"right": quiz.right + 1, "count": quiz.count + 1})
        return await _next(asked, done, [asked.say(asked.random.choice(["right", "right_too", "right_again"]))])
    if quiz.tries + 1 < TRIES:
        once = quiz.model_copy(update={"tries": quiz.tries + 1})
        return await _open(asked, once, [asked.say("not_yet"), question.hint()])
    return await _skip(asked, quiz)


async def _skip(asked: Asked, quiz: Quiz) -> Reply:
    """Tell the answer, and how it is found."""
    question = Question(asked, quiz.topic, quiz.now)
    told = [asked.say("answer", answer=question.answer()), *question.why()]
    return await _next(asked, quiz.model_copy(update={"count": quiz.count + 1}), told)


async def _hint(asked: Asked, quiz: Quiz) -> Reply:
    return await _open(asked, quiz, [Question(asked, quiz.topic, quiz.now).hint()])


async def _question(asked: Asked, quiz: Quiz) -> Reply:
    return await _open(asked, quiz, [])


async def _tell_score(asked: Asked, quiz: Quiz) -> Reply:
    return await _open(asked, quiz, [_score(asked, quiz) if quiz.count else asked.say("no_score")])


def _score(asked: Asked, quiz: Quiz) -> str:
    return asked.say("score", right=asked.phrases.number(quiz.right), count=asked.phrases.number(quiz.count))


async def _end(asked: Asked, quiz: Quiz) -> Reply:
    await asked.household.remember(PLACE, None)
    return [asked.say("ended", score=_score(asked, quiz)) if quiz.count else asked.say("ended_early")]


DO: Mapping[str, Callable[[Asked, Quiz], Awaitable[Reply]]] = {
    "number": _judge,
    "name": _judge,
    "skip": _skip,
    "hint": _hint,
    "question": _question,
    "score": _tell_score,
    "end": _end,
}

# ----------------------------------------------------------------------------------------- explaining


async def _more(asked: Asked) -> Reply:
    table = asked.match.get("table")
    return await _begin(asked, asked.match.get("topic", "tables"), None if table is None else int(table))


async def _times(asked: Asked) -> Reply:
    """Explain a product; one that is just being asked gets a hint only."""
    m, a = int(asked.match.get("a")), int(asked.match.get("b"))
    kept = await asked.household.remembered(PLACE)
    if kept is not None and Quiz.model_validate(kept).now in (f"{m}*{a}", f"{a}*{m}"):
        return Offering([asked.say("your_turn", hint=times(asked, "hint", m, a))], "question")
    return [asked.say("product", p=asked.phrases.number(m * a)), times(asked, "why", m, a)]


async def _plus(asked: Asked) -> Reply:
    return [plus(asked, int(asked.match.get("c")), int(asked.match.get("d")))[1]]


async def _carry(asked: Asked) -> Reply:
    return [asked.say("carry")]


async def _spell(asked: Asked) -> Reply:
    word = str(asked.match.get("word"))
    return [asked.say("spelt", word=word, letters=", ".join(letter.upper() for letter in word if letter.isalpha()))]


EXPLAINS: Mapping[str, Callable[[Asked], Awaitable[Reply]]] = {
    "more": _more,
    "times": _times,
    "plus": _plus,
    "carry": _carry,
    "spell": _spell,
}
