"""The hub's file: it holds no more, and for no longer, than a house needs, and no message can make it unusable."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from conftest import Run
from roomtone.core.dialog import Session
from roomtone.core.errors import PayloadError, StoreError
from roomtone.core.handoff import MOST_EPOCH, Handoff, Phase, Send, command_id
from roomtone.core.wire import Bundle, Presence, Reply, State, write
from roomtone.flow import beside
from roomtone.hub import sessions
from roomtone.hub.database import HubDatabase, open_database
from roomtone.hub.handoffs import DISK_AGAIN_S, LOOK_S, Handoffs
from roomtone.hub.registry import Admission, Registry

SECRET = "what nobody else is to know"
BUNDLE = Bundle(session=Session(id="s", room="kitchen", persona="companion"), persona="companion", asked=SECRET)


class House:
    """A hub without its broker: what it sends is kept, and a kitchen and a study are on."""

    def __init__(self, database: HubDatabase) -> None:
        self.database = database
        self.registry = Registry(database)
        self.sent: list[Send] = []
        self.handoffs = Handoffs(database, self.registry, self._deliver)
        for id_ in ("kitchen", "study"):
            self.registry.on_presence(id_, write(Presence(id=id_, online=True, room=id_)), 0.0)

    async def _deliver(self, send: Send) -> None:
        self.sent.append(send)

    async def begin(self, epoch: int = 0) -> Handoff:
        """Let a conversation of the kitchen begin to go to the study."""
        moving = Handoff("h", "s", "kitchen", "study", "study", epoch)
        assert await self.handoffs.begin(moving, lambda _: None) is None
        return moving

    async def answered(self, **data: object) -> None:
        """Answer what was sent last, as the room that it was sent to."""
        last = self.sent[-1]
        await self.handoffs.on_reply(last.to, Reply(of=last.command.id, data=data))

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return what the file holds."""

        def work(db: sqlite3.Connection) -> list[tuple[object, ...]]:
            return [tuple(row) for row in db.execute(query)]

        return await self.database.read(work)


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    async with open_database(folder / "hub.db") as database:
        yield House(database)


def test_what_was_said_is_in_the_file_only_while_a_conversation_is_on_its_way(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            await here.begin()
            await here.answered(bundle=BUNDLE.model_dump(mode="json"))
            assert SECRET in str(await here.rows("SELECT * FROM handoffs"))
            await here.answered()
            assert here.sent[-1].command.do == "adopt"
            await here.answered()
            assert await here.rows("SELECT phase FROM handoffs") == [("over",)]
            assert SECRET not in str(await here.rows("SELECT * FROM handoffs"))

    run(main())


def test_a_conversation_on_its_way_to_a_room_that_is_shut_out_goes_back_and_from_there_nowhere(
    run: Run[None], tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            await here.begin()
            await here.answered(bundle=BUNDLE.model_dump(mode="json"))
            await here.answered()
            await here.registry.admit("study", Admission.REVOKED)
            await here.rows("UPDATE handoffs SET due = 0")
            await here.handoffs.take_due()
            assert await here.rows("SELECT owner, epoch FROM sessions") == [("kitchen", 2)]
            await here.registry.admit("kitchen", Admission.RETIRED)
            await here.rows("UPDATE handoffs SET due = 0")
            await here.handoffs.take_due()
            assert await here.rows("SELECT phase, bundle FROM handoffs") == [("over", None)]

    run(main())


def test_no_epoch_that_a_device_claims_stops_the_hub(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            await here.handoffs.on_state("kitchen", State(session="s", epoch=2**70))
            with pytest.raises(PayloadError, match="epoch"):
                await here.begin(epoch=2**63 - 1)
            await here.handoffs.on_state("kitchen", State(session="s", epoch=MOST_EPOCH))
            moving = await here.begin(epoch=MOST_EPOCH)
            refusal = Reply(of=command_id(Handoff(**{**_fields(moving), "sent": 1})), ok=False, code="DEVICE_BUSY")
            await here.handoffs.on_reply("kitchen", refusal)
            assert await here.rows("SELECT phase FROM handoffs") == [(str(Phase.RETURNING),)]

    run(main())


def _fields(handoff: Handoff) -> dict[str, object]:
    return {name: getattr(handoff, name) for name in Handoff.__slots__}


def test_of_many_conversations_that_moved_the_last_are_known(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            for number in range(sessions.KEPT + 3):
                await here.handoffs.on_state("kitchen", State(session=f"s{number}", epoch=1))
            assert await here.rows("SELECT count(*) FROM sessions") == [(sessions.KEPT,)]
            assert await here.rows("SELECT 1 FROM sessions WHERE session = 's2'") == []

    run(main())


def test_of_conversations_that_are_over_and_never_moved_nothing_is_kept(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here, beside(here.handoffs.run(lambda: True), "handoffs"):
            for number in range(100):
                state = State(session=f"s{number}")
                here.registry.on_state("kitchen", state, 0.0, retained=False)
                await here.handoffs.on_state("kitchen", state)
            await asyncio.sleep(2 * LOOK_S)
            assert set(here.handoffs._known) == {"s99"}
            assert await here.rows("SELECT * FROM sessions") == []

    run(main())


def test_a_disk_that_fails_for_a_while_does_not_end_the_hub(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            await here.begin()
            failed: list[StoreError] = []
            takes_due = here.handoffs.take_due

            async def fails_once() -> None:
                if not failed:
                    failed.append(StoreError("the disk is full"))
                    raise failed[0]
                await takes_due()

            here.handoffs.take_due = fails_once  # type: ignore[method-assign]
            async with beside(here.handoffs.run(lambda: True), "handoffs"):
                await here.rows("UPDATE handoffs SET due = 0")
                await asyncio.sleep(2 * DISK_AGAIN_S)
            assert failed
            assert len(here.sent) > 1

    run(main())


def test_a_device_that_a_full_disk_refused_is_kept_when_there_is_room(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            await here.rows("PRAGMA query_only = 1")
            with pytest.raises(StoreError):
                await here.registry.flush()
            await here.rows("PRAGMA query_only = 0")
            await here.registry.flush()
            assert await here.rows("SELECT id FROM devices ORDER BY id") == [("kitchen",), ("study",)]

    run(main())
