"""What a model's files look like from outside, so that a wrong or cut one is told before an engine meets it.

Nothing of a model is loaded: only the frames around its contents are walked. Formats: CTranslate2's model.bin as its
``ModelSpec`` writes it (binary version 6), ONNX's ``ModelProto`` as Protocol Buffers encode it, GGUF, versions 2 and
3, as ggml's ``docs/gguf.md`` describes it, and microWakeWord's JSON with its TensorFlow Lite model.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Any

Buffer = bytes | mmap

CT2_VERSION = 6
"""The binary version whose frame is walked. Others only have their head looked at."""

IR_VERSION, GRAPH, LAST_FIELD = 1, 7, 25
"""Numbers of fields of ONNX's ModelProto: the two that every model has, and the last."""

GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
GGUF_TEXT, GGUF_ARRAY, GGUF_ALIGNMENT = 8, 9, 32
"""Bytes of GGUF's plain values by the number of their type, the two types that are longer, and what tensors start at
multiples of unless the file says otherwise."""

# fmt: off
GGML_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}
# fmt: on
"""Numbers in a block of a tensor, and the block's bytes, by the number of the tensor's type in ggml. Of a tensor of
another type only the beginning is looked at."""


class Flawed(ValueError):
    """A file is not what it should be; says so in a few words that follow the file's name."""


def check_json(content: bytes) -> Any:
    """Return what a JSON file holds. Raises Flawed where it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Flawed("is not JSON, or is cut short") from None


def check_voice(config: Any) -> None:
    """Look whether a Piper voice's JSON has what the synthesiser needs. Raises Flawed."""
    if not isinstance(config, dict):
        raise Flawed("is not a Piper voice's configuration")
    audio, espeak = config.get("audio"), config.get("espeak")
    rate = audio.get("sample_rate") if isinstance(audio, dict) else None
    if not isinstance(rate, int) or not 8000 <= rate <= 48000:
        raise Flawed("names no sample rate (audio.sample_rate)")
    if not isinstance(espeak, dict) or not isinstance(espeak.get("voice"), str):
        raise Flawed("names no language (espeak.voice)")
    phonemes = config.get("phoneme_id_map")
    if not isinstance(phonemes, dict) or not phonemes:
        raise Flawed("has no phonemes (phoneme_id_map)")
    for key in ("num_symbols", "num_speakers"):
        if not isinstance(config.get(key), int):
            raise Flawed(f"has no {key}")


def check_wake(config: Any, network: str) -> None:
    """Look whether a wake word's JSON has what microWakeWord needs, and names its ``network``. Raises Flawed."""
    micro = config.get("micro") if isinstance(config, dict) else None
    if not isinstance(micro, dict) or config.get("type") != "micro":
        raise Flawed("does not describe a microWakeWord model")
    if config.get("model") != network:
        raise Flawed(f"names another file than {network} (model)")
    if not isinstance(micro.get("probability_cutoff"), int | float):
        raise Flawed("has no probability_cutoff (micro)")
    if not isinstance(micro.get("sliding_window_size"), int):
        raise Flawed("has no sliding_window_size (micro)")


def check_tflite(content: Buffer) -> None:
    """Look whether a file's content begins as a TensorFlow Lite model does; its end is not marked. Raises Flawed."""
    if bytes(content[4:8]) != b"TFL3":
        raise Flawed("is not a TensorFlow Lite model")


def check_ct2(content: Buffer) -> None:
    """Look whether a file's content is a whole Whisper model of CTranslate2's. Raises Flawed."""
    if bytes(content[:2]) == b"PK" or bytes(content[:1]) == b"\x80":
        raise Flawed("is a PyTorch file, which is never loaded; convert it with ct2-transformers-converter")
    walk = _Walk(content)
    version = walk.number(4)
    if not 1 <= version <= 99:
        raise Flawed("is not a CTranslate2 model")
    name = walk.text()
    if not name.startswith("Whisper"):
        raise Flawed(f"is a CTranslate2 model of another kind ({name[:40] or 'unnamed'}), not Whisper's")
    if version == CT2_VERSION:
        _walk_ct2(walk)


def _walk_ct2(walk: _Walk) -> None:
    """Step over the revision, every variable and every alias, to the end of the file."""
    walk.step(4)
    for _ in range(walk.number(4)):
        walk.text()
        walk.step(4 * walk.number(1) + 1)  # as many dimensions, and the type
        walk.step(walk.number(4))
    for _ in range(2 * walk.number(4)):
        walk.text()


def check_onnx(content: Buffer) -> None:
    """Look whether a file's content is a whole ONNX model. Raises Flawed."""
    walk, seen = _Walk(content), set()
    while not walk.ended:
        tag = walk.varint()
        number, wire = tag >> 3, tag & 7
        if not 1 <= number <= LAST_FIELD or wire not in (0, 1, 2, 5):
            raise Flawed("is not an ONNX model")
        seen.add(number)
        step = walk.varint() if wire in (0, 2) else 0
        walk.step({0: 0, 1: 8, 2: step, 5: 4}[wire])
    if not {IR_VERSION, GRAPH} <= seen:
        raise Flawed("is not an ONNX model, or is cut short")


@dataclass(frozen=True, slots=True)
class Gguf:
    """What a GGUF file's head says: an ``adapter`` (LoRA) or a model, and how many tokens it knows (0: unsaid)."""

    architecture: str
    adapter: bool
    context: int


def read_gguf(content: Buffer) -> Gguf:
    """Return what a GGUF file's head says, without walking its vocabulary where that comes later. Raises Flawed."""
    walk, architecture, adapter = _Walk(content), "", False
    for key, kind in _gguf_keys(walk, _gguf_counts(walk)[1]):
        value = walk.gguf_value(kind)
        if key == "general.architecture":
            architecture = str(value)
        elif key == "general.type":
            adapter = value == "adapter"
        elif key == f"{architecture}.context_length" and isinstance(value, int):
            return Gguf(architecture, adapter, value)
    return Gguf(architecture, adapter, 0)


def check_gguf(content: Buffer) -> None:
    """Look whether a file's content is a whole GGUF file, with all its tensors. Raises Flawed."""
    walk, alignment, end = _Walk(content), GGUF_ALIGNMENT, 0
    tensors, keys = _gguf_counts(walk)
    for key, kind in _gguf_keys(walk, keys):
        value = walk.gguf_value(kind)
        if key == "general.alignment" and isinstance(value, int) and value > 0:
            alignment = value
    for _ in range(tensors):
        walk.gguf_text()
        numbers = 1
        for _ in range(walk.number(4)):
            numbers *= walk.number(8)
        block, size = GGML_BLOCKS.get(walk.number(4), (1, 0))
        end = max(end, walk.number(8) + numbers // block * size)
    walk.step(-walk.at % alignment + end)


def _gguf_counts(walk: _Walk) -> tuple[int, int]:
    """Step over the magic and the version; return how many tensors and keys the file announces."""
    if walk.number(4) != int.from_bytes(b"GGUF", "little") or walk.number(4) not in (2, 3):
        raise Flawed("is not a GGUF model")
    return walk.number(8), walk.number(8)


def _gguf_keys(walk: _Walk, count: int) -> Iterator[tuple[str, int]]:
    """Give each key with the type of the value that follows; whoever asks for the next has stepped over that."""
    for _ in range(count):
        key = walk.gguf_text()
        yield key, walk.number(4)


class _Walk:
    """A place in a file's content that only moves on. What lies behind the end raises Flawed."""

    def __init__(self, content: Buffer) -> None:
        self._content = content
        self._at = 0

    @property
    def at(self) -> int:
        return self._at

    @property
    def ended(self) -> bool:
        return self._at >= len(self._content)

    def step(self, count: int) -> None:
        self._at += count
        if self._at > len(self._content):
            raise Flawed("is cut short")

    def number(self, count: int) -> int:
        """Read an unsigned little-endian number of ``count`` bytes."""
        start = self._at
        self.step(count)
        return int.from_bytes(self._content[start : self._at], "little")

    def text(self) -> str:
        """Read a text with its length, two bytes, before it."""
        length = self.number(2)
        start = self._at
        self.step(length)
        return bytes(self._content[start : self._at]).rstrip(b"\0").decode("utf-8", "replace")

    def varint(self) -> int:
        """Read a number as Protocol Buffers write it, seven bits a byte."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Flawed("is not an ONNX model")

    def gguf_text(self) -> str:
        """Read a text with its length, eight bytes, before it."""
        length = self.number(8)
        start = self._at
        self.step(length)
        return bytes(self._content[start : self._at]).decode("utf-8", "replace")

    def gguf_value(self, kind: int) -> str | int | None:
        """Read a text or a whole number; step over any other value."""
        if kind == GGUF_TEXT:
            return self.gguf_text()
        if kind == GGUF_ARRAY:
            self._step_over_array(self.number(4), self.number(8))
            return None
        if kind not in GGUF_SIZES:
            raise Flawed("is not a GGUF model, or is damaged")
        return self.number(GGUF_SIZES[kind])

    def _step_over_array(self, kind: int, count: int) -> None:
        if kind in GGUF_SIZES:
            return self.step(count * GGUF_SIZES[kind])
        if kind != GGUF_TEXT:
            raise Flawed("is not a GGUF model, or is damaged")
        at, last, length = self._at, len(self._content) - 8, struct.Struct("<Q")
        for _ in range(count):  # as many as there are words in a vocabulary
            if at > last:
                raise Flawed("is cut short")
            at += 8 + length.unpack_from(self._content, at)[0]
        return self.step(at - self._at)
