"""The daemon around a room: it owns the state folder, answers the control socket and obeys signals."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from roomtone import (
    accounts,
    history,
    loopback,
    loudness,
    memory_answers,
    models,
    persona_answers,
    persona_versions,
    receipt,
    refuge,
    routine_answers,
)
from roomtone.app import Room, how_called, open_room
from roomtone.arriving import tell_of_the_card
from roomtone.clock import utc_now
from roomtone.control import socket_path, state_lock
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import UsageError
from roomtone.core.machine import Mode
from roomtone.core.schedule import Action
from roomtone.core.signals import Beat, Dismiss, MuteSet, Prompt, Switch, Wake
from roomtone.edges import control, gpio, persona_files, service, wyoming
from roomtone.engines.tts import piper
from roomtone.failover import open_stt, open_tts
from roomtone.flow import beside
from roomtone.joining import join_the_house
from roomtone.metrics import Metrics
from roomtone.mind.prompt import Surroundings
from roomtone.morning import tell_what_was_cut_off
from roomtone.settings import Settings

log = logging.getLogger(__name__)

LONGEST_TEXT = 10_000
"""Characters of one text that is spoken: about ten minutes. More is a book, and nobody could stop it by mistake."""

SWITCH_WAIT_S = 3.0
"""Longest that somebody who asks for another persona waits until the room is free."""

TELLERS = (Source.CLI, Source.HUB, Source.WEB)
"""Who may tell of an event."""

LOOK_S = 1.0
"""How often the sound device is asked how it is."""


Ready = Callable[[], None]
Watch = Callable[[Room], Coroutine[Any, Any, None]]


async def serve(settings: Settings, mistakes: list[str], watch: Watch, on_ready: Ready) -> None:
    """Run a room until SIGTERM or SIGINT; ``watch`` runs beside it, ``on_ready`` is called once it is open.

    Raises what opening the room raises; nothing is left of it then, so other settings may be tried.
    """
    now = asyncio.get_running_loop().time
    begun = now()
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(obeying_signals())
        await stack.enter_async_context(state_lock(settings.state_dir))
        # The socket comes before the engines: who asks early waits a moment instead of being refused.
        server = await stack.enter_async_context(control.listening(socket_path(settings.state_dir)))
        room = await stack.enter_async_context(open_room(settings, settings.state_dir, waits_for_sound=True))
        signals.wakes(room.conversation.post)
        lines = (room.parts.stt, room.synthesiser)
        metrics = Metrics(room.feed, room.engines, lines, settings.state_dir)
        await stack.enter_async_context(beside(metrics.run(), "metrics"))
        answers = Answers(room, metrics)
        await stack.enter_async_context(beside(control.serve_on(server, answers.answer), "control"))
        await stack.enter_async_context(beside(offer_to_the_house(room), "wyoming"))
        await stack.enter_async_context(beside(join_the_house(room), "house"))
        await stack.enter_async_context(beside(watch_device(room), "device watch"))
        await stack.enter_async_context(beside(watch_store(room), "store watch"))
        await stack.enter_async_context(beside(room.parts.clock.watch(room.parts.timers.moved), "clock"))
        await stack.enter_async_context(beside(keep_volume(room), "volume"))
        await stack.enter_async_context(beside(follow_personas(room), "personas"))
        await stack.enter_async_context(beside(be_touched(room), "gpio"))
        await stack.enter_async_context(beside(watch(room), "watch"))
        settle()
        beat, status = (lambda taken: room.conversation.post(Beat(taken))), partial(standing, room)
        await stack.enter_async_context(beside(service.run(beat, status, took_s=now() - begun), "service"))
        on_ready()
        _tell_troubles(room, mistakes)
        await tell_who_is_gone(room)
        log.info("ready: %s", ", ".join(f"{seam} {name}" for seam, name in room.engines.items()))
        log.info("%s", how_called(settings))
        await signals.stop.wait()
        log.info("stopping")


def standing(room: Room) -> str:
    """Say in a line how the room stands: what is wrong, or how it is called."""
    wrong = "; ".join(f"{part}: {health}" for part, health in room.health().items() if health != "ok")
    return wrong or how_called(room.settings)


def settle() -> None:
    """Give back what starting took, and let what is there to stay not be looked through for garbage again."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _tell_troubles(room: Room, mistakes: list[str]) -> None:
    """Say aloud what whoever set the room up should know."""
    if mistakes:
        say(room, "config_broken")
    if refuge.trouble(room.store.path.parent) is not None:
        say(room, "store_failed")
    if room.store.mended:
        log.warning("%s", room.store.mended)
        say(room, "store_mended")
    tell_of_the_card(room)
    tell_what_was_cut_off(room)


def say(room: Room, phrase: str, **values: object) -> None:
    """Let the room say one of its own phrases, which nobody asked for: not in quiet hours."""
    text = room.conversation.speaker.phrases.say(phrase, **values)
    room.parts.quiet.mention(Prompt(text, Source.SCHEDULE, verbatim=True))


class Signals:
    """What signals and the keyboard want: ``stop`` is set by SIGTERM and SIGINT; the rest call the room."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._post: Callable[[Wake], None] | None = None
        self._called = False

    def wake(self) -> None:
        """Call the room, or note it for when the room is open."""
        if self._post is None:
            self._called = True
        else:
            self._post(Wake(Source.BUTTON))

    def wakes(self, post: Callable[[Wake], None]) -> None:
        """Say whom to call; who was early is heard now."""
        self._post = post
        if self._called:
            self.wake()


@contextmanager
def obeying_signals() -> Iterator[Signals]:
    """SIGTERM and SIGINT end the daemon; SIGUSR1, and Enter on a terminal, make it listen."""
    loop = asyncio.get_running_loop()
    signals = Signals()
    reactions = {
        signal.SIGTERM: signals.stop.set,
        signal.SIGINT: signals.stop.set,
        signal.SIGUSR1: signals.wake,
    }
    for number, react in reactions.items():
        loop.add_signal_handler(number, react)
    keyboard = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    if keyboard is not None:
        loop.add_reader(keyboard, _on_line, signals.wake, loop)
    try:
        yield signals
    finally:
        if keyboard is not None:
            loop.remove_reader(keyboard)
        for number in reactions:
            loop.remove_signal_handler(number)


def _on_line(wake: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
    if sys.stdin.readline():
        wake()
    else:
        loop.remove_reader(sys.stdin.fileno())


async def be_touched(room: Room, ways: gpio.Ways | None = None) -> None:
    """Let hands reach the room by the buttons of its board, and let its lights tell what goes on."""
    parts, conversation = room.parts, room.conversation

    async def act(action: Action, cause: str) -> None:
        await parts.quiet.act(action, Source.BUTTON, cause)

    reach = gpio.Reach(
        post=conversation.post,
        feed=room.feed,
        personas=parts.cast.all,
        act=act,
        is_quiet=parts.quiet.now,
        state=lambda: conversation.state,
    )
    await gpio.run(room.settings.gpio, reach, ways)


async def offer_to_the_house(room: Room) -> None:
    """Let others in the house use engines like the room's own, where the configuration says so."""
    settings = room.settings
    if settings.wyoming.listen == "none":
        return
    offer = wyoming.Offer(
        name=settings.device.name,
        language=settings.language,
        hints=room.conversation.speaker.hints,
        stt=room.engines["stt"],
        tts=room.engines["tts"],
        open_stt=partial(open_stt, settings),
        open_tts=partial(open_tts, settings),
        voices=_piper_voices(settings),
    )
    await wyoming.serve(settings.wyoming.listen, offer, announced=settings.wyoming.announce)


def _piper_voices(settings: Settings) -> list[str]:
    _, own = settings.engine("tts")
    return models.installed("piper", own.models_dir) if isinstance(own, piper.Settings) else []


async def watch_device(room: Room) -> None:
    """Say so when the room cannot hear or speak, as far as it can, and when it can again: someone may talk to it."""
    health, deaf, dumb = "ok", False, False
    while True:
        await asyncio.sleep(LOOK_S)
        if room.device.health != health:
            health = room.device.health
            room.feed.publish("device.health", health, source="daemon")
        if room.device.loudspeaker.trouble is not None:
            dumb = True
        elif dumb or deaf != (health != "ok"):
            back = "sound_back" if dumb else "microphone_back"
            deaf, dumb = health != "ok", False
            say(room, "microphone_lost" if deaf else back)


async def keep_volume(room: Room) -> None:
    """Let the volume that the household sets stay over a restart."""
    await loudness.keep(room.device.loudspeaker, room.store, lambda: room.conversation.state.mode is Mode.IDLE)


async def follow_personas(room: Room) -> None:
    """Take up edits of personas and routines while the room talks; who speaks says so where its own is broken."""

    async def changed() -> None:
        for news in await room.conversation.reload():
            mine = news.id == room.conversation.speaker.persona.id
            if news.mistake is None or news.gone or news.again or not mine:
                continue
            key = re.sub(r"[^a-z0-9]+", " ", news.key.lower()).strip()
            say(room, "persona_refused", place=key) if key else say(room, "persona_unread")
        room.feed.publish("personas.changed", source="daemon")

    folders = (*room.parts.cast.library.folders, *room.parts.minds.routines.folders)
    await persona_files.watch(folders, changed)


async def tell_who_is_gone(room: Room) -> None:
    """Say so where somebody else speaks than is wanted: the persona in use is gone, or was broken meanwhile."""
    wanted = await persona_versions.in_use(room.store) or room.settings.personas.default
    present = room.conversation.speaker.persona
    if wanted != present.id:
        say(room, "persona_gone", persona=wanted.replace("-", " ").replace("_", " "), present=present.name)


async def watch_store(room: Room) -> None:
    """Say so, once, when nothing can be written any more: what is told from then on may be forgotten."""
    with room.feed.watch("store.*") as events:
        failing = False
        async for event in events:
            if event.kind == "store.failed" and not failing:
                say(room, "store_failed")
            failing = event.kind == "store.failed"


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
