"""What the running daemon answers on its control socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from typing import Any

from roomtone import history, loopback
from roomtone.app import Room
from roomtone.clock import utc_now
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import UsageError
from roomtone.core.schedule import Action
from roomtone.core.signals import Dismiss, MuteSet, Prompt, Switch, Wake
from roomtone.memories import answers as memory_answers
from roomtone.metrics import Metrics
from roomtone.mind.prompt import Surroundings
from roomtone.outbound import accounts, receipt
from roomtone.personas import answers as persona_answers
from roomtone.routines import answers as routine_answers

log = logging.getLogger(__name__)

LONGEST_TEXT = 10_000
"""Characters of one text that is spoken: about ten minutes. More is a book, and nobody could stop it by mistake."""

SWITCH_WAIT_S = 3.0
"""Longest that somebody who asks for another persona waits until the room is free."""

TELLERS = (Source.CLI, Source.HUB, Source.WEB)
"""Who may tell of an event."""


class Answers:
    """What the control socket answers."""

    def __init__(self, room: Room, metrics: Metrics) -> None:
        self._room = room
        self._metrics = metrics

    def answer(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Return the events and the result of a request. Raises UsageError for a command there is not."""
        conversation = self._room.conversation
        commands: dict[str, Callable[[dict[str, Any]], AsyncIterator[dict[str, Any]]]] = {
            "ask": self._ask,
            "say": self._ask,
            "chirp": lambda request: loopback.answer(request, conversation),
            "levels": lambda request: loopback.levels(request, conversation),
            "event": self._event,
            "history": lambda request: history.answer(request, self._room.store, conversation.erase),
            "status": self._status,
            "metrics": self._page,
            "receipt": lambda request: receipt.answer(request, self._room.parts.minds.receipts),
            "costs": lambda request: accounts.answer(
                request, self._room.parts.minds.ledger, self._room.settings.zone
            ),
            "memory": lambda request: memory_answers.answer(request, self._room.parts.minds.memory),
            "personas": lambda request: persona_answers.answer(request, self._household()),
            "routines": self._routines,
            "wake": lambda _: self._post(Wake(Source.CLI)),
            "stop": lambda _: self._post(Dismiss(Source.CLI)),
            "mute": lambda request: self._post(MuteSet(_truth(request, "muted"))),
        }
        command = str(request["command"])
        if command not in commands:
            raise UsageError(f"there is no command '{command}'; choose one of {', '.join(sorted(commands))}")
        return commands[command](request)

    async def _ask(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        text = request.get("text")
        if not isinstance(text, str):
            raise UsageError('text: give a string, as in {"command": "ask", "text": "hello"}')
        prompt = prompt_for(text, verbatim=request["command"] == "say")
        if request.get("session") is not None:
            await self._room.conversation.recorder.go_on(str(request["session"]))
        turn: Turn = await self._room.conversation.answer(prompt)
        yield {"result": turn.model_dump(mode="json")}

    def _routines(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        room, minds = self._room, self._room.parts.minds
        house = routine_answers.house_of(
            room.settings, minds.routines, room.parts.cast.library.ids(), minds.ledger.read, room.conversation
        )
        return routine_answers.answer(request, house)

    def _household(self) -> persona_answers.Household:
        room, cast = self._room, self._room.parts.cast
        return persona_answers.Household(
            library=cast.library,
            skills=cast.skills,
            store=room.store,
            speaks=room.conversation.speaker.persona.id,
            where=Surroundings(
                room.settings.device.room,
                utc_now().astimezone(room.settings.zone),
                room.settings.household.names,
                room.settings.household.preferences,
            ),
            use=self._use,
        )

    async def _use(self, persona: str) -> dict[str, Any]:
        """Switch once the room is free, and wait for that as long as somebody who asks may."""
        await self._room.parts.cast.ready(persona)  # raises what is wrong with it, instead of saying it aloud
        with self._room.feed.watch("persona.switched") as switches:
            self._room.conversation.post(Switch(persona, Source.CLI, "roomtone personas use"))
            try:
                async with asyncio.timeout(SWITCH_WAIT_S):
                    async for event in switches:
                        if event.data.persona == persona:
                            return {"speaks": "now"}
            except TimeoutError:
                log.debug("the switch to %s waits for a turn to end", persona)
        return {"speaks": "when the present answer is over"}

    async def _event(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Do what the configuration says of something that happened in the house."""
        action, source = event_of(request, self._room.settings.events)
        await self._room.parts.quiet.act(action, source, f"event {request['name']}")
        yield {"result": "done"}

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

    async def _page(self, _: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"result": (await self._metrics.page()).decode()}

    async def _post(self, fact: Wake | Dismiss | MuteSet) -> AsyncIterator[dict[str, Any]]:
        self._room.conversation.post(fact)
        yield {"result": "done"}


def event_of(request: dict[str, Any], events: Mapping[str, Action]) -> tuple[Action, Source]:
    """Return what to do about an event that was told of, and who told. Raises UsageError for an unknown one."""
    name, source = request.get("name"), request.get("source", Source.CLI)
    if not isinstance(name, str) or name not in events:
        known = f"choose one of {', '.join(sorted(events))}" if events else "none is configured"
        raise UsageError(f"there is no event '{name}'; {known}, or add it under events: in the configuration")
    if source not in TELLERS:
        raise UsageError(f"source: give one of {', '.join(TELLERS)}")
    return events[name], Source(source)


def _truth(request: dict[str, Any], key: str) -> bool:
    value = request.get(key, True)
    if not isinstance(value, bool):
        raise UsageError(f"{key}: give true or false")
    return value


def prompt_for(text: str, *, verbatim: bool) -> Prompt:
    """Return a typed text as a prompt. Raises UsageError for none, and for one longer than ``LONGEST_TEXT``."""
    if not text.strip():
        raise UsageError("there is no text; write it behind the command, in quotes")
    if len(text) > LONGEST_TEXT:
        raise UsageError(
            f"the text has {len(text)} characters; at most {LONGEST_TEXT} are spoken at once: shorten it"
        )
    # A terminal's odd bytes come as lone surrogates, which nothing can write down.
    readable = text.encode("utf-8", "replace").decode("utf-8")
    return Prompt(readable, Source.CLI, verbatim=verbatim)
