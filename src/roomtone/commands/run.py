"""The daemon: listens, answers, and goes on until it is told to stop (SIGTERM, Ctrl-C).

SIGUSR1, or Enter on its terminal, makes it listen.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable
from functools import partial

from roomtone import config, daemon, logs, refuge
from roomtone.app import Room
from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.core.dialog import Turn
from roomtone.core.errors import ConfigError, EngineUnavailable, PersonaError, RoomtoneError
from roomtone.edges.service import backing_off
from roomtone.flow import Event
from roomtone.timeline import lines, stages

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing of its own."""
    del parser


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run the daemon; print a line for each thing that happens, or with --json an object for each turn.

    An engine that is named and cannot be opened is chosen as under auto. Settings with which the room cannot be
    opened all the same are given up for the last that worked, or for the defaults; the state, with its timers and
    models, stays the same. Where that cannot be written, and nobody named another, it goes on in memory.
    """
    logs.set_up(settings.log)
    with backing_off("roomtone"):
        if args.state_dir is not None:
            return _go_on(args, settings)
        with refuge.instead_of(settings.state_dir) as state_dir:
            return _go_on(args, settings.model_copy(update={"state_dir": state_dir}))


def _go_on(args: argparse.Namespace, settings: Settings) -> int:
    """Serve, with other settings where these do not do. Raises the first failure where none do."""
    same = {"state_dir": settings.state_dir}
    waiting = [settings, *(other.model_copy(update=same) for other in config.fallbacks(args.state_dir))]
    tried: list[Settings] = []
    first: RoomtoneError | None = None
    while waiting:
        tried.append(waiting[0])
        try:
            asyncio.run(_serve(args, waiting[0]))
        except (ConfigError, EngineUnavailable, PersonaError) as error:
            first = first or error
            args.mistakes.append(error.message)
            log.error("%s", error.message)
            waiting = [one for one in (*_without(waiting[0], error), *waiting) if one not in tried]
        else:
            return 0
    assert first is not None
    raise first


def _without(settings: Settings, error: RoomtoneError) -> list[Settings]:
    """Return the same settings with the choice of the engine that cannot be opened left to ``auto``."""
    seam = error.details.get("seam")
    if seam is None or settings.section(seam).engine == "auto":
        return []
    return [settings.model_copy(update={seam: type(settings.section(seam))()})]


async def _serve(args: argparse.Namespace, settings: Settings) -> None:
    def on_ready() -> None:
        if not args.mistakes:
            for hindrance in config.keep(args.config, args.state_dir):
                log.warning("%s", hindrance)

    show = _show_turn if args.json else _note_turn if logs.is_journal(sys.stdout) else _show_lines

    async def watch(room: Room) -> None:
        with room.feed.watch() as events:
            async for event in events:
                show(event)

    await daemon.serve(settings, args.mistakes, watch, on_ready)


def _show_turn(event: Event) -> None:
    if event.kind == "turn.ended":
        _print(lambda: say_json(event.data.turn))


def _note_turn(event: Event) -> None:
    """Say in the journal what became of a turn, but not what was said: nobody could have that forgotten there."""
    if event.kind == "turn.ended":
        turn: Turn = event.data.turn
        with logs.during(lambda: {"turn": turn.turn, "session": turn.session, "trace": turn.trace}):
            log.info("a turn %s, answered by %s: %s", turn.ended, turn.answered_by, stages(turn.latency_ms))


def _show_lines(event: Event) -> None:
    for line in lines(event):
        _print(partial(say_line, line))


def _print(write: Callable[[], None]) -> None:
    """Print; a full disk or a reader that has gone ends the printing, not the daemon."""
    try:
        write()
        sys.stdout.flush()
    except OSError as error:
        log.warning("nothing more is printed: %s", error.strerror)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the rest of the process
