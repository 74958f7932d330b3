"""What `roomtone models` shows: the catalogue and what is here, what suits this machine, sticks, progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from roomtone import models
from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.core.errors import RoomtoneError
from roomtone.engines.llm import llama_cpp
from roomtone.engines.stt import _whisper_models
from roomtone.engines.tts import piper
from roomtone.model_supply import sticks
from roomtone.model_supply.catalogue import Entry, catalogue
from roomtone.model_supply.choice import Choice, Machine, recommended, this_machine

SEAMS = {"whisper": "stt", "piper": "tts"}
TITLES = {
    "whisper": "Recognisers",
    "piper": "Voices",
    "llama": "Language models",
    "embed": "Embedders, for memories and knowledge",
    "wake": "Wake words",
}
MARKS = {(True, True): "*+", (True, False): "*", (False, True): "+", (False, False): ""}
"""What stands before a model that is in use, that is recommended."""

COLUMNS = ("", "name", "disk", "memory", "language", "licence", "for", "from", "here")
NARROW, WIDE = ("", "name", "disk", "language", "licence", "here"), 130
"""What is shown on a narrow terminal, and characters from which there is room for all."""


def recommended_here(settings: Settings) -> tuple[Machine, list[Choice]]:
    """Return this machine, and the models that suit it and the language that is spoken in the house."""
    machine = this_machine()
    return machine, recommended(catalogue().values(), machine, settings.language)


# ---------------------------------------------------------------------------------------------- list


def show_list(folder: Path, settings: Settings, *, only_recommended: bool, as_json: bool) -> None:
    """Print the catalogue and what is here, or only what is recommended."""
    machine, choices = recommended_here(settings)
    suited = {choice.entry.typed: choice for choice in choices}
    rows = [row for row in _rows(folder, settings, suited) if row["recommended"] or not only_recommended]
    if as_json:
        for row in rows:
            say_json(row)
        return
    for kind in models.KINDS:
        _show(TITLES[kind], [row for row in rows if row["kind"] == kind])
    if not only_recommended:
        say_line(f"* in use, + recommended for this machine. Models lie in {folder}.")
    _show_choice(machine, choices, settings)


def _show_choice(machine: Machine, choices: list[Choice], settings: Settings) -> None:
    said = f"This machine has {machine}; the language is {settings.language}."
    if not choices:
        say_line(f"{said} What comes with Roomtone is what it can run.")
        return
    say_line(f"{said} To get what is recommended: roomtone models pull recommended")
    for choice in choices:
        if choice.lacks is not None:
            say_line(f"  for {choice.entry.typed}: {choice.lacks}")


def _rows(folder: Path, settings: Settings, suited: dict[str, Choice]) -> Iterator[dict[str, Any]]:
    """Describe every model of the catalogue, and every other one that is here or pinned."""
    known = catalogue()
    there = models.there(folder)
    for kind in models.KINDS:
        used = _used(kind, settings, folder)
        listed = [entry.name for entry in known.values() if entry.kind == kind]
        for name in [*listed, *(name for of, name in there if of == kind and name not in listed)]:
            typed = models.typed(kind, name)
            entry = known.get(typed)
            state, why = _state(kind, name, folder, entry)
            yield {
                "name": typed,
                "kind": kind,
                "state": state,
                "used": name in used and state == "installed",
                "recommended": typed in suited,
                "pinned": models.pinned(kind, name, folder) is not None,
                "bytes": models.size_of(models.path_of(kind, name, folder)) or None,
                "megabytes": entry.megabytes if entry else None,
                "memory_megabytes": entry.memory if entry else None,
                "language": entry.language if entry else None,
                "licence": entry.licence if entry else None,
                "use": entry.use if entry else None,
                "suits": entry.suits.name if entry else None,
                "wrong": why,
            }


def _state(kind: str, name: str, folder: Path, entry: Entry | None) -> tuple[str, str | None]:
    """Tell whether a model is installed, incomplete, begun or absent, and what is wrong with it."""
    if name in models.present(kind, folder):
        faults = models.verify(kind, name, folder, thorough=False)
        return ("incomplete", str(faults[0])) if faults else ("installed", None)
    if entry is not None and not entry.files:
        return "with its package", None
    waiting = models.arrived(kind, name, folder)
    return ("begun", f"{models.megabytes(waiting)} have arrived") if waiting else ("absent", None)


def _used(kind: str, settings: Settings, folder: Path) -> set[str | None]:
    """Return the models of a kind that are in use as configured; none where the seam's engine is another."""
    if kind == "llama":
        providers = [one for one in settings.llm.providers.values() if one.engine == "llama_cpp"]
        asked = [one.keys.get("model") for one in providers] or ([] if settings.llm.providers else [None])
        return {str(name).removeprefix("llm-") if name else llama_cpp.best(folder) for name in asked}
    try:
        engine, keys = settings.engine(SEAMS[kind])
    except (RoomtoneError, LookupError):
        return set()
    if engine != kind:
        return set()
    chosen: Any = keys
    if kind == "piper":
        return {chosen.voice.removesuffix(".onnx") if chosen.voice else piper.find_voice(chosen)}
    named = chosen.model.removeprefix("whisper-") if chosen.model else None
    return {named or _whisper_models.best(chosen.models_dir, chosen.language)}


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=False)
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for heading in COLUMNS if console.width >= WIDE else NARROW:
        table.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for row in rows:
        state = "" if row["state"] == "absent" else row["state"]
        cells = {
            "": MARKS[row["used"], row["recommended"]],
            "name": row["name"],
            "disk": models.megabytes(row["bytes"]) if row["bytes"] else _mb(row["megabytes"]),
            "memory": _mb(row["memory_megabytes"]),
            "language": row["language"],
            "licence": row["licence"],
            "for": row["use"],
            "from": row["suits"],
            "here": escape(f"{state}; {row['wrong']}" if row["wrong"] else state),
        }
        table.add_row(*(cells[str(column.header)] or "" for column in table.columns))
    console.print(table)


def _mb(megabytes: int | None) -> str:
    return f"{megabytes} MB" if megabytes else ""


# --------------------------------------------------------------------------------------------- sticks


def show_sticks(*, as_json: bool) -> int:
    """Print the USB sticks that are plugged in and the models on them; exit code 1 where there is none."""
    plugged = sticks.plugged()
    for stick in plugged:
        found = sticks.candidates(stick.mounted)[0] if stick.mounted else []
        if as_json:
            say_json({"device": stick.device, "mounted": stick.mounted, "models": found, "mount": stick.mounting})
        elif stick.mounted is None:
            say_line(f"{stick.device} is not mounted; run: {stick.mounting} && roomtone models import /media/usb")
        else:
            count = f"{len(found)} models" if len(found) != 1 else "1 model"
            say_line(f"{stick.device} holds {count}; to take them in: roomtone models import {stick.mounted}")
    if not plugged and not as_json:
        say_line("No USB stick is plugged in. To take in a folder or a file: roomtone models import PATH")
    return 0 if plugged else 1


# ------------------------------------------------------------------------------------------------ bar


WORTH_A_LINE = 10_000_000
"""Bytes from which a file's beginning is told where there is no terminal to show a bar on."""


class _Bar:
    """Shows a pull's progress on a terminal."""

    def __init__(self, progress: Any, name: str) -> None:
        self._progress = progress
        self._name = name
        self._task: Any = None

    def begin(self, file: str, done: int, total: int) -> None:
        if self._progress.disable and total - done > WORTH_A_LINE:
            sys.stderr.write(f"roomtone: fetching {self._name} {file}, {models.megabytes(total - done)}\n")
        self._task = self._progress.add_task(f"{self._name} {file}", completed=done, total=total)

    def move(self, count: int) -> None:
        self._progress.advance(self._task, count)


@contextmanager
def bar(name: str) -> Iterator[_Bar]:
    """Show how a model arrives, where somebody looks at a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        yield _Bar(progress, name)
