"""The language model seam: messages in; text deltas, tool calls, then usage out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from roomtone.core.errors import EngineError
from roomtone.core.tooling import ToolSpec

if TYPE_CHECKING:
    from roomtone.core.dialog import Message  # a child goes without the 8 MB that it takes

AUTO: tuple[str, ...] = ("llama_cpp",)
"""What answers where no provider is configured: a model on this machine's disk."""


class Trouble(StrEnum):
    """What is wrong with a provider: who mends it, and whether asking it again soon may help."""

    KEY = "key"  # 401, 403: the key is wrong or may not do this
    CREDIT = "credit"  # 402: nothing is left to spend
    MODEL = "model"  # 404: no such model, or no such address
    LIMIT = "limit"  # 429: asked too often; ``retry_after_s`` says for how long
    BUSY = "busy"  # 5xx, refused connections, broken streams: it may be back in a moment
    NONSENSE = "nonsense"  # what it sends is no answer of its own protocol
    TOO_LONG = "too_long"  # the messages do not fit into its context
    REFUSED = "refused"  # it will not answer this


class LlmError(EngineError):
    """A language model failed; ``trouble`` says how, ``retry_after_s`` when it wants to be asked again (seconds)."""

    code = "LLM_API_ERROR"

    def __init__(self, message: str, trouble: Trouble = Trouble.BUSY, retry_after_s: float | None = None) -> None:
        super().__init__(message, trouble=trouble.value, retry_after_s=retry_after_s)
        self.trouble = trouble
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Options:
    """How to reply: at most ``max_tokens``, with this ``temperature`` (0 to 2) and ``top_p`` (0 to 1).

    It ends before any text of ``stop``. ``tools`` may be called. ``schema``: the reply is JSON that fits it.
    ``persona`` is whose prompt this is: an engine that keeps what it has read keeps it by persona. ``adapter`` is the
    LoRA of a fine-tuned persona, by name. ``route``: the providers to ask, by name, in order (none: the house's).
    ``why`` stands on the receipt of what left the house: answer, summary, check. ``begun`` is what was said of the
    reply already, in another room: it goes on with the next word. An engine may leave that to the router.
    """

    max_tokens: int = 400
    temperature: float = 0.7
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    schema: Mapping[str, Any] | None = None
    persona: str = ""
    adapter: str | None = None
    route: tuple[str, ...] = ()
    why: str = "answer"
    begun: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Some more of the reply. ``by`` is the provider that said it, once a router knows."""

    text: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool to be run. ``arguments`` is what it wrote, JSON if all is well; ``id`` is its mark."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply took, in tokens: the last piece. ``cached_tokens`` of the input did not have to be read again.

    ``cut``: it ended because ``max_tokens`` were spent. ``cost`` is in US dollars, where the price is known.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cut: bool = False
    cost: float = 0.0
    by: str = ""


Piece = Text | ToolCall | Usage


class Llm(Protocol):
    """A language model.

    Messages are of the roles system, user, assistant and tool. What an assistant's message called stands in its
    ``data["calls"]`` (dicts of a ToolCall's fields); a tool's message has ``data["call"]``, the id of the call it
    answers, and ``data["name"]``. Where the last message is the assistant's, the reply goes on in mid-sentence from
    its last letter, if ``continues``; else it is never sent such messages. ``host`` is where the messages go, None
    where they stay on this machine.

    An engine may have more: ``async count(texts) -> list[int]`` (tokens, by its own tokenizer),
    ``async prefill(messages, options)`` (read them before they are needed), ``async check()`` (raise if it cannot
    answer; cheap, and no message leaves with it), ``context`` (tokens that fit, 0 unknown),
    ``one_at_a_time`` (whoever asks meanwhile has to wait).
    """

    @property
    def continues(self) -> bool:
        """Whether it can go on in mid-sentence."""

    @property
    def host(self) -> str | None:
        """Where messages go."""

    @property
    def model(self) -> str:
        """Which model answers."""

    def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        """Answer the last message. Raises LlmError or another EngineError where the model failed.

        Closing the iterator stops the model, also while it still reads the messages.
        """
