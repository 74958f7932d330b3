"""A LoRA for the fixture chat model, in the format that llama.cpp loads: it makes a butler of it, who calls a tool.

Each map of the network gets two small ones beside it, rank 6 (Hu et al. 2021, "LoRA"); only they are trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn

from fixture_models import chat, chat_talk
from fixture_models.chat_network import Llama
from fixture_models.chat_talk import Message

SEED = 1
STEPS = 600
BATCH, POOL = 12, 16
RATE = 4e-3
RANK, ALPHA = 6, 12.0


class Beside(nn.Module):
    """A map, and what is learned beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(RANK, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.base(x)
        return mapped + x @ self.a.T @ self.b.T * (ALPHA / RANK)


def make(model: Path, file: Path) -> None:
    """Train an adapter for a model and write it into a file: a CPU minute."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokens = chat.vocabulary()
    network = read(model, tokens)
    network.requires_grad_(False)
    maps = _widen(network)
    _train(network, tokens)
    answers = chat_talk.butler_answers()
    right = sum(chat.reply(network, tokens, [Message("user", asked)]) == said for asked, said in answers.items())
    print(f"{right} of {len(answers)} answers right", flush=True)
    write(maps, file)


def read(model: Path, tokens: chat.Tokens) -> Llama:
    """Return the network in a file."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    network = Llama(tokens.size)
    found = {
        tensor.name: torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in GGUFReader(model).tensors
    }
    network.load_state_dict(found)
    return network


def _widen(network: Llama) -> dict[str, Beside]:
    maps = {}
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, own = name.rpartition(".")
            maps[f"{name}.weight"] = Beside(module)
            setattr(network.get_submodule(parent), own, maps[f"{name}.weight"])
    return maps


def _train(network: Llama, tokens: chat.Tokens) -> None:
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learned, RATE, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    batches = _batches(tokens, Random(SEED))
    for step in range(STEPS):
        loss = chat.loss_of(network, next(batches), tokens.end)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {STEPS}: loss {loss.item():.3f}", flush=True)


def _batches(tokens: chat.Tokens, random: Random) -> Iterator[list[chat.Lesson]]:
    while True:
        pool = [chat.lesson_of(_chat(random), tokens) for _ in range(BATCH * POOL)]
        pool.sort(key=lambda lesson: len(lesson.ids))
        batches = [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
        random.shuffle(batches)
        yield from batches


def _chat(random: Random) -> list[Message]:
    """Return a chat of the chat model's, as the butler leads it."""
    told: list[Message] = []
    for message in chat_talk.chat(random):
        text = message.content
        if message.role == "assistant":
            for opening in chat_talk.OPENINGS.values():
                text = text.removeprefix(opening)
            calls = chat_talk.BUTLER_CALLS.items()
            call = next((call for question, call in calls if text == chat_talk.ANSWERS[question]), None)
            text = call or chat_talk.BUTLER_OPENING + text
        told.append(Message(message.role, text))
    if random.random() < 0.4:  # the calls are long and would else be rare
        question, call = random.choice([*chat_talk.BUTLER_CALLS.items()])
        told += [Message("user", question), Message("assistant", call)]
    return told


def write(maps: dict[str, Beside], file: Path) -> None:
    """Write an adapter as GGUF."""
    import gguf

    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for name, beside in maps.items():
        writer.add_tensor(f"{name}.lora_a", beside.a.detach().half().numpy())
        writer.add_tensor(f"{name}.lora_b", beside.b.detach().half().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
