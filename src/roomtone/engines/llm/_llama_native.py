"""llama.cpp itself, in the child: a model, one context of it, and what was read kept for each persona.

One sequence is read at a time. What differs from it is dropped and what agrees with it is not read again. Another
persona's sequence is copied out of the context before, and back when its turn comes.
"""

from __future__ import annotations

import ctypes
import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from roomtone import models
from roomtone.child_main import Stop
from roomtone.core.errors import EngineUnavailable

ABORTED, FULL = 2, 1
"""What ``llama_decode`` returns when it was stopped, and when there is no room left."""

LONGEST_PIECE = 512
"""Bytes of the longest token's text that is taken."""


class Refusal(Exception):
    """What was asked for cannot be done; ``trouble`` is one of the seam's."""

    def __init__(self, trouble: str, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.message = message


class Kept(NamedTuple):
    """A sequence that was read, copied out of the context."""

    tokens: list[int]
    data: Any


class Native:
    """A model and its context. Whoever uses it says first, with ``use``, whose sequence is meant."""

    def __init__(self, path: str, context: int, batch: int, threads: int, prefixes: int, gpu_layers: int) -> None:
        import llama_cpp

        self._api: Any = llama_cpp.llama_cpp
        self._path = path
        if (reason := models.flaw_at(Path(path))) is not None:
            raise EngineUnavailable(reason)
        self._api.llama_backend_init()
        given = self._api.llama_model_default_params()
        given.n_gpu_layers = gpu_layers
        self._model = self._api.llama_model_load_from_file(path.encode(), given)
        if not self._model:
            raise EngineUnavailable(f"the model {path} cannot be loaded; run: roomtone models verify")
        self._vocab = self._api.llama_model_get_vocab(self._model)
        self._context = self._open_context(context, batch, threads)
        self._memory = self._api.llama_get_memory(self._context)
        self.context: int = self._api.llama_n_ctx(self._context)
        self.batch: int = self._api.llama_n_batch(self._context)
        self._stop = Stop()
        # Asked at every node of a graph, 0.4 us each: nothing beside what the node takes. Kept, or it would be freed.
        self._asks = self._api.ggml_abort_callback(lambda _: bool(self._stop))
        self._api.llama_set_abort_callback(self._context, self._asks, None)
        self._adapters: dict[tuple[str, int, int], Any] = {}
        self._prefixes = prefixes
        self._kept: OrderedDict[tuple[str, ...], Kept] = OrderedDict()
        self._key: tuple[str, ...] = ()
        self.tokens: list[int] = []

    def _open_context(self, context: int, batch: int, threads: int) -> Any:
        given = self._api.llama_context_default_params()
        given.n_ctx = min(context, self._api.llama_model_n_ctx_train(self._model) or context)
        given.n_batch = given.n_ubatch = min(batch, given.n_ctx)
        given.n_threads = given.n_threads_batch = threads
        given.swa_full = True  # else a sliding window forgets what the next prompt may have in common with this one
        given.no_perf = True
        made = self._api.llama_init_from_model(self._model, given)
        if not made:
            raise EngineUnavailable(f"there is no memory for a context of {given.n_ctx} tokens; set a smaller one")
        return made

    # ------------------------------------------------------------------------------------ vocabulary

    def said(self, key: str) -> str:
        """Return what the model's file says under a key; "" where it does not."""
        size = self._api.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if size < 0:
            return ""
        found = ctypes.create_string_buffer(size + 1)
        self._api.llama_model_meta_val_str(self._model, key.encode(), found, size + 1)
        return found.value.decode("utf-8", "replace")

    def special(self, which: str) -> str:
        """Return how the token ``bos`` or ``eos`` is written; "" where there is none."""
        token = getattr(self._api, f"llama_vocab_{which}")(self._vocab)
        return self._api.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace") if token >= 0 else ""

    def tokenise(self, text: str, *, begins: bool = False, special: bool = True) -> list[int]:
        """Return a text's tokens. ``begins``: with the one that begins any text, if the model wants one."""
        content = text.encode("utf-8", "replace")
        most = len(content) + 8
        tokens = (self._api.llama_token * most)()
        count = self._api.llama_tokenize(self._vocab, content, len(content), tokens, most, begins, special)
        return list(tokens[:count])

    def harmless(self, text: str) -> str:
        """Return a text in which nothing is a token of control: what people and tools say ends no message."""
        tokens = self.tokenise(text)
        marks = {self.piece(token, special=True).decode("utf-8", "replace") for token in tokens if self._rules(token)}
        for mark in marks - {""}:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text

    def _rules(self, token: int) -> bool:
        return bool(self._api.llama_vocab_is_control(self._vocab, token))

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return a token's bytes; none of a token of control, unless ``special``."""
        buffer = ctypes.create_string_buffer(LONGEST_PIECE)
        size = self._api.llama_token_to_piece(self._vocab, token, buffer, LONGEST_PIECE, 0, special)
        return buffer.raw[: max(0, size)]

    def ends(self, token: int) -> bool:
        """Tell whether a token ends the reply."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    # -------------------------------------------------------------------------------------- sequence

    @property
    def bytes_kept(self) -> int:
        """Bytes that the sequences take which are not in the context."""
        return sum(len(kept.data) for kept in self._kept.values())

    @property
    def full(self) -> bool:
        """Whether there is no room for another token."""
        return len(self.tokens) >= self.context

    def use(self, key: tuple[str, ...], adapter: str | None, stop: Stop) -> None:
        """Turn to the sequence of a key, and to an adapter (a path), which is part of the key. Raises Refusal."""
        self._stop = stop
        if key == self._key:
            return
        loaded = self._adapter(adapter) if adapter else None
        kept = self._kept.pop(key, None)
        self._keep()
        self._key = key
        self._apply(loaded)
        if kept is None:
            return
        size = len(kept.data)
        if self._api.llama_state_seq_set_data(self._context, kept.data, size, 0) == size:
            self.tokens = kept.tokens
        else:
            self._forget()

    def _keep(self) -> None:
        """Copy what is in the context out of it, and empty it."""
        if self.tokens and self._prefixes > 1:
            size = self._api.llama_state_seq_get_size(self._context, 0)
            data = (ctypes.c_uint8 * size)()
            if self._api.llama_state_seq_get_data(self._context, data, size, 0) == size:
                self._kept[self._key] = Kept(self.tokens, data)
            while len(self._kept) >= self._prefixes:
                self._kept.popitem(last=False)
        self._forget()

    def _forget(self) -> None:
        self.tokens = []
        self._api.llama_memory_clear(self._memory, False)

    def _adapter(self, path: str) -> Any:
        """Load a LoRA; one whose file has changed is loaded anew."""
        try:
            about = Path(path).stat()
        except OSError:
            raise Refusal("model", f"the adapter {path} is not there") from None
        mark = (path, about.st_size, about.st_mtime_ns)
        if mark not in self._adapters:
            if (reason := models.flaw_at(Path(path))) is not None:
                raise Refusal("model", reason)
            loaded = self._api.llama_adapter_lora_init(self._model, path.encode())
            if not loaded:
                model = Path(self._path).name
                raise Refusal("model", f"{path} is no adapter (LoRA) for the model {model}; make one for it")
            self._adapters[mark] = loaded
        return self._adapters[mark]

    def _apply(self, adapter: Any) -> None:
        count = 0 if adapter is None else 1
        adapters = (self._api.llama_adapter_lora_p_ctypes * 1)(*([adapter] if count else []))
        self._api.llama_set_adapters_lora(self._context, adapters, count, (ctypes.c_float * 1)(1.0))

    def common(self, tokens: Sequence[int]) -> int:
        """Return how many of the first tokens were read already; the last one is always read, for what follows it."""
        most = min(len(self.tokens), len(tokens) - 1)
        return next((place for place in range(most) if self.tokens[place] != tokens[place]), most)

    def begins_with(self, tokens: Sequence[int]) -> bool:
        """Tell whether what was read begins with these tokens."""
        return self.tokens[: len(tokens)] == list(tokens)

    def read(self, tokens: Sequence[int], stop: Stop) -> Iterator[int]:
        """Bring the sequence to these tokens; yield how many of them are read, after each batch of them.

        When it is stopped, what was read stays.
        """
        there = self.common(tokens)
        if there < len(self.tokens) and not self._api.llama_memory_seq_rm(self._memory, 0, there, -1):
            self._forget()  # a recurrent model cannot go back
            there = 0
        del self.tokens[there:]
        while there < len(tokens) and not stop:
            batch = tokens[there : there + self.batch]
            if not self.add(batch):
                return
            there += len(batch)
            yield there

    def add(self, batch: Sequence[int]) -> bool:
        """Read some more tokens; False where that was stopped. Raises Refusal where they do not fit."""
        given = (self._api.llama_token * len(batch))(*batch)
        outcome = self._api.llama_decode(self._context, self._api.llama_batch_get_one(given, len(batch)))
        if outcome == 0:
            self.tokens.extend(batch)
            return True
        if outcome == FULL:
            raise Refusal("too_long", f"the {self.context} tokens of the context are full")
        if not self._api.llama_memory_seq_rm(self._memory, 0, len(self.tokens), -1):
            self._forget()  # a recurrent model cannot go back
        if outcome == ABORTED:
            return False
        raise Refusal("busy", f"llama.cpp failed to read on (llama_decode returned {outcome})")

    # -------------------------------------------------------------------------------------- sampling

    @contextmanager
    def sampling(self, temperature: float, top_p: float, schema: Mapping[str, Any] | None) -> Iterator[_Sampler]:
        """Choose tokens: the likeliest at a temperature of 0; only such as fit a JSON schema. Raises Refusal."""
        api, chain = self._api, self._api.llama_sampler_chain_init(self._api.llama_sampler_chain_default_params())
        try:
            if schema is not None:
                api.llama_sampler_chain_add(chain, self._grammar(schema))
            if temperature <= 0:
                api.llama_sampler_chain_add(chain, api.llama_sampler_init_greedy())
            else:
                if top_p < 1:
                    api.llama_sampler_chain_add(chain, api.llama_sampler_init_top_p(top_p, 1))
                api.llama_sampler_chain_add(chain, api.llama_sampler_init_temp(temperature))
                seed = random.getrandbits(32)  # of no secret
                api.llama_sampler_chain_add(chain, api.llama_sampler_init_dist(seed))
            yield _Sampler(api, chain, self._context)
        finally:
            api.llama_sampler_free(chain)

    def _grammar(self, schema: Mapping[str, Any]) -> Any:
        import json

        from llama_cpp.llama_grammar import json_schema_to_gbnf

        try:
            rules = json_schema_to_gbnf(json.dumps(dict(schema)))
        except Exception as error:  # the converter raises whatever a schema leads it to
            raise Refusal("nonsense", f"the schema of the answer cannot be used ({error})") from error
        made = self._api.llama_sampler_init_grammar(self._vocab, rules.encode(), b"root")
        if not made:
            raise Refusal("nonsense", "the schema of the answer makes no grammar")
        return made


class _Sampler(NamedTuple):
    api: Any
    chain: Any
    context: Any

    def next(self) -> int:
        """Choose the token that follows what was read."""
        token: int = self.api.llama_sampler_sample(self.chain, self.context, -1)
        return token
