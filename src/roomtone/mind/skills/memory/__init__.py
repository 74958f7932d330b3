"""Remember what the household tells, say what is known, and forget it again: several things only after a yes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from roomtone.mind.memory import Fact, Level
from roomtone.mind.skills import Asked, Heard, Offering

READ = 4
"""Facts that are read out at once."""

ALL = 1000
"""Facts that are counted, and forgotten together; nobody has told more than that aloud."""

LONGEST = 500
"""Characters of a fact that is told aloud: half a minute."""


def accepts(heard: Heard) -> bool:
    """Refuse what is no fact: something to be done, a question, a text that tells nothing, something else's name."""
    match, data = heard.match, heard.data
    words = re.findall(r"[\w']+", str(match.get("text") or "").lower().replace("\u2019", "'"))
    if match.name == "name":
        name = str(match.get("name"))
        return heard.phrases.is_name(name) and not set(name.lower().split()) & set(data["not_names"])
    if match.name == "about" and "you know about" in match.text.lower():
        return bool(words) and words[0] in data["mine"]
    if match.name == "forget":
        return bool(words) and words[-1] not in data["not_facts"]
    if match.name in ("keep", "keep_all"):
        announced = re.search(r"\b(that|this)\b", match.text.lower().partition(words[0])[0]) if words else None
        tells = announced is not None or bool(set(words[1:]) & set(data["verbs"]))
        return len(words) > 1 and words[0] not in data["not_known"] and tells
    return True


async def answer(asked: Asked) -> list[str] | Offering:
    """Do with the household's memory what was asked."""
    return await _DO[asked.match.name](asked)


async def _keep(asked: Asked) -> list[str]:
    everyones = asked.match.name == "keep_all"
    text = _sentence(asked.match.written("text"))
    if len(text) > LONGEST:
        return [asked.say("too_long")]
    persona = None if everyones else asked.household.persona.id
    kept = await asked.household.memory.keep(Fact(text=text, persona=persona, at=asked.household.now()))
    return [asked.say(asked.match.name, fact=_turned(asked, kept))]


async def _prefer(asked: Asked) -> list[str]:
    wanted = str(asked.match.get("preference"))
    kinds = asked.data["preferences"]
    kind = next(kind for kind, choices in kinds.items() if wanted in choices)
    of_the_house = kind in asked.data["of_the_house"]
    return await _likes(asked, kinds[kind][wanted], set(kinds[kind].values()), of_the_house=of_the_house)


async def _name(asked: Asked) -> list[str]:
    name = asked.match.written("name")
    before = {fact.text for fact in await _preferences(asked) if fact.text.startswith(_called(asked, ""))}
    return await _likes(asked, _called(asked, name[:1].upper() + name[1:]), before, of_the_house=True)


async def _who(asked: Asked) -> list[str]:
    told = [fact for fact in await _preferences(asked) if fact.text.startswith(_called(asked, ""))]
    return [asked.say("called", fact=_turned(asked, told[0])) if told else asked.say("not_called")]


def _called(asked: Asked, name: str) -> str:
    return str(asked.data["called"]).format(name=name)


async def _likes(asked: Asked, text: str, instead_of: set[str], *, of_the_house: bool) -> list[str]:
    """Keep what somebody likes; what they liked instead before is forgotten."""
    memory, persona = asked.household.memory, None if of_the_house else asked.household.persona.id
    fact = Fact(level=Level.PREFERENCE, text=text, persona=persona, at=asked.household.now())
    before = [each for each in await _preferences(asked) if each.text in instead_of and each.persona == persona]
    kept = await memory.keep(fact)
    await memory.forget([each.id for each in before if each.id != kept.id])
    return [asked.say("keep", fact=_turned(asked, kept))]


async def _preferences(asked: Asked) -> list[Fact]:
    return await asked.household.memory.preferences(asked.household.persona.id)


async def _know(asked: Asked) -> list[str]:
    known = await _facts(asked)
    if not known:
        return [asked.say("nothing_known")]
    key = "one" if len(known) == 1 else "several" if len(known) <= READ else "newest"
    return [asked.say(key, count=asked.phrases.number(len(known)), facts=_listed(asked, known))]


async def _about(asked: Asked) -> list[str]:
    found = await _facts(asked, asked.match.written("text"))
    if not found:
        return [asked.say("nothing_about")]
    key = "about" if len(found) <= READ else "about_more"
    return [asked.say(key, count=asked.phrases.number(len(found)), facts=_listed(asked, found))]


async def _forget(asked: Asked) -> list[str] | Offering:
    """Forget at once what only one fact can be; of several it is asked once more."""
    agreed = asked.match.get("ids")
    if agreed is not None:
        return await _gone(asked, agreed)
    text = asked.match.written("text")
    found = await _facts(asked, text)
    exact = [fact for fact in found if _plain(fact.text) == _plain(text)]
    if not found:
        return [asked.say("nothing_to_forget")]
    if exact or len(found) == 1:
        return await _gone(asked, [fact.id for fact in exact or found])
    key = "sure" if len(found) <= READ else "sure_more"
    question = asked.say(key, count=asked.phrases.number(len(found)), facts=_listed(asked, found))
    return Offering([question], "forget", {"ids": [fact.id for fact in found]})


async def _forget_it(asked: Asked) -> list[str]:
    """Forget what was told just now, where it was this that was spoken of."""
    before = await asked.household.last_turn()
    told = before is not None and before.intent in {f"{asked.match.skill}.{name}" for name in _TELLING}
    newest = (await _facts(asked))[:1] if told else []
    return await _gone(asked, [fact.id for fact in newest]) if newest else [asked.say("what")]


async def _forget_all(asked: Asked) -> list[str] | Offering:
    agreed = asked.match.get("ids")
    if agreed is not None:
        return await _gone(asked, agreed)
    known = await _facts(asked)
    if not known:
        return [asked.say("nothing_known")]
    count = asked.say("thing" if len(known) == 1 else "things", count=asked.phrases.number(len(known))).lower()
    return Offering([asked.say("sure_all", count=count)], "forget_all", {"ids": [fact.id for fact in known]})


async def _gone(asked: Asked, ids: Sequence[str]) -> list[str]:
    """Forget facts, and say which."""
    gone = await asked.household.memory.forget(ids)
    if not gone:
        return [asked.say("nothing_to_forget")]
    if len(gone) > READ:
        return [asked.say("forgotten_many", count=asked.phrases.number(len(gone)))]
    return [asked.say("forgotten", facts=_listed(asked, gone))]


async def _facts(asked: Asked, text: str = "") -> list[Fact]:
    """Return what the persona may know, what conversations were about left out."""
    found = await asked.household.memory.facts(asked.household.persona.id, text, ALL)
    return [fact for fact in found if fact.level is not Level.SUMMARY]


def _listed(asked: Asked, facts: Sequence[Fact]) -> str:
    return asked.phrases.joined([_turned(asked, fact) for fact in facts[:READ]])


def _turned(asked: Asked, fact: Fact) -> str:
    """Return a fact as it is said to the person who told it."""
    return asked.phrases.turned(_sentence(fact.text))


def _sentence(text: str) -> str:
    return " ".join(text.split()).strip(" .,;:!?")


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


_TELLING = ("keep", "keep_all", "prefer", "name")

_DO: dict[str, Callable[[Asked], Awaitable[list[str] | Offering]]] = {
    "keep": _keep,
    "keep_all": _keep,
    "prefer": _prefer,
    "name": _name,
    "called": _who,
    "know": _know,
    "about": _about,
    "forget": _forget,
    "forget_it": _forget_it,
    "forget_all": _forget_all,
}
