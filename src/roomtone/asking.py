"""Ask the running daemon, or, where none runs, a room opened for one question on the same store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from roomtone import engines
from roomtone.answers import prompt_for
from roomtone.app import Room, open_room
from roomtone.clock import run_skipping
from roomtone.control import ask_daemon, find_daemon, state_lock
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import EngineUnavailable, RoomtoneError
from roomtone.core.signals import Prompt
from roomtone.engines import EngineSettings
from roomtone.settings import Settings

log = logging.getLogger(__name__)

SERVERS_S = 5.0
"""Longest wait for the servers of tools, which a room opens beside everything else: nobody asks a second time."""

Choice = tuple[str, EngineSettings]


def ask(settings: Settings, text: str, *, verbatim: bool, named: bool, session: str | None = None) -> Turn:
    """Have a text answered, or with ``verbatim`` said. ``named``: the state folder was given on the command line.

    ``session``, its id or the beginning of it, is gone on with; else the room's present one.
    Raises UsageError for a text that cannot be spoken, SessionNotFound, SessionExpired, StateBusy, and what opening a
    room raises.
    """
    prompt = prompt_for(text, verbatim=verbatim)
    daemon = asyncio.run(find_daemon(settings.state_dir, named=named))
    if daemon is not None:
        request = {"command": "say" if verbatim else "ask", "text": text, "session": session}
        return asyncio.run(_result(daemon, request))
    audio, runs = _loudspeaker(settings)
    return runs(_ask_here(settings, prompt, audio, session))


def run_routine(settings: Settings, name: str, *, named: bool) -> Turn:
    """Have a routine run, as ``ask`` has a text answered."""
    daemon = asyncio.run(find_daemon(settings.state_dir, named=named))
    if daemon is not None:
        return asyncio.run(_result(daemon, {"command": "routines", "do": "run", "routine": name}))
    audio, runs = _loudspeaker(settings)
    return runs(_ask_here(settings, Prompt("", Source.CLI, routine=name), audio, None))


async def _result(daemon: Any, request: dict[str, Any]) -> Turn:
    async for message in ask_daemon(daemon, request):
        if "result" in message:
            return Turn.model_validate(message["result"])
    raise RoomtoneError("the daemon gave no answer")


def _loudspeaker(settings: Settings) -> tuple[Choice, Callable[[Coroutine[Any, Any, Turn]], Turn]]:
    """Return the sound device to speak through; where there is none, silence on a clock that does not wait for it."""
    try:
        name, chosen = settings.engine("audio")
        engines.open_engine("audio", name, chosen)
    except EngineUnavailable:
        return ("wav", engines.load("audio", "wav").Settings()), run_skipping
    return (name, chosen), run_skipping if name in ("wav", "sim") else asyncio.run


async def _ask_here(settings: Settings, prompt: Prompt, audio: Choice, session: str | None) -> Turn:
    async with (
        state_lock(settings.state_dir),
        engines.open_engine("audio", *audio) as device,
        open_room(settings, settings.state_dir, device=device, listens=False, rings=False) as room,
    ):
        if session is not None:
            await room.conversation.recorder.go_on(session)
        if not prompt.verbatim:
            await _servers(room)
        return await room.conversation.answer(prompt)


async def _servers(room: Room) -> None:
    try:
        async with asyncio.timeout(SERVERS_S):
            await room.parts.minds.servers.tried()
    except TimeoutError:
        log.warning("some servers of tools are not there yet; it is gone on without them")
