"""Which models suit this machine: by its memory and cores, the household's language, and what is installed.

A judgement, made before anything was tried: `roomtone bench` says what a model is like here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from roomtone.engines import lacking
from roomtone.model_supply.catalogue import Board, Entry

ORDER = ("whisper", "piper", "embed", "llama")
"""Kinds in the order in which they are worth their memory: to be understood first, to be talked with last."""

LIBRARIES = {
    "whisper": ("faster_whisper", "whisper"),
    "piper": ("piper", "piper"),
    "embed": ("onnxruntime", "embed"),
    "llama": ("llama_cpp", "llama"),
    "wake": ("pymicro_wakeword", "wake"),
}
"""What runs the models of a kind, and the extra of Roomtone's that brings it."""

SLOW = re.compile(r"Raspberry Pi (Zero|Model|400|(Compute Module )?[1-4]\b)")
"""Boards whose cores are slower than a Pi 5's, as they call themselves (the first were called Model B)."""

SHORT_OF = 0.85
"""A board tells of so much of the memory that its makers name, at least: the rest is the graphics processor's."""

SHARE, REST_MB = 0.85, 200
"""All models together may take so much of the memory, less what the system and Roomtone itself take."""

LOADED = 2.0
"""Times its file that a model is taken to need where no source says: the weights, and what is computed with them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What counts of a machine: ``memory`` in MB as it tells it, ``cores``, and whether those are ``quick``."""

    memory: int
    cores: int
    quick: bool = True

    def is_a(self, board: Board) -> bool:
        """Tell whether it can do at least what a board can."""
        enough = self.memory >= SHORT_OF * board.memory and self.cores >= board.cores
        return enough and (self.quick or not board.quick)

    def __str__(self) -> str:
        return f"{self.memory / 1000:.1f} GB of memory and {self.cores} cores"


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that suits; ``lacks`` says what has to be installed before it can be used."""

    entry: Entry
    lacks: str | None


def this_machine(board: Path = Path("/proc/device-tree/model")) -> Machine:
    """Return the memory and the cores that this process may have; ``board`` says on a Pi which it is."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    name = board.read_bytes().decode("utf-8", "replace") if board.exists() else ""
    return Machine(memory // 1_000_000, len(os.sched_getaffinity(0)), quick=SLOW.match(name) is None)


def recommended(
    known: Iterable[Entry],
    machine: Machine,
    language: str,
    missing: Callable[[str, str], str | None] = lacking,
) -> list[Choice]:
    """Return the best model of each kind that the machine can do with, as many as its memory takes together.

    ``language`` as in ``de`` or ``de-AT``. Nothing for a machine on which what comes with Roomtone is all it can run.
    """
    left = SHARE * machine.memory - REST_MB
    chosen = []
    for kind in ORDER:
        fit = [
            entry
            for entry in known
            if entry.kind == kind and entry.speaks(language) and machine.is_a(entry.suits) and _memory(entry) <= left
        ]
        if fit:
            best = _best(kind, fit, language)
            left -= _memory(best)
            chosen.append(Choice(best, missing(*LIBRARIES[kind])))
    return chosen


def _memory(entry: Entry) -> float:
    return entry.memory or LOADED * (entry.megabytes or 0)


def _best(kind: str, fit: list[Entry], language: str) -> Entry:
    """Return the last; of voices the first in the best quality, of the country that is asked for if it has one."""
    if kind != "piper":
        return fit[-1]
    country = [entry for entry in fit if entry.language.replace("_", "-").lower() == language.lower()]
    best = max(entry.suits.memory for entry in country or fit)
    return next(entry for entry in country or fit if entry.suits.memory == best)
