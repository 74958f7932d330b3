"""The router with the real llama.cpp: a model on this machine ends in mid-sentence what another began."""

from __future__ import annotations

import os
from importlib import util

import pytest

from conftest import Run
from fixture_models import FOLDER
from make_fixture_models import CHAT
from roomtone.engines import open_engine
from roomtone.engines.llm import Options, llama_cpp, script
from roomtone.llm_router import Router
from routers import GO_ON, answered

REQUIRED = "llama" in os.environ.get("ROOMTONE_REQUIRE", "").split(",")
"""Whether to fail rather than to skip where llama.cpp is not installed."""

EXACT = Options(temperature=0)


@pytest.mark.skipif(
    not REQUIRED and util.find_spec("llama_cpp") is None,
    reason="llama-cpp-python is not installed; run: scripts/llama-wheel",
)
def test_the_model_on_this_machine_goes_on_from_the_last_word_of_any_other(run: Run[None]) -> None:
    async def scene() -> None:
        own = llama_cpp.Settings(model=str(FOLDER / CHAT), threads=1)
        async with open_engine("llm", "llama_cpp", own) as llama:
            whole = await answered(Router([("pi", llama)], GO_ON), EXACT)
            assert whole
            for place in range(1, len(whole.split()) + 1):
                dying = script.Settings.model_validate({"texts": [{"text": whole, "dies_after": place}]})
                async with script.open(dying) as cloud:
                    router = Router([("cloud", cloud), ("pi", llama)], GO_ON)
                    assert await answered(router, EXACT) == whole
                    assert router.served_by == "pi"

    run(scene())
