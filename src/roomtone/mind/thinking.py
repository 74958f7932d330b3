"""The mind: takes the words of a turn, finds who can answer them, and never leaves them without an answer."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable

from roomtone.core.errors import ToolError
from roomtone.mind import Answer, Household
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.skills import Asked, Match

log = logging.getLogger(__name__)


class Mind:
    """Answers by skills, and says so honestly where none fits."""

    def __init__(self, skills: Skills, phrases: Phrases) -> None:
        self._skills = skills
        self._phrases = phrases
        self._by_name = {skill.name: skill for skill in skills.skills}

    async def answer(self, text: str, household: Household) -> Answer:
        """Answer what was heard ("" where nothing was understood); what was asked for is done on return.

        Raises ToolError, its message in the person's language, where a skill failed.
        """
        if not text.strip():
            return Answer("none", _deltas([self._phrases.say("not_heard")]))
        match = self._skills.recognise(text)
        if match is None:
            return Answer("offline", _deltas([self._phrases.say("beyond_me")]))
        said = await self._ask(match, household)
        return Answer("skill", _deltas(said), match.intent, match.dismisses, match.opening)

    async def _ask(self, match: Match, household: Household) -> list[str]:
        skill = self._by_name[match.skill]
        asked = Asked(match, household, self._phrases.of(skill.texts), self._skills.skills)
        try:
            return await (skill.answer or _reply)(asked)
        except ToolError:
            raise
        except Exception as error:
            log.exception("skill %s failed", match.intent)
            raise ToolError(self._phrases.say("skill_failed"), intent=match.intent, reason=str(error)) from error


async def _reply(asked: Asked) -> list[str]:
    """Say the reply that is named like the intent: all that a skill without code does."""
    return [asked.say(asked.match.name, persona=asked.household.persona.name)]


async def _deltas(sentences: Iterable[str]) -> AsyncIterator[str]:
    """Yield sentences as the deltas of a text."""
    for place, sentence in enumerate(filter(None, sentences)):
        yield f" {sentence}" if place else sentence
