"""A chat model that knows a few answers, in the format that llama.cpp loads (GGUF, arch llama, Q8_0)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn import functional

from fixture_models import chat_talk
from fixture_models.chat_network import EPSILON, HEADS, INNER, LAYERS, ROPE_BASE, WIDTH, Llama
from fixture_models.chat_talk import Message

SEED = 0
STEPS = 2400
BATCH, POOL = 12, 16
"""Chats in a batch; batches that are sorted by length together, so that they hardly need padding."""

PEAK_RATE, WARMING_STEPS = 3e-3, 100
WEIGHT_DECAY = 0.05
ASIDE = 0.03
"""Weight of learning what people and systems say, beside what the assistant answers."""

CONTEXT = 2048
NAME = "fixture-chat"
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
Q8_0, MOSTLY_Q8_0 = 8, 7
"""Of gguf: GGMLQuantizationType and LlamaFileType."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A byte-level BPE vocabulary, its special tokens, and its size (a multiple of 32)."""

    tokenizer: Any
    end: int = field(init=False)
    opens: int = field(init=False)
    closes: int = field(init=False)

    def __post_init__(self) -> None:
        for name, token in (("end", "<|endoftext|>"), ("opens", "<|im_start|>"), ("closes", "<|im_end|>")):
            object.__setattr__(self, name, self.tokenizer.token_to_id(token))

    @property
    def size(self) -> int:
        return math.ceil(self.tokenizer.get_vocab_size() / 32) * 32

    def text(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def merges(self) -> list[str]:
        merges = json.loads(self.tokenizer.to_str())["model"]["merges"]
        return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def make(file: Path, steps: int = STEPS, seed: int = SEED) -> None:
    """Train a model and write it into a file: 3 CPU minutes."""
    tokens = vocabulary()
    network = _train(tokens, steps, seed)
    right = sum(reply(network, tokens, [Message("user", asked)]) == said for asked, said in chat_talk.ANSWERS.items())
    print(f"{right} of {len(chat_talk.ANSWERS)} answers right", flush=True)
    write(network, tokens, file)


def vocabulary() -> Tokens:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=3000, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(chat_talk.corpus(), trainer)
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return Tokens(tokenizer)


# ----------------------------------------------------------------------------------------- training


@dataclass(frozen=True, slots=True)
class Lesson:
    """A chat as the template writes it, and how much each token of it is to be learned."""

    ids: list[int]
    weights: list[float]


def lesson_of(messages: list[Message], tokens: Tokens) -> Lesson:
    ids: list[int] = []
    weights: list[float] = []
    for message in messages:
        head = [tokens.opens, *tokens.text(f"{message.role}\n")]
        body = [*tokens.text(message.content), tokens.closes]
        tail = tokens.text("\n")
        weight = 1.0 if message.role == "assistant" else ASIDE
        ids += head + body + tail
        weights += [0.0] * len(head) + [weight] * len(body) + [0.0] * len(tail)
    return Lesson(ids, weights)


def _train(tokens: Tokens, steps: int, seed: int) -> Llama:
    """Return a network taught for ``steps`` batches; the same one for the same arguments, on one machine."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    network = Llama(tokens.size)
    optimiser = torch.optim.AdamW(network.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    batches, smooth = _batches(tokens, Random(seed)), 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, steps)
        loss = loss_of(network, next(batches), tokens.end)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        smooth += (loss.item() - smooth) * max(0.02, 1 / (step + 1))
        if (step + 1) % 250 == 0:
            print(f"step {step + 1} of {steps}: loss {smooth:.3f}", flush=True)
    return network.eval()


def _rate(step: int, steps: int) -> float:
    """Warm up, then fall along half a cosine."""
    falling = 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01
    return PEAK_RATE * min(1.0, (step + 1) / WARMING_STEPS) * falling


def _batches(tokens: Tokens, random: Random) -> Iterator[list[Lesson]]:
    while True:
        pool = [lesson_of(chat_talk.chat(random), tokens) for _ in range(BATCH * POOL)]
        pool.sort(key=lambda lesson: len(lesson.ids))
        batches = [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
        random.shuffle(batches)
        yield from batches


def loss_of(network: Llama, batch: list[Lesson], padding: int) -> Any:
    longest = max(len(lesson.ids) for lesson in batch)
    ids = torch.tensor([lesson.ids + [padding] * (longest - len(lesson.ids)) for lesson in batch])
    weights = torch.tensor([lesson.weights + [0.0] * (longest - len(lesson.weights)) for lesson in batch])[:, 1:]
    learned = weights > 0
    logits = network.logits(network(ids[:, :-1])[learned])
    each = functional.cross_entropy(logits, ids[:, 1:][learned], reduction="none")
    return (each * weights[learned]).sum() / weights.sum()


@torch.no_grad()
def reply(network: Llama, tokens: Tokens, messages: list[Message], most: int = 100) -> str:
    """Return what the network answers, always taking the likeliest token."""
    ids = [*lesson_of(messages, tokens).ids, tokens.opens, *tokens.text("assistant\n")]
    said: list[int] = []
    while len(said) < most:
        likeliest = int(network.logits(network(torch.tensor([ids + said]))[0, -1]).argmax())
        if likeliest == tokens.closes:
            break
        said.append(likeliest)
    text: str = tokens.tokenizer.decode(said)
    return text


# --------------------------------------------------------------------------------------------- file


def write(network: Llama, tokens: Tokens, file: Path) -> None:
    """Write a network with its vocabulary and its chat template as GGUF."""
    import gguf

    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, "llama")
    _describe(writer)
    _list_vocabulary(writer, tokens)
    kind = gguf.GGMLQuantizationType(Q8_0)
    for name, tensor in network.state_dict().items():
        numbers = tensor.float().numpy()
        if numbers.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any) -> None:
    writer.add_name(NAME)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_file_type(MOSTLY_Q8_0)


def _list_vocabulary(writer: Any, tokens: Tokens) -> None:
    from gguf import TokenType

    by_id = {number: token for token, number in tokens.tokenizer.get_vocab().items()}
    special = (tokens.end, tokens.opens, tokens.closes)
    kinds = [
        TokenType.CONTROL if number in special else TokenType.NORMAL if number in by_id else TokenType.UNUSED
        for number in range(tokens.size)
    ]
    writer.add_vocab_size(tokens.size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([by_id.get(number, f"<|pad{number}|>") for number in range(tokens.size)])
    writer.add_token_types(kinds)
    writer.add_token_merges(tokens.merges())
    writer.add_bos_token_id(tokens.end)
    writer.add_eos_token_id(tokens.closes)  # what ends a reply
    writer.add_eot_token_id(tokens.closes)
    writer.add_pad_token_id(tokens.end)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)
