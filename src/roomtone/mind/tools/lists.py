"""The household's lists. What was taken off can be put back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from roomtone.core.dialog import Item, Noun
from roomtone.core.errors import ToolError
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.tools.built_in import built_in

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
ListName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=40)]


class Lines(Noun):
    """Lines of a list."""

    items: tuple[Line, ...] = Field(min_length=1, max_length=50)
    list: ListName = Field("shopping", min_length=1, description="shopping unless named")


class ListOf(Noun):
    """A list, or all of them."""

    list: ListName = Field("", description="all unless named")


@built_in("lists.add", "Put on a list", Lines, changes=True)
async def add(wanted: Lines, house: Household) -> Result:
    """Put on a list what is not on it yet."""
    name = wanted.list.casefold()
    there = {item.text.casefold() for item in await _items(house, name)}
    new = [text for text in dict.fromkeys(wanted.items) if text.casefold() not in there]
    if not new:
        return Result(f"already on the {name} list")
    added = house.now()
    await house.save_items([Item(list=name, text=text, added=added) for text in new])
    return Result(f"added to the {name} list: {', '.join(new)}", undo=("lists.remove", {"items": new, "list": name}))


@built_in("lists.remove", "Take off a list", Lines, changes=True)
async def remove(wanted: Lines, house: Household) -> Result:
    """Take off a list what is on it."""
    name, texts = wanted.list.casefold(), {text.casefold() for text in wanted.items}
    there = await _items(house, name)
    found = [item for item in there if item.text.casefold() in texts]
    if not found:
        raise ToolError(f"not on the {name} list; on it: {', '.join(item.text for item in there) or 'nothing'}")
    removed = house.now()
    await house.save_items([item.model_copy(update={"removed": removed}) for item in found])
    gone = [item.text for item in found]
    return Result(f"off the {name} list: {', '.join(gone)}", undo=("lists.add", {"items": gone, "list": name}))


@built_in("lists.read", "What is on the lists", ListOf)
async def read(wanted: ListOf, house: Household) -> Result:
    """Tell what is on a list, or on all of them."""
    items = await _items(house, wanted.list.casefold())
    names = dict.fromkeys(item.list for item in items)
    told = [f"{name}: {', '.join(item.text for item in items if item.list == name)}" for name in names]
    return Result("\n".join(told) or f"nothing is on {'that list' if wanted.list else 'any list'}")


async def _items(house: Household, name: str) -> list[Item]:
    return [item for item in await house.items() if item.removed is None and name in ("", item.list.casefold())]


TOOLS = (add, remove, read)
