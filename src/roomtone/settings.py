"""The settings tree: every section and key of the configuration, its default and its bounds."""

from __future__ import annotations

import os
import re
import socket
import unicodedata
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from roomtone import engines
from roomtone.config_sources import guess
from roomtone.core.board import Job
from roomtone.core.endpoint import EndpointSettings
from roomtone.core.persona import Egress, QuietHours
from roomtone.core.schedule import Action, Schedule

SERVICE_STATE = Path("/var/lib/roomtone")
"""The folder of the machine's own daemon, as its unit names it."""

SEAMS = ("audio", "vad", "echo", "wake", "stt", "tts")
"""The seams that have a section of their own."""

OPTIONAL = ("embed",)
"""Seams with a section that a room does without."""


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def machine_id() -> str:
    """Make an id for this device from the machine's name."""
    return as_id(socket.gethostname().partition(".")[0]) or "roomtone"


def as_id(name: str) -> str:
    """Make an id, or a host name, of a name that people use: Küche is kuche; "" where nothing is left."""
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63].rstrip("-")


def machine_time_zone() -> str:
    """Return the machine's time zone by its IANA name; UTC where the machine does not say."""
    linked = os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    written = Path("/etc/timezone").read_text("ascii", "replace").strip() if Path("/etc/timezone").is_file() else ""
    for name in (os.environ.get("TZ", "").lstrip(":"), linked, written):
        if name and _is_zone(name):
            return name
    return "UTC"


def default_state_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Return systemd's folder for the service's state, else the user's own.

    Where the service has one, that is root's and its own user's too: who types ``sudo roomtone hub setup`` means it.
    """
    if env.get("STATE_DIRECTORY"):
        return Path(env["STATE_DIRECTORY"])
    of_the_service = os.geteuid() == 0 or Path("~").expanduser() == SERVICE_STATE
    return (
        SERVICE_STATE if of_the_service and SERVICE_STATE.is_dir() else Path(platformdirs.user_state_dir("roomtone"))
    )


def room_beside(state_dir: Path) -> Path | None:
    """Return the folder of the service's state where there is one and a user's own is meant, by default, instead."""
    return SERVICE_STATE if state_dir == default_state_dir() != SERVICE_STATE and SERVICE_STATE.is_dir() else None


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _zone(name: str) -> str:
    if not _is_zone(name):
        close = guess(name, zoneinfo.available_timezones())
        raise ValueError("is no time zone; " + (close if "mean" in close else "write it as in Europe/Berlin"))
    return name


def _id(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]+", text):
        raise ValueError("is not an id; use a-z, 0-9, _ and -")
    return text


def _address(text: str) -> str:
    if text != "none" and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]*):\d{1,5}", text):
        raise ValueError("is not an address to listen on; write none, or host:port as in 127.0.0.1:8765")
    return text


def _broker(text: str) -> str:
    if text != "auto" and not re.fullmatch(r"mqtts?://[^/\s]+", text):
        raise ValueError("is not a broker's URL; write it as in mqtts://hub.local:8883, or auto")
    return text


def _enrolment_code(code: object) -> object:
    if isinstance(code, SecretStr):
        return code
    if isinstance(code, bool) or not re.fullmatch(r"[0-9](?:[ -]?[0-9]){5,7}", str(code)):
        raise ValueError("is no code of 6 to 8 digits; write it in quotes, as in '481 233'")
    return str(code)


def _web_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", text):
        raise ValueError("is not a URL; write it as in http://nas.local:11434/v1")
    return text


def _language(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", text):
        raise ValueError("is not a language; write its code, as in en or de-AT")
    return text


def _language_or_auto(text: str) -> str:
    return text if text == "auto" else _language(text)


def _home(path: Path) -> Path:
    return path.expanduser()


Id = Annotated[str, AfterValidator(_id)]
Folder = Annotated[Path, AfterValidator(_home)]
Language = Annotated[str, AfterValidator(_language)]
SpokenLanguage = Annotated[str, AfterValidator(_language_or_auto)]


class Device(Section):
    """Who this room is: ``id`` in topics and logs, ``name`` for people, ``room`` where it stands."""

    id: Id = Field(default_factory=machine_id)
    name: str = "Roomtone"
    room: str = "room"


class Listen(Section):
    """When the microphone is listened to, and for how many seconds after an answer."""

    mode: Literal["wake_word", "button", "open"] = "wake_word"
    follow_up_s: float = Field(6.0, ge=0, le=60)


class EngineSection(Section):
    """Which engine of a seam; every other key is that engine's own setting."""

    model_config = ConfigDict(frozen=True, extra="allow")

    engine: str = "auto"

    @property
    def keys(self) -> dict[str, Any]:
        """The engine's own keys as they were written."""
        return dict(self.model_extra or {})

    @property
    def shared(self) -> dict[str, Any]:
        """The keys that mean the same to every engine of the seam, where they were written."""
        written = self.model_fields_set & type(self).model_fields.keys()
        return {key: getattr(self, key) for key in written - {"engine"}}


class Stt(EngineSection):
    """Speech to text; ``language`` where it differs from the household's, or ``auto`` to find it out (whisper)."""

    language: SpokenLanguage | None = None


class Provider(EngineSection):
    """One language model: its engine, whose own keys stand beside these, and what it may take.

    ``first_piece_s``: longest wait for its first word (None: 8, and 30 for a model on this machine); ``stall_s``: for
    any further one. ``per_minute``: requests; ``tokens_per_day``, ``dollars_per_day``: then it rests until tomorrow.
    ``reach``: how far what it is told travels (``none``, ``lan``, ``any``), where its address does not tell.
    """

    engine: str
    first_piece_s: float | None = Field(None, gt=0, le=300)
    stall_s: float = Field(4.0, gt=0, le=300)
    per_minute: int | None = Field(None, ge=1)
    tokens_per_day: int | None = Field(None, ge=1)
    dollars_per_day: float | None = Field(None, gt=0)
    reach: Egress | None = None


class Llm(Section):
    """Language models by name, the order in which they are asked, and what they are told of a conversation.

    ``messages`` and ``tokens`` bound what of it goes into one prompt. ``anticipate``: begin to answer in a pause of
    the person's, at the price of answers that nobody waits for when they go on.
    """

    route: tuple[str, ...] = ()
    providers: dict[Id, Provider] = Field(default_factory=dict)
    messages: int = Field(20, ge=2, le=200)
    tokens: int = Field(8000, ge=500, le=200_000)
    anticipate: bool = True


class Memory(Section):
    """What keeps what is known of the household: ``sqlite``, in the store, or a dotted name of your own."""

    engine: str = "sqlite"


class McpServer(Section):
    """One MCP server: a ``command`` to run or a ``url`` to call. Its tools are named ``<server>.<tool>``.

    ``tools`` are those that may be used (None: all); those in ``confirm`` need a yes of the person's each time.
    ``reach``: how far what it is told travels (``none``, ``lan``, ``any``), where its address does not tell; of a
    program nobody knows, so without it that is ``any``.
    """

    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, SecretStr] = Field(default_factory=dict)
    url: Annotated[str, AfterValidator(_web_url)] | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    timeout_s: float = Field(15.0, gt=0, le=300)
    tools: tuple[str, ...] | None = None
    confirm: tuple[str, ...] = ()
    reach: Egress | None = None

    @model_validator(mode="after")
    def _one_way(self) -> McpServer:
        if (self.command is None) is (self.url is None):
            raise ValueError("needs a command to run or a url to call, one of them")
        if self.headers and self.url is None:
            raise ValueError("has headers, which only a url is called with; give a command its secrets in env")
        if self.env and self.command is None:
            raise ValueError("has an env, which only a command is run with; give a url its key in headers")
        if self.url is not None and "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ValueError("has a password in its url; write it in headers")
        if self.tools is not None and (unknown := set(self.confirm) - set(self.tools)):
            raise ValueError(f"has {', '.join(sorted(unknown))} in confirm and not in tools; add it there")
        return self


class Routines(Section):
    """Where the household's routines are (None: ``routines`` in the state folder); how many steps run at a time."""

    dir: Folder | None = None
    max_parallel: int = Field(3, ge=1, le=16)


class Personas(Section):
    """Where the household's personas are (None: those that came with Roomtone), and who speaks first.

    ``choose``: a request may choose the persona that fits it best, for this one answer.
    """

    dir: Folder | None = None
    default: Id = "companion"
    choose: bool = False


class Household(Section):
    """Who lives here, and what they like (as in ``coffee: black``): told to personas that ask for it."""

    names: tuple[str, ...] = ()
    preferences: dict[str, str] = Field(default_factory=dict)


class Hub(Section):
    """The house's broker; without one (None) this room is on its own; ``auto`` looks for it in the network.

    ``username`` and ``password`` where it asks for them; ``ca``, ``cert`` and ``key`` are PEM files (None: those that
    ``roomtone hub join`` left in the state folder). ``code``: what ``roomtone hub enroll`` shows; a room that has not
    joined yet does so by itself with it. ``share_texts``: others in the house may read what was heard and
    said here. ``follow_s``: a conversation that another room had so many seconds ago goes on where somebody calls
    next; 0 is never. ``home_assistant``: this room shows itself to Home Assistant.
    """

    url: Annotated[str, AfterValidator(_broker)] | None = None
    home: Id = "home"
    username: str | None = None
    password: SecretStr | None = None
    ca: Folder | None = None
    cert: Folder | None = None
    key: Folder | None = None
    code: Annotated[SecretStr, BeforeValidator(_enrolment_code)] | None = None
    share_texts: bool = False
    follow_s: float = Field(0.0, ge=0, le=600)
    home_assistant: bool = True


class Web(Section):
    """Where the web console listens: ``none``, or host:port."""

    listen: Annotated[str, AfterValidator(_address)] = "none"


class Models(Section):
    """Where models are fetched from: ``mirror`` is the URL of another machine's models folder; None is the hub."""

    mirror: Annotated[str, AfterValidator(_web_url)] | None = None


class Wyoming(Section):
    """Where the house may use this room's recogniser and voices: ``none``, or host:port; told to Home Assistant."""

    listen: Annotated[str, AfterValidator(_address)] = "none"
    announce: bool = True


class Gpio(Section):
    """Buttons and lights: a board by its name or its file, what its buttons are for, how bright its lights are."""

    board: str = "none"
    buttons: dict[Id, Job] = Field(default_factory=dict)
    brightness: float = Field(0.3, ge=0, le=1)
    hold_s: float = Field(0.4, ge=0.1, le=2)
    double_tap_s: float = Field(0.35, ge=0, le=1)
    long_press_s: float = Field(3.0, ge=1, le=20)


class Features(Section):
    """Switches; the code behind one that is off is not opened."""

    analytics: bool = False
    multi_device: bool = False
    offline_mode: bool = False
    fine_tuned: bool = False


class Log(Section):
    """What the log says and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Privacy(Section):
    """What may be kept."""

    store_audio: bool = False


class Settings(Section):
    """Everything that can be configured. Frozen: a change is a new tree."""

    device: Device = Field(default_factory=Device)
    state_dir: Folder = Field(default_factory=default_state_dir)
    listen: Listen = Listen()
    audio: EngineSection = EngineSection()
    vad: EngineSection = EngineSection()
    echo: EngineSection = EngineSection()
    wake: EngineSection = EngineSection()
    stt: Stt = Stt()
    tts: EngineSection = EngineSection()
    endpoint: EndpointSettings = EndpointSettings()
    llm: Llm = Llm()
    memory: Memory = Memory()
    embed: EngineSection = EngineSection()
    models: Models = Models()
    mcp: dict[Id, McpServer] = Field(default_factory=dict)
    routines: Routines = Routines()
    personas: Personas = Personas()
    household: Household = Household()
    hub: Hub = Hub()
    web: Web = Web()
    wyoming: Wyoming = Wyoming()
    schedules: dict[Id, Schedule] = Field(default_factory=dict)
    events: dict[Id, Action] = Field(default_factory=dict)
    quiet_hours: QuietHours | None = None
    language: Language = "en"
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(default_factory=machine_time_zone)
    gpio: Gpio = Gpio()
    features: Features = Features()
    log: Log = Log()
    privacy: Privacy = Privacy()

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The household's time zone."""
        return zoneinfo.ZoneInfo(self.time_zone)

    @property
    def given(self) -> dict[str, Any]:
        """What an engine may know of the rest of the configuration, by the names of its own settings."""
        return {"models_dir": self.state_dir / "models", "language": self.language}

    def section(self, seam: str) -> EngineSection:
        """Return the section of a seam; a seam that has none is on ``auto``."""
        return getattr(self, seam) if seam in (*SEAMS, *OPTIONAL) else EngineSection()

    def spares(self, seam: str, chosen: str) -> list[tuple[str, engines.EngineSettings]]:
        """List the engines that stand in for a seam's chosen one, with their settings (see ``engines.spares``)."""
        return engines.spares(seam, chosen, self.section(seam).keys, self.given)

    def engine(self, seam: str) -> tuple[str, engines.EngineSettings]:
        """Settle which engine serves a seam, and with which settings (see ``engines.choose``).

        Raises EngineUnavailable where none can be opened here.
        """
        section = self.section(seam)
        name, settings = engines.choose(seam, section.engine, section.keys, self.given)
        shared = section.shared.keys() & type(settings).model_fields
        if shared:
            settings = settings.model_copy(update={key: section.shared[key] for key in shared})
        return name, settings
