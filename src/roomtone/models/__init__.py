"""The models folder: where downloaded models lie, which are whole, and what was put there.

    <models>/whisper/<name>/           a CTranslate2 folder: config.json, model.bin, tokenizer.json, vocabulary.*
    <models>/piper/<voice>.onnx        and <voice>.onnx.json beside it
    <models>/llama/<name>.gguf         a language model, or an adapter (LoRA) for one
    <models>/embed/<name>/             a sentence embedder: model.onnx, tokenizer.json
    <models>/wake/<name>.json          a wake word, and <name>.tflite beside it
    <models>/models.lock               where each came from, its files' sizes and SHA-256
    <models>/.incoming/                what is on its way; moved to its place only when it is whole

The folder is ``models`` in the state folder. Engines look here, and nothing here imports what a model needs.
"""

from __future__ import annotations

from roomtone.models.checking import Fault, Verdict, check_format, flaw, flaw_at, mending, there, verify, verify_all
from roomtone.models.kinds import (
    FORMS,
    KINDS,
    NAME,
    files_of,
    installed,
    lacking,
    may_be_read,
    megabytes,
    path_of,
    present,
    read_name,
    size_of,
    typed,
)
from roomtone.models.lock import LOCK, Pin, Stamp, pin, pinned, pins, read_lock, stamp
from roomtone.models.placing import (
    SPARE_BYTES,
    arrived,
    cannot_write,
    incoming_of,
    need_room,
    put_in_place,
    remove,
)

__all__ = [
    "FORMS",
    "KINDS",
    "LOCK",
    "NAME",
    "SPARE_BYTES",
    "Fault",
    "Pin",
    "Stamp",
    "Verdict",
    "arrived",
    "cannot_write",
    "check_format",
    "files_of",
    "flaw",
    "flaw_at",
    "incoming_of",
    "installed",
    "lacking",
    "may_be_read",
    "megabytes",
    "mending",
    "need_room",
    "path_of",
    "pin",
    "pinned",
    "pins",
    "present",
    "put_in_place",
    "read_lock",
    "read_name",
    "remove",
    "size_of",
    "stamp",
    "there",
    "typed",
    "verify",
    "verify_all",
]
