"""The mind: takes the words of a turn, finds who can answer them, and never leaves them without an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from random import Random

from roomtone.core.dialog import Offer, Turn
from roomtone.core.errors import RoomtoneError, StoreError, ToolError
from roomtone.mind import Answer, Household
from roomtone.mind.knowledge import Notes
from roomtone.mind.own_code import PATIENCE_S
from roomtone.mind.phrases import Phrases, Texts
from roomtone.mind.sentences import Skills
from roomtone.mind.skills import Asked, Match, Offering, Skill
from roomtone.mind.talking import Known, Scope, Talking

log = logging.getLogger(__name__)

SKILL_BOUND_S = PATIENCE_S
"""A skill that has no answer by then has failed; someone is waiting."""


ANSWERED_WITHIN = timedelta(minutes=2)
"""So long a yes is one to what was asked before a tool is used: that cannot be undone."""


class Mind:
    """Answers by skills, else by ``talking`` with a language model; without one out of ``notes``, and says so
    honestly where nothing fits.

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
        talking: Talking | None = None,
    ) -> None:
        self.talking = talking
        self._skills = skills
        self._notes = notes
        self._everyone = everyone or skills
        self._phrases = phrases
        self._random = random or Random()
        self._by_name = {skill.name: skill for skill in skills.skills}

    async def answer(self, text: str, household: Household, scope: Scope | None = None) -> Answer:
        """Answer what was heard ("" where nothing was understood); what a skill was asked for is done on return.

        What is remembered is looked up while the intent is found. Without a ``scope`` no model is asked. Raises
        ToolError, its message in the person's language, where a skill failed.
        """
        if not text.strip():
            return Answer("none", _deltas([self._phrases.say("not_heard")]))
        match, known = await self._recognised(text, household, scope)
        if match is not None and match.agrees is not None:
            before = await household.last_turn()
            offer = before.offers if before and match.agrees else None
            late = before is not None and _is_over(before, household.now())
            if offer is not None and offer.tool and not late and scope is not None and self.talking is not None:
                return await self.talking.go_on_with(text, offer, household, scope)
            if offer is not None and offer.text and offer.text != match.text:
                return await self.answer(offer.text, household, scope)
            models = late or (before is not None and _asked_by_a_model(before))
            match = None if models else await self._agreed(match, household)
        if match is None and self.talking is not None and scope is not None and self.talking.can_answer:
            known = known or await self.talking.know(text, household)
            return await self.talking.answer(text, household, scope, known)
        if match is None:
            return self._without_skill(text, household.persona.name)
        return await self._ask(match, household)

    async def go_on(self, rest: str, household: Household, scope: Scope) -> Answer:
        """Say the rest of the last answer, and what a model adds to it: it was moved here before it was whole.

        Where no model can be asked, it ends with the rest. Raises StoreError.
        """
        before = await household.last_turn()
        if before is None or self.talking is None or not self.talking.can_answer:
            return Answer("none", _deltas([rest]))
        return await self.talking.go_on_from(before, rest, household, scope)

    async def draft(self, text: str, household: Household, scope: Scope) -> Answer | None:
        """Begin to answer what may not be all yet; None where that is a skill's, which waits until it is certain."""
        if self.talking is None or not text.strip() or not self.talking.can_answer:
            return None
        match, known = await self._recognised(text, household, scope)
        if match is not None or known is None:
            return None
        return await self.talking.answer(text, household, scope, known)

    async def _recognised(
        self, text: str, household: Household, scope: Scope | None
    ) -> tuple[Match | None, Known | None]:
        """Return the intent of a text, and where there is none, what belongs to it: looked for side by side."""
        if self.talking is None or scope is None:
            return self._skills.recognise(text), None
        knowing = scope.group.create_task(self.talking.know(text, household), name="recall")
        await asyncio.sleep(0)  # the store's thread is at work while this one recognises
        match = self._skills.recognise(text)
        if match is not None:
            knowing.cancel()
            return match, None
        with scope.waiting():
            return None, await knowing

    def _without_skill(self, text: str, persona: str) -> Answer:
        """Answer from the persona's own notes, or admit that there is no answer."""
        mine = self._skills.recognise(text) is not None  # a yes, and nothing was asked
        if not mine and self._everyone is not self._skills and self._everyone.recognise(text) is not None:
            return Answer("offline", _deltas([self._phrases.say("not_mine", persona=persona)]))
        found = self._notes.found(text, 1) if self._notes is not None else []
        if found:
            return Answer("notes", _deltas([self._phrases.say("from_notes", passage=found[0].said(text))]))
        kept_in = not mine and self.talking is not None and not self.talking.can_answer
        told = "model_forbidden" if kept_in else "beyond_me"
        return Answer("offline", _deltas([self._phrases.say(told, persona=persona)]))

    def _words_of(self, skill: Skill) -> Texts:
        """Return a skill's replies; a persona has its own for some of them, as ``timer.set`` among its phrases."""
        mine = f"{skill.name}."
        own = {key.removeprefix(mine): text for key, text in self._phrases.texts.items() if key.startswith(mine)}
        return {**skill.texts, **own} if own else skill.texts

    async def _agreed(self, match: Match, household: Household) -> Match | None:
        """Return what a yes asks for, the no itself, or, where nothing was offered, what can be made of the words."""
        before = await household.last_turn()
        offer = before.offers if before else None
        own = self._by_name[match.skill].persona is not None
        if offer is None or (offer.skill not in self._by_name and not offer.text and not offer.tool):
            return match if match.backchannel or own else None
        if own and offer.skill == match.skill:
            return match  # who has a "go on" of its own knows what it means
        if not match.agrees or offer.text or offer.tool:
            return match
        return Match(offer.skill, offer.intent, tuple(offer.slots.items()), text=match.text)

    async def _ask(self, match: Match, household: Household) -> Answer:
        skill = self._by_name[match.skill]
        phrases = self._phrases.of(self._words_of(skill))
        asked = Asked(match, phrases, skill.data, household, self._skills.skills, self._random)
        try:
            async with asyncio.timeout(SKILL_BOUND_S):
                reply = await (skill.answer or _reply)(asked)
            if isinstance(reply, Answer):
                return reply
            said, offers = _said(skill, reply)
            return Answer("skill", _deltas(said), match.intent, match.dismisses, match.opening, offers)
        except ToolError:
            raise
        except Exception as error:
            if isinstance(error, RoomtoneError):
                log.error("skill %s failed: %s", match.intent, error.message)
            else:
                log.exception("skill %s failed", match.intent)
            slow, unkept = isinstance(error, TimeoutError), isinstance(error, StoreError)
            told = "skill_slow" if slow else "not_kept" if unkept else "skill_failed"
            raise ToolError(self._phrases.say(told), intent=match.intent, reason=str(error)) from error


def _asked_by_a_model(before: Turn) -> bool:
    """Say whether a yes or a no is an answer to a model's question, which nobody but the model can make use of."""
    return before.offers is None and before.answered_by.startswith("llm:") and before.said.rstrip().endswith("?")


def _is_over(before: Turn, now: datetime) -> bool:
    """Say whether it was so long ago that a tool's use was offered that a yes can hardly mean it."""
    return before.offers is not None and bool(before.offers.tool) and now - before.at > ANSWERED_WITHIN


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
