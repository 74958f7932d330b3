"""What is remembered is listed, searched, added to and forgotten by whoever asks the daemon or the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from remembering import remembering, told
from roomtone.core.errors import UsageError
from roomtone.memories import StoreMemory
from roomtone.memory_answers import answer

MODELS = Path(__file__).parent / "models"


async def asked(memory: StoreMemory, do: str, **request: Any) -> list[dict[str, Any]]:
    return [event async for event in answer({"command": "memory", "do": do, **request}, memory)]


def test_an_asker_lists_searches_adds_and_forgets(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            [added, count] = await asked(memory, "add", text=" the cat is called Minka ", persona="chef", days=2)
            assert (added["kept"]["text"], added["kept"]["persona"], count) == (
                "the cat is called Minka",
                "chef",
                {"result": 1},
            )
            assert added["kept"]["expires"] is not None
            await asked(memory, "add", text="the dog is called Rex")
            assert [event["fact"]["text"] for event in (await asked(memory, "list"))[:-1]] == [
                "the dog is called Rex",
                "the cat is called Minka",
            ]
            assert len(await asked(memory, "list", persona="companion")) == 2
            assert len(await asked(memory, "search", text="the cat", persona="companion")) == 1
            assert len(await asked(memory, "search", text="what is the cat called")) == 2
            gone = await asked(memory, "forget", ids=[added["kept"]["id"][:8], "nosuch"])
            assert [*gone[0], *gone[1]] == ["forgotten", "unknown"]
            assert gone[-1] == {"result": 1}
            await asked(memory, "add", text="the chef is called Bob", persona="chef")
            assert (await asked(memory, "forget", all=True, persona="chef"))[-1] == {"result": 1}
            assert (await asked(memory, "forget", all=True))[-1] == {"result": 1}
            assert await asked(memory, "list") == [{"result": 0}]

    run(scenario())


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "steal"},
        {"do": None},
        {"do": "add"},
        {"do": "add", "text": "  "},
        {"do": "add", "text": 7},
        {"do": "add", "text": "x" * 2001},
        {"do": "add", "text": "x", "days": 0},
        {"do": "add", "text": "x", "days": "soon"},
        {"do": "add", "text": "x", "days": float("nan")},
        {"do": "add", "text": "x", "persona": ""},
        {"do": "add", "text": "x", "persona": ["chef"]},
        {"do": "search"},
        {"do": "search", "text": ""},
        {"do": "list", "limit": 0},
        {"do": "list", "limit": "many"},
        {"do": "forget"},
        {"do": "forget", "ids": []},
        {"do": "forget", "ids": "abcd"},
        {"do": "forget", "ids": [7]},
    ],
)
def test_a_wrong_request_is_told_in_a_line(run: Run[None], tmp_path: Path, request_: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "the cat is called Minka")
            with pytest.raises(UsageError) as told_:
                await asked(memory, **request_)
            assert "\n" not in told_.value.message
            assert await memory.count() == 1

    run(scenario())
