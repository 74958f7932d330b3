"""The router under random faults: one coherent answer, nothing said twice, privacy kept, every call a row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import leaving_nothing
from roomtone import outbound
from roomtone.clock import run_skipping
from roomtone.core.dialog import Message, Role
from roomtone.core.errors import EngineError
from roomtone.core.persona import Egress
from roomtone.engines.llm import LlmError, Options, Piece, Text, Trouble, Usage
from roomtone.flow import beside
from roomtone.llm_router import Router
from routers import ANSWER, FAR, GO_ON, QUESTION, WORDS, Books, plain

# ------------------------------------------------------------------------------------- random faults


@dataclass(frozen=True)
class Fault:
    """How one call goes: which words are said again before it goes on, after how many it breaks, and how."""

    how: str
    after: int = 0
    again: int = 0
    case: str = "as it is"


class Patient:
    """A model that knows the answer, goes on from wherever it is asked to, and has a fault a call."""

    model = "patient"

    def __init__(self, faults: Sequence[Fault], host: str | None, continues: bool) -> None:
        self.host, self.continues = host, continues
        self.calls = 0
        self.faults = list(faults)

    async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        outbound.leaving(self.host, 1, "text", options.why)
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else Fault("well")
        begun = [message.text for message in messages if message.role is Role.ROOMTONE]
        known = len(begun[-1].split()) if begun else 0
        words = WORDS[max(0, known - (fault.again if not self.continues else 0)) :]
        if fault.how == "empty":
            return
        if fault.how in tuple(Trouble):
            raise LlmError("ill", Trouble(fault.how), 2.0)
        for place, word in enumerate(words):
            if fault.how != "well" and place == fault.after:
                if fault.how == "stalls":
                    await asyncio.Event().wait()
                raise LlmError("died") if fault.how == "dies" else RuntimeError("a fault")
            await asyncio.sleep(0.01)
            yield Text((" " if place else "") + (word.upper() if fault.case == "loud" else word))
        yield Usage(10, len(words))


faults = st.builds(
    Fault,
    st.sampled_from(["well", "dies", "dies", "stalls", "breaks", "empty", *Trouble]),
    st.integers(0, len(WORDS)),
    st.integers(0, len(WORDS)),
    st.sampled_from(["as it is", "loud"]),
)
patients = st.builds(Patient, st.lists(faults, max_size=4), st.sampled_from([None, "10.0.0.2", FAR]), st.booleans())


@settings(max_examples=300)
@given(st.lists(patients, min_size=1, max_size=4), st.sampled_from(list(Egress)), st.integers(1, 3))
def test_under_random_faults_there_is_one_coherent_answer(line: list[Patient], limit: Egress, turns: int) -> None:
    books = Books()
    router_of = [(f"p{place}", patient) for place, patient in enumerate(line)]

    async def turn(router: Router) -> None:
        before, told, failed = len(books.calls), [], False
        with outbound.within(limit):
            someone_is_well = any(outbound.allows(one.host) and not one.faults for one in line)
        try:
            with outbound.within(limit):
                async for piece in router.reply(QUESTION, Options()):
                    told.append(piece)
        except EngineError:
            failed = True
        text = plain("".join(piece.text for piece in told if isinstance(piece, Text)))
        assert text == plain(ANSWER)[: len(text)], "nothing is said twice, nothing is left out"
        assert failed or text == plain(ANSWER)
        assert not (failed and someone_is_well)
        assert [isinstance(piece, Usage) for piece in told].count(True) == (not failed)
        statuses = [call.status for call in books.calls[before:]]
        assert statuses.count("ok") == (not failed)
        assert "cancelled" not in statuses

    async def scene() -> None:
        router = Router(router_of, GO_ON, accounts=books)
        async with beside(router.recover(), "recover"):
            for _ in range(turns):
                await turn(router)
                await asyncio.sleep(100)

    run_skipping(leaving_nothing(scene()), counts_work=False)
    assert sum(patient.calls for patient in line) == len(books.calls), "a row a call"
    with outbound.within(limit):
        for patient in line:
            assert outbound.allows(patient.host) or not patient.calls, "privacy goes first"
