"""Get recognisers, voices and language models, and look whether those that are here are whole.

The names are those that `list` shows: whisper-base.en is a recogniser, llm-qwen2.5-1.5b-instruct a language model,
en_US-amy-low a voice. Nothing is ever fetched but by `pull`. Models lie in the folder models of the state folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from roomtone import models, outbound
from roomtone.commands import common_options, receipt, say_json, say_line
from roomtone.commands.models_list import bar, recommended_here, show_list, show_sticks
from roomtone.config import Settings
from roomtone.core.errors import ModelError
from roomtone.core.persona import Egress
from roomtone.model_supply import hub, mirror, sticks, taking_in
from roomtone.model_supply.catalogue import catalogue, find
from roomtone.model_supply.fetching import Bar

RECOMMENDED, PINNED = "recommended", "pinned"
"""What may stand for names: what suits this machine, and all that the lock pins."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the five things that can be done."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    for name, run_it, about, names in (
        ("list", _list, "the catalogue, and what is here", None),
        ("pull", _pull, "fetch models by name; goes on where it broke off", "+"),
        ("import", _import, "take in models from a file, a folder or a stick", None),
        ("verify", _verify, "look whether models are whole; all of them where none is named", "*"),
        ("remove", _remove, "remove models", "+"),
    ):
        verb = verbs.add_parser(name, help=about, description=about, parents=[common_options()], allow_abbrev=False)
        verb.set_defaults(verb=run_it)
        if names:
            also = f"; or {RECOMMENDED}: what suits this machine; or {PINNED}: all in {models.LOCK}"
            told = f"as roomtone models list shows it{also if name == 'pull' else ''}"
            verb.add_argument("names", nargs=names, metavar="NAME", help=told)
        _add_options(verb, name)


def _add_options(verb: argparse.ArgumentParser, name: str) -> None:
    if name == "list":
        verb.add_argument("--recommended", action="store_true", help="only what suits this machine and its language")
    elif name == "pull":
        verb.add_argument("--update", action="store_true", help="take what is there now, whatever was pinned before")
    elif name == "import":
        told = f"{taking_in.IMPORTED}, or a folder with any number of these; without it, the sticks are listed"
        verb.add_argument("path", type=Path, nargs="?", help=told)
        verb.add_argument("--name", help="the name one model is to have here; without it, that of the folder or file")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do what was asked for."""
    folder = settings.state_dir / "models"
    if not models.may_be_read(folder):
        raise ModelError(f"{folder} may not be read by this user; run the same with sudo")
    code: int = args.verb(args, folder, settings)
    return code


def _list(args: argparse.Namespace, folder: Path, settings: Settings) -> int:
    show_list(folder, settings, only_recommended=args.recommended, as_json=args.json)
    return 0


# ---------------------------------------------------------------------------------------------- pull


def _pull(args: argparse.Namespace, folder: Path, settings: Settings) -> int:
    for kind, name in _asked_for(args, folder, settings):
        there = not args.update and _is_whole(kind, name, folder)
        if not there:
            pin = None if args.update else models.pinned(kind, name, folder)
            with _noted(args, settings), bar(models.typed(kind, name)) as shown:
                _fetch(kind, name, folder, settings, shown, pin)
        _tell(args, kind, name, folder, "is here and whole" if there else "was fetched", fetched=not there)
    return 0


def _asked_for(args: argparse.Namespace, folder: Path, settings: Settings) -> list[tuple[str, str]]:
    """Return kind and name of what is to be fetched; say what of the recommended could not be used."""
    wanted: list[tuple[str, str]] = []
    for text in args.names:
        if text == RECOMMENDED:
            wanted += _recommended(args, settings)
        elif text == PINNED:
            wanted += [models.read_name(typed) for typed in models.pins(folder)]
        elif settings.models.mirror and text not in catalogue():
            wanted.append(models.read_name(text))
        else:
            entry = find(text, catalogue(), (RECOMMENDED, PINNED))
            wanted.append((entry.kind, entry.name))
    return list(dict.fromkeys(wanted))


def _recommended(args: argparse.Namespace, settings: Settings) -> Iterator[tuple[str, str]]:
    machine, choices = recommended_here(settings)
    if not args.json:
        say_line(f"This machine has {machine}; the language is {settings.language}.")
    for choice in choices:
        if choice.lacks is None:
            yield choice.entry.kind, choice.entry.name
        else:
            sys.stderr.write(f"roomtone: {choice.entry.typed} would suit, but {choice.lacks}\n")


def _fetch(kind: str, name: str, folder: Path, settings: Settings, shown: Bar, pin: models.Pin | None) -> None:
    if settings.models.mirror:
        mirror.pull(settings.models.mirror, kind, name, folder, shown, pin)
    else:
        hub.pull(find(models.typed(kind, name), catalogue()), folder, shown, pin)


@contextmanager
def _noted(args: argparse.Namespace, settings: Settings) -> Iterator[None]:
    """Let nothing go further than the house allows, and keep a row of what is asked, however the fetching ends."""
    asked: list[outbound.Sent] = []
    try:
        with outbound.within(Egress.LAN if settings.features.offline_mode else Egress.ANY, asked.append):
            yield
    finally:
        for sent in asked:
            receipt.keep(sent, settings, named=args.state_dir is not None)


def _is_whole(kind: str, name: str, folder: Path) -> bool:
    pinned = models.pinned(kind, name, folder) is not None
    return pinned and name in models.present(kind, folder) and not models.verify(kind, name, folder)


def _tell(args: argparse.Namespace, kind: str, name: str, folder: Path, done: str, **more: Any) -> None:
    """Say what was done to a model."""
    path = models.path_of(kind, name, folder)
    size, typed = models.size_of(path), models.typed(kind, name)
    if args.json:
        say_json({"name": typed, "kind": kind, "path": str(path), "bytes": size, **more})
    else:
        say_line(f"{typed} {done}: {path} ({models.megabytes(size)})")


# -------------------------------------------------------------------------------------------- import


def _import(args: argparse.Namespace, folder: Path, _: Settings) -> int:
    """Take in one model by its file or name, else all of a folder; exit code 1 where one could not be."""
    if args.path is None:
        return show_sticks(as_json=args.json)
    if args.name is not None or not os.path.isdir(args.path):  # of what may not be read, that is told below
        kind, name, _pin = taking_in.take_in(args.path, folder, args.name)
        _tell(args, kind, name, folder, "was taken in")
        return 0
    code = 0
    for outcome in sticks.take_all(args.path, folder):
        code = 1 if outcome.state == "broken" else code
        _tell_outcome(args, outcome, folder)
    return code


def _tell_outcome(args: argparse.Namespace, outcome: sticks.Outcome, folder: Path) -> None:
    if outcome.state in ("taken", "here") and outcome.typed is not None:
        kind, name = models.read_name(outcome.typed)
        done = "was taken in" if outcome.state == "taken" else "is here already"
        _tell(args, kind, name, folder, done, state=outcome.state)
    elif args.json:
        say_json({"name": outcome.typed, "path": str(outcome.path), "state": outcome.state, "wrong": outcome.why})
    elif outcome.state == "broken":
        sys.stderr.write(f"roomtone: {outcome.why}\n")
    else:
        say_line(f"skipped {outcome.path}: {outcome.why}")


# ------------------------------------------------------------------------------------- verify, remove


def _verify(args: argparse.Namespace, folder: Path, _: Settings) -> int:
    """Print a line a model; exit code 1 where any is not whole."""
    verdicts = models.verify_all(folder, _named(args.names, folder))
    for verdict in verdicts:
        mend = models.mending(verdict.kind, verdict.name, verdict.typed in catalogue()) if verdict.faults else None
        if args.json:
            say_json(
                {
                    "name": verdict.typed,
                    "kind": verdict.kind,
                    "whole": not verdict.faults,
                    "recorded": verdict.pinned,
                    "wrong": [str(fault) for fault in verdict.faults],
                    "mend": mend,
                }
            )
        elif not verdict.faults:
            known = "whole" if verdict.pinned else "looks right, but nothing says what it should be"
            say_line(f"{verdict.typed}: {known}")
        for fault in verdict.faults if not args.json else ():
            sys.stderr.write(f"roomtone: {verdict.typed}: {fault}; {mend}\n")
    return 1 if any(verdict.faults for verdict in verdicts) else 0


def _named(names: list[str], folder: Path) -> list[tuple[str, str]]:
    """Return the models that are meant: those named, else all. Raises ModelError for one that is not here."""
    here = models.there(folder)
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
