"""The router over real connections: whatever a provider sends, another goes on, and a row says what happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import repeat

import pytest

from conftest import Run
from roomtone import engines, outbound
from roomtone.core.dialog import Message, Role
from roomtone.core.errors import EngineError
from roomtone.core.persona import Egress
from roomtone.engines.llm import Llm, LlmError, Options, Text, ToolCall, Usage
from roomtone.llm_router import Router
from roomtone.llm_router.calls import Terms
from roomtone.outbound.accounts import Call
from roomtone.scripted_provider import NAME, Plan, Provider, Reply, provider
from roomtone.settings import Provider as ProviderSettings

pytest.importorskip("openai")
pytest.importorskip("anthropic")

ANSWER = "The capital of France is Paris, which lies on the Seine. It has been the seat of kings since Clovis."
QUESTION = [Message(session="s", role=Role.PERSON, text="What is the capital of France?")]
GO_ON = "go on after {last}"
DIALECTS = ("openai", "anthropic")


@asynccontextmanager
async def opened(dialect: str, plan: Plan) -> AsyncIterator[tuple[Llm, Provider]]:
    with provider(plan) as server:
        url = server.url.removesuffix("/v1") if dialect == "anthropic" else server.url
        own = engines.load("llm", dialect).Settings.model_validate(
            {"model": NAME, "base_url": url, "api_key": "a key"}
        )
        async with engines.open_engine("llm", dialect, own) as llm:
            yield llm, server


FAULTS = {
    "401": (Reply(status=401), "key"),
    "402": (Reply(status=402), "credit"),
    "404": (Reply(status=404), "model"),
    "429": (Reply(status=429, headers={"retry-after": "30"}), "limit"),
    "500": (Reply(status=500), "busy"),
    "dies at once": (Reply(ANSWER, dies_after_words=0), "busy"),
    "dies after a word": (Reply(ANSWER, dies_after_words=1), "busy"),
    "dies in mid-sentence": (Reply(ANSWER, dies_after_words=7), "busy"),
    "dies before its last word": (Reply(ANSWER, dies_after_words=len(ANSWER.split()) - 1), "busy"),
    "half a JSON line": (Reply(ANSWER, cut_at=700), "busy"),
    "garbage": (Reply(raw=b"data: \xff\xfe{{{\n\n" * 20), "nonsense"),
    "nothing": (Reply(raw=b""), "busy"),
    "no answer in it": (Reply(""), "nonsense"),
    "silent for a minute": (Reply(ANSWER, first_piece_s=60), "busy"),
    "stalls": (Reply(ANSWER, stalls_after_words=6), "busy"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_the_answer_comes_whole(run: Run[None], dialect: str, fault: str) -> None:
    reply, trouble = FAULTS[fault]
    other = next(name for name in DIALECTS if name != dialect)
    calls: list[Call] = []
    troubles: list[str] = []

    def on_event(kind: str, data: object) -> None:
        if isinstance(data, Call):
            calls.append(data)
        elif isinstance(data, dict) and kind == "llm.failed":
            troubles.append(data["trouble"])

    async def scene() -> None:
        async with opened(dialect, [reply]) as (first, _), opened(other, [Reply(ANSWER)]) as (second, _):
            terms = {"first": Terms(ProviderSettings(engine=dialect, first_piece_s=0.5, stall_s=0.5))}
            router = Router([("first", first), ("second", second)], GO_ON, terms=terms, on_event=on_event)
            told = [piece async for piece in router.reply(QUESTION, Options())]
            assert "".join(piece.text for piece in told if isinstance(piece, Text)) == ANSWER
            assert isinstance(told[-1], Usage)
            assert told[-1].by == "second"

    run(scene())
    assert [call.provider for call in calls] == ["first", "second"]
    assert calls[0].status in ("failed", "stalled")
    assert calls[0].error
    assert "\n" not in calls[0].error
    assert calls[1].status == "ok"
    assert troubles == [trouble]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "endless", [repeat("again and again. "), repeat("x" * 1_000_000), (f"w{n} " for n in range(10**7))]
)
def test_a_provider_that_never_stops_is_stopped(run: Run[None], dialect: str, endless: object) -> None:
    async def scene() -> None:
        async with opened(dialect, [Reply(deltas=endless)]) as (only, server):  # type: ignore[arg-type]
            router = Router([("only", only)], GO_ON)
            text, cut = "", False
            try:
                async for piece in router.reply(QUESTION, Options(max_tokens=50)):
                    text += piece.text if isinstance(piece, Text) else ""
                    cut = cut or (isinstance(piece, Usage) and piece.cut)
            except LlmError as error:
                cut = error.trouble == "nonsense"
            assert cut
            assert len(text) <= 50 * 8 + 200
            for request in server.requests:
                assert request.over.wait(5)

    run(scene())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_that_was_made_before_the_end_broke_off_is_made_once(run: Run[None], dialect: str) -> None:
    calls = [("timer__set", '{"minutes": 5}')]

    async def scene() -> None:
        whole = Reply("One moment.", tool_calls=calls)
        async with opened(dialect, [whole]) as (first, server), opened(dialect, [whole]) as (second, _):
            router = Router([("first", first), ("second", second)], GO_ON)
            told = [piece async for piece in router.reply(QUESTION, Options())]
            assert len([piece for piece in told if isinstance(piece, ToolCall)]) == 1
            assert len(server.requests) == 1

    run(scene())


def test_nothing_is_sent_to_who_may_not_be_told(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(outbound._declared, "127.0.0.1", Egress.ANY)  # as the household says of a gateway

    async def scene() -> None:
        async with opened("openai", [Reply(ANSWER)]) as (gateway, server):
            router = Router([("gateway", gateway)], GO_ON)
            with outbound.within(Egress.LAN):
                for llm in (router, gateway):
                    with pytest.raises(EngineError):
                        [piece async for piece in llm.reply(QUESTION, Options())]
            assert not server.requests

    run(scene())
