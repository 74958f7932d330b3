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
    """Return the stages that happened, in milliseconds, and what they add up to."""
    taken = [(name, getattr(latency, name)) for name in ("endpoint", "stt", "think", "tts")]
    parts = " + ".join(f"{name} {value:.0f}" for name, value in taken if value is not None)
    if latency.first_sound is None:
        return f"{parts} ms, no sound" if parts else "no sound"
    own = f"{latency.overhead or 0:.0f} of them Roomtone's own"
    if latency.saved:
        own += f"; {latency.saved:.0f} more were saved by beginning in a pause"
    return f"{parts} = {latency.first_sound:.0f} ms to the first sound, {own}"
