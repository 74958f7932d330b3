"""What a model is told before it answers: who it is, what was said before, what belongs to the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roomtone.core.dialog import Message


@dataclass(frozen=True, slots=True)
class Past:
    """What was said before: the last ``messages`` of a conversation, the oldest first, and a ``summary`` of the rest.

    A reply that was cut short is there as far as it was heard.
    """

    messages: Sequence[Message] = ()
    summary: str = ""
