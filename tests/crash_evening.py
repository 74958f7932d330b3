"""An evening in a room that is killed at one point of it: run as a program, it tries every point there is.

A point is before or after a commit of the store, and every signal that the machine is handed. The program prints a
line of JSON for each: where it was, what had been said aloud by then, what the store then held, and what the room did
when it was started again. Nothing in the room knows of this: the store's commit and the machine's step are wrapped.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rooms import HELP, room, scripted, somebody_speaks, until
from roomtone import conversation, database, engines
from roomtone.app import Room, open_room
from roomtone.clock import run_skipping
from roomtone.core import machine
from roomtone.core.dialog import Source
from roomtone.core.signals import Dismiss, FirstSound, Prompt, Switch, Wake
from roomtone.core.sound import Audio
from roomtone.flow import Event, Watcher
from roomtone.mind import skillfiles
from roomtone.mind.sentences import Skills
from roomtone.morning import tell_what_was_cut_off
from roomtone.rehearsal import Rehearsal
from roomtone.store import FILE_NAME

EVENING = (
    "add milk to the shopping list",
    "set a tea timer for two minutes",
    "set a cake timer for three minutes",
    "set a pasta timer for twenty seconds",
    "cancel the cake timer",
)
"""What is asked for, one after the other; then somebody speaks, interrupts the answer, and the pasta timer rings."""

SPOKEN = (HELP, "what time is it", "stop")

COMMIT_S = 0.01
"""What a commit takes on a slow card: nobody may be quicker to speak than to write."""

NIGHT_S = 5 * 60
LOOK_S = 20


@dataclass
class Points:
    """Counts points, and kills the process at one. What is said aloud goes to ``log`` at once."""

    deadly: int
    log: int
    count: int = 0

    def reach(self, name: str) -> None:
        self.count += 1
        if self.count == self.deadly:
            self.note(killed=name)
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self, **what: Any) -> None:
        os.write(self.log, (json.dumps(what) + "\n").encode())


def wrap(points: Points) -> None:
    """Put the points into the room's commits and transitions, and note what is about to be heard."""
    step, commit, post = machine.step, database.commit, conversation.Conversation.post

    def stepping(state: Any, signal_: Any) -> Any:
        points.reach(type(signal_).__name__)
        return step(state, signal_)

    class Committing:
        """A connection on which the moment before COMMIT is a point."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, statement: str, values: Any = ()) -> Any:
            if statement == "COMMIT":
                time.sleep(COMMIT_S)
                points.reach("before commit")
            return self._connection.execute(statement, values)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    def committing(connection: Any, statements: Any, durable: bool) -> None:
        commit(Committing(connection), statements, durable)  # type: ignore[arg-type]
        if durable:
            (_, _, file) = connection.execute("PRAGMA database_list").fetchone()
            points.note(on_disk=os.path.getsize(f"{file}-wal"))
        points.reach("after commit")

    def posting(self: Any, signal_: Any) -> None:
        live = self._turns.get(signal_.turn) if isinstance(signal_, FirstSound) else None
        if live is not None:
            points.note(aloud=live.trace, heard=live.heard, intent=live.answer.intent if live.answer else None)
        post(self, signal_)

    conversation.step = stepping  # type: ignore[attr-defined,assignment]
    database.commit = committing
    conversation.Conversation.post = posting  # type: ignore[method-assign,assignment]


async def evening(folder: Path, voices: dict[str, Audio]) -> None:
    """Live through the evening, from the opening of the room to its closing."""
    async with room(scripted(*SPOKEN, echo={"engine": "none"}), folder) as rehearsal:
        for text in EVENING:
            await rehearsal.room.conversation.answer(Prompt(text, Source.CLI))
        await rehearsal.at_rest()
        rehearsal.device.visit(voices[HELP])
        await until(rehearsal, "turn.first_sound")
        await asyncio.sleep(2)
        rehearsal.device.visit(voices["what time is it"])
        await rehearsal.at_rest()
        await ring(rehearsal, voices["stop"])


async def change_of_persona(folder: Path, voices: dict[str, Audio]) -> None:
    """Let the household change whom it talks to, by voice, by button and by schedule, and talk to each."""
    guest = folder / "personas" / "guest"
    guest.mkdir(parents=True, exist_ok=True)
    (guest / "config.yaml").write_text("name: Guest\n")
    (guest / "system_prompt.md").write_text("You are a guest.")
    async with room(scripted("what time is it", echo={"engine": "none"}), folder) as rehearsal:
        conversation = rehearsal.room.conversation
        for text in ("let me talk to the guest", "set a tea timer for two minutes", "let me talk to the companion"):
            await conversation.answer(Prompt(text, Source.CLI))
        await rehearsal.at_rest()
        conversation.post(Wake(Source.BUTTON, persona="guest"))
        rehearsal.device.visit(voices["what time is it"])
        await until(rehearsal, "turn.first_sound")
        conversation.post(Switch("companion", Source.SCHEDULE, "dinner"))
        conversation.post(Prompt("Dinner is ready.", Source.SCHEDULE, verbatim=True))
        await rehearsal.at_rest()


async def ring(rehearsal: Rehearsal, stop: Audio) -> None:
    """Wait until the pasta timer rings, and stop it by a word."""
    while not rings(rehearsal.room):
        await rehearsal.next_event()
    await asyncio.sleep(3)
    rehearsal.device.visit(stop)
    await rehearsal.at_rest()


def rings(opened: Room) -> bool:
    prompt = opened.conversation.state.prompt
    return prompt is not None and prompt.alarm is not None


async def morning_after(folder: Path, voices: dict[str, Audio]) -> list[dict[str, Any]]:
    """Start the room again, let all that is due ring out, and return the turns that it held."""
    wav = engines.open_engine("audio", "wav", engines.load("audio", "wav").Settings())
    async with wav as device, open_room(scripted(), folder, device=device, listens=False) as opened:
        with opened.feed.watch("turn.ended") as ended:
            tell_what_was_cut_off(opened)
            for _ in range(NIGHT_S // LOOK_S):
                await asyncio.sleep(LOOK_S)
                if rings(opened):
                    await asyncio.sleep(3)  # nobody is quicker than its first word
                    opened.conversation.post(Dismiss(Source.BUTTON))
            await opened.conversation.answer(Prompt("thank you", Source.CLI))
            return [event.data.turn.model_dump(mode="json") async for event in until_thanked(ended)]


async def until_thanked(ended: Watcher) -> AsyncIterator[Event]:
    async for event in ended:
        yield event
        if event.data.turn.heard == "thank you":
            return


def kept(folder: Path) -> dict[str, Any]:
    """Return what the store's file holds."""
    file = folder / FILE_NAME
    if not file.exists():
        return {}
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    held: dict[str, Any] = {
        name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
        for name in ("sessions", "turns", "messages", "edges", "timers", "items", "persona_switches", "kept")
        if name in tables
    }
    held["integrity"] = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    return held


def power_cut(folder: Path, on_disk: int) -> Path:
    """Return a copy of the store without what had not been sent to the disk itself when the power went."""
    copy = folder.with_name("power-cut")
    shutil.copytree(folder, copy)
    log = copy / f"{FILE_NAME}-wal"
    if log.exists():
        os.truncate(log, min(on_disk, log.stat().st_size))
    return copy


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """Do some work in a process of its own; return the signal that ended it, or 0, and what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            with os.fdopen(writing, "w") as out:
                json.dump(work(), out)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("a forked room failed; its traceback stands above")
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), json.loads(text or "null")


@contextmanager
def log_file(folder: Path) -> Iterator[int]:
    log = os.open(folder / "aloud.jsonl", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        yield log
    finally:
        os.close(log)


Scene = Callable[[Path, dict[str, Audio]], Coroutine[Any, Any, None]]

SCENES: dict[str, Scene] = {"evening": evening, "persona": change_of_persona}


def live(folder: Path, voices: dict[str, Audio], deadly: int, scene: Scene) -> int:
    """Live through a scene, killed at a point; return how many points there were."""
    with log_file(folder) as log:
        points = Points(deadly, log)
        wrap(points)
        quickly(scene(folder / "state", voices))
        return points.count


def quickly(main: Coroutine[Any, Any, Any]) -> Any:
    return run_skipping(main, counts_work=False)


def one(voices: dict[str, Audio], deadly: int, scene: Scene) -> dict[str, Any]:
    """Kill a scene at a point and say what came of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        killed, count = forked(lambda: live(folder, voices, deadly, scene))
        log = folder / "aloud.jsonl"
        noted = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        before = kept(folder / "state")
        on_disk = max((note["on_disk"] for note in noted if "on_disk" in note), default=0)
        on_disk_only = kept(power_cut(folder / "state", on_disk)) if killed else before
        _, after = forked(lambda: quickly(morning_after(folder / "state", voices)))
        return {
            "point": deadly,
            "killed": killed,
            "count": count,
            "where": next((note["killed"] for note in noted if "killed" in note), None),
            "aloud": [note for note in noted if "aloud" in note],
            "kept": before,
            "on_disk": on_disk_only,
            "after": after,
            "then": kept(folder / "state"),
        }


def warm() -> dict[str, Audio]:
    """Do once what every room would do again: read the skills, speak the visitors' lines, import all there is."""
    Skills.load = staticmethod(functools.cache(Skills.load))  # type: ignore[method-assign]
    Skills.load("en", None)
    read, known = skillfiles.load, dict[str, skillfiles.Loaded]()

    def load(folder: Path, language: str, given: skillfiles.Given = skillfiles.NOTHING_GIVEN) -> skillfiles.Loaded:
        key = f"{folder} {language} {given}"
        if key not in known:
            known[key] = read(folder, language, given)
        return known[key]

    skillfiles.load = load

    async def voices() -> dict[str, Audio]:
        return {text: await somebody_speaks(text) for text in SPOKEN}

    spoken: dict[str, Audio] = quickly(voices())
    with tempfile.TemporaryDirectory() as folder:
        quickly(evening(Path(folder), spoken))
    return spoken


def main() -> None:
    """Try all points of the scene that is named: a line of JSON each."""
    voices, scene = warm(), SCENES[sys.argv[1]]
    whole = one(voices, 0, scene)
    print(json.dumps(whole), flush=True)
    for deadly in range(1, whole["count"] + 1):
        print(json.dumps(one(voices, deadly, scene)), flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stderr.write(f"{used.ru_utime + used.ru_stime:.1f} s of CPU\n")


if __name__ == "__main__":
    main()
