"""Events of a conversation as lines for a person: who said what, and where the milliseconds went."""

from __future__ import annotations

from roomtone.core.dialog import Latency, Turn
from roomtone.flow import Event


def lines(event: Event) -> list[str]:
    """Return the lines that an event is worth; most are worth none."""
    if event.kind == "turn.heard" and event.data.heard:
        return [f"heard  {event.data.heard}"]
    if event.kind == "turn.ended":
        return turn_lines(event.data.turn)
    if event.kind in ("device.health", "store.failed"):
        return [f"trouble  {event.data}"]
    return []


def turn_lines(turn: Turn) -> list[str]:
    """Return what a turn said, how it ended, and what each stage took."""
    said = turn.spoken or ("(nothing reached the room)" if turn.said else "(nothing)")
    cut = "" if turn.spoken == turn.said else f" [{turn.ended}; meant: {turn.said}]"
    return [f"said   {said}{cut}", f"       {stages(turn.latency_ms)}"]


def stages(latency: Latency) -> str:
    """Return the stages that happened, in milliseconds."""
    names = ("endpoint", "stt", "think", "tts", "first_sound", "overhead")
    taken = [(name, getattr(latency, name)) for name in names]
    return "  ".join(f"{name} {value:.0f} ms" for name, value in taken if value is not None)
