"""Show what is installed for every seam, what is missing and what installs it, what was chosen and why."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from roomtone import engines
from roomtone.commands import say_json
from roomtone.config import Settings
from roomtone.core.errors import EngineUnavailable

SHOWN = tuple(seam for seam in engines.SEAMS if seam not in ("tools",))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print a table, or one JSON object an engine."""
    found = list(_found(settings))
    if args.json:
        for row in found:
            say_json(row)
    else:
        _show(found)
    return 0


def _found(settings: Settings) -> Iterator[dict[str, Any]]:
    for seam in SHOWN:
        if seam == "llm" and settings.llm.providers:
            yield from _providers(settings)
            continue
        section = settings.section(seam)
        for candidate in engines.survey(seam, section.engine, section.keys, settings.given):
            yield {
                "seam": seam,
                "engine": candidate.name,
                "usable": candidate.missing is None,
                "chosen": candidate.chosen,
                "why": _why(candidate, section.engine),
                "missing": candidate.missing,
            }


def _providers(settings: Settings) -> Iterator[dict[str, Any]]:
    """List the language models that the configuration names: with them there is nothing for ``auto`` to choose."""
    for name, provider in settings.llm.providers.items():
        missing = None
        try:
            engine, own = engines.choose("llm", provider.engine, provider.keys, settings.given)
            missing = engines.load("llm", engine).missing(own)
        except EngineUnavailable as error:
            engine, missing = provider.engine, error.message
        usable = missing is None
        why = f"named in the configuration, as {name}"
        yield {"seam": "llm", "engine": engine, "usable": usable, "chosen": usable, "why": why, "missing": missing}


def _why(candidate: engines.Candidate, wanted: str) -> str:
    """Say in a few words why an engine was chosen or passed over."""
    if wanted != "auto":
        return "named in the configuration" if candidate.chosen else "another is named in the configuration"
    order = engines.auto_order(candidate.seam)
    if candidate.name not in order:
        return "used only when it is named"
    place = f"auto's choice {order.index(candidate.name) + 1} of {len(order)}"
    if candidate.chosen:
        return f"{place}, the first that can be opened"
    return f"{place}, cannot be opened" if candidate.missing else f"{place}, a better one can be opened"


def _show(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("seam", "", "engine", "why, and what installs it"):
        table.add_column(heading, overflow="fold")
    seam = ""
    for row in found:
        mark = "[green]*[/]" if row["chosen"] else ""
        why = row["why"] + (f"; {row['missing']}" if row["missing"] else "")
        table.add_row(row["seam"] if row["seam"] != seam else "", mark, row["engine"], escape(why))
        seam = row["seam"]
    for empty in sorted(set(SHOWN) - {row["seam"] for row in found}, key=SHOWN.index):
        table.add_row(empty, "", "none", "no engine of this seam comes with this version")
    Console(highlight=False, soft_wrap=False).print(table)
