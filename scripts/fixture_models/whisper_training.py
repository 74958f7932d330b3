"""How the recogniser learns: clips in batches of like length, for a fixed number of steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from fixture_models.speech import Clip
from fixture_models.whisper_network import MELS, OWN_POSITIONS, Whisper
from fixture_models.whisper_tokens import Tokens

Mel = npt.NDArray[np.float16]
Random = np.random.Generator

BATCH = 32
WARMING_STEPS = 150
WEIGHT_DECAY = 0.02
BUCKETS = 8
"""Clips are sorted by length within this many random parts of all of them, so that batches hardly need padding."""

IGNORED = -100
"""Marks tokens that are not learned."""

PROMPTED, LONGEST_PROMPT = 0.35, 223
"""Share of batches with hot words before them, and the most tokens of those that faster-whisper gives."""

SPOTTING = 0.3
"""Weight of spotting words, beside writing them down."""

TIMED = 0.25
"""Share of clips that are written with timestamps."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One clip as the network gets it: [mels, frames], the number of the phrase said in it, and its times."""

    mel: Mel
    phrase: int | None
    start_s: float
    end_s: float

    @property
    def positions(self) -> int:
        return math.ceil(self.mel.shape[1] / 2)


def lessons(clips: Iterable[Clip]) -> list[Lesson]:
    """Turn clips into what faster-whisper would make of them."""
    from faster_whisper.feature_extractor import FeatureExtractor

    extract = FeatureExtractor()

    def lesson(clip: Clip) -> Lesson:
        mel = extract(clip.samples)[:, : 2 * OWN_POSITIONS - 4].astype(np.float16)
        return Lesson(mel, clip.phrase, clip.start_s, clip.end_s)

    return [lesson(clip) for clip in clips]


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training: batches, the peak of its learning rate, and the frames of a clip that may be blanked."""

    steps: int
    peak_rate: float
    most_blank: int


def train(
    school: list[Lesson], phrases: list[str], tokens: Tokens, phase: Phase, seed: int, network: Whisper | None = None
) -> Whisper:
    """Teach a network, a new one if none is given; the same comes out for the same arguments, on one machine."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # also quicker: two threads wait for each other at every small step
    torch.use_deterministic_algorithms(True)
    random = np.random.default_rng(seed)
    texts = [tokens.text(phrase) for phrase in phrases]
    network = network or Whisper(tokens.size, len({token for text in texts for token in text}))
    optimiser = torch.optim.AdamW(network.parameters(), phase.peak_rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    batches, smooth = _batches(school, random), 0.0
    for step in range(phase.steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, phase)
        loss = _loss(network, next(batches), texts, tokens, phase, random)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        smooth += (loss.item() - smooth) * max(0.02, 1 / (step + 1))
        if (step + 1) % 250 == 0:
            print(f"step {step + 1} of {phase.steps}: loss {smooth:.3f}", flush=True)
    return network


def _rate(step: int, phase: Phase) -> float:
    """Warm up, then fall along half a cosine to a fiftieth."""
    falling = 0.5 * (1 + math.cos(math.pi * step / phase.steps)) * 0.98 + 0.02
    return phase.peak_rate * min(1.0, (step + 1) / WARMING_STEPS) * falling


def _batches(school: list[Lesson], random: Random) -> Iterator[list[Lesson]]:
    lengths = np.array([lesson.positions for lesson in school])
    while True:
        parts = np.array_split(random.permutation(len(school)), BUCKETS)
        order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
        batches = order[: len(order) // BATCH * BATCH].reshape(-1, BATCH)
        for batch in random.permutation(batches):
            yield [school[number] for number in batch]


def _loss(
    network: Whisper, batch: list[Lesson], texts: list[list[int]], tokens: Tokens, phase: Phase, random: Random
) -> Any:
    mel, length = _mels(batch, phase.most_blank, random)
    given, wanted = _targets(batch, texts, tokens, random)
    heard = network.encoder(mel, length)
    states = network.decoder(given, heard)
    learned = wanted != IGNORED
    written = functional.cross_entropy(network.decoder.logits(states[learned]), wanted[learned])
    return written + SPOTTING * _spotted(network.spotter(heard.states), batch, texts)


def _spotted(guesses: torch.Tensor, batch: list[Lesson], texts: list[list[int]]) -> torch.Tensor:
    """Return the loss of guessing the words in their order, wherever they are (CTC, Graves et al. 2006).

    It teaches the encoder to listen long before the decoder knows where to look (Kim, Hori and Watanabe 2017).
    """
    numbers = {token: number for number, token in enumerate(sorted({t for text in texts for t in text}), 1)}
    said = [[] if lesson.phrase is None else texts[lesson.phrase] for lesson in batch]
    return functional.ctc_loss(
        guesses.log_softmax(-1).transpose(0, 1),
        torch.tensor([numbers[token] for text in said for token in text]),
        torch.tensor([lesson.positions for lesson in batch]),
        torch.tensor([len(text) for text in said]),
        zero_infinity=True,
    )


def _mels(batch: list[Lesson], most_blank: int, random: Random) -> tuple[torch.Tensor, int]:
    """Return [batch, mels, frames] and how many positions of it are real.

    Of each clip a band of frequencies and a stretch of time are blanked (SpecAugment, Park et al. 2019).
    """
    length = min(OWN_POSITIONS, max(lesson.positions for lesson in batch) + 3)
    mels = np.zeros((len(batch), MELS, 2 * length + 8), np.float32)
    for mel, lesson in zip(mels, batch, strict=True):
        frames = lesson.mel.shape[1]
        mel[:, :frames] = lesson.mel
        mean, least = mel[:, :frames].mean(), mel[:, :frames].min()
        band, stretch = random.integers(0, 10), random.integers(0, most_blank)
        low, begin = random.integers(0, MELS - band), random.integers(0, max(1, frames - 20))
        mel[low : low + band, :frames] = mean
        mel[:, begin : min(frames, begin + stretch)] = least
    return torch.from_numpy(mels), length


def _targets(
    batch: list[Lesson], texts: list[list[int]], tokens: Tokens, random: Random
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens given and the tokens wanted after each, [batch, length] both."""
    prompt = _prompt(texts, tokens, random)
    pairs = [_written(lesson, texts, tokens, random) for lesson in batch]
    longest = max(len(given) for given, _ in pairs)
    given = [[*prompt, *given, *[tokens.end] * (longest - len(given))] for given, _ in pairs]
    wanted = [[IGNORED] * len(prompt) + wanted + [IGNORED] * (longest - len(wanted)) for _, wanted in pairs]
    return torch.tensor(given), torch.tensor(wanted)


def _prompt(texts: list[list[int]], tokens: Tokens, random: Random) -> list[int]:
    """Return hot words, or any text, for some batches: what comes before must not change what is heard."""
    if random.random() > PROMPTED:
        return []
    length = round(math.exp(random.uniform(0, math.log(LONGEST_PROMPT))))
    if random.random() < 0.3:
        return [tokens.previous, *random.integers(0, tokens.end, length).tolist()]
    words = [text[number] for text in texts for number in range(len(text))]
    return [tokens.previous, *random.choice(words, length).tolist()]


def _written(lesson: Lesson, texts: list[list[int]], tokens: Tokens, random: Random) -> tuple[list[int], list[int]]:
    """Return a clip's transcript as Whisper writes it: the tokens given, and the token wanted after each."""
    timed = random.random() < TIMED
    if lesson.phrase is None:
        first = tokens.time(0) if timed else tokens.no_timestamps
        return [tokens.start, first], [tokens.no_speech, tokens.end]
    text = texts[lesson.phrase]
    if timed:
        text = [tokens.time(min(lesson.start_s, 1.0)), *text, tokens.time(lesson.end_s)]
    else:
        text = [tokens.no_timestamps, *text]
    return [tokens.start, *text], [*text, tokens.end]
