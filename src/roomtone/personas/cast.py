"""The cast of a room: its personas, made ready to hear and to speak before they are needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from roomtone import outbound
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, PersonaError, PersonaNotFound, RoomtoneError
from roomtone.core.persona import AdaptationMode, Persona
from roomtone.core.routine import Routine
from roomtone.core.speakable import in_words
from roomtone.engines.embed import Embed
from roomtone.engines.stt import Hints
from roomtone.failover import SttLine, TtsLine
from roomtone.flow import Worker, close
from roomtone.mind.knowledge import Notes
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.talking import Talk, Talking
from roomtone.mind.thinking import Mind
from roomtone.minds import Minds
from roomtone.personas import Library, skills_of
from roomtone.utterance import Utterance

log = logging.getLogger(__name__)


class ReadyPersona:
    """A persona with all that a turn with it needs; what a recogniser may expect is put together when first asked."""

    def __init__(
        self,
        persona: Persona,
        skills: Skills,
        everyone: Skills,
        phrases: Phrases,
        room: str,
        talk: Talk | None = None,
    ) -> None:
        self.persona = persona
        self.skills = skills
        self.everyone = everyone
        self.is_warm = False
        self.phrases = phrases
        self.notes = notes_of(persona, phrases)
        talking = Talking(persona, phrases, talk, self.notes) if talk is not None else None
        self.mind = Mind(skills, phrases, everyone=everyone, notes=self.notes, talking=talking)
        self._names = (room, persona.name, *skills.own_words())
        self._language = skills.language.language

    @cached_property
    def hints(self) -> Hints:
        """What is expected of somebody who begins to speak."""
        return Hints(self._language, self.skills.grammar(), names=self._names)

    @cached_property
    def asked_hints(self) -> Hints:
        """The same of somebody who was asked something."""
        return replace(self.hints, besides=self.skills.besides(asked=True))

    @cached_property
    def rival_hints(self) -> Hints:
        """The same of somebody who speaks into a reply."""
        words = self.skills.dismissing_words()
        return replace(self.hints, words=words, besides=self.skills.besides(interrupting=True))

    @cached_property
    def ring_hints(self) -> Hints:
        """The same of somebody who speaks to what rings."""
        return Hints(self._language, *self.skills.ring_grammar(), self._names)


@dataclass(frozen=True, slots=True)
class News:
    """How a persona stands: the hash of its files, or the ``mistake`` for which they are refused and its key.

    ``gone``: there is no folder any more. ``again``: it was refused before, and still is or not any more.
    """

    id: str
    content: str | None = None
    mistake: str | None = None
    key: str = ""
    gone: bool = False
    again: bool = field(default=False, compare=False)


class Cast:
    """The personas of a ``library``, ready by id; one whose files have changed is made ready anew.

    ``skills`` are all that the household has. What is broken is refused and, where it was ready before, goes on as it
    was: ``refused`` has the reason by id. ``everybody`` are all that could be loaded when somebody
    was last made ready.
    """

    def __init__(
        self,
        library: Library,
        skills: Skills,
        stt: SttLine,
        tts: TtsLine,
        thread: Worker,
        room: str,
        minds: Minds | None = None,
    ) -> None:
        self.library = library
        self.skills = skills
        self._names: dict[str, str] = {}
        self._everyone = skills
        self.refused: dict[str, PersonaError] = {}
        self.everybody: tuple[Persona, ...] = ()
        self._stt = stt
        self._tts = tts
        self._thread = thread
        self._room = room
        self._minds = minds
        self._called: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._ready: dict[str, ReadyPersona] = {}
        self._known: dict[str, News] | None = None

    @property
    def agents(self) -> list[Persona]:
        """Who has a purpose, and does tasks for others."""
        return [each for each in self.everybody if each.purpose]

    async def ready(self, persona: str) -> ReadyPersona:
        """Return a persona ready to speak, as its files are now, or as they last were whole.

        Raises PersonaNotFound for one that there never was, PersonaError for one that never was whole.
        """
        try:
            ready = await self._thread.call(self._make, persona, self.library)
        except PersonaError as error:
            last = self._ready.get(persona)
            if last is None:
                raise
            gone = isinstance(error, PersonaNotFound)
            before = self.refused.get(persona)
            if str(before) != str(error) and not (gone and isinstance(before, PersonaNotFound)):
                why = f"the folder of persona '{persona}' is gone" if gone else error.message
                log.warning("%s; %s stays as it was", why, last.persona.name)
            self.refused[persona] = error
            return last
        self.refused.pop(persona, None)
        self._ready[persona] = ready
        return ready

    async def recall(self, persona: str, library: Library) -> ReadyPersona:
        """Make a persona ready as another library has it: so it goes on until its own files are whole again.

        Raises PersonaError.
        """
        self._ready[persona] = ready = await self._thread.call(self._make, persona, library)
        return ready

    async def news(self) -> list[News]:
        """Return what became of personas since this was asked last; the first time, who is broken."""
        before = self._known
        looked = [await self._look(id_, before) for id_ in sorted({*self.library.ids(), *self._ready})]
        self._known = {each.id: each for each in looked}
        if before is None:
            return [each for each in looked if each.mistake is not None]
        return [
            replace(each, again=each.id in before and before[each.id].mistake is not None)
            for each in looked
            if each != before.get(each.id)
        ]

    async def _look(self, persona: str, before: Mapping[str, News] | None) -> News:
        """Return how a persona stands; one that changed is made ready, so that its skills are looked at too."""
        known = before.get(persona) if before else None
        error: PersonaError | None
        try:
            content = (await self._thread.call(self.library.load, persona)).content
            changed = before is not None and (known is None or known.content != content)
            if changed or persona in self._ready:
                await self.ready(persona)
            error = self.refused.get(persona)
        except PersonaError as refused:
            content, error = None, refused
            if persona in self._ready:
                await self.ready(persona)  # it goes on as it was, and the log says so
            elif known is None or known.mistake != refused.message:
                log.warning("%s", refused.message)
        if error is None:
            return News(persona, content)
        return News(
            persona, content, error.message, str(error.details.get("key") or ""), isinstance(error, PersonaNotFound)
        )

    async def all(self) -> list[Persona]:
        """List the personas that can be loaded, by id."""
        return await self._thread.call(self._all)

    async def warm(self, personas: Iterable[str]) -> None:
        """Let the recogniser learn what these expect to hear, and the synthesiser how they sound.

        One that is broken is told in the log.
        """
        for persona in personas:
            try:
                ready = await self.ready(persona)
            except PersonaError as error:
                log.warning("%s", error.message)
                continue
            if not ready.is_warm:
                voice = ready.persona.voice
                if voice.engine or voice.voice_id:  # the voice of an engine that is open is loaded
                    with outbound.within(ready.persona.egress):
                        await warm_voice(self._tts, voice)
                await self.expect(ready)

    async def expect(self, ready: ReadyPersona) -> None:
        """Let the recogniser learn what this one expects to hear, and its model who it is."""
        if not ready.is_warm:
            ready.is_warm = True
            with outbound.within(ready.persona.egress):
                await warm(self._stt, ready.rival_hints)  # its grammars are those of all other turns too
                if ready.mind.talking is not None:
                    await _read_ahead(ready.mind.talking)
            if ready.notes is not None and self._minds is not None and self._minds.embed is not None:
                await _learn(ready.notes, self._minds.embed)

    def _make(self, persona: str, library: Library) -> ReadyPersona:
        read = library.load(persona)
        known = self._ready.get(persona)
        self._learn_names()
        if known is not None and known.persona.content == read.content and known.everyone is self._everyone:
            return known
        language = self._everyone.language.language
        phrases = Phrases.load(language)
        phrases = phrases.of({**phrases.texts, **read.phrases.get(language, {})})
        skills = skills_of(read, library.folder(persona), self._everyone)
        talk = self._minds.talk if self._minds is not None else None
        return ReadyPersona(read, skills, self._everyone, phrases, self._room, talk)

    def _routines(self) -> Mapping[str, Routine]:
        return self._minds.routines.all() if self._minds is not None else {}

    def _learn_names(self) -> None:
        """Learn who can be called by which name: everybody by their id, who is broken too, so that this is told."""
        names = {name: id_ for id_ in self.library.ids() for name in _sayable(in_words(id_))}
        shared: list[str] = []
        everybody = self._all()
        self.everybody = tuple(everybody)
        for each in everybody:
            for name in sorted(spoken_names(each)):
                first = names.setdefault(name, each.id)
                if first != each.id:
                    shared.append(f"'{name}' calls {first}, and {each.id} only by its id: give one another name")
        routines = {in_words(name): name for name in self._routines()}
        phrases, odd = self._routine_phrases()
        if names != self._names or (routines, phrases) != self._called:
            given = {"personas": names, "routines": routines, "routine_phrases": phrases}
            self._everyone = self.skills.knowing(given)
            self._names, self._called = names, (routines, phrases)
            for line in (*shared, *odd):
                log.warning("%s", line)

    def _routine_phrases(self) -> tuple[dict[str, str], list[str]]:
        """Return which phrase starts which routine; what means something already starts none, and a line says so."""
        phrases: dict[str, str] = {}
        odd: list[str] = []
        for name, phrase in ((name, phrase) for name, each in self._routines().items() for phrase in each.phrases):
            words = _words(phrase)
            match = self.skills.recognise(words) if words else None
            if not words:
                odd.append(f"nobody can say '{phrase}', so it does not start {name}")
            elif match is not None:
                odd.append(f"'{words}' is understood as {match.intent}, and starts no routine: give {name} another")
            elif phrases.setdefault(words, name) != name:
                odd.append(f"'{words}' starts {phrases[words]}, and {name} only by its name: give it another phrase")
        return phrases, odd

    def _all(self) -> list[Persona]:
        found = []
        for persona in self.library.ids():
            try:
                found.append(self.library.load(persona))
            except PersonaError as error:
                log.debug("%s", error.message)
        return found


def spoken_names(persona: Persona) -> set[str]:
    """Return what a persona is called by: its name, and its id in words."""
    return _sayable(persona.name) | _sayable(in_words(persona.id))


def _sayable(name: str) -> set[str]:
    """Return a name without signs that nobody says, and where it has hyphens, also without those."""
    words = _words(name).removeprefix("the ")
    return {each for each in (words, in_words(words)) if re.search(r"\w", each)}


def _words(text: str) -> str:
    """Return a text in lower case without signs that nobody says; "" where there is no word in it."""
    words = " ".join(re.sub(r"[^\w'\u2019-]+", " ", text.lower()).split())
    return words if re.search(r"[^\W_]", words) else ""


def notes_of(persona: Persona, phrases: Phrases) -> Notes | None:
    """Return a persona's notes, ready to be asked; None where it does not answer out of any."""
    if persona.adaptation_mode is not AdaptationMode.INSTRUCTION_RAG:
        return None
    return Notes(persona.knowledge, phrases.language.small_words)


async def _learn(notes: Notes, embed: Embed) -> None:
    """Let notes be found by what they mean too; where that fails, their words are enough."""
    try:
        await notes.learn(embed)
    except EngineError as error:
        log.warning("%s", error.message)
    except Exception:  # an embedder of another package may raise anything
        log.exception("notes are found by their words alone")


async def _read_ahead(talking: Talking) -> None:
    """Let a model on this machine read what each prompt begins with. A failure is the turn's to tell."""
    try:
        await talking.read_ahead()
    except RoomtoneError as error:
        log.warning("%s", error.message)
    except Exception:  # so may a memory
        log.exception("nothing is read ahead")


async def warm(stt: SttLine, hints: Hints) -> None:
    """Let the recogniser load what the first turn would wait for. A failure is the turn's to tell."""
    silence = Utterance(0.0)
    silence.end(0.0, 0.0)
    try:
        async for _ in stt.transcribe(silence, hints):
            pass
    except EngineError as error:
        log.warning("%s", error.message)


async def warm_voice(tts: TtsLine, voice: Voice) -> None:
    """Let the synthesiser load a voice by saying something to nobody. A failure is the turn's to tell."""
    sounds = tts.speak("1", voice)
    try:
        async for _ in sounds:
            pass
    except EngineError as error:
        log.warning("%s", error.message)
    finally:
        await close(sounds)
