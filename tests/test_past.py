"""What was said before a turn: found behind it in the graph, quickly, and summed up while nobody speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from roomtone import outbound
from roomtone.clock import utc_now
from roomtone.core.dialog import Message, Role, Session, Source, Turn
from roomtone.core.machine import Mode, State
from roomtone.core.persona import Context, Egress, ModelUse, Persona
from roomtone.engines.llm.script import Script, Settings
from roomtone.flow import Feed, beside
from roomtone.mind.memory import Fact, Level
from roomtone.mind.phrases import Phrases
from roomtone.past import _WALK, LOOK_S, QUIET_S, Summariser, heard_by, past
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


def test_no_table_is_read_from_end_to_end_for_it(run: Run[None], tmp_path: Path) -> None:
    """The time it takes must not grow with the store: nothing is scanned but the tips and the walk itself."""

    async def scenario() -> None:
        async with conversation(tmp_path) as store:
            plan = [row["detail"] for row in await store.read(f"EXPLAIN QUERY PLAN {_WALK}", "[]", 1)]
            scanned = {step.split()[1] for step in plan if step.startswith("SCAN")}
            assert scanned <= {"json_each", "line"}

    run(scenario())


# --------------------------------------------------------------------------------------------- summaries

PHRASES = Phrases.load()
COMPANION = Persona(id="companion", name="Companion", egress=Egress.LAN, llm=ModelUse(route=("pi", "house")))


@dataclass
class Remembering:
    """A memory that only keeps."""

    kept: list[Fact] = field(default_factory=list)

    async def keep(self, fact: Fact) -> Fact:
        self.kept.append(fact)
        return fact


class Evening:
    """A conversation in a store, somebody who sums it up, and a feed on which somebody speaks."""

    def __init__(self, store: Store, *texts: Any) -> None:
        self.store = store
        self.model = Script(Settings.model_validate({"texts": texts}))
        self.memory = Remembering()
        self.feed = Feed()
        self.told: list[tuple[str, Any]] = []
        self.summariser = Summariser(
            store,
            self.model,
            PHRASES,
            self._personas,
            self.memory,  # type: ignore[arg-type]  # it only keeps
            publish=lambda kind, what: self.told.append((kind, what)),
        )

    async def _personas(self) -> Sequence[Persona]:
        return [COMPANION]

    async def talked(self, turns: int, *, by: str = "llm:pi", since: int = 0) -> None:
        """Let somebody talk with a model for some more turns."""
        for number in range(since, since + turns):
            turn = Turn(
                turn=number + 1,
                trace=f"t{number}",
                session="s",
                room="kitchen",
                persona="companion",
                source=Source.VOICE,
                answered_by=by,
                at=utc_now(),
            )
            said = [
                message(f"q{number}", trace=turn.trace).model_copy(update={"at": utc_now()}),
                message(f"a{number}", ROOM, trace=turn.trace).model_copy(update={"at": utc_now()}),
            ]
            before = (f"a{number - 1}",) if number else ()
            linked = [(said[0], before), (said[1], (said[0].id,))]
            await self.store.save_turn(turn, closed=True, messages=linked, session=SESSION)

    async def summary(self) -> str:
        rows = await self.store.read("SELECT text FROM summaries")
        return str(rows[0]["text"]) if rows else ""

    def speaks(self, mode: Mode) -> None:
        self.feed.publish("state.changed", State(mode=mode), source="conversation")

    def asked(self) -> list[str]:
        """Return what the model was to sum up, each time."""
        return [messages[-1].text for messages, _ in self.model.asked]


Scenario = Callable[[Evening], Coroutine[Any, Any, None]]


@pytest.fixture
def evening(run: Run[None], tmp_path: Path) -> Callable[..., None]:
    def play(scenario: Scenario, *texts: Any) -> None:
        async def main() -> None:
            async with open_store(tmp_path / FILE_NAME) as store:
                await scenario(Evening(store, *texts))

        run(main())

    return play


def test_what_fell_out_of_the_window_is_summed_up_and_told_with_the_rest(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(11)
        await evening.summariser.sum_up()
        assert await evening.summary() == "They spoke of bread."
        before = await past(evening.store, ["a10"])
        assert before.summary == "They spoke of bread."
        [asked] = evening.asked()
        assert "Person: text of q0\nCompanion: text of a0" in asked
        assert "text of q6" not in asked, "the window goes on telling it"
        assert evening.told == [("context.summarised", {"session": "s", "persona": "companion", "upto": "a5"})]
        assert evening.memory.kept == [], "it is not over"

    evening(scenario, "They spoke of bread.")


def test_a_summary_goes_on_from_the_one_before_it(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(11)
        await evening.summariser.sum_up()
        await evening.talked(11, since=11)
        await evening.summariser.sum_up()
        assert await evening.summary() == "Then of soup."
        first, second = evening.asked()
        assert "Notes so far" not in first
        assert "Notes so far: They spoke of bread.\nPerson: text of q6\n" in second
        assert "text of q5" not in second

    evening(scenario, "They spoke of bread.", "Then of soup.")


def test_nothing_new_is_neither_asked_nor_written(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(10)
        await evening.summariser.sum_up()
        await evening.talked(1, since=10)
        await evening.summariser.sum_up()
        wrote = evening.store.path.with_name(f"{FILE_NAME}-wal").stat().st_size
        await evening.summariser.sum_up()
        await evening.summariser.sum_up()
        assert len(evening.asked()) == 1
        assert evening.store.path.with_name(f"{FILE_NAME}-wal").stat().st_size == wrote

    evening(scenario, "They spoke of bread.")


def test_what_skills_answered_alone_is_not_summed_up(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(30, by="skill")
        await evening.summariser.sum_up()
        assert evening.asked() == []

    evening(scenario)


def test_a_conversation_that_is_over_becomes_a_memory_once(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(3)
        said_at = utc_now()
        await asyncio.sleep(3700)
        await evening.summariser.sum_up()
        await evening.summariser.sum_up()
        [fact] = evening.memory.kept
        assert (fact.level, fact.text, fact.persona) == (Level.SUMMARY, "They spoke of bread.", "companion")
        assert abs(fact.at - said_at) < timedelta(seconds=5), "it is as old as what was said"
        assert len(evening.asked()) == 1

    evening(scenario, "They spoke of bread.")


def test_a_model_that_fails_changes_nothing_and_is_asked_less_and_less_often(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(11)
        for pause in (300, 600, 1200):
            await evening.summariser.sum_up()
            asked = len(evening.asked())
            await asyncio.sleep(pause - 1)
            await evening.summariser.sum_up()
            assert (len(evening.asked()), await evening.summary()) == (asked, "")
            await asyncio.sleep(2)
        await evening.summariser.sum_up()
        assert await evening.summary() == "They spoke of bread."

    dead = {"trouble": "busy"}
    evening(scenario, dead, {"text": "They spoke", "dies_after": 1}, "<think>Hm.</think>", "They spoke of bread.")


def test_it_works_in_quiet_moments_and_stops_at_once_when_somebody_speaks(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(11)
        async with beside(evening.summariser.run(evening.feed), "summaries"):
            await asyncio.sleep(QUIET_S - 1)
            assert evening.asked() == []
            evening.speaks(Mode.LISTENING)
            await asyncio.sleep(LOOK_S)
            assert evening.asked() == [], "they are still talking"
            evening.speaks(Mode.IDLE)
            await asyncio.sleep(QUIET_S + 1)
            assert len(evening.asked()) == 1, "the model has begun"
            evening.speaks(Mode.LISTENING)
            await asyncio.sleep(LOOK_S)
            assert await evening.summary() == ""
            evening.speaks(Mode.IDLE)
            await asyncio.sleep(QUIET_S + 1)
            assert await evening.summary() == "They spoke of bread."

    evening(scenario, {"text": "They spoke of soup.", "stalls_after": 2}, "They spoke of bread.")


def test_a_summary_travels_no_further_than_its_persona_may(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(11)
        await evening.summariser.sum_up()
        assert await evening.summary() == ""

    def refusing(evening: Evening) -> Coroutine[Any, Any, None]:
        evening.model.host = "api.example.com"
        return scenario(evening)

    evening(refusing, "They spoke of bread.")


def test_the_model_is_asked_as_the_persona_asks_it(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(11)
        notes: list[outbound.Sent] = []
        evening.model.host = "192.168.1.5"
        evening.summariser.note = lambda persona: notes.append if persona == "companion" else pytest.fail(persona)
        await evening.summariser.sum_up()
        [(_, options)] = evening.model.asked
        assert (options.why, options.persona, options.route) == ("summary", "companion", ("pi", "house"))
        assert [sent.why for sent in notes] == ["summary"]

    evening(scenario, "They spoke of bread.")


def test_of_what_was_erased_no_summary_is_left(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(11)
        await evening.summariser.sum_up()
        await asyncio.sleep(60)
        await evening.store.erase(utc_now())
        assert await evening.summary() == "They spoke of bread.", "it tells of what was said before"
        await evening.store.erase(utc_now() - timedelta(seconds=120))
        assert await evening.summary() == ""

    evening(scenario, "They spoke of bread.")


def test_what_is_erased_while_it_is_summed_up_is_not_kept(evening: Callable[..., None]) -> None:
    async def scenario(evening: Evening) -> None:
        await evening.talked(3)
        await asyncio.sleep(3700)
        async with beside(evening.summariser.sum_up(), "summing up"):
            await asyncio.sleep(5)
            await evening.store.erase()
            await asyncio.sleep(60)
        assert len(evening.asked()) == 1
        assert (await evening.summary(), evening.memory.kept) == ("", [])

    evening(scenario, {"text": "They spoke of bread.", "first_piece_s": 30})
