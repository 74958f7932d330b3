"""The child's side of ``llama_cpp``: messages become a prompt, and tokens become a reply.

It imports nothing that only the daemon needs. Pieces are tuples whose first part says what they are.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roomtone.child_main import Stop
from roomtone.engines.llm._llama_native import Native, Refusal
from roomtone.engines.llm._llama_text import CALL, CALLED, Call, Talk

LEAST_REPLY = 32
"""Tokens that must be left for the reply; messages that leave fewer are too long."""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The template of a model whose file holds none: what llama.cpp takes as well."""

Chat = list[dict[str, Any]]
Told = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A reply that is asked for. ``key``: whose sequence it goes on with; ``tools``: as OpenAI writes them down."""

    messages: Chat
    key: tuple[str, ...]
    adapter: str | None = None
    max_tokens: int = 400
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    schema: Mapping[str, Any] | None = None


class Llama:
    """A chat model. Its generators yield ``("text", text)``, ``("call", name, arguments)``, ``("read", tokens)``,
    ``("failed", trouble, message)`` and, last, ``("usage", input, cached, output, cut)``.
    """

    def __init__(self, path: str, context: int, batch: int, threads: int, prefixes: int, gpu_layers: int) -> None:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        self._native = Native(path, context, batch, threads, prefixes, gpu_layers)
        template = self._native.said("tokenizer.chat_template") or CHATML
        self._formats: dict[bool, Any] = {
            answers: Jinja2ChatFormatter(
                template,
                eos_token=self._native.special("eos"),
                bos_token=self._native.special("bos"),
                add_generation_prompt=answers,
            )
            for answers in (True, False)
        }
        self._knows_tools = "tools" in template

    def about(self) -> dict[str, int]:
        """Return the tokens of the context, and the bytes kept of the sequences that are not in it."""
        return {"context": self._native.context, "bytes_kept": self._native.bytes_kept}

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text is."""
        return [len(self._native.tokenise(text, special=False)) for text in texts]

    def prefill(self, stop: Stop, asked: Asked) -> Iterator[Told]:
        """Read messages before they are needed. What goes beyond them stays, if they were read before."""
        try:
            tokens = self._tokens(asked, answers=False)
            self._native.use(asked.key, asked.adapter, stop)
            cached = self._native.common(tokens)
            if not self._native.begins_with(tokens):
                yield from (("read", there) for there in self._native.read(tokens, stop))
            yield "usage", len(tokens), cached, 0, False
        except Refusal as refusal:
            yield "failed", refusal.trouble, refusal.message

    def reply(self, stop: Stop, asked: Asked) -> Iterator[Told]:
        """Answer the last message, or go on with it if it is the assistant's."""
        try:
            tokens = self._tokens(asked)
            self._native.use(asked.key, asked.adapter, stop)
            cached = self._native.common(tokens)
            yield from (("read", there) for there in self._native.read(tokens, stop))
            written, cut = yield from self._write(stop, asked)
            yield "usage", len(tokens), cached, written, cut
        except Refusal as refusal:
            yield "failed", refusal.trouble, refusal.message

    def _write(self, stop: Stop, asked: Asked) -> Generator[Told, None, tuple[int, bool]]:
        """Write until the reply ends, is stopped, or may not be longer; return its tokens, and whether it was cut."""
        native, written, cut = self._native, 0, False
        talk, letters = Talk(asked.stop), codecs.getincrementaldecoder("utf-8")("ignore")
        trims = _ends_in_space(asked.messages)
        with native.sampling(asked.temperature, asked.top_p, asked.schema) as sampler:
            while not (stop or cut or talk.stopped):
                token = sampler.next()
                if native.ends(token):
                    break
                written += 1
                text = letters.decode(native.piece(token))
                if trims:
                    text = text.lstrip()
                    trims = not text
                yield from _told(talk.feed(text))
                cut = written >= asked.max_tokens or native.full
                if not (cut or talk.stopped or native.add([token])):
                    break
        yield from _told(talk.feed(letters.decode(b"", final=True)))
        yield from _told(talk.end())
        return written, cut and not talk.stopped

    # ---------------------------------------------------------------------------------------- prompt

    def _tokens(self, asked: Asked, *, answers: bool = True) -> list[int]:
        """Return the messages as the model reads them, and, if it ``answers``, what its reply begins with.

        Raises Refusal where they leave too little for the reply.
        """
        text = self._prompt(asked, answers)
        begins = not (first := self._native.special("bos")) or not text.startswith(first)
        tokens = self._native.tokenise(text, begins=begins)
        left = self._native.context - len(tokens)
        if left < min(LEAST_REPLY, asked.max_tokens) or not tokens:
            raise Refusal(
                "too_long", f"{len(tokens)} tokens leave no room for a reply in a context of {self._native.context}"
            )
        return tokens

    def _prompt(self, asked: Asked, answers: bool) -> str:
        messages = [self._message(message) for message in asked.messages]
        begun = ""
        if messages and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
            # A space at the end is part of the next word's token: it is left to the model, and trimmed.
            begun = messages.pop()["content"].rstrip()
        tools = list(asked.tools) if self._knows_tools else None
        for attempt in (messages, _folded(messages)):
            try:
                made = self._formats[answers](messages=attempt, tools=tools or None, enable_thinking=False)
            except Exception as error:  # a template raises what it likes at roles that it does not know
                failure = error
                continue
            return str(made.prompt) + begun
        raise Refusal("model", f"the model's chat template cannot write these messages ({failure})")

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message as templates take it; calls are written out for one that knows no tools."""
        text = self._native.harmless(message["text"])
        calls = message.get("calls") or ()
        if message["role"] == "tool":
            if self._knows_tools:
                return {"role": "tool", "content": text, "name": message.get("name", "")}
            return {"role": "user", "content": f"<tool_response>\n{text}\n</tool_response>"}
        if calls and self._knows_tools:
            return {"role": "assistant", "content": text, "tool_calls": [_function(call) for call in calls]}
        written = "".join(f"\n{CALL}\n{json.dumps(_function(call)['function'])}\n{CALLED}" for call in calls)
        return {"role": message["role"], "content": (text + written).lstrip("\n") if written else text}


def _function(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call as OpenAI writes it, its arguments as an object where they are one."""
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except ValueError:
        arguments = call["arguments"]
    return {"type": "function", "id": call["id"], "function": {"name": call["name"], "arguments": arguments}}


def _folded(messages: Chat) -> Chat:
    """Return messages for a template that takes no system's, or none but by turns: they join their neighbours."""
    folded: Chat = []
    for message in messages:
        role = "assistant" if message["role"] == "assistant" else "user"
        if folded and folded[-1]["role"] == role:
            folded[-1]["content"] += f"\n\n{message['content']}"
        else:
            folded.append({"role": role, "content": message["content"]})
    return folded


def _ends_in_space(messages: Sequence[Mapping[str, Any]]) -> bool:
    last = messages[-1] if messages else {"role": "", "text": ""}
    return last["role"] == "assistant" and last["text"] != last["text"].rstrip()


def _told(parts: Iterator[str | Call]) -> Iterator[Told]:
    for part in parts:
        yield ("text", part) if isinstance(part, str) else ("call", part.name, part.arguments)
