"""The small models that the suite runs the real engines on: whole, small, and taught what the phrases say."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import numpy as np
import pytest
from faster_whisper import WhisperModel
from gguf import GGMLQuantizationType, GGUFReader
from piper import PiperVoice, SynthesisConfig

from fixture_models import FOLDER, chat_talk
from fixture_models import speech as training
from fixture_models.hearing import transcript
from fixture_phrases import HELD_OUT_VOICES, PERSONAS, PHRASES, TALK
from make_fixture_models import CHAT, MANIFEST, WHISPER, fingerprint
from roomtone.bench import people, understanding
from speech import room_noise, said

MOST_BYTES = 5_000_000
VOICES = sorted((FOLDER / "piper").glob("*.onnx"))
DOZEN = PHRASES[::8]


@pytest.fixture(scope="module")
def whisper() -> WhisperModel:
    return WhisperModel(str(FOLDER / WHISPER), device="cpu", compute_type="int8", cpu_threads=1)


def heard(whisper: WhisperModel, samples: Any) -> str:
    return transcript(whisper, (samples / 32768).astype(np.float32))


def variant(voice: str) -> str:
    return voice.partition("+")[2]


def test_a_dozen_phrases_are_heard_exactly_in_a_voice_never_trained_on(whisper: WhisperModel) -> None:
    found = {text: heard(whisper, asyncio.run(said(text, "en-us+m5")).samples) for text in DOZEN}
    assert found == {text: text for text in DOZEN}


@pytest.mark.long
def test_nearly_all_is_heard_exactly_in_all_voices_never_trained_on(whisper: WhisperModel) -> None:
    asked = [(voice, text) for voice in HELD_OUT_VOICES for text in PHRASES[::5]]
    wrong = [(voice, text) for voice, text in asked if heard(whisper, asyncio.run(said(text, voice)).samples) != text]
    assert len(wrong) <= 0.05 * len(asked), wrong


@pytest.mark.long
@pytest.mark.parametrize("network", VOICES, ids=lambda network: network.stem)
def test_nearly_all_is_heard_exactly_when_a_piper_voice_speaks(whisper: WhisperModel, network: Any) -> None:
    def comes_back(text: str) -> bool:
        spoken = np.pad(training.said_by_piper(text, network), (4800, 6400))
        return heard(whisper, spoken + room_noise(len(spoken))) == text

    wrong = [text for text in PHRASES if not comes_back(text)]
    assert len(wrong) <= 0.05 * len(PHRASES), wrong


@pytest.mark.parametrize("dbfs", [-90.0, -60.0, -40.0])
def test_nothing_is_heard_in_an_empty_room(whisper: WhisperModel, dbfs: float) -> None:
    assert heard(whisper, room_noise(48_000, dbfs)) == ""
    assert heard(whisper, np.zeros(48_000)) == ""


def test_hot_words_do_not_change_what_is_heard(whisper: WhisperModel) -> None:
    sound = asyncio.run(said("Set a timer for ten minutes.", "en-us+m5")).samples / np.float32(32768)
    for words in ("kitchen", "living room, grandmother's attic, pasta, Roomtone, Esmeralda, xylophone"):
        segments, _ = whisper.transcribe(sound, language="en", beam_size=1, without_timestamps=True, hotwords=words)
        assert [segment.text.strip() for segment in segments] == ["Set a timer for ten minutes."]


@pytest.mark.parametrize("network", VOICES, ids=lambda network: network.stem)
def test_a_voice_speaks_longer_what_is_longer(network: Any) -> None:
    voice = PiperVoice.load(network)

    def seconds(text: str, length: float = 1.0) -> float:
        chunks = list(voice.synthesize(text, SynthesisConfig(length_scale=length)))
        assert all(0.05 < np.abs(chunk.audio_float_array).max() <= 1 for chunk in chunks)
        return sum(len(chunk.audio_float_array) / chunk.sample_rate for chunk in chunks)

    assert 0.4 < seconds("Stop.") < seconds("What time is it?") < seconds("What is the capital of Germany?") < 3
    assert seconds("What time is it?", 2.0) == pytest.approx(2 * seconds("What time is it?"), rel=0.02)


def test_the_chat_model_has_its_template_and_its_tensors() -> None:
    reader = GGUFReader(FOLDER / CHAT)

    def field(name: str) -> Any:
        return reader.get_field(name).contents()

    assert field("general.architecture") == "llama"
    assert "<|im_start|>assistant" in field("tokenizer.chat_template")
    tokens = field("tokenizer.ggml.tokens")
    assert tokens[field("tokenizer.ggml.eos_token_id")] == "<|im_end|>"
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    blocks = field("llama.block_count")
    assert len(tensors) == 2 + 9 * blocks
    embedding = tensors["token_embd.weight"]
    assert embedding.tensor_type == GGMLQuantizationType.Q8_0
    assert list(embedding.shape) == [field("llama.embedding_length"), len(tokens)]


def test_the_chat_model_was_taught_an_answer_to_what_people_ask_beyond_commands() -> None:
    told = " ".join(chat_talk.corpus())
    questions = [text for text in TALK if not text.startswith(("Switch to", "Continue in", "Turn "))]
    assert [text for text in questions if text not in told and "Sam" not in text] == []
    assert set(chat_talk.OPENINGS) == set(PERSONAS)


def test_the_models_are_those_the_manifest_describes() -> None:
    manifest = json.loads(MANIFEST.read_text())
    listed = {name: digest for model in manifest.values() for name, digest in model["sha256"].items()}
    found = [file for file in FOLDER.rglob("*") if file.is_file() and file != MANIFEST]
    assert {str(file.relative_to(FOLDER)): hashlib.sha256(file.read_bytes()).hexdigest() for file in found} == listed
    assert sum(file.stat().st_size for file in found) < MOST_BYTES


def test_the_models_were_trained_on_the_phrases_as_they_are_now() -> None:
    manifest = json.loads(MANIFEST.read_text())
    assert manifest["whisper"]["phrases"] == fingerprint(PHRASES)
    assert manifest["chat"]["phrases"] == fingerprint(chat_talk.corpus())


def test_voices_that_measure_are_not_voices_that_taught() -> None:
    measuring = {*HELD_OUT_VOICES, *people.VOICES, *understanding.VOICES}
    assert {variant(voice) for voice in measuring} & set(training.VARIANTS) == set()
    assert measuring & set(training.VOICES) == set()
    assert measuring <= set(HELD_OUT_VOICES)
