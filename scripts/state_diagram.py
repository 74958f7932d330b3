"""Print the README's state diagram (Mermaid) from the machine's table, or write it into the README (--write)."""

from __future__ import annotations

import sys
from dataclasses import replace

from readme_block import write
from roomtone.core import signals
from roomtone.core.dialog import Source
from roomtone.core.machine import Mode, State, step

NAME = "states"

SIGNALS = (
    *(signals.Wake(), signals.Dismiss(), signals.Prompt("", Source.CLI), signals.SpeechStarted("")),
    *(signals.SpeechPaused(), signals.SpeechEnded(), signals.Misfired(), signals.SoundWentOn(), signals.Timeout(1)),
    *(signals.Overheard(1, True), signals.LetGo()),
    *(signals.Wake(call=signals.Call(0.0)), signals.SpeechStarted("", signals.Call(0.0)), signals.StandDown(1)),
    *(kind(turn) for kind in (signals.FirstSound, signals.FloorTaken, signals.FloorKept) for turn in (1, 2)),
    signals.TurnEnded(1),
)


def changes() -> dict[tuple[Mode, Mode], set[str]]:
    """Walk every state that can be reached and collect which signal leads from which mode to which."""
    found: dict[tuple[Mode, Mode], set[str]] = {}
    seen, waiting = set(), [State(), State(open=False), State(follows_up=False)]
    while waiting:
        state = waiting.pop()
        if state in seen or state.turns > 2 or max(state.waits, state.calls, len(state.parked)) > 1:
            continue
        seen.add(state)
        for signal in SIGNALS:
            after, _ = step(state, signal)
            waiting.append(replace(after, called=False))
            if after.mode is not state.mode:
                found.setdefault((state.mode, after.mode), set()).add(type(signal).__name__)
    return found


def everywhere(found: dict[tuple[Mode, Mode], set[str]]) -> set[tuple[str, Mode]]:
    """Return the signals that lead to one and the same mode from every other one."""
    names = set().union(*found.values())
    return {
        (name, to)
        for name in names
        for to in Mode
        if all(name in found.get((mode, to), ()) for mode in Mode if mode is not to)
    }


def diagram() -> str:
    """Return the diagram as a Mermaid block."""
    found = changes()
    always = everywhere(found)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> idle"]
    for (before, after), names in sorted(found.items()):
        own = sorted(name for name in names if (name, after) not in always)
        if own:
            lines.append(f"    {before} --> {after}: {', '.join(own)}")
    lines += ["```", "", "From any state: " + "; ".join(f"{name} leads to {to}" for name, to in sorted(always)) + "."]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--write" in sys.argv:
        write(NAME, diagram())
    else:
        print(diagram())
