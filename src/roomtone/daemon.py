"""The daemon around a room: it owns the state folder, answers the control socket and obeys signals."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any

from roomtone import loudness, models, refuge
from roomtone.answers import Answers
from roomtone.app import Room, how_called, open_room
from roomtone.control import socket_path, state_lock
from roomtone.core.dialog import Source
from roomtone.core.machine import Mode
from roomtone.core.schedule import Action
from roomtone.core.signals import Beat, Prompt, Wake
from roomtone.edges import control, gpio, persona_files, service, wyoming
from roomtone.engines.tts import piper
from roomtone.failover import open_stt, open_tts
from roomtone.first_boot.arriving import tell_of_the_card
from roomtone.flow import beside
from roomtone.joining import join_the_house
from roomtone.metrics import Metrics
from roomtone.morning import tell_what_was_cut_off
from roomtone.personas import versions as persona_versions
from roomtone.settings import Settings

log = logging.getLogger(__name__)

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
        await stack.enter_async_context(beside(tell_troubles(room, mistakes), "troubles"))
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


async def tell_troubles(room: Room, mistakes: list[str]) -> None:
    """Say aloud what whoever set the room up should know, once there is a loudspeaker to say it by."""
    if room.store.mended:
        log.warning("%s", room.store.mended)
    while room.device.loudspeaker.trouble is not None:  # noqa: ASYNC110  # a USB card may come later than the daemon
        await asyncio.sleep(LOOK_S)
    if mistakes:
        say(room, "config_broken")
    if refuge.trouble(room.store.path.parent) is not None:
        say(room, "store_failed")
    if room.store.mended:
        say(room, "store_mended")
    tell_of_the_card(room)
    tell_what_was_cut_off(room)
    await tell_who_is_gone(room)


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
