"""What somebody says to another room: carried as it was said, not as it was understood."""

from __future__ import annotations

from typing import Protocol

from roomtone.core.sound import Audio
from roomtone.engines.stt import Transcript
from roomtone.mind import Answer
from roomtone.mind.sentences import Skills
from roomtone.utterance import Utterance

SHORTEST_S = 0.4
"""Voiced sound from which something is a message; less is a cough, or the chair of who thinks about what to say."""

TAKEN_BACK_S = 2.0
"""Longest voiced sound that can be a "never mind": a recogniser of commands hears one in any sentence."""


class Carrier(Protocol):
    """Takes what is said next to another room, and keeps what came from one until it was played."""

    def waits(self) -> bool:
        """Say whether what is said next is a message."""

    async def carry(self, utterance: Utterance) -> Answer:
        """Send a message that is over; return what to say of that. Nothing waits for one any more."""

    def drop(self) -> None:
        """Wait for no message any more."""

    async def recorded(self, id_: str) -> Audio | None:
        """Return a message that came, None where it is not kept any more."""


def took_back(utterance: Utterance, transcript: Transcript | None, skills: Skills) -> bool:
    """Say whether somebody said "never mind" instead of a message."""
    match = skills.recognise(transcript.text) if transcript is not None and transcript.text else None
    return match is not None and match.dismisses and utterance.voiced_s < TAKEN_BACK_S
