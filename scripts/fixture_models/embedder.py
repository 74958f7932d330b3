"""A sentence encoder of a few kilobytes: words that mean the same stand near one another, by a table made by hand.

It has the inputs and outputs of the real ones (ONNX, a tokeniser as JSON), so all around a model is tried with it. Of
the language it knows the words below; all others it takes for one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

SEED = 5
DIMENSIONS = 96

MEANINGS = (
    "cat kitten pet minka",
    "dog puppy hound rex",
    "food eat eats dinner cook meal supper hungry",
    "nuts allergic allergy peanuts",
    "car garage drive vehicle",
    "work job office employer",
    "password wifi network internet router",
    "music song trumpet band guitar",
    "home house live lives flat apartment",
    "cold warm heating boiler temperature radiator",
    "birthday born party",
    "doctor medicine pills sick ill",
    "coffee espresso cappuccino latte",
    "bins rubbish trash garbage waste",
    "called name named",
    "holiday travel trip vacation journey",
)
SPREAD = 0.35
"""How far words of one meaning are apart, where the meanings themselves are 1 from the middle."""

FAINT = 0.05
"""The length of every other word: it hardly turns a sentence that has a known one."""

OPSET, IR_VERSION = 17, 9


def make(folder: Path) -> None:
    """Write ``model.onnx`` and ``tokenizer.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", *(word for meaning in MEANINGS for word in meaning.split())]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    onnx.save(_network(_table()), folder / "model.onnx")


def _table() -> np.ndarray:
    """Return a row a word: its meaning's direction and a little of its own."""
    random = np.random.default_rng(SEED)

    def direction() -> np.ndarray:
        drawn = random.normal(size=DIMENSIONS)
        return drawn / np.linalg.norm(drawn)

    rows = [np.zeros(DIMENSIONS), FAINT * direction()]
    for meaning in MEANINGS:
        shared = direction()
        rows += [shared + SPREAD * direction() for _ in meaning.split()]
    return np.array(rows, np.float16)


def _network(table: np.ndarray) -> onnx.ModelProto:
    """Look each token up; the mask is taken, as by the real ones, and changes nothing of what a token means."""
    shape = ["texts", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, DIMENSIONS])
    nodes = [
        helper.make_node("Cast", ["half"], ["table"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["table", "input_ids"], ["meant"]),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["there", "last"], ["weight"]),
        helper.make_node("Mul", ["meant", "weight"], ["last_hidden_state"]),
    ]
    constants = [numpy_helper.from_array(table, "half"), numpy_helper.from_array(np.array([2], np.int64), "last")]
    graph = helper.make_graph(nodes, "fixture-embedder", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model
