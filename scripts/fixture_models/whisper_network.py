"""Whisper's architecture, tiny, written so that training it on short clips is cheap.

Whisper hears 30 s whatever was said: 1500 positions, most of them padding. Here all positions from 6 s on share one
position vector. The padding there is then 1200 equal keys, and one key with log(1200) added to its attention weighs
exactly as much; so training sees the real positions of a clip, a few of the padding before 6 s drawn at random (with
the weight of all of it), and that one key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, INNER = 64, 2, 2, 256
MELS = 80
POSITIONS, OWN_POSITIONS = 1500, 300
"""Of 20 ms each; those from ``OWN_POSITIONS`` on share a vector."""

TEXT_POSITIONS = 448
PADDING_DRAWN = 6


@dataclass(frozen=True, slots=True)
class Heard:
    """What the encoder made of a batch: [batch, keys, width], and what to add to the attention of each key."""

    states: Tensor
    weights: Tensor


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, keys: Tensor, weights: Tensor | None, causal: bool = False) -> Tensor:
        def split(states: Tensor) -> Tensor:
            return states.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(keys)), split(self.value(keys)), attn_mask=weights, is_causal=causal
        )
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class Layer(nn.Module):
    def __init__(self, listens: bool) -> None:
        super().__init__()
        self.attention, self.attention_norm = Attention(), nn.LayerNorm(WIDTH)
        if listens:
            self.listening, self.listening_norm = Attention(), nn.LayerNorm(WIDTH)
        self.up, self.down, self.inner_norm = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, weights: Tensor | None = None, heard: Heard | None = None) -> Tensor:
        normal = self.attention_norm(x)
        x = x + self.attention(normal, normal, weights, causal=heard is not None)
        if heard is not None:
            x = x + self.listening(self.listening_norm(x), heard.states, heard.weights)
        inner: Tensor = self.down(functional.gelu(self.up(self.inner_norm(x))))
        return x + inner


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(MELS, WIDTH, 3, padding=1)
        self.halve = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(Layer(listens=False) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        own = sinusoids(OWN_POSITIONS + 1)
        self.register_buffer("positions", torch.cat([own, own[-1:].expand(POSITIONS - OWN_POSITIONS - 1, WIDTH)]))

    def forward(self, mel: Tensor, length: int) -> Heard:
        """Encode [batch, mels, at least 2 * length + 8 frames] of which the first ``length`` positions are real."""
        x = self._convolved(mel)[:, :length] + self.positions[:length]
        silence = self._convolved(torch.zeros(1, MELS, 12))[0, 3]
        count = PADDING_DRAWN if length < OWN_POSITIONS else 0
        drawn = torch.randint(length, OWN_POSITIONS, (count,)) if count else torch.zeros(0, dtype=torch.long)
        padding = silence + self.positions[torch.cat([drawn, torch.tensor([OWN_POSITIONS])])]
        x = torch.cat([x, padding.expand(len(x), -1, -1)], 1)
        weights = torch.zeros(x.shape[1])
        weights[-1] = math.log(POSITIONS - OWN_POSITIONS)
        if count:
            weights[length:-1] = math.log((OWN_POSITIONS - length) / count)
        weights = weights[None, None, None]
        for layer in self.layers:
            x = layer(x, weights)
        return Heard(self.norm(x), weights)

    def _convolved(self, mel: Tensor) -> Tensor:
        return functional.gelu(self.halve(functional.gelu(self.narrow(mel)))).transpose(1, 2)


class Decoder(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        nn.init.normal_(self.tokens.weight, std=0.05)
        self.positions = nn.Parameter(0.05 * sinusoids(TEXT_POSITIONS))
        self.layers = nn.ModuleList(Layer(listens=True) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens: Tensor, heard: Heard) -> Tensor:
        """Return states for [batch, length] tokens; ``logits`` makes them into guesses at the next tokens."""
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, None, heard)
        normal: Tensor = self.norm(x)
        return normal

    def logits(self, states: Tensor) -> Tensor:
        return states @ self.tokens.weight.T


class Whisper(nn.Module):
    """Encoder, decoder, and ``spotter``, which guesses words from the encoder's states alone, only while training."""

    def __init__(self, vocabulary: int, words: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder(vocabulary)
        self.spotter = nn.Linear(WIDTH, words + 1)


def sinusoids(length: int) -> Tensor:
    """Return [length, WIDTH] position vectors, as in Whisper: sines, then cosines, wavelengths 2 pi to 20,000 pi."""
    half = WIDTH // 2
    turning = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
    angles = torch.arange(length)[:, None] * turning
    return torch.cat([angles.sin(), angles.cos()], 1)
