"""The daemon around a room: it owns the state folder, answers the control socket and obeys signals."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from typing import Any

from roomtone import history
from roomtone.app import Room, open_room
from roomtone.control import socket_path, state_lock
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import UsageError
from roomtone.core.machine import Dismiss, MuteSet, Prompt, Wake
from roomtone.edges import control
from roomtone.flow import beside
from roomtone.settings import Settings

log = logging.getLogger(__name__)

LONGEST_TEXT = 10_000
"""Characters of one text that is spoken: about ten minutes. More is a book, and nobody could stop it by mistake."""

LOOK_S = 1.0
"""How often the sound device is asked how it is."""


async def serve(settings: Settings, mistakes: list[str], watch: Callable[[Room], Awaitable[None]]) -> None:
    """Run a room until SIGTERM or SIGINT; ``watch`` runs beside it. Raises what opening the room raises."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(state_lock(settings.state_dir))
        # The socket comes before the engines: a second daemon is refused at once, an early asker waits a moment.
        path = socket_path(settings.state_dir)
        server = await stack.enter_async_context(control.listening(path))
        room = await stack.enter_async_context(open_room(settings, settings.state_dir))
        await stack.enter_async_context(obeying_signals(room, stop))
        await stack.enter_async_context(beside(control.serve_on(server, Answers(room).answer), "control"))
        await stack.enter_async_context(beside(watch_device(room), "device watch"))
        await stack.enter_async_context(beside(_run(watch(room)), "watch"))
        _tell_troubles(room, mistakes)
        log.info("ready: %s", ", ".join(f"{seam} {name}" for seam, name in room.engines.items()))
        await stop.wait()
        log.info("stopping")


async def _run(work: Awaitable[None]) -> None:
    await work


def _tell_troubles(room: Room, mistakes: list[str]) -> None:
    """Say aloud what whoever set the room up should know."""
    if mistakes:
        say(room, "config_broken")
    if room.store.mended:
        log.warning("%s", room.store.mended)


def say(room: Room, phrase: str, **values: object) -> None:
    """Let the room say one of its own phrases."""
    text = room.phrases.say(phrase, **values)
    room.conversation.post(Prompt(text, Source.SCHEDULE, verbatim=True))


@asynccontextmanager
async def obeying_signals(room: Room, stop: asyncio.Event) -> AsyncIterator[None]:
    """SIGTERM and SIGINT end the daemon; SIGUSR1, and Enter on a terminal, make it listen."""
    loop = asyncio.get_running_loop()
    wake = Wake(Source.BUTTON)
    handlers: dict[signal.Signals, Callable[[], Any]] = {
        signal.SIGTERM: stop.set,
        signal.SIGINT: stop.set,
        signal.SIGUSR1: lambda: room.conversation.post(wake),
    }
    for number, react in handlers.items():
        loop.add_signal_handler(number, react)
    keyboard = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    if keyboard is not None:
        loop.add_reader(keyboard, _on_line, lambda: room.conversation.post(wake), loop)
    try:
        yield
    finally:
        if keyboard is not None:
            loop.remove_reader(keyboard)
        for number in handlers:
            loop.remove_signal_handler(number)


def _on_line(wake: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
    if sys.stdin.readline():
        wake()
    else:
        loop.remove_reader(sys.stdin.fileno())


async def watch_device(room: Room) -> None:
    """Say so when the microphone is lost or back: someone may be talking to a room that hears nothing."""
    health = room.device.health
    while True:
        await asyncio.sleep(LOOK_S)
        if room.device.health == health:
            continue
        health = room.device.health
        room.feed.publish("device.health", health, source="daemon")
        say(room, "microphone_back" if health == "ok" else "microphone_lost")


class Answers:
    """What the control socket answers."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def answer(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Return the events and the result of a request. Raises UsageError for a command there is not."""
        commands: dict[str, Callable[[dict[str, Any]], AsyncIterator[dict[str, Any]]]] = {
            "ask": self._ask,
            "say": self._ask,
            "history": lambda request: history.answer(request, self._room.store),
            "status": self._status,
            "wake": lambda _: self._post(Wake(Source.CLI)),
            "stop": lambda _: self._post(Dismiss(Source.CLI)),
            "mute": lambda request: self._post(MuteSet(bool(request.get("muted", True)))),
        }
        command = str(request["command"])
        if command not in commands:
            raise UsageError(f"there is no command '{command}'; choose one of {', '.join(sorted(commands))}")
        return commands[command](request)

    async def _ask(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        prompt = prompt_for(str(request.get("text", "")), verbatim=request["command"] == "say")
        turn: Turn = await self._room.conversation.answer(prompt)
        yield {"result": turn.model_dump(mode="json")}

    async def _status(self, _: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        state = self._room.conversation.state
        yield {
            "result": {
                "state": state.mode,
                "muted": state.muted,
                "engines": self._room.engines,
                "health": self._room.health(),
                "events": {kind: asdict(tally) for kind, tally in self._room.feed.tallies.items()},
            }
        }

    async def _post(self, fact: Wake | Dismiss | MuteSet) -> AsyncIterator[dict[str, Any]]:
        self._room.conversation.post(fact)
        yield {"result": "done"}


def prompt_for(text: str, *, verbatim: bool) -> Prompt:
    """Return a typed text as a prompt. Raises UsageError for none, and for one longer than ``LONGEST_TEXT``."""
    if not text.strip():
        raise UsageError("there is no text; write it behind the command, in quotes")
    if len(text) > LONGEST_TEXT:
        raise UsageError(
            f"the text has {len(text)} characters; at most {LONGEST_TEXT} are spoken at once: shorten it"
        )
    return Prompt(text, Source.CLI, verbatim=verbatim)
