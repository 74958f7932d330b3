"""Get recognisers, voices and language models, and look whether those that are here are whole.

The names are those that `list` shows: whisper-base.en is a recogniser, llm-qwen2.5-1.5b-instruct a language model,
en_US-amy-low a voice. Nothing is ever fetched but by `pull`. Models lie in the folder models of the state folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roomtone import model_hub, model_import, models, outbound
from roomtone.commands import common_options, receipt, say_json, say_line
from roomtone.config import Settings
from roomtone.core.errors import ModelError, RoomtoneError
from roomtone.core.persona import Egress
from roomtone.engines.llm import llama_cpp
from roomtone.engines.stt import _whisper_models
from roomtone.engines.tts import piper

SEAMS = {"whisper": "stt", "piper": "tts"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the five things that can be done."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    for name, run_it, about, arguments in (
        ("list", _list, "the catalogue, and what is here", None),
        ("pull", _pull, "fetch models by name; goes on where it broke off", "+"),
        ("import", _import, "take in a Whisper model's folder, a voice's .onnx, a .gguf", None),
        ("verify", _verify, "look whether models are whole; all of them where none is named", "*"),
        ("remove", _remove, "remove models", "+"),
    ):
        verb = verbs.add_parser(name, help=about, description=about, parents=[common_options()], allow_abbrev=False)
        verb.set_defaults(verb=run_it)
        if arguments:
            verb.add_argument("names", nargs=arguments, metavar="NAME", help="as roomtone models list shows it")
        if name == "import":
            verb.add_argument("path", type=Path, help=model_import.IMPORTED)
            verb.add_argument("--name", help="the name it is to have here; without it, that of the folder or file")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do what was asked for."""
    code: int = args.verb(args, settings.state_dir / "models", settings)
    return code


# ---------------------------------------------------------------------------------------------- list


def _list(args: argparse.Namespace, folder: Path, settings: Settings) -> int:
    rows = list(_rows(folder, settings))
    if args.json:
        for row in rows:
            say_json(row)
    else:
        _show(rows, folder)
    return 0


def _rows(folder: Path, settings: Settings) -> Iterator[dict[str, Any]]:
    """Describe every model of the catalogue, and every other one that is here."""
    known = model_hub.catalogue()
    for kind in models.KINDS:
        used = _used(kind, settings, folder)
        here = models.present(kind, folder)
        listed = [entry.name for entry in known.values() if entry.kind == kind]
        for name in [*listed, *(name for name in here if name not in listed)]:
            entry = known.get(models.typed(kind, name))
            state, why = _state(kind, name, folder)
            yield {
                "name": models.typed(kind, name),
                "kind": kind,
                "state": state,
                "used": name in used and state == "installed",
                "bytes": models.size_of(models.path_of(kind, name, folder)) or None,
                "megabytes": entry.megabytes if entry else None,
                "language": entry.language if entry else None,
                "licence": entry.licence if entry else None,
                "wrong": why,
            }


def _state(kind: str, name: str, folder: Path) -> tuple[str, str | None]:
    """Tell whether a model is installed, incomplete, begun or absent, and what is wrong with it."""
    if name in models.present(kind, folder):
        faults = models.verify(kind, name, folder, thorough=False)
        return ("incomplete", str(faults[0])) if faults else ("installed", None)
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


def _show(rows: list[dict[str, Any]], folder: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "name", "size", "language", "licence", "here"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        size = (
            models.megabytes(row["bytes"]) if row["bytes"] else f"{row['megabytes']} MB" if row["megabytes"] else ""
        )
        state = "" if row["state"] == "absent" else row["state"]
        here = f"{state}; {row['wrong']}" if row["wrong"] else state
        mark = "[green]*[/]" if row["used"] else ""
        table.add_row(mark, row["name"], size, row["language"] or "", row["licence"] or "", escape(here))
    Console(highlight=False, soft_wrap=False).print(table)
    say_line(f"* in use. Models lie in {folder}. To get one: roomtone models pull NAME")


# ---------------------------------------------------------------------------------------------- pull


def _pull(args: argparse.Namespace, folder: Path, settings: Settings) -> int:
    known = model_hub.catalogue()
    entries = [model_hub.find(name, known) for name in args.names]
    for entry in entries:
        there = _is_whole(entry.kind, entry.name, folder)
        if not there:
            with _receipt(args, settings) as on_ask, _bar(entry.typed) as bar:
                model_hub.pull(entry, folder, bar, on_ask)
        _tell(
            args, entry.kind, entry.name, folder, "is here and whole" if there else "was fetched", fetched=not there
        )
    return 0


@contextmanager
def _receipt(args: argparse.Namespace, settings: Settings) -> Iterator[model_hub.Ask]:
    """Take what is asked of a hub, and keep a row of it, however the fetching ends."""
    asked: list[outbound.Sent] = []

    def on_ask(host: str, size: int) -> None:
        asked.append(outbound.Sent(host, outbound.reach(host), size, "text", "model download", datetime.now(UTC)))

    try:
        yield on_ask
    finally:
        for sent in asked:
            if sent.reach is not Egress.NONE:
                receipt.keep(sent, settings, named=args.state_dir is not None)


def _is_whole(kind: str, name: str, folder: Path) -> bool:
    recorded = models.pinned(kind, name, folder) is not None
    return recorded and name in models.present(kind, folder) and not models.verify(kind, name, folder)


def _tell(args: argparse.Namespace, kind: str, name: str, folder: Path, done: str, **more: Any) -> None:
    """Say what was done to a model."""
    path = models.path_of(kind, name, folder)
    size = models.size_of(path)
    typed = models.typed(kind, name)
    if args.json:
        say_json({"name": typed, "kind": kind, "path": str(path), "bytes": size, **more})
    else:
        say_line(f"{typed} {done}: {path} ({models.megabytes(size)})")


class _Bar:
    """Shows a pull's progress on a terminal."""

    def __init__(self, progress: Any, name: str) -> None:
        self._progress = progress
        self._name = name
        self._task: Any = None

    def begin(self, file: str, done: int, total: int) -> None:
        self._task = self._progress.add_task(f"{self._name} {file}", completed=done, total=total)

    def move(self, count: int) -> None:
        self._progress.advance(self._task, count)


@contextmanager
def _bar(name: str) -> Iterator[_Bar]:
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


# ------------------------------------------------------------------------------------ import, verify, remove


def _import(args: argparse.Namespace, folder: Path, _: Settings) -> int:
    kind, name, _record = model_import.take_in(args.path, folder, args.name)
    _tell(args, kind, name, folder, "was taken in")
    return 0


def _verify(args: argparse.Namespace, folder: Path, _: Settings) -> int:
    """Print a line a model; exit code 1 where any is not whole."""
    known = model_hub.catalogue()
    bad = False
    for kind, name in _named(args.names, folder):
        faults = models.verify(kind, name, folder)
        recorded = models.pinned(kind, name, folder) is not None
        typed = models.typed(kind, name)
        mend = models.mending(kind, name, typed in known) if faults else None
        bad = bad or bool(faults)
        if args.json:
            wrong = [str(fault) for fault in faults]
            say_json(
                {"name": typed, "kind": kind, "whole": not faults, "recorded": recorded, "wrong": wrong, "mend": mend}
            )
        elif not faults:
            say_line(f"{typed}: whole" if recorded else f"{typed}: looks right, but nothing says what it should be")
        for fault in faults if not args.json else ():
            sys.stderr.write(f"roomtone: {typed}: {fault}; {mend}\n")
    return 1 if bad else 0


def _named(names: list[str], folder: Path) -> list[tuple[str, str]]:
    """Return the models that are meant: those named, else all. Raises ModelError for one that is not here."""
    here = [(kind, name) for kind in models.KINDS for name in models.present(kind, folder)]
    wanted = [_meant(name, folder) for name in names] or here
    for kind, name in wanted:
        if (kind, name) not in here:
            typed = models.typed(kind, name)
            raise ModelError(f"{typed} is not here; run: roomtone models pull {typed}", model=typed)
    return wanted


def _meant(text: str, folder: Path) -> tuple[str, str]:
    """Read a model's name; it may be typed without its kind where no voice is called so."""
    meant = models.read_name(text)
    known = [meant, *((kind, text.removesuffix(".gguf")) for kind in models.KINDS)]
    return next(((kind, name) for kind, name in known if name in models.present(kind, folder)), meant)


def _remove(args: argparse.Namespace, folder: Path, _: Settings) -> int:
    for kind, name in [_meant(name, folder) for name in args.names]:
        freed = models.remove(kind, name, folder)
        typed = models.typed(kind, name)
        if args.json:
            say_json({"name": typed, "kind": kind, "freed": freed})
        else:
            say_line(f"{typed} was removed: {models.megabytes(freed)} free again")
    return 0
