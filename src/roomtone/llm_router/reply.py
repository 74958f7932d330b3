"""What goes out of one model's reply: whole words that are new, nothing thought aloud, no more than was asked for."""

from __future__ import annotations

import asyncio

from roomtone.core.continuation import Continuation, ends_sentence
from roomtone.core.thoughts import Aloud
from roomtone.engines.llm import Text, ToolCall
from roomtone.llm_router.calls import Answer


class Reply:
    """One model's reply, joined to what was said before it. ``ends`` says why it is ended for it, "" while it is not.

    Where the answer is to be whole, its text comes at the end.
    """

    def __init__(self, answer: Answer) -> None:
        self.ends = ""
        self._answer = answer
        self._room = answer.room
        self._goes_on = bool(answer.said)
        self._joint = Continuation(answer.said)
        self._aloud = Aloud()
        self._whole: list[str] | None = [] if answer.whole else None
        self._gave = False

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing in it, once it has ended."""
        if self._gave:
            return False
        return not (self._goes_on and (self._joint.met_the_end or ends_sentence(self._answer.said)))

    def take(self, piece: Text | ToolCall) -> list[Text | ToolCall]:
        """Take a piece; return what of it goes out now."""
        if isinstance(piece, ToolCall):
            texts: list[Text | ToolCall] = [*self.end()]
            self._joint = Continuation(self._answer.said)
            self._gave = True
            return [*texts, piece] if self._answer.is_new(piece) else texts
        text = piece.text[: self._room]
        self._room -= max(1, len(piece.text))  # an empty piece too: there may be no end of them
        out: list[Text | ToolCall] = [*self._told(self._aloud.of(text))]
        if self._room < 0:
            self.ends = "cut: it does not stop"
        elif self._joint.loops:
            self.ends = "cut: it says the same again and again"
        self._answer.cut = self._answer.cut or bool(self.ends)
        return out

    def end(self) -> list[Text]:
        """Return what was held back; of what was ended for it that may be half a word, and is left out."""
        out = self._told(self._aloud.rest())
        if self.ends and self._whole is None:
            return out
        text = self._joint.end() if self._whole is None else "".join(self._whole)
        return [*out, *self._out(text)]

    def _told(self, text: str) -> list[Text]:
        if self._whole is not None:
            self._whole.append(text)
            return []
        return self._out(self._joint.feed(text))

    def _out(self, text: str) -> list[Text]:
        text = text if self._answer.said else text.lstrip()
        if not text:
            return []
        self._gave = self._gave or bool(text.strip())
        self._answer.said += text
        self._answer.heard_at = asyncio.get_running_loop().time()
        return [Text(text)]
