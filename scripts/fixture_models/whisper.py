"""A Whisper that knows our phrases and nothing else, in the format that faster-whisper loads (CTranslate2, int8)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from fixture_models import speech, whisper_tokens, whisper_training
from fixture_models.whisper_network import HEADS, LAYERS, MELS, Attention, Layer, Whisper
from fixture_models.whisper_tokens import Tokens
from fixture_models.whisper_training import Phase

SEED = 0
PHASES = (Phase(4500, 2e-3, most_blank=16), Phase(4000, 1.5e-3, most_blank=6))
"""A second, warm start finds more (Loshchilov and Hutter 2017); with shorter blanks, "on" and "off" stay apart."""


FEATURES = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "processor_class": "WhisperProcessor",
    "chunk_length": 30,
    "feature_size": MELS,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480_000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16_000,
}
"""Whisper's own."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model is made of: it is the same for the same recipe."""

    phrases: list[str]
    phases: tuple[Phase, ...] = PHASES
    amount: speech.Amount = speech.USUAL
    seed: int = SEED


def make(recipe: Recipe, piper_voices: list[Path], folder: Path) -> None:
    """Train a model and write it into a folder: 2 CPU minutes for the speech, 20 for the training."""
    school = whisper_training.lessons(speech.clips(recipe.phrases, piper_voices, recipe.amount, recipe.seed))
    print(f"{len(school)} clips", flush=True)
    tokens = whisper_tokens.learn(recipe.phrases)
    network = None
    for number, phase in enumerate(recipe.phases):
        network = whisper_training.train(school, recipe.phrases, tokens, phase, recipe.seed + number, network)
    assert network is not None
    convert(network, tokens, folder)


def convert(network: Whisper, tokens: Tokens, folder: Path) -> None:
    """Write a network as a CTranslate2 model of int8 weights."""
    from ctranslate2.specs import whisper_spec

    spec = whisper_spec.WhisperSpec(LAYERS, HEADS, LAYERS, HEADS)
    _fill_encoder(spec.encoder, network.encoder)
    _fill_decoder(spec.decoder, network.decoder)
    spec.register_vocabulary(tokens.listed())
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [tokens.tokenizer.token_to_id("Ġ")]
    spec.config.lang_ids = [tokens.tokenizer.token_to_id("<|en|>")]
    spec.config.alignment_heads = [[layer, head] for layer in range(LAYERS // 2, LAYERS) for head in range(HEADS)]
    spec.validate()
    spec.optimize(quantization="int8")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spec.save(str(folder))
    tokens.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "preprocessor_config.json").write_text(json.dumps(FEATURES, indent=1) + "\n")


def _fill_encoder(spec: Any, encoder: Any) -> None:
    _fill(spec.conv1, encoder.narrow)
    _fill(spec.conv2, encoder.halve)
    spec.position_encodings.encodings = _numbers(encoder.positions)
    for to, layer in zip(spec.layer, encoder.layers, strict=True):
        _fill_layer(to, layer)
    _fill_norm(spec.layer_norm, encoder.norm)


def _fill_decoder(spec: Any, decoder: Any) -> None:
    spec.embeddings.weight = _numbers(decoder.tokens.weight)
    spec.projection.weight = spec.embeddings.weight
    spec.position_encodings.encodings = _numbers(decoder.positions)
    for to, layer in zip(spec.layer, decoder.layers, strict=True):
        _fill_layer(to, layer)
        _fill_attention(to.attention.linear, layer.listening, fused=("query",), then=("key", "value"))
        _fill_norm(to.attention.layer_norm, layer.listening_norm)
    _fill_norm(spec.layer_norm, decoder.norm)


def _fill_layer(spec: Any, layer: Layer) -> None:
    _fill_attention(spec.self_attention.linear, layer.attention, fused=("query", "key", "value"))
    _fill_norm(spec.self_attention.layer_norm, layer.attention_norm)
    _fill(spec.ffn.linear_0, layer.up)
    _fill(spec.ffn.linear_1, layer.down)
    _fill_norm(spec.ffn.layer_norm, layer.inner_norm)


def _fill_attention(spec: Any, attention: Attention, fused: tuple[str, ...], then: tuple[str, ...] = ()) -> None:
    """Fill the linear maps of an attention: CTranslate2 keeps those that take the same input in one."""
    for to, names in zip(spec, filter(None, (fused, then)), strict=False):
        maps = [getattr(attention, name) for name in names]
        to.weight = np.concatenate([_numbers(each.weight) for each in maps])
        to.bias = np.concatenate(
            [
                _numbers(each.bias) if each.bias is not None else np.zeros(each.out_features, np.float32)
                for each in maps
            ]
        )
    _fill(spec[-1], attention.out)


def _fill(spec: Any, linear: nn.Linear | nn.Conv1d) -> None:
    spec.weight = _numbers(linear.weight)
    spec.bias = _numbers(linear.bias)


def _fill_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma = _numbers(norm.weight)
    spec.beta = _numbers(norm.bias)


def _numbers(tensor: Any) -> npt.NDArray[np.float32]:
    """Return a copy: CTranslate2 quantises arrays in place."""
    numbers: npt.NDArray[np.float32] = tensor.detach().float().numpy().copy()
    return numbers
