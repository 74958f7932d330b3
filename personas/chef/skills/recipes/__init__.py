"""Recipes, read one step at a time: what is being cooked, and how far, is known after a power cut."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter

from roomtone.core.dialog import Item, Noun, Timer
from roomtone.mind.moments import after
from roomtone.mind.skills import Asked, Offering

PLACE = "cooking"
"""What the place in a recipe is remembered under: the dish, and the step, -1 before the first."""

SHOPPING = "shopping"


class Step(Noun):
    """What to do, and for how many minutes where a timer makes sense; ``timer`` is its name, else the dish's."""

    do: str = Field(min_length=1)
    minutes: float = Field(0, ge=0, le=24 * 60)
    timer: str = ""


class Recipe(Noun):
    """A dish: ``needs`` are the ingredients with their amounts, "" where none is to be said."""

    called: tuple[str, ...] = Field(min_length=1)
    serves: int = Field(ge=1)
    minutes: int = Field(ge=1)
    needs: dict[str, str]
    steps: tuple[Step, ...] = Field(min_length=1)


RECIPES = TypeAdapter(dict[str, Recipe])


def prepare(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the recipes. Raises ValidationError for one that is wrong."""
    return {**data, "recipes": RECIPES.validate_python(data["recipes"])}


@dataclass(frozen=True, slots=True)
class Cooking:
    """What was asked, the recipe it is about, if any, and the step that was read last."""

    asked: Asked
    dish: str = ""
    step: int = -1

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        found: Recipe = self.asked.data["recipes"][self.dish]
        return found

    def minutes(self, minutes: float) -> str:
        """Say a length of time."""
        return self.asked.phrases.duration(round(minutes * 60))

    async def at(self, step: int) -> Cooking:
        """Go to a step."""
        await self.asked.household.remember(PLACE, {"dish": self.dish, "step": step})
        return Cooking(self.asked, self.dish, step)


Reply = list[str] | Offering


async def answer(asked: Asked) -> Reply:
    """Do what was asked: of the dish that was named, else of the one that is being cooked."""
    if not asked.data["recipes"]:
        return [asked.say("no_dishes")]
    if asked.match.name == "dishes":
        named = [recipe.called[0] for recipe in asked.data["recipes"].values()]
        return [asked.say("dishes", dishes=asked.phrases.joined(named))]
    place = await asked.household.remembered(PLACE) or {}
    dish, step = place.get("dish", ""), place.get("step", -1)
    named = asked.match.get("dish")
    if named is not None:
        dish, step = named, step if named == dish else -1
    if not dish:
        [first, *_] = asked.data["recipes"].values()
        return [asked.say("how_long" if asked.match.name == "time" else "nothing", dish=first.called[0])]
    if dish not in asked.data["recipes"]:
        await asked.household.remember(PLACE, None)
        return [asked.say("gone")]
    return await DO[asked.match.name](Cooking(asked, dish, step))


async def _cook(cooking: Cooking) -> Reply:
    cooking = await cooking.at(-1)
    recipe, asked = cooking.recipe, cooking.asked
    serves = asked.phrases.number(recipe.serves)
    begun = asked.say("begun", dish=recipe.called[0], serves=serves, minutes=cooking.minutes(recipe.minutes))
    return [begun, _needs(cooking), asked.say("ready")]


async def _need(cooking: Cooking) -> Reply:
    if cooking.asked.match.get("dish") is not None:
        cooking = await cooking.at(cooking.step)
    return [_needs(cooking)]


def _needs(cooking: Cooking) -> str:
    asked = cooking.asked
    said = [
        asked.phrases.say("need" if amount else "need_plain", item=item, amount=amount)
        for item, amount in cooking.recipe.needs.items()
    ]
    return asked.say("needs", needs=asked.say("between").join(_small(part) for part in said))


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


async def _amount(cooking: Cooking) -> Reply:
    wanted = str(cooking.asked.match.get("ingredient")).casefold()
    for item, amount in cooking.recipe.needs.items():
        if _same(item) == _same(wanted):
            return [cooking.asked.say("amount" if amount else "need_plain", item=item, amount=amount)]
    return [cooking.asked.say("none_of_it", item=wanted)]


def _same(item: str) -> str:
    return item.casefold().removesuffix("s")


async def _shop(cooking: Cooking) -> Reply:
    asked = cooking.asked
    listed = {
        _same(item.text) for item in await asked.household.items() if item.list == SHOPPING and item.removed is None
    }
    new = [item for item in cooking.recipe.needs if _same(item) not in listed]
    if not new:
        return [asked.say("there")]
    added = asked.household.now()
    await asked.household.save_items([Item(list=SHOPPING, text=item, added=added) for item in new])
    return [asked.say("shopped", items=asked.phrases.joined(new))]


async def _next(cooking: Cooking) -> Reply:
    if cooking.step + 1 < len(cooking.recipe.steps):
        return await _read(await cooking.at(cooking.step + 1))
    await cooking.asked.household.remember(PLACE, None)
    return [cooking.asked.say("finished")]


async def _back(cooking: Cooking) -> Reply:
    if cooking.step <= 0:
        return [cooking.asked.say("first"), *_sentences(await _read(await cooking.at(0)))]
    return await _read(await cooking.at(cooking.step - 1))


def _sentences(reply: Reply) -> list[str]:
    return reply.sentences if isinstance(reply, Offering) else reply


async def _start_over(cooking: Cooking) -> Reply:
    return await _read(await cooking.at(0))


async def _again(cooking: Cooking) -> Reply:
    if cooking.step < 0:
        return [cooking.asked.say("where", dish=cooking.recipe.called[0]), cooking.asked.say("ready")]
    return await _read(cooking)


async def _read(cooking: Cooking) -> Reply:
    """Read the step, and offer a timer for one that takes its time."""
    asked, steps = cooking.asked, cooking.recipe.steps
    number, count = asked.phrases.number(cooking.step + 1), asked.phrases.number(len(steps))
    last = cooking.step == len(steps) - 1 and len(steps) > 1
    step = steps[cooking.step]
    return _offering(cooking, [asked.say("last" if last else "step", number=number, count=count, do=step.do)])


def _offering(cooking: Cooking, said: list[str]) -> Reply:
    minutes = cooking.recipe.steps[cooking.step].minutes
    if not minutes:
        return said
    return Offering([*said, cooking.asked.say("timer", duration=cooking.minutes(minutes))], "time")


async def _takes(cooking: Cooking) -> Reply:
    asked, recipe = cooking.asked, cooking.recipe
    minutes = recipe.steps[cooking.step].minutes if cooking.step >= 0 else 0
    if not minutes:
        return [asked.say("no_time", minutes=cooking.minutes(recipe.minutes))]
    return _offering(cooking, [asked.say("takes", duration=cooking.minutes(minutes))])


async def _time(cooking: Cooking) -> Reply:
    """Set the step's timer."""
    asked = cooking.asked
    step = cooking.recipe.steps[cooking.step] if cooking.step >= 0 else None
    if step is None or not step.minutes:
        return [asked.say("how_long")]
    now, length = asked.household.now(), round(step.minutes * 60)
    name = step.timer or cooking.recipe.called[0]
    await asked.household.save_timers([Timer(name=name, seconds=length, set_at=now, due=after(now, length))])
    return [asked.say("timed", name=name, duration=asked.phrases.duration(length))]


async def _finish(cooking: Cooking) -> Reply:
    await cooking.asked.household.remember(PLACE, None)
    return [cooking.asked.say("stopped")]


DO: Mapping[str, Callable[[Cooking], Awaitable[Reply]]] = {
    "cook": _cook,
    "need": _need,
    "amount": _amount,
    "shop": _shop,
    "next": _next,
    "go_on": _next,
    "back": _back,
    "start_over": _start_over,
    "again": _again,
    "takes": _takes,
    "time": _time,
    "finish": _finish,
}
