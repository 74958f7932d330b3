"""Who the room speaks as: a persona, with everything that its folder says of it."""

from __future__ import annotations

from datetime import time
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from roomtone.core.dialog import Noun, Voice


class AdaptationMode(StrEnum):
    """How a language model becomes this persona: by its prompt, by notes of its own beside that, or by training."""

    INSTRUCTION_ONLY = "instruction_only"
    INSTRUCTION_RAG = "instruction_rag"
    FINE_TUNED = "fine_tuned"


class Trigger(StrEnum):
    """What may call a persona."""

    SCHEDULE = "schedule"
    BUTTON = "button"
    VOICE_COMMAND = "voice_command"
    MANUAL = "manual"
    EVENT = "event"


class Egress(StrEnum):
    """How far what is said to a persona may travel: anywhere, within the house, or not off this machine."""

    ANY = "any"
    LAN = "lan"
    NONE = "none"


class Context(StrEnum):
    """What a persona knows when it is switched to.

    ``own``: its own last conversation, if it is not over. ``fresh``: nothing. ``shared``: what was just said to the
    persona before it; the only way in which anything passes from one to another.
    """

    OWN = "own"
    FRESH = "fresh"
    SHARED = "shared"


def _of_yaml(value: Any) -> Any:
    """Return a time of day that YAML took for a number to the base of 60: unquoted, 22:00 is 1320."""
    if not isinstance(value, int):
        return value
    if not 0 <= value < 24 * 60:
        raise ValueError("is no time of day; write it as in '22:00'")
    return time(*divmod(value, 60))


TimeOfDay = Annotated[time, BeforeValidator(_of_yaml)]


class QuietHours(Noun):
    """A stretch of each day, on the household's clock, that may pass midnight; ``volume`` is a factor on loudness."""

    start: TimeOfDay
    end: TimeOfDay
    volume: float = Field(0.4, ge=0.05, le=1.0)

    def holds(self, at: time) -> bool:
        """Say whether a time of day is in it; where start and end are the same, always."""
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


class Preference(StrEnum):
    """Which of the language models of a route a persona asks first: those in the house, or those beyond it."""

    LOCAL = "local"
    CLOUD = "cloud"
    LOCAL_ONLY = "local_only"


class ModelUse(Noun):
    """Which language models a persona asks, in order (none: the house's route), and how.

    ``prefer`` puts those first that are near or far, whatever their order. A reply ends before any text of ``stop``.
    """

    route: tuple[str, ...] = ()
    prefer: Preference | None = None
    max_response_tokens: int = Field(300, ge=50, le=4000)
    temperature: float = Field(0.7, ge=0.0, le=2.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    stop: tuple[str, ...] = Field((), max_length=4)


class Example(Noun):
    """An exchange as this persona would have it; ``context`` says when."""

    user_message: str = Field(min_length=1)
    assistant_response: str = Field(min_length=1)
    context: str = ""


class KnowledgeFile(Noun):
    """A persona's own notes on something: the name of the file, and its Markdown."""

    name: str
    text: str


class Persona(Noun):
    """Who the room speaks as. After ``context_retention_hours`` of silence a conversation with it is over.

    ``tools`` are the skills and tools it may use beside those that every persona has, by family (``timer``) or name
    (``weather.today``); None is all. With a ``purpose`` it is an agent too, which does such tasks for others.
    ``content`` is the SHA-256 of its folder's files: what changes with every edit.
    """

    id: str = Field(pattern=r"^[a-z0-9_-]+$")
    name: str = Field(min_length=1, max_length=100)
    description: str = Field("", max_length=500)
    purpose: str = Field("", max_length=500)
    version: str = Field("1", min_length=1, max_length=50)
    adaptation_mode: AdaptationMode = AdaptationMode.INSTRUCTION_ONLY
    trigger_types: frozenset[Trigger] = frozenset({Trigger.VOICE_COMMAND, Trigger.MANUAL})
    schedule_cron: str | None = None
    button: str | None = None
    voice: Voice = Voice()
    llm: ModelUse = ModelUse()
    model_reference: str | None = None
    context: Context = Context.OWN
    context_retention_hours: float = Field(1.0, ge=1, le=168)
    tone_rules: tuple[str, ...] = ()
    behavior_constraints: tuple[str, ...] = ()
    tools: tuple[str, ...] | None = None
    egress: Egress = Egress.ANY
    quiet_hours: QuietHours | None = None
    tags: tuple[str, ...] = ()
    system_prompt: str = ""
    examples: tuple[Example, ...] = ()
    knowledge: tuple[KnowledgeFile, ...] = ()
    jokes: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    phrases: dict[str, dict[str, str | list[str]]] = Field(default_factory=dict)
    content: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Persona:
        if self.adaptation_mode is AdaptationMode.FINE_TUNED and not self.model_reference:
            raise ValueError("model_reference: a fine_tuned persona needs the model or LoRA that was trained for it")
        if Trigger.SCHEDULE in self.trigger_types and not self.schedule_cron:
            raise ValueError("schedule_cron: a persona that a schedule calls needs one, such as '30 19 * * *'")
        return self


def may_know(who: Persona, of: Persona) -> bool:
    """Say whether ``who`` may know what is said to ``of``: no words travel further by being passed on."""
    order = (Egress.NONE, Egress.LAN, Egress.ANY)
    return order.index(who.egress) <= order.index(of.egress)
