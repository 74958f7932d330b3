"""What texts mean: facts are found that say it in other words, by the small encoder the suite brings along."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from conftest import Run
from remembering import Flat, remembering, texts, told
from roomtone.config import load
from roomtone.core.errors import ConfigError, EngineError, EngineUnavailable
from roomtone.engines.embed import onnx
from roomtone.memories import StoreMemory, open_embed
from roomtone.memories.vectors import Signatures, signature
from roomtone.settings import Settings
from roomtone.store import Store

MODELS = Path(__file__).parent / "models"


@asynccontextmanager
async def meaning(folder: Path) -> AsyncIterator[tuple[StoreMemory, Store]]:
    async with onnx.open(onnx.Settings(models_dir=MODELS)) as embed, remembering(folder, embed) as opened:
        yield opened


async def until_tidy(memory: StoreMemory) -> None:
    while await memory.tidy():
        pass


def test_a_fact_is_found_that_says_it_in_other_words(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with meaning(tmp_path) as (memory, _):
            await told(memory, "Minka likes espresso", *(f"the {n} tiles are blue" for n in range(20)))
            assert await memory.recall("does the kitten drink a latte", "companion") == []
            await until_tidy(memory)
            [best] = await memory.recall("does the kitten drink a latte", "companion")
            assert best.fact.text == "Minka likes espresso"
            assert 0 < best.score <= 1

    run(scenario())


def test_meaning_leaks_nothing_to_other_personas_and_ends_with_the_fact(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with meaning(tmp_path) as (memory, store):
            [kept] = await told(memory, "Minka likes espresso", persona="chef")
            await until_tidy(memory)
            assert await memory.recall("a kitten and a latte", "companion") == []
            assert texts(await memory.recall("a kitten and a latte", "chef")) == ["Minka likes espresso"]
            await memory.forget([kept.id])
            assert await memory.recall("a kitten and a latte", "chef") == []
            assert await store.read("SELECT 1 FROM memory_vectors") == []

    run(scenario())


def test_vectors_outlive_a_restart_and_another_embedder_makes_its_own(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with meaning(tmp_path) as (memory, store):
            await told(memory, "Minka likes espresso")
            await until_tidy(memory)
            [[before]] = await store.read("SELECT vector FROM memory_vectors")
        async with meaning(tmp_path) as (memory, store):
            await memory.tidy()
            assert texts(await memory.recall("a kitten and a latte", "companion")) == ["Minka likes espresso"]
        async with remembering(tmp_path, Flat()) as (memory, store):
            await until_tidy(memory)
            [row] = await store.read("SELECT embedder, vector FROM memory_vectors")
            assert row["embedder"] == "flat"
            assert row["vector"] != before

    run(scenario())


def test_a_changed_text_gets_a_new_meaning(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with meaning(tmp_path) as (memory, _):
            [kept] = await told(memory, "Minka likes espresso")
            await until_tidy(memory)
            await memory.keep(kept.model_copy(update={"text": "Ben plays the trumpet"}))
            await until_tidy(memory)
            assert await memory.recall("a kitten and a latte", "companion") == []
            assert texts(await memory.recall("songs", "companion")) == []
            assert texts(await memory.recall("a guitar in a band", "companion")) == ["Ben plays the trumpet"]

    run(scenario())


def test_an_embedder_that_fails_leaves_the_words(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        flat = Flat()
        async with remembering(tmp_path, flat) as (memory, _):
            await told(memory, "the cat is called Minka")
            await until_tidy(memory)
            flat.trouble = EngineError("it broke")
            assert texts(await memory.recall("the cat", "companion")) == ["the cat is called Minka"]
            await told(memory, "the dog is called Rex")
            with pytest.raises(EngineError):
                await memory.tidy()
            assert texts(await memory.recall("the dog", "companion")) == ["the dog is called Rex"]

    run(scenario())


def test_nothing_is_computed_while_somebody_is_answered(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path, Flat(), is_idle=lambda: False) as (memory, store):
            await told(memory, "the cat is called Minka")
            assert await memory.tidy()
            assert await store.read("SELECT 1 FROM memory_vectors") == []

    run(scenario())


@trying(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sets(st.integers(0, 39)))
def test_the_nearest_by_sign_are_the_nearest_and_never_the_forgotten(seed: int, count: int, gone: set[int]) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 70)).astype(np.float32)
    signatures = Signatures()
    for number, vector in enumerate(vectors):
        signatures.put(number, "chef" if number % 3 else None, signature(vector))
    signatures.drop(gone)
    left = {number for number in range(count) if number not in gone}
    assert len(signatures) == len(left)
    question = random.normal(size=70).astype(np.float32)
    assert set(signatures.nearest(question, None, 1000)) == left
    assert set(signatures.nearest(question, "chef", 1000)) == left
    assert set(signatures.nearest(question, "companion", 1000)) == {number for number in left if number % 3 == 0}
    for number in left:
        assert signatures.nearest(vectors[number], None, 1) == [number]


# ---------------------------------------------------------------------------------------------- the engine


def test_words_of_one_meaning_are_near_and_others_are_not(run: Run[None]) -> None:
    async def scenario() -> None:
        async with onnx.open(onnx.Settings(models_dir=MODELS)) as embed:
            cat, kitten, car = await embed.embed(["the cat sleeps", "a kitten", "the garage"])
            assert float(cat @ kitten) > 0.7 > 0.3 > float(cat @ car)

    run(scenario())


def copied(folder: Path, **broken: bytes) -> onnx.Settings:
    """Return settings for a copy of the model in which some files (``model``, ``tokenizer``) are others."""
    model = folder / "embed" / "fixture"
    shutil.copytree(MODELS / "embed" / "fixture", model)
    for stem, content in broken.items():
        next(model.glob(f"{stem}.*")).write_bytes(content)
    return onnx.Settings(models_dir=folder)


GARBLED = (MODELS / "embed" / "fixture" / "model.onnx").read_bytes()[:-200]


@pytest.mark.parametrize("broken", [{"model": b""}, {"model": GARBLED}, {"tokenizer": b"{}"}, {"tokenizer": b"]"}])
def test_a_broken_model_is_told_in_a_line_with_what_mends_it(
    run: Run[None], tmp_path: Path, broken: dict[str, bytes]
) -> None:
    chosen = copied(tmp_path, **broken)

    async def scenario() -> None:
        with pytest.raises(EngineUnavailable, match="roomtone models pull embed-") as told_:
            async with onnx.open(chosen):
                pass
        assert "\n" not in told_.value.message

    run(scenario())


def test_without_a_model_it_says_how_to_get_one_and_words_are_enough(run: Run[None], tmp_path: Path) -> None:
    reason = onnx.missing(onnx.Settings(models_dir=tmp_path))
    assert reason is not None
    assert "roomtone models pull embed-all-MiniLM-L6-v2" in reason
    assert onnx.missing(onnx.Settings(models_dir=MODELS)) is None
    assert onnx.missing(onnx.Settings(models_dir=MODELS, model="another")) is not None

    async def scenario() -> None:
        async with open_embed(Settings(state_dir=tmp_path)) as embed:
            assert embed is None
        copied(tmp_path / "models")
        async with open_embed(Settings(state_dir=tmp_path)) as embed:
            assert embed is not None
            assert embed.name == "fixture"

    run(scenario())


def test_a_model_that_opens_no_more_leaves_the_words(run: Run[None], tmp_path: Path) -> None:
    copied(tmp_path / "models", tokenizer=b"{}")

    async def scenario() -> None:
        async with open_embed(Settings(state_dir=tmp_path)) as embed:
            assert embed is None

    run(scenario())


def test_the_configuration_chooses_among_models_and_its_mistakes_are_told(run: Run[None], tmp_path: Path) -> None:
    copied(tmp_path / "models")
    shutil.copytree(tmp_path / "models" / "embed" / "fixture", tmp_path / "models" / "embed" / "larger")

    async def scenario() -> None:
        for wanted, opened in ((None, "fixture"), ("larger", "larger"), ("absent", None)):
            section = {"engine": "onnx", "model": wanted}
            async with open_embed(Settings.model_validate({"state_dir": tmp_path, "embed": section})) as embed:
                assert (embed.name if embed else None) == opened

    run(scenario())
    config = tmp_path / "config.yaml"
    config.write_text("embed: {modle: larger}\n")
    with pytest.raises(ConfigError, match="modle"):
        load(config)
