"""Shopping, to-do and other lists. Nothing is lost by a wrong word: what was removed last can be put back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from roomtone.core.dialog import Item
from roomtone.mind.skills import Asked, Heard, Offering

BATCH = 8
"""As many lines are read at once; of a longer list it is asked whether to go on."""

LONGEST_ALONE = 6
"""Words of an item where no list is named."""

LONGEST = 200
"""Characters of a line."""


LONGEST_NAME = 4
"""Words in the name of a list."""


def accepts(heard: Heard) -> bool:
    """Refuse a list's name that holds a part of the sentence, and what is "added" to no list and is no item."""
    match, data = heard.match, heard.data
    name = str(match.get("list") or "").casefold().split()
    if len(name) > LONGEST_NAME or set(name) & set(data["not_in_names"]):
        return False
    if match.name == "add" and str(match.get("item") or "").casefold().endswith(data["undone"]):
        return False
    alone = str(match.get("lone") or "").casefold().split()
    return len(alone) <= LONGEST_ALONE and not set(alone) & set(data["not_alone"])


async def answer(asked: Asked) -> list[str] | Offering:
    """Do with the household's lists what was asked."""
    name = str(asked.match.get("list") or asked.data["default"]).casefold()
    kept = await asked.household.items()
    return await _DO[asked.match.name](Lists(asked, name, kept))


@dataclass(frozen=True, slots=True)
class Lists:
    """The list that is meant, and the lines ``kept`` of every list."""

    asked: Asked
    name: str
    kept: list[Item]

    @property
    def items(self) -> list[Item]:
        """Return what is on the list."""
        return [item for item in self.kept if item.list == self.name and item.removed is None]

    @property
    def removed(self) -> list[Item]:
        """Return what was removed last."""
        return [item for item in self.kept if item.list == self.name and item.removed is not None]

    def say(self, key: str, items: list[Item] | list[str] | None = None, **values: object) -> str:
        """Say a reply about this list and some of its lines."""
        texts = [item.text if isinstance(item, Item) else item for item in items or []]
        joined = self.asked.phrases.joined(texts) if texts else ""
        return self.asked.say(key, list=self.name, items=joined, **values)

    def number(self, number: int) -> str:
        """Return a number in words."""
        return self.asked.phrases.number(number)

    def named(self) -> list[str]:
        """Return the lines that the text names: "milk, eggs and bread" are three."""
        said = self.asked.match.written("item") or self.asked.match.written("lone")
        return lines(said, self.asked.data, whole=self.name in self.asked.data["whole"])

    def find(self, text: str) -> Item | None:
        """Return the line of the list that a text names, in singular or plural."""
        return next((item for item in self.items if _same(item.text) == _same(text)), None)

    async def remove(self, items: list[Item]) -> None:
        """Take lines off the list, so that they can be put back."""
        removed = self.asked.household.now()
        await self.asked.household.save_items([item.model_copy(update={"removed": removed}) for item in items])


def lines(text: str, data: Mapping[str, Any], *, whole: bool = False) -> list[str]:
    """Cut what was said into lines of a list: at commas and at the last "and", unless they are one dish."""
    parts = re.split(r"\s*[,;]\s*(?:and\s+)?|\s*\n\s*", text.strip(" .!?,"))
    if not whole:
        parts = [line for part in parts for line in _apart(part, data["together"])]
    cleaned = (_cleaned(part, () if whole else data["leave_off"], data["keep_before"]) for part in parts)
    return list(dict.fromkeys(line for line in cleaned if line and line.casefold() not in data["no_item"]))


def _apart(part: str, together: list[str]) -> list[str]:
    for dish in together:
        if dish in part.casefold():
            before, _, after = part.casefold().partition(dish)
            return [
                *_apart(re.sub(r"\s+and\s*$", "", before), []),
                dish,
                *_apart(re.sub(r"^\s*and\s+", "", after), []),
            ]
    return re.split(r"\s+and\s+", part, flags=re.IGNORECASE)


def _cleaned(line: str, leave_off: list[str] | tuple[()], keep_before: list[str]) -> str:
    words = line.split()
    while len(words) > 1 and words[0].casefold() in leave_off and words[1].casefold() not in keep_before:
        words = words[1:]
    return " ".join(words)


def _same(text: str) -> str:
    return re.sub(r"s\b", "", " ".join(text.casefold().split()))


async def _add(lists: Lists) -> list[str]:
    named = lists.named()
    if not named:
        return [lists.say("nothing_to_add")]
    if any(len(line) > LONGEST for line in named):
        return [lists.say("too_long")]
    there = [item for line in named if (item := lists.find(line))]
    new = [line for line in named if not lists.find(line)]
    if new:
        added = lists.asked.household.now()
        await lists.asked.household.save_items([Item(list=lists.name, text=line, added=added) for line in new])
    return [lists.say(key, items) for key, items in (("added", new), ("there", there)) if items]


async def _read(lists: Lists) -> list[str] | Offering:
    items = lists.items
    after = int(lists.asked.match.get("after", 0))
    batch, left = items[after : after + BATCH], len(items) - after - BATCH
    if not batch:
        return [lists.say("empty")]
    if left <= 0:
        return [lists.say("rest" if after else "read", batch)]
    key = "next" if after else "start"
    some = lists.asked.phrases.language.numbers.between.join(item.text for item in batch)
    read = lists.say(key, [some], count=lists.number(len(items)), left=lists.number(left))
    return Offering([read], "read", {"list": lists.name, "after": after + BATCH})


async def _has(lists: Lists) -> list[str]:
    found = [(line, lists.find(line)) for line in lists.named()]
    told = [lists.say("on_it", item=item.text) if item else lists.say("not_on_it", item=line) for line, item in found]
    return told or [lists.say("which_item")]


async def _count(lists: Lists) -> list[str]:
    items = lists.items
    key = "counted" if len(items) > 1 else "counted_one" if items else "empty"
    return [lists.say(key, items[:1], count=lists.number(len(items)))]


async def _remove(lists: Lists) -> list[str]:
    named = lists.named()
    if not named:
        return [lists.say("which_item")]
    found = [item for line in named if (item := lists.find(line))]
    missing = [line for line in named if not lists.find(line)]
    if found:
        await lists.remove(found)
    return [lists.say(key, items) for key, items in (("removed", found), ("not_there", missing)) if items]


async def _clear(lists: Lists) -> list[str]:
    items = lists.items
    if not items:
        return [lists.say("empty")]
    await lists.remove(items)
    return [lists.say("cleared" if len(items) > 1 else "cleared_one", items[:1], count=lists.number(len(items)))]


async def _restore(lists: Lists) -> list[str]:
    removed = lists.removed
    if not removed:
        return [lists.say("nothing_to_undo")]
    await lists.asked.household.save_items([item.model_copy(update={"removed": None}) for item in removed])
    many = len(removed) > BATCH
    return [lists.say("restored_many" if many else "restored", removed, count=lists.number(len(removed)))]


async def _undo(lists: Lists) -> list[str]:
    """Take back the last change, where it is this that was just spoken of."""
    before = await lists.asked.household.last_turn()
    changed = "" if before is None else str(before.intent)
    newest = max(lists.kept, key=lambda item: item.removed or item.added, default=None)
    if newest is None or not (changed == "lists.add" or (newest.removed and changed.startswith("lists."))):
        return [lists.say("nothing_to_undo")]
    lists = Lists(lists.asked, newest.list, lists.kept)
    if newest.removed:
        return await _restore(lists)
    added = [item for item in lists.items if item.added == newest.added]
    await lists.remove(added)
    return [lists.say("taken_back", added)]


async def _create(lists: Lists) -> list[str]:
    """Tell how a list comes to be: by what is put on it."""
    many = len(lists.items)
    count = lists.say("line" if many == 1 else "lines", count=lists.number(many))
    return [lists.say("exists", count=_small(count)) if many else lists.say("created")]


async def _names(lists: Lists) -> list[str]:
    there = sorted(item.list for item in lists.kept if item.removed is None)
    counts = [(name, len(list(items))) for name, items in groupby(there)]
    if not counts:
        return [lists.say("no_lists")]
    named = [
        lists.asked.say("one_name" if count > 1 else "one_name_one", list=name, count=lists.number(count))
        for name, count in counts
    ]
    return [lists.asked.say("names", lists=lists.asked.phrases.joined([_small(name) for name in named]))]


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


_DO: dict[str, Callable[[Lists], Awaitable[list[str] | Offering]]] = {
    "add": _add,
    "read": _read,
    "has": _has,
    "count": _count,
    "remove": _remove,
    "clear": _clear,
    "restore": _restore,
    "undo": _undo,
    "names": _names,
    "create": _create,
}
