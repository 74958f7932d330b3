"""What was said before a turn: found behind it in the graph, quickly, and summed up while nobody speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from roomtone.core.dialog import Message, Role, Session
from roomtone.core.persona import Context, Egress, Persona
from roomtone.past import heard_by, past
from roomtone.store import FILE_NAME, Store, open_store

ANNA, ROOM = Role.PERSON, Role.ROOMTONE
SESSION = Session(id="s", room="kitchen", persona="companion")


def message(id_: str, role: Role = ANNA, persona: str = "companion", session: str = "s", **data: Any) -> Message:
    return Message(id=id_, session=session, role=role, text=f"text of {id_}", persona=persona, data=data)


@asynccontextmanager
async def conversation(folder: Path, *said: tuple[Message, tuple[str, ...]]) -> AsyncIterator[Store]:
    async with open_store(folder / FILE_NAME) as store:
        await store.save_session(SESSION)
        for each, parents in said:
            await store.add_message(each, parents)
        yield store


def talk(turns: int) -> list[tuple[Message, tuple[str, ...]]]:
    """Return a conversation of so many turns: q0, a0, q1, a1 ..."""
    names = [f"{kind}{turn}" for turn in range(turns) for kind in "qa"]
    before: list[tuple[str, ...]] = [(), *((name,) for name in names)]
    return [
        (message(name, ANNA if name[0] == "q" else ROOM), parents)
        for name, parents in zip(names, before, strict=False)
    ]


async def told(store: Store, *tips: str, **more: Any) -> list[str]:
    return [each.id for each in (await past(store, tips, **more)).messages]


def test_the_last_messages_before_a_turn_are_found_in_order(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with conversation(tmp_path, *talk(30)) as store:
            assert await told(store, "a29", limit=5) == ["a27", "q28", "a28", "q29", "a29"]
            assert await told(store, "a1") == ["q0", "a0", "q1", "a1"], "what came later is not before it"
            assert await told(store) == []
            assert await told(store, "gone") == []

    run(scenario())


def test_what_meets_again_is_told_once_and_both_branches_are_told(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        fork = [(message("q"), ()), (message("left", ROOM), ("q",)), (message("right"), ("q",))]
        async with conversation(tmp_path, *fork, (message("end", ROOM), ("left", "right"))) as store:
            assert await told(store, "end") == ["q", "left", "right", "end"]
            assert await told(store, "left", "right") == ["q", "left", "right"]

    run(scenario())


def test_what_tools_and_routines_left_in_the_graph_is_passed_through(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        steps = [(message("q"), ()), (message("tool", Role.TOOL), ("q",)), (message("a", ROOM), ("tool",))]
        async with conversation(tmp_path, *steps) as store:
            assert await told(store, "a", limit=2) == ["q", "a"]

    run(scenario())


def test_a_shared_conversation_goes_on_behind_anothers(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        mine = message("mine", persona="guest", session="t")
        async with conversation(tmp_path, *talk(1), (mine, ("a0",))) as store:
            assert await told(store, "mine") == ["q0", "a0", "mine"]
            assert await told(store, "mine", whose={"guest"}) == ["mine"]

    run(scenario())


@pytest.mark.parametrize(
    ("context", "egress", "heard"),
    [
        (Context.OWN, Egress.NONE, {"guest"}),
        (Context.FRESH, Egress.NONE, {"guest"}),
        (Context.SHARED, Egress.NONE, {"guest", "far", "house", "here"}),
        (Context.SHARED, Egress.LAN, {"guest", "far", "house"}),
        (Context.SHARED, Egress.ANY, {"guest", "far"}),
    ],
)
def test_words_never_travel_further_by_being_shared(context: Context, egress: Egress, heard: set[str]) -> None:
    guest = Persona(id="guest", name="Guest", context=context, egress=egress)
    reaches = {"far": Egress.ANY, "house": Egress.LAN, "here": Egress.NONE}
    assert heard_by(guest, [guest, *(Persona(id=id_, name=id_, egress=far) for id_, far in reaches.items())]) == heard


def test_what_the_disk_has_not_taken_yet_is_told_too(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        said = talk(3)
        async with conversation(tmp_path, *said[:3]) as store:
            assert await told(store, "a2", unkept=said[3:]) == ["q0", "a0", "q1", "a1", "q2", "a2"]
            assert await told(store, "a2", unkept=said[1:]) == ["q0", "a0", "q1", "a1", "q2", "a2"]
            assert await told(store, "a1", unkept=said[3:]) == ["q0", "a0", "q1", "a1"]
            assert await told(store, "a2", unkept=said[3:], whose={"guest"}) == []

    run(scenario())
