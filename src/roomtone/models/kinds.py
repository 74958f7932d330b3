"""The kinds of models: where those of a kind lie, what they consist of, and how people type their names."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from roomtone.core.errors import UsageError

log = logging.getLogger(__name__)

NAME = re.compile(r"\w[\w.+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Form:
    """How models of a kind lie on the disk, and what stands before their names as people type them.

    Either ``endings`` of files that are called as the model is, or the files of a folder: those it must have, and
    those it may have. No other file is ever taken.
    """

    prefix: str
    endings: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()

    def path(self, name: str, folder: Path) -> Path:
        """Return where a model is in the folder of its kind."""
        return folder / f"{name}{self.endings[0] if self.endings else ''}"

    def parts(self, model: Path) -> list[Path]:
        """List the files that the model at a path must have."""
        if not self.endings:
            return [model / name for name in self.needed]
        stem = model.name.removesuffix(self.endings[0])
        return [model.with_name(f"{stem}{ending}") for ending in self.endings]


FORMS = {
    "whisper": Form(
        "whisper-",
        needed=("config.json", "model.bin", "tokenizer.json"),
        extras=("vocabulary.json", "vocabulary.txt", "preprocessor_config.json"),
    ),
    "piper": Form("", endings=(".onnx", ".onnx.json")),
    "llama": Form("llm-", endings=(".gguf",)),
    "embed": Form("embed-", needed=("model.onnx", "tokenizer.json"), extras=("config.json",)),
    "wake": Form("wake-", endings=(".json", ".tflite")),
}
KINDS = tuple(FORMS)


def path_of(kind: str, name: str, models: Path) -> Path:
    """Return where a model lies or would lie: a folder, or the file whose name ends as the kind's do."""
    return FORMS[kind].path(name, models / kind)


def installed(kind: str, models: Path) -> list[str]:
    """List the models of a kind that have all their files, by name."""
    return [name for name in present(kind, models) if lacking(kind, path_of(kind, name, models)) is None]


def present(kind: str, models: Path) -> list[str]:
    """List the models of a kind of which there is anything, whole or not; none where the folder may not be read."""
    folder, endings = models / kind, FORMS[kind].endings
    if not may_be_read(models):
        _tell_once(models)
        return []
    if not endings:
        return sorted(path.name for path in folder.glob("*") if path.is_dir() and NAME.fullmatch(path.name))
    return sorted({path.name.removesuffix(ending) for ending in endings for path in folder.glob(f"*{ending}")})


def may_be_read(models: Path) -> bool:
    """Tell whether this user may look into the models folder, where there is one."""
    try:
        return not models.is_dir() or os.access(models, os.R_OK | os.X_OK)
    except PermissionError:  # of a folder above it
        return False


@cache
def _tell_once(models: Path) -> None:
    log.warning("%s may not be read by this user, so no model in it is used; see its owner", models)


def lacking(kind: str, model: Path) -> str | None:
    """Return what a model at a path lacks (one line, no mending), or None where all its files are there."""
    absent = [path for path in FORMS[kind].parts(model) if not path.is_file() or not path.stat().st_size]
    return f"{absent[0]} is missing or empty" if absent else None


def files_of(kind: str, model: Path) -> list[Path]:
    """List the files a model consists of, those it must have first, whether or not they are there."""
    extras = [model / name for name in FORMS[kind].extras]
    return [*FORMS[kind].parts(model), *(path for path in extras if path.is_file())]


def size_of(model: Path) -> int:
    """Return how many bytes of the model at a path are on the disk."""
    form = FORMS.get(model.parent.name)
    files = list(model.iterdir()) if model.is_dir() else form.parts(model) if form else [model]
    return sum(path.stat().st_size for path in files if path.is_file())


def typed(kind: str, name: str) -> str:
    """Return a model's name as people type it: ``whisper-base.en``, ``en_US-amy-low``, ``llm-qwen3-4b``."""
    return f"{FORMS[kind].prefix}{name}"


def read_name(text: str) -> tuple[str, str]:
    """Take a name that was typed apart, into kind and name. Raises UsageError for what can be no model's name."""
    kind = next((kind for kind, form in FORMS.items() if form.prefix and text.startswith(form.prefix)), "piper")
    name = text.removeprefix(FORMS[kind].prefix).removesuffix(".onnx")
    if not NAME.fullmatch(name):
        raise UsageError(f"'{text}' cannot be a model's name; roomtone models list shows those there are")
    return kind, name


def megabytes(size: int) -> str:
    """Write a size for a person."""
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"
