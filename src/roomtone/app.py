"""The composition root: opens the parts of a room in the order of their needs and closes them in the reverse."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from roomtone import engines, logs, refuge
from roomtone.clock_trust import ClockTrust
from roomtone.conversation import Conversation
from roomtone.core.endpoint import Endpointer
from roomtone.core.errors import EngineError, PersonaError, PersonaNotFound, StoreError
from roomtone.core.machine import Mode
from roomtone.core.persona import Persona, Trigger
from roomtone.core.signals import Signal
from roomtone.core.speakable import speakable
from roomtone.ears import Ears
from roomtone.edges.schedule import Schedules
from roomtone.engines.audio import SoundDevice
from roomtone.engines.wake import Wake
from roomtone.failover import SttLine, TtsLine, open_stt, open_tts
from roomtone.flow import Feed, Inbox, Worker, beside, share_the_interpreter, worker
from roomtone.mind.house import Alone
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.minds import Minds, open_minds
from roomtone.mouth import Mouth
from roomtone.parts import Housed, Manners, Parts
from roomtone.past import Summariser
from roomtone.personas import Library
from roomtone.personas import versions as persona_versions
from roomtone.personas.cast import Cast, ReadyPersona
from roomtone.quiet import Quiet
from roomtone.routines.runs import close_cut_off
from roomtone.settings import EngineSection, Personas, Settings
from roomtone.shipped import shipped
from roomtone.store import FILE_NAME, Store, open_store
from roomtone.timers import Timers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """A running room and its parts. ``engines`` names the engine that serves each seam."""

    settings: Settings
    engines: dict[str, str]
    device: SoundDevice
    parts: Parts
    conversation: Conversation
    synthesiser: TtsLine

    @property
    def feed(self) -> Feed:
        """Where state and finished turns go out."""
        return self.parts.feed

    @property
    def store(self) -> Store:
        """What was said, and the timers."""
        return self.parts.store

    def health(self) -> dict[str, str]:
        """Return ``ok``, or what is wrong, for each part: what a watchdog, a console or a person may ask."""
        conversation, parts = self.conversation, self.parts
        found = {**dict.fromkeys(self.engines, "ok"), "audio": self.device.health}
        found["conversation"] = "ok" if conversation.running else "stopped"
        found |= conversation.health
        for line in (parts.stt, self.synthesiser):
            if found[line.seam] == "ok":  # else the conversation knows what is wrong with it
                found[line.seam] = line.health
        if trouble := self.store.mended or refuge.trouble(self.store.path.parent):
            found["store"] = trouble
        if not parts.clock.is_right():
            found["clock"] = "not set since the machine was started"
        if self.settings.llm.providers:
            found["llm"] = parts.minds.router.health
        found |= {f"mcp {name}": health for name, health in parts.minds.servers.health()}
        if parts.housed.health is not None:
            found["house"] = parts.housed.health()
        return found


@asynccontextmanager
async def open_room(
    settings: Settings,
    state_dir: Path,
    *,
    device: SoundDevice | None = None,
    listens: bool = True,
    rings: bool = True,
    one_session: bool = False,
    waits_for_sound: bool = False,
) -> AsyncIterator[Room]:
    """Open a room and run it for as long as the context lasts.

    ``device`` takes the place of the configured audio engine. Without ``listens`` the microphone is left alone, and
    without ``rings`` the timers: who only asks one question must not use up the alarms. With ``waits_for_sound`` a
    sound card need not be there yet.
    Raises EngineUnavailable or ConfigError where a part cannot be opened: one line, with what mends it.
    """
    share_the_interpreter()
    async with AsyncExitStack() as stack:
        opened = _Opener(settings, stack, waits_for_sound)
        store = await stack.enter_async_context(open_store(state_dir / FILE_NAME))
        await _close_routines(store)
        conversation: Conversation | None = None

        def is_idle() -> bool:
            return conversation is None or conversation.state.mode is Mode.IDLE

        parts, tts = await _parts(opened, store, state_dir, device, is_idle)
        speaker = await who_speaks(parts.cast, store, settings.personas.default)
        conversation = Conversation(parts, speaker, replace(manners(settings), one_session=one_session))
        await parts.cast.warm([speaker.persona.id])
        speakable("1", parts.language)  # the first number loads a table, which takes 0.1 s
        stack.enter_context(logs.during(conversation.place))
        await stack.enter_async_context(beside(conversation.run(), "conversation"))
        await parts.quiet.recall()
        if rings:
            await _come_round(settings, parts, stack)
        if listens:
            await stack.enter_async_context(beside(parts.ears.run(), "ears"))
        if parts.minds.talk is not None:
            await stack.enter_async_context(beside(_summariser(parts).run(parts.feed), "summing up"))
        reached = reachable(settings, await parts.cast.all())
        await stack.enter_async_context(beside(parts.cast.warm(reached), "warming personas"))
        yield Room(settings, opened.chosen, opened.device, parts, conversation, tts)


async def _close_routines(store: Store) -> None:
    try:
        await close_cut_off(store)
    except StoreError as error:
        log.error("routines that were cut off are not closed: %s", error.message)


def _summariser(parts: Parts) -> Summariser:
    minds = parts.minds
    return Summariser(
        parts.store,
        minds.router,
        parts.phrases,
        parts.cast.all,
        minds.memory,
        lambda persona: minds.receipts.note(persona=persona),
        lambda kind, data: parts.feed.publish(kind, data, source="summaries"),
        minds.window,
        minds.router.route_of,
    )


async def _come_round(settings: Settings, parts: Parts, stack: AsyncExitStack) -> None:
    """Let timers ring and schedules run; what both missed while off is told one after the other, timers first."""
    await stack.enter_async_context(beside(parts.timers.ring(), "timers"))
    await parts.timers.looked.wait()
    await stack.enter_async_context(beside(parts.quiet.run(), "quiet hours"))
    schedules = Schedules(
        settings.schedules, parts.cast.all, parts.quiet, parts.store, settings.zone, parts.clock.serves
    )
    await stack.enter_async_context(beside(schedules.run(parts.feed), "schedules"))
    await schedules.looked.wait()


async def _parts(
    opened: _Opener, store: Store, state_dir: Path, device: SoundDevice | None, is_idle: Callable[[], bool]
) -> tuple[Parts, TtsLine]:
    """Open the engines and make what a conversation consists of; the synthesiser too, for who wants other voices."""
    settings = opened.settings
    skills = Skills.load(settings.language, state_dir / "skills")
    for refused in skills.refused:
        log.warning("%s", refused)
    phrases, feed = Phrases.load(settings.language), Feed()
    tts, stt = await opened.lines(feed)
    echo, vad = await opened.engine("echo"), await opened.engine("vad")
    opened.device = sound = device or await opened.sound()
    inbox = Inbox[Signal]()
    trust = ClockTrust(store)
    await trust.learn()
    quiet = Quiet(settings.quiet_hours, settings.zone, store, inbox.post, trust.is_near)
    library = persona_library(settings, state_dir)
    minds = await opened.minds(store, feed, phrases, is_idle, trust)
    cast = Cast(library, skills, stt, tts, opened.thread("personas"), settings.device.room, minds)
    minds.abilities.agents = lambda: cast.agents
    parts = Parts(
        ears=Ears(sound.microphone, echo, vad, Endpointer(settings.endpoint), inbox.post, await opened.wake()),
        stt=stt,
        cast=cast,
        phrases=phrases,
        mouth=Mouth(tts, sound.loudspeaker, settings.language),
        timers=Timers(store, settings.zone, phrases, inbox.post, trust, quiet.now),
        clock=trust,
        quiet=quiet,
        minds=minds,
        store=store,
        feed=feed,
        inbox=inbox,
        room=settings.device.room,
        language=settings.language,
        time_zone=settings.zone,
        housed=Housed(Alone(settings.device.room)),
    )
    return parts, tts


class _Opener:
    """Opens engines by seam onto a stack, and remembers which were chosen."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, waits_for_sound: bool) -> None:
        self.chosen: dict[str, str] = {}
        self.settings = settings
        self.device: SoundDevice
        self._stack = stack
        self._waits_for_sound = waits_for_sound

    async def engine(self, seam: str) -> Any:
        name, settings = self.settings.engine(seam)
        self.chosen[seam] = name
        return await self._stack.enter_async_context(engines.open_engine(seam, name, settings))

    async def sound(self) -> SoundDevice:
        """Open the sound device; where that can wait for what is not there, and the room wants it, it waits."""
        settings, section = self.settings, self.settings.audio
        if self._waits_for_sound and section.engine == "auto":
            first = EngineSection(engine=engines.auto_order("audio")[0], **section.keys)
            settings = settings.model_copy(update={"audio": first})
        name, own = settings.engine("audio")
        waiting = getattr(engines.load("audio", name), "waiting", None) if self._waits_for_sound else None
        self.chosen["audio"] = name
        opened = waiting(own) if waiting is not None else engines.open_engine("audio", name, own)
        device: SoundDevice = await self._stack.enter_async_context(opened)
        return device

    async def wake(self) -> Wake | None:
        """Open what hears wake words where they are listened for; a stop word of its own is heard in every mode."""
        name, settings = self.settings.engine("wake")
        if self.settings.listen.mode != "wake_word":
            if getattr(settings, "stop", None) is None:
                return None
            settings = settings.model_copy(update={"words": ()})
        self.chosen["wake"] = name
        opened: Wake = await self._stack.enter_async_context(engines.open_engine("wake", name, settings))
        return opened

    async def minds(
        self, store: Store, feed: Feed, phrases: Phrases, is_idle: Callable[[], bool], clock: ClockTrust
    ) -> Minds:
        """Open what the room thinks with."""
        minds = open_minds(self.settings, store, feed, phrases, is_idle, clock.is_right)
        return await self._stack.enter_async_context(minds)

    def thread(self, name: str) -> Worker:
        return self._stack.enter_context(worker(name))

    async def lines(self, feed: Feed) -> tuple[TtsLine, SttLine]:
        """Open what speaks and what recognises, each with what stands in for it."""

        def on_failure(seam: str, name: str, error: EngineError) -> None:
            feed.publish("engine.failed", (seam, name, error), source="failover")

        tts = await self._stack.enter_async_context(open_tts(self.settings, on_failure))
        stt = await self._stack.enter_async_context(open_stt(self.settings, on_failure))
        self.chosen |= {"tts": tts.places[0].name, "stt": stt.places[0].name}
        return tts, stt


def persona_library(settings: Settings, state_dir: Path) -> Library:
    """Return the household's personas, in its own folder or beside its state, and those that came with Roomtone."""
    return Library([settings.personas.dir or state_dir / "personas", shipped("personas")])


def reachable(settings: Settings, personas: Sequence[Persona]) -> list[str]:
    """List the personas that a schedule, an event, a button or a wake word may call at any moment."""
    actions: list[object] = [*settings.schedules.values(), *settings.events.values()]
    called = {persona.id for persona in personas if Trigger.SCHEDULE in persona.trigger_types}
    if settings.gpio.board != "none":
        actions += settings.gpio.buttons.values()
        called |= {persona.id for persona in personas if persona.button is not None}
    actions += getattr(settings.engine("wake")[1], "words", ())
    called |= {getattr(action, "persona", None) or "" for action in actions}
    return [persona.id for persona in personas if persona.id in called]


async def who_speaks(cast: Cast, store: Store, default: str) -> ReadyPersona:
    """Return who spoke when the room was last on, else the ``default``, else whoever can: no room is left silent.

    Whose files were broken meanwhile speaks as it was when it spoke last.

    Raises PersonaError, the default's, where nobody can be loaded. StoreError: the store cannot be read.
    """
    last = await persona_versions.in_use(store)
    wanted = [last, default] if last is not None else [default]
    for persona in dict.fromkeys([*wanted, Personas().default, *cast.library.ids()]):
        try:
            ready = await cast.ready(persona)
        except PersonaError as error:
            broke = persona == last and not isinstance(error, PersonaNotFound)
            if broke and (recalled := await _as_it_was(persona, cast, store)) is not None:
                log.error("%s; %s speaks as it was", error.message, recalled.persona.name)
                return recalled
            log.error("%s; somebody else speaks instead", error.message)
            continue
        await _keep_version(ready, cast, store)
        return ready
    return await cast.ready(default)


async def _as_it_was(persona: str, cast: Cast, store: Store) -> ReadyPersona | None:
    with tempfile.TemporaryDirectory(prefix="roomtone-persona-") as place:
        try:
            library = await persona_versions.as_used_last(store, persona, Path(place))
            return await cast.recall(persona, library)
        except (PersonaError, StoreError) as error:
            log.error("%s cannot be had back as it was: %s", persona, error.message)
            return None


async def _keep_version(ready: ReadyPersona, cast: Cast, store: Store) -> None:
    try:
        await persona_versions.keep_version(store, cast.library, ready.persona)
    except StoreError as error:
        log.error("the version of %s is not kept: %s", ready.persona.id, error.message)


def how_called(settings: Settings) -> str:
    """Say in a line how somebody gets this room to listen."""
    if manners(settings).open:
        return "it listens to whoever speaks"
    words = [Path(word.model).stem.replace("_", " ") for word in getattr(settings.engine("wake")[1], "words", ())]
    said = f"say {' or '.join(words)}, or " if words and settings.listen.mode == "wake_word" else ""
    here = " (here: Enter)" if sys.stdin is not None and sys.stdin.isatty() else ""
    return f"{said}press the button{here}, and it listens"


def manners(settings: Settings) -> Manners:
    """Return how the room behaves. Without an engine for wake words it listens openly."""
    listen = settings.listen
    wakes = settings.engine("wake")[0] != "none"
    is_open = listen.mode == "open" or (listen.mode == "wake_word" and not wakes)
    return Manners(open=is_open, follow_up_s=listen.follow_up_s, chooses=settings.personas.choose)
