"""A simulated room with real engines: visitors speak, Roomtone hears them, answers, and is interrupted.

Works with no microphone, no network and no download. At the end one WAV holds the whole conversation and a
JSON-lines file its turns.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape

from roomtone import engines
from roomtone.clock import run_skipping, utc_now
from roomtone.commands import say_json
from roomtone.config import Settings
from roomtone.core.dialog import Turn
from roomtone.core.sound import Audio
from roomtone.demo import day, mind, rooms
from roomtone.demo.visits import Visit, play
from roomtone.engines import EngineSettings
from roomtone.flow import Event
from roomtone.rehearsal import Rehearsal, prepare, rehearsing, state_for, write_out
from roomtone.timeline import stages

SHOWN: dict[str, Callable[[Any], str]] = {
    "llm.failed": lambda data: f"{data['provider']}: {data['trouble']}",
    "llm.failover": lambda data: f"{data['to']} goes on",
    "memory.kept": lambda data: f"a {data['level']}",
    "memory.recalled": lambda data: f"{len(data['ids'])} known",
    "tool.run": lambda run: f"{run.tool}: {run.status}",
    "wake.won": lambda _: "this room answers",
    "wake.lost": lambda _: "another room answers",
    "routine.step": lambda data: f"{data['step']}: {data['status']}",
}
"""What else is told of as it happens, and how."""

COLOURS = {"idle": "dim", "listening": "green", "thinking": "yellow", "speaking": "cyan", "interrupt": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take how fast, and where to write."""
    parser.add_argument(
        "--pace",
        choices=("real", "fast"),
        default="real" if sys.stdout.isatty() else "fast",
        help="real: as in a room (the default on a terminal); fast: as fast as the engines work",
    )
    parser.add_argument(
        "--scene",
        choices=SCENES,
        default="visits",
        help="visits: a few minutes with visitors; day: a wake word, buttons, bedtime, three personas, a power cut; "
        "mind: language models, one of which breaks off, a memory, a routine",
    )
    parser.add_argument(
        "--rooms",
        type=int,
        choices=(3,),
        help="instead of a scene: a house of three rooms with a hub and a broker (mosquitto), at real pace",
    )
    parser.add_argument("--simulate", action="store_true", help="accepted for symmetry: the demo is always simulated")
    parser.add_argument("--out", type=Path, default=Path("roomtone-demo"), metavar="DIR", help="where to write")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Play the demo; 1 where a visitor was not answered as the script expects."""
    prepare(args.out)
    if args.rooms is not None:  # the broker is a process of its own, and keeps to no clock but the wall's
        return asyncio.run(_house(args, settings))
    main = SCENES[args.scene](args, settings)
    return asyncio.run(main) if args.pace == "real" else run_skipping(main)


async def _visits(args: argparse.Namespace, settings: Settings) -> int:
    settings = settings.model_copy(update={"listen": settings.listen.model_copy(update={"mode": "open"})})
    console = _console(args)
    async with (
        state_for(args.state_dir) as state_dir,
        rehearsing(settings, state_dir, _room(), args.out, rings=args.state_dir is None) as rehearsal,
    ):
        timeline = Timeline(console, rehearsal.room.engines)
        with console.status("a visitor comes in") as status:
            timeline.status = status
            rehearsal.show = timeline.show
            wrong = await play(rehearsal, timeline.visit)
    return _close(args, console, rehearsal.turns, wrong)


async def _day(args: argparse.Namespace, settings: Settings) -> int:
    """Play a whole day, on a disk of its own."""
    settings = day.settings_for(settings, utc_now())
    stage = _Stage(args)
    played = day.Day(lambda folder: stage.room(folder, settings), stage.show)
    return await stage.play(played, "the day begins")


async def _mind(args: argparse.Namespace, settings: Settings) -> int:
    """Play the scene of the models, on a disk of its own."""
    stage = _Stage(args)
    with mind.settings_for(settings) as household:
        return await stage.play(mind.Scene(household, stage.room, stage.show), "somebody comes in")


async def _house(args: argparse.Namespace, settings: Settings) -> int:
    """Play the scene of several rooms."""
    stage = _Stage(args)
    return await stage.play(rooms.Walk(settings, stage.room, stage.show), "a house comes up")


class _Scene(Protocol):
    """Plays in rooms that it opens one after the other."""

    wrong: list[str]
    turns: list[Turn]

    async def play(self, folder: Path) -> None:
        """Play it in rooms that keep their state within a folder."""

    def recording(self) -> Audio:
        """Return all that was heard."""


class _Stage:
    """Where a scene of several rooms is played: one timeline, and a disk that is gone afterwards."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._console = _console(args)
        self._timeline: Timeline | None = None
        self._status: Any = None
        self._rooms = 0

    @asynccontextmanager
    async def room(self, state_dir: Path, settings: Settings, name: str = "") -> AsyncIterator[Rehearsal]:
        """Open the next room of the scene; with a ``name``, where others are open too."""
        self._rooms += 1
        out = self._args.out / f"room-{self._rooms}"
        prepare(out)
        async with rehearsing(settings, state_dir, _room(), out, one_session=False) as rehearsal:
            if self._timeline is None:
                self._timeline = Timeline(self._console, rehearsal.room.engines)
            self._timeline.status = self._status
            rehearsal.show = partial(self._timeline.show, room=name)
            yield rehearsal

    def show(self, who: str, what: str) -> None:
        """Show who did what."""
        assert self._timeline is not None
        self._timeline.line(f"[bold]{who}[/bold]", escape(what))

    async def play(self, scene: _Scene, begins: str) -> int:
        """Play a scene and write down what came of it; 1 where that is not what its script expects."""
        with self._console.status(begins) as status, tempfile.TemporaryDirectory(prefix="roomtone-") as folder:
            self._status = status
            await scene.play(Path(folder))
        write_out(self._args.out, scene.recording(), scene.turns)
        return _close(self._args, self._console, scene.turns, scene.wrong)


SCENES = {"visits": _visits, "day": _day, "mind": _mind}


def _room() -> tuple[str, EngineSettings]:
    return "sim", engines.load("audio", "sim").Settings()


def _console(args: argparse.Namespace) -> Console:
    return Console(quiet=bool(args.json), highlight=False, soft_wrap=True)


def _close(args: argparse.Namespace, console: Console, turns: list[Turn], wrong: list[str]) -> int:
    if args.json:
        for turn in turns:
            say_json(turn)
    console.print(f"\nThe whole conversation: {args.out / 'conversation.wav'}")
    console.print(f"Its turns:              {args.out / 'turns.jsonl'}")
    for line in wrong:
        sys.stderr.write(f"roomtone: not as expected: {line}\n")
    return 1 if wrong else 0


class Timeline:
    """Shows what happens as it happens: who speaks, the state, what was heard and said, and the milliseconds."""

    def __init__(self, console: Console, chosen: dict[str, str]) -> None:
        self.status: Any = None
        self._console = console
        self._began = asyncio.get_running_loop().time()
        engines_in_use = ", ".join(f"{seam} {name}" for seam, name in chosen.items())
        console.print(f"[dim]{engines_in_use}[/dim]")

    def visit(self, visit: Visit) -> None:
        """Show that a visitor begins to speak."""
        visitor = visit.visitor
        self.line(f"[bold]{visitor.name}[/bold], {visitor.distance_m} m away", escape(visit.says))

    def show(self, event: Event, room: str = "") -> None:
        """Show what happened, and in which room where there are several."""
        where = f"[blue]{room}[/blue]  " if room else ""
        if event.kind == "state.changed":
            mode = str(event.data.mode)
            self.status.update(f"[{COLOURS[mode]}]{mode}[/]")
            self.line(f"{where}[{COLOURS[mode]}]{mode}[/]", "")
        elif event.kind == "turn.heard" and (event.data.heard or event.data.prompt is None):
            self.line(f"{where}heard", escape(event.data.heard or "(nothing understood)"))
        elif event.kind == "turn.ended":
            self._turn(event.data.turn, where)
        elif event.kind in SHOWN:
            self.line(f"{where}[magenta]{event.kind}[/magenta]", escape(SHOWN[event.kind](event.data)))

    def _turn(self, turn: Turn, where: str) -> None:
        said = escape(turn.spoken or "(nothing)")
        rest = f" [dim]{escape('[' + turn.ended + ']')}[/dim]" if turn.spoken != turn.said else ""
        self.line(f"{where}[bold cyan]Roomtone[/bold cyan]", f"[cyan]{said}[/cyan]{rest}")
        self.line("", f"[dim]{stages(turn.latency_ms)}[/dim]")

    def line(self, who: str, what: str) -> None:
        """Show something with the seconds at which it happens."""
        seconds = asyncio.get_running_loop().time() - self._began
        self._console.print(f"[dim]{seconds:6.2f} s[/dim]  {who}{'  ' if who and what else ''}{what}")
