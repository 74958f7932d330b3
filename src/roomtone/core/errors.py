"""Every error Roomtone raises on purpose, on one page.

    RoomtoneError            code, message (one sentence for a person), details (data)
    ├── ConfigError          CONFIG_ERROR            the configuration is wrong: whoever edits it can mend it
    ├── UsageError           USAGE_ERROR             the command was wrong: whoever typed it can mend it
    ├── EngineError          ENGINE_ERROR            an engine did not do its work; another may
    │   ├── EngineUnavailable  ENGINE_UNAVAILABLE    it cannot be opened here: the message says what installs it
    │   ├── EngineTimeout      ENGINE_TIMEOUT        it did not answer in its time and was replaced
    │   ├── EngineCrashed      ENGINE_CRASHED        its process ended
    │   ├── LlmError           LLM_API_ERROR         a language model refused or broke off (engines/llm)
    │   └── EgressRefused      EGRESS_REFUSED        what is said to this persona may not travel so far
    ├── AudioError           AUDIO_PROCESSING_ERROR  a microphone, loudspeaker or sound file
    ├── PersonaError         PERSONA_LOAD_ERROR      a persona's folder is wrong
    │   └── PersonaNotFound    PERSONA_NOT_FOUND
    ├── StoreError           STORE_ERROR             the database: full disk, corrupt file
    ├── SessionError         SESSION_ERROR           a stretch of conversation that was asked for
    │   ├── SessionNotFound    SESSION_NOT_FOUND     there never was one of that id, or it was erased
    │   └── SessionExpired     SESSION_EXPIRED       it is over, and cannot be gone on with
    ├── BackupError          BACKUP_ERROR            a backup cannot be made, or is none that can be taken in
    ├── ModelError           MODEL_ERROR             a model cannot be fetched or taken in, or is not whole
    ├── ToolError            TOOL_ERROR              a tool or skill could not do what was asked
    ├── HouseError           HOUSE_ERROR             another room, the hub or the broker did not do what was asked
    │   ├── BrokerUnreachable  BROKER_UNREACHABLE    there is no way to the broker
    │   ├── HubGone            HUB_GONE              the hub is off, or does not answer
    │   ├── DeviceNotFound     DEVICE_NOT_FOUND      no room or device is called so
    │   ├── DeviceOffline      DEVICE_OFFLINE
    │   ├── RegistrationError  DEVICE_REGISTRATION_ERROR  a device cannot be enrolled, or was revoked
    │   ├── HandoffRefused     HANDOFF_REFUSED       a conversation stays where it is; ``details["why"]`` is the code
    │   └── PayloadError       PAYLOAD_ERROR         what came over the wire is none of ours
    │       └── NewerVersion     NEWER_VERSION       it is of a later Roomtone
    ├── RoomBusy             ROOM_BUSY               somebody talks, and what was asked for needs a room at rest
    ├── StateBusy            STATE_BUSY              another process holds the state folder
    ├── ControlRefused       CONTROL_REFUSED         the daemon's socket may not be used by this user
    └── DaemonGone           DAEMON_GONE             the daemon ended, or hangs, before it had answered

The code is stable and meant for programs; the message is one line: what is wrong, and what mends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class RoomtoneError(Exception):
    """The root: carries a stable ``code``, a ``message`` for a person and ``details`` as data."""

    code: ClassVar[str] = "ROOMTONE_ERROR"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    @property
    def reason(self) -> str:
        """The code that says most: that of ``details["why"]`` where the error carries one, else its own."""
        return str(self.details.get("why") or self.code)

    def as_dict(self) -> dict[str, Any]:
        """Return the three things every edge prints: code, message, details."""
        return {"code": self.code, "message": self.message, "details": dict(self.details)}


class ConfigError(RoomtoneError):
    """The configuration cannot be used."""

    code = "CONFIG_ERROR"


class UsageError(RoomtoneError):
    """A command was given arguments it cannot work with."""

    code = "USAGE_ERROR"


class EngineError(RoomtoneError):
    """An engine failed at its work."""

    code = "ENGINE_ERROR"


class EngineUnavailable(EngineError):
    """An engine cannot be opened on this machine as it is."""

    code = "ENGINE_UNAVAILABLE"


class EngineTimeout(EngineError):
    """An engine took longer than its bound and was given up."""

    code = "ENGINE_TIMEOUT"


class EngineCrashed(EngineError):
    """An engine's own process ended."""

    code = "ENGINE_CRASHED"


class EgressRefused(EngineError):
    """Something would have left this machine, or the house, that may not."""

    code = "EGRESS_REFUSED"


class AudioError(RoomtoneError):
    """A microphone, a loudspeaker or a sound file cannot be used."""

    code = "AUDIO_PROCESSING_ERROR"


class PersonaError(RoomtoneError):
    """A persona's folder cannot be loaded."""

    code = "PERSONA_LOAD_ERROR"


class PersonaNotFound(PersonaError):
    """There is no persona of that id."""

    code = "PERSONA_NOT_FOUND"


class StoreError(RoomtoneError):
    """The database cannot be read or written."""

    code = "STORE_ERROR"


class BackupError(RoomtoneError):
    """A backup cannot be made, or cannot be taken in; nothing was changed."""

    code = "BACKUP_ERROR"


class ModelError(RoomtoneError):
    """A model cannot be fetched or taken in, or its files are not what they should be."""

    code = "MODEL_ERROR"


class SessionError(RoomtoneError):
    """A session, or something said in one, cannot be had."""

    code = "SESSION_ERROR"


class SessionNotFound(SessionError):
    """There is no session, turn or message of that id."""

    code = "SESSION_NOT_FOUND"


class SessionExpired(SessionError):
    """The session is over: nothing can be added to it."""

    code = "SESSION_EXPIRED"


class ToolError(RoomtoneError):
    """A tool or skill could not do what was asked."""

    code = "TOOL_ERROR"


class HouseError(RoomtoneError):
    """Another room, the hub or the broker did not do what was asked."""

    code = "HOUSE_ERROR"


class BrokerUnreachable(HouseError):
    """There is no way to the broker now."""

    code = "BROKER_UNREACHABLE"


class HubGone(HouseError):
    """The hub is off, or does not answer."""

    code = "HUB_GONE"


class DeviceNotFound(HouseError):
    """No room and no device is called so."""

    code = "DEVICE_NOT_FOUND"


class DeviceOffline(HouseError):
    """The device is off, or out of reach."""

    code = "DEVICE_OFFLINE"


class RegistrationError(HouseError):
    """A device cannot be enrolled, or was revoked."""

    code = "DEVICE_REGISTRATION_ERROR"


class HandoffRefused(HouseError):
    """A conversation stays where it is."""

    code = "HANDOFF_REFUSED"


class PayloadError(HouseError):
    """What came over the wire cannot be read."""

    code = "PAYLOAD_ERROR"


class NewerVersion(PayloadError):
    """What came over the wire is of a later Roomtone."""

    code = "NEWER_VERSION"


class RoomBusy(RoomtoneError):
    """The room is talked with, and what was asked for cannot be done beside that."""

    code = "ROOM_BUSY"


class StateBusy(RoomtoneError):
    """Another process holds the state folder."""

    code = "STATE_BUSY"


class ControlRefused(RoomtoneError):
    """The running daemon's control socket may not be used by this user."""

    code = "CONTROL_REFUSED"


class DaemonGone(RoomtoneError):
    """The daemon that was asked is not there any more, or does not answer."""

    code = "DAEMON_GONE"
