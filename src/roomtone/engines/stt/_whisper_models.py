"""Which Whisper model is used, and what is wrong with those on the disk, told without loading any."""

from __future__ import annotations

import os
import re
from pathlib import Path

from roomtone import models

SIZES = ("tiny", "base", "small", "medium", "large", "turbo")
"""As models are named after their size, the least accurate first."""

SHARE = 4
"""A model whose files are larger than this part of the machine's memory is not chosen, only used where named."""


def missing(model: str | None, folder: Path, language: str) -> str | None:
    """Return what is wrong or lacking and the command that mends it, or None where there is a model to use."""
    if model is not None:
        return models.flaw("whisper", model, folder)
    if best(folder, language) is not None:
        return None
    for name in models.present("whisper", folder):
        if (reason := models.flaw("whisper", name, folder)) is not None:
            return reason
    wanted = "whisper-base.en" if _english(language) else "whisper-base"
    return f"there is no model for {language} in {folder / 'whisper'}; run: roomtone models pull {wanted}"


def best(folder: Path, language: str) -> str | None:
    """Return the name of the largest whole model that knows the language and fits into memory.

    Of two of one size, the one that was made for English alone is better at it, and a distilled one is quicker.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fit = [
        name
        for name in models.installed("whisper", folder)
        if (_english(language) or not _english_only(name))
        and models.size_of(models.path_of("whisper", name, folder)) < memory / SHARE
        and models.flaw("whisper", name, folder) is None
    ]
    return max(fit, key=_rank, default=None)


def _rank(name: str) -> tuple[int, bool, bool, str]:
    parts = re.split(r"[-.]", name)
    size = max((SIZES.index(part) for part in parts if part in SIZES), default=-1)
    return size, name.endswith(".en"), "distil" in parts, name


def _english(language: str) -> bool:
    return language.partition("-")[0] == "en"


def _english_only(name: str) -> bool:
    return name.endswith(".en") or "distil" in name
