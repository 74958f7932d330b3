"""The mind: takes the words of a turn, finds who can answer them, and never leaves them without an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from random import Random

from roomtone.core.dialog import Offer
from roomtone.core.errors import StoreError, ToolError
from roomtone.mind import Answer, Household
from roomtone.mind.knowledge import Notes
from roomtone.mind.own_code import PATIENCE_S
from roomtone.mind.phrases import Phrases, Texts
from roomtone.mind.sentences import Skills
from roomtone.mind.skills import Asked, Match, Offering, Skill

log = logging.getLogger(__name__)

SKILL_BOUND_S = PATIENCE_S
"""A skill that has no answer by then has failed; someone is waiting."""


class Mind:
    """Answers by skills, else out of ``notes``, and says so honestly where neither fits.

    ``everyone`` are the skills that some persona has.
    """

    def __init__(
        self,
        skills: Skills,
        phrases: Phrases,
        random: Random | None = None,
        *,
        everyone: Skills | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._skills = skills
        self._notes = notes
        self._everyone = everyone or skills
        self._phrases = phrases
        self._random = random or Random()
        self._by_name = {skill.name: skill for skill in skills.skills}

    async def answer(self, text: str, household: Household) -> Answer:
        """Answer what was heard ("" where nothing was understood); what was asked for is done on return.

        Raises ToolError, its message in the person's language, where a skill failed.
        """
        if not text.strip():
            return Answer("none", _deltas([self._phrases.say("not_heard")]))
        match = self._skills.recognise(text)
        if match is not None and match.agrees is not None:
            offered = await self._offered_text(match, household)
            if offered:
                return await self.answer(offered, household)
            match = await self._agreed(match, household)
        if match is None:
            return self._without_skill(text, household.persona.name)
        said, offers = await self._ask(match, household)
        return Answer("skill", _deltas(said), match.intent, match.dismisses, match.opening, offers)

    def _without_skill(self, text: str, persona: str) -> Answer:
        """Answer from the persona's own notes, or admit that there is no answer."""
        mine = self._skills.recognise(text) is not None  # a yes, and nothing was asked
        if not mine and self._everyone is not self._skills and self._everyone.recognise(text) is not None:
            return Answer("offline", _deltas([self._phrases.say("not_mine", persona=persona)]))
        found = self._notes.found(text, 1) if self._notes is not None else []
        if found:
            return Answer("notes", _deltas([self._phrases.say("from_notes", passage=found[0].said(text))]))
        return Answer("offline", _deltas([self._phrases.say("beyond_me", persona=persona)]))

    def _words_of(self, skill: Skill) -> Texts:
        """Return a skill's replies; a persona has its own for some of them, as ``timer.set`` among its phrases."""
        mine = f"{skill.name}."
        own = {key.removeprefix(mine): text for key, text in self._phrases.texts.items() if key.startswith(mine)}
        return {**skill.texts, **own} if own else skill.texts

    async def _offered_text(self, match: Match, household: Household) -> str:
        """Return what a yes asks for as if it had been said itself, "" where that was not offered."""
        before = await household.last_turn() if match.agrees else None
        text = before.offers.text if before and before.offers else ""
        return text if text != match.text else ""

    async def _agreed(self, match: Match, household: Household) -> Match | None:
        """Return what a yes asks for, the no itself, or, where nothing was offered, what can be made of the words."""
        before = await household.last_turn()
        offer = before.offers if before else None
        own = self._by_name[match.skill].persona is not None
        if offer is None or (offer.skill not in self._by_name and not offer.text):
            return match if match.backchannel or own else None
        if own and offer.skill == match.skill:
            return match  # who has a "go on" of its own knows what it means
        if not match.agrees or offer.text:
            return match
        return Match(offer.skill, offer.intent, tuple(offer.slots.items()), text=match.text)

    async def _ask(self, match: Match, household: Household) -> tuple[list[str], Offer | None]:
        skill = self._by_name[match.skill]
        phrases = self._phrases.of(self._words_of(skill))
        asked = Asked(match, phrases, skill.data, household, self._skills.skills, self._random)
        try:
            async with asyncio.timeout(SKILL_BOUND_S):
                return _said(skill, await (skill.answer or _reply)(asked))
        except ToolError:
            raise
        except Exception as error:
            log.exception("skill %s failed", match.intent)
            slow, unkept = isinstance(error, TimeoutError), isinstance(error, StoreError)
            told = "skill_slow" if slow else "not_kept" if unkept else "skill_failed"
            raise ToolError(self._phrases.say(told), intent=match.intent, reason=str(error)) from error


def _said(skill: Skill, reply: list[str] | Offering) -> tuple[list[str], Offer | None]:
    """Take apart what a skill returned. Raises TypeError where it is nothing that can be said."""
    sentences = reply.sentences if isinstance(reply, Offering) else reply
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise TypeError(f"{skill.name}: answer must return a list of sentences, not {reply!r:.80}")
    if not isinstance(reply, Offering):
        return sentences, None
    return sentences, Offer(skill=skill.name, intent=reply.intent, slots=dict(reply.slots))


async def _reply(asked: Asked) -> list[str]:
    """Say the reply that is named like the intent: all that a skill without code does."""
    return [asked.say(asked.match.name, persona=asked.household.persona.name)]


async def _deltas(sentences: Iterable[str]) -> AsyncIterator[str]:
    """Yield sentences as the deltas of a text."""
    for place, sentence in enumerate(filter(None, sentences)):
        yield f" {sentence}" if place else sentence
