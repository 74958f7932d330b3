"""A tokenizer of Whisper's shape: byte-level BPE over our phrases, then Whisper's special tokens and timestamps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SPECIAL = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"),
    *("<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)
"""In the order of Whisper's own: all text comes before the first, all timestamps after the last."""

TIMESTAMPS = 1501
"""Every 20 ms from 0 to 30 s."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A vocabulary, and the ids of the special tokens that training needs."""

    tokenizer: Any
    end: int = field(init=False)
    start: int = field(init=False)
    previous: int = field(init=False)
    no_speech: int = field(init=False)
    no_timestamps: int = field(init=False)

    def __post_init__(self) -> None:
        names = {
            "end": "endoftext",
            "start": "startoftranscript",
            "previous": "startofprev",
            "no_speech": "nospeech",
            "no_timestamps": "notimestamps",
        }
        for name, token in names.items():
            object.__setattr__(self, name, self.tokenizer.token_to_id(f"<|{token}|>"))

    @property
    def size(self) -> int:
        return self.no_timestamps + 1 + TIMESTAMPS

    def text(self, phrase: str) -> list[int]:
        """Return the tokens of a phrase; in Whisper's vocabulary every word begins with its space."""
        ids: list[int] = self.tokenizer.encode(f" {phrase}", add_special_tokens=False).ids
        return ids

    def time(self, seconds: float) -> int:
        """Return the timestamp nearest to a time, to 0.1 s."""
        return self.no_timestamps + 1 + round(min(seconds, 30.0) * 10) * 5

    def listed(self) -> list[str]:
        """Return the whole vocabulary in order of its ids."""
        by_id = {number: token for token, number in self.tokenizer.get_vocab().items()}
        times = [f"<|{step * 0.02:.2f}|>" for step in range(TIMESTAMPS)]
        return [by_id[number] for number in range(self.no_timestamps + 1)] + times


def learn(phrases: list[str]) -> Tokens:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # faster-whisper suppresses the first token of " -" and of " '": without merges of their own that is every space.
    tokenizer.train_from_iterator([*(f" {phrase}" for phrase in phrases), " -", " '"], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    begin = "<|startoftranscript|> <|notimestamps|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A:0 <|endoftext|>",
        pair=f"{begin} $A:0 $B:1 <|endoftext|>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (*begin.split(), "<|endoftext|>")],
    )
    return Tokens(tokenizer)
