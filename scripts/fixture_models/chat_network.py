"""Llama's architecture, tiny. Tensors are named as GGUF names them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, INNER = 96, 3, 3, 256
EPSILON = 1e-5
ROPE_BASE = 10_000.0


class Norm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * self.weight


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn_norm, self.ffn_norm = Norm(), Norm()
        self.attn_q, self.attn_k, self.attn_v, self.attn_output = (_map(WIDTH, WIDTH) for _ in range(4))
        self.ffn_gate, self.ffn_up, self.ffn_down = _map(WIDTH, INNER), _map(WIDTH, INNER), _map(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.attn_norm(x)
        query, key, value = (_split(each(normal)) for each in (self.attn_q, self.attn_k, self.attn_v))
        mixed = functional.scaled_dot_product_attention(_turned(query), _turned(key), value, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).flatten(2))
        normal = self.ffn_norm(x)
        inner: Tensor = self.ffn_down(functional.silu(self.ffn_gate(normal)) * self.ffn_up(normal))
        return x + inner


class Llama(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.token_embd = nn.Embedding(vocabulary, WIDTH)
        nn.init.normal_(self.token_embd.weight, std=0.05)
        self.blk = nn.ModuleList(Block() for _ in range(LAYERS))
        self.output_norm = Norm()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [batch, length, width] states for tokens; ``logits`` makes them into guesses at the next ones."""
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x)
        normal: Tensor = self.output_norm(x)
        return normal

    def logits(self, states: Tensor) -> Tensor:
        return states @ self.token_embd.weight.T


def _map(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def _split(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def _turned(x: Tensor) -> Tensor:
    """Turn pairs of neighbours by their position (rotary embedding, Su et al. 2021), as llama.cpp does for llama."""
    length, width = x.shape[-2:]
    angles = torch.arange(length)[:, None] * ROPE_BASE ** (-torch.arange(0, width, 2) / width)
    cosine, sine = angles.cos(), angles.sin()
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).flatten(-2)
