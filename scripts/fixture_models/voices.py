"""Piper voices without any training: a formant synthesiser written as an ONNX graph.

A Piper voice is a network that takes phoneme ids and returns sound. This one looks each phoneme up in tables (how
long it lasts, and how strong each of 72 sine waves is in it), lays the phonemes out in frames, smooths between them,
and adds the sine waves up. Harmonics of one pitch make the voiced sounds, scattered frequencies the noisy ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

RATE = 16_000
FRAME = 256
"""Samples in a frame: 16 ms."""

PARTIALS = 72
HIGHEST_HARMONIC_HZ = 4200
SEED = 7

BANDWIDTHS_HZ = (70, 100, 150)
STRENGTHS = (1.0, 0.6, 0.35)
"""Of the first three formants; a fourth lies at 3500 Hz in every sound."""

VOICED: dict[str, tuple[int, int, int, float, int]] = {
    # formants in Hz (Peterson and Barney 1952 for the vowels, men), level, frames
    "i": (270, 2290, 3010, 1.0, 5), "ɪ": (390, 1990, 2550, 1.0, 4), "e": (460, 2050, 2600, 1.0, 5),
    "ɛ": (530, 1840, 2480, 1.0, 5), "æ": (660, 1720, 2410, 1.0, 7), "a": (750, 1350, 2500, 1.0, 6),
    "ɑ": (730, 1090, 2440, 1.0, 7), "ɒ": (650, 900, 2440, 1.0, 6), "ɔ": (570, 840, 2410, 1.0, 6),
    "o": (480, 850, 2400, 1.0, 5), "ʊ": (440, 1020, 2240, 1.0, 4), "u": (300, 870, 2240, 1.0, 5),
    "ʌ": (640, 1190, 2390, 1.0, 5), "ə": (500, 1500, 2500, 0.8, 3), "ɐ": (550, 1400, 2500, 0.8, 3),
    "ᵻ": (400, 1900, 2500, 0.8, 3), "ɜ": (490, 1350, 1690, 1.0, 6), "ɚ": (490, 1300, 1650, 0.9, 5),
    "ɝ": (490, 1300, 1650, 0.9, 6), "m": (260, 900, 2100, 0.35, 5), "n": (260, 1600, 2600, 0.35, 4),
    "ŋ": (260, 2200, 2800, 0.35, 5), "l": (360, 1200, 2700, 0.6, 4), "ɫ": (360, 900, 2700, 0.6, 4),
    "ɹ": (330, 1100, 1500, 0.6, 4), "r": (330, 1100, 1500, 0.6, 4), "w": (290, 620, 2150, 0.6, 4),
    "j": (270, 2250, 3000, 0.6, 4), "ɾ": (350, 1600, 2600, 0.3, 2), "b": (220, 900, 2100, 0.25, 4),
    "d": (220, 1700, 2600, 0.25, 4), "ɡ": (220, 2000, 2600, 0.25, 4), "g": (220, 2000, 2600, 0.25, 4),
    "v": (240, 1100, 2300, 0.3, 4), "ð": (240, 1500, 2500, 0.3, 3), "z": (240, 1600, 2500, 0.25, 5),
    "ʒ": (240, 1800, 2500, 0.25, 5),
}  # fmt: skip
NOISY: dict[str, tuple[int, int, float, int, int]] = {
    # centre and width in Hz, level, frames, of which closed before the burst
    "s": (6200, 1300, 0.5, 7, 0), "ʃ": (3600, 1000, 0.55, 7, 0), "f": (5500, 3500, 0.12, 6, 0),
    "θ": (6000, 3000, 0.10, 5, 0), "h": (1600, 1500, 0.12, 4, 0), "x": (1800, 900, 0.2, 5, 0),
    "p": (1200, 1500, 0.35, 5, 4), "t": (4800, 1800, 0.45, 5, 4), "k": (2300, 900, 0.45, 5, 4),
    "b": (900, 1000, 0.12, 4, 3), "d": (4000, 1800, 0.15, 4, 3), "ɡ": (2200, 900, 0.15, 4, 3),
    "z": (6200, 1300, 0.3, 5, 0), "ʒ": (3600, 1000, 0.3, 5, 0), "v": (5500, 3500, 0.06, 4, 0),
    "ð": (6000, 3000, 0.05, 3, 0),
}  # fmt: skip
PAUSES = {" ": 2, ",": 10, ".": 14, "?": 14, "!": 14, ";": 12, ":": 12, "^": 2, "$": 4}
"""Frames of silence."""

LONG, LONG_FRAMES = "ː", 3


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks: pitch in Hz, and the length of the formants' ladder (1 for a man's, more for shorter throats)."""

    name: str
    pitch_hz: float
    formants: float


SPEAKERS = (Speaker("en_US-fixture-x_low", 115.0, 1.0), Speaker("en_US-fixture2-x_low", 190.0, 1.15))


def make(folder: Path) -> None:
    """Write both voices into a folder, in under a second."""
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

    ids = {phoneme: numbers[0] for phoneme, numbers in DEFAULT_PHONEME_ID_MAP.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for speaker in SPEAKERS:
        network = folder / f"{speaker.name}.onnx"
        network.write_bytes(_graph(speaker, ids))
        described = json.dumps(_description(speaker, ids), ensure_ascii=False, indent=1)
        network.with_name(f"{network.name}.json").write_text(described + "\n", "utf-8")


# ------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True)
class Tables:
    """What a speaker does in each phoneme, by id: strength of each partial, frames, and frames closed at first."""

    frequencies: Floats
    phases: Floats
    strengths: Floats
    frames: Floats
    closed: Floats


def _tables(speaker: Speaker, ids: dict[str, int]) -> Tables:
    random = np.random.default_rng(SEED)
    harmonics = int(HIGHEST_HARMONIC_HZ // speaker.pitch_hz)
    voiced_hz = speaker.pitch_hz * np.arange(1, harmonics + 1)
    noisy_hz = np.sort(random.uniform(700, 7600, PARTIALS - harmonics))
    size = max(ids.values()) + 1
    strengths = np.zeros((size, PARTIALS), np.float32)
    frames, closed = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for phoneme, (*formants, level, length) in VOICED.items():
        strengths[ids[phoneme], :harmonics] = level * _unit(_resonances(voiced_hz, formants, speaker.formants))
        frames[ids[phoneme]] = length
    for phoneme, (centre, width, level, length, closure) in NOISY.items():
        strengths[ids[phoneme], harmonics:] = level * _unit(np.exp(-(((noisy_hz - centre) / width) ** 2)))
        frames[ids[phoneme]] = max(frames[ids[phoneme]], length)
        closed[ids[phoneme]] = 0 if phoneme in VOICED else closure
    for phoneme, length in {**PAUSES, LONG: LONG_FRAMES}.items():
        frames[ids[phoneme]] = length
    # Schroeder's phases keep the sum of harmonics from peaking (IEEE Trans. Information Theory 16, 1970).
    phases = [np.pi * np.arange(harmonics) ** 2 / harmonics, random.uniform(0, 2 * np.pi, PARTIALS - harmonics)]
    frequencies = np.concatenate([voiced_hz, noisy_hz]).astype(np.float32)
    return Tables(frequencies, np.concatenate(phases).astype(np.float32), strengths, frames, closed)


def _resonances(hertz: npt.NDArray[np.float64], formants: list[int], scale: float) -> npt.NDArray[np.float64]:
    """Return how strongly a throat lets each frequency through."""
    peaks = [*zip(formants, BANDWIDTHS_HZ, STRENGTHS, strict=True), (3500, 250, 0.12)]
    ladder = [strength / (1 + ((hertz - centre * scale) / width) ** 2) for centre, width, strength in peaks]
    falling: npt.NDArray[np.float64] = np.sum(ladder, axis=0) * (1 + (hertz / 900) ** 2) ** -0.25
    return falling


def _unit(envelope: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit: npt.NDArray[np.float64] = envelope / np.sqrt(np.sum(envelope**2))
    return unit


# -------------------------------------------------------------------------------------------- graph


class Graph:
    """An ONNX graph being written: constants and nodes in the order of their use, each named for what it holds."""

    def __init__(self) -> None:
        self._constants: list[Any] = []
        self._nodes: list[Any] = []

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def finished(self, name: str) -> bytes:
        """Return the model as a file's content, checked."""
        from onnx import TensorProto, checker, helper

        whole, real = TensorProto.INT64, TensorProto.FLOAT
        takes = [("input", whole, ["batch", "phonemes"]), ("input_lengths", whole, ["batch"]), ("scales", real, [3])]
        gives = [("output", real, ["batch", 1, "channel", "time"]), ("durations", real, ["batch", 1, "phonemes"])]
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(*each) for each in takes],
            [helper.make_tensor_value_info(*each) for each in gives],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
        checker.check_model(model)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _graph(speaker: Speaker, ids: dict[str, int]) -> bytes:
    tables = _tables(speaker, ids)
    graph = Graph()
    for name, value in (("zero", 0), ("one", 1)):
        graph.constant(name, np.int64(value))
        graph.constant(f"[{name}]", np.array([value]))
    _lay_out_frames(graph, tables, ids)
    _shape_partials(graph, tables)
    _add_up(graph, tables)
    return graph.finished(speaker.name)


def _lay_out_frames(graph: Graph, tables: Tables, ids: dict[str, int]) -> None:
    """From phoneme ids to ``phoneme of frame``, ``place in phoneme`` (frames) and ``durations``."""
    constant, node = graph.constant, graph.node
    node("Reshape", ["input", constant("[-1]", np.array([-1]))], "written")
    # The length mark lengthens what is before it; Piper puts a pad between phonemes, so that is two back.
    node("Slice", ["written", "[zero]", constant("[-2]", np.array([-2])), "[zero]"], "all but two")
    node("Concat", [constant("[0, 0]", np.zeros(2, np.int64)), "all but two"], "two back", axis=0)
    node("Equal", ["written", constant("long", np.int64(ids[LONG]))], "is long")
    node("Where", ["is long", "two back", "written"], "phonemes")
    node("Gather", ["scales", "[one]"], "length scale")
    node("Gather", [constant("frames", tables.frames), "written"], "frames at speed one")
    node("Mul", ["frames at speed one", "length scale"], "exact frames")
    node("Add", ["exact frames", constant("half", np.float32(0.5))], "exact frames and a half")
    node("Floor", ["exact frames and a half"], "lengths")
    node("CumSum", ["lengths", "zero"], "ends")
    node("ReduceSum", ["lengths"], "exact total", keepdims=0)
    node("Cast", ["exact total"], "total", to=7)  # TensorProto.INT64
    node("Range", ["zero", "total", "one"], "frame numbers")
    node("Cast", ["frame numbers"], "frame", to=1)  # TensorProto.FLOAT
    node("Unsqueeze", ["frame", "[one]"], "frame column")
    node("Unsqueeze", ["ends", "[zero]"], "ends row")
    node("GreaterOrEqual", ["frame column", "ends row"], "is past")
    node("Cast", ["is past"], "past", to=7)
    node("ReduceSum", ["past", "[one]"], "phoneme of frame", keepdims=0)
    node("Sub", ["ends", "lengths"], "starts")
    node("Gather", ["starts", "phoneme of frame"], "start of frame")
    node("Sub", ["frame", "start of frame"], "place in phoneme")
    node("Unsqueeze", ["lengths", "[zero]"], "lengths row")
    node("Unsqueeze", ["lengths row", "[zero]"], "durations")


def _shape_partials(graph: Graph, tables: Tables) -> None:
    """From the frames' phonemes to ``loudness`` of each partial in each sample: [1, partials, samples]."""
    constant, node = graph.constant, graph.node
    node("Gather", ["phonemes", "phoneme of frame"], "sound of frame")
    node("Gather", [constant("strengths", tables.strengths), "sound of frame"], "strength")
    node("Gather", [constant("closed", tables.closed), "sound of frame"], "closed at speed one")
    node("Mul", ["closed at speed one", "length scale"], "closed for")
    node("GreaterOrEqual", ["place in phoneme", "closed for"], "is open")
    node("Cast", ["is open"], "open", to=1)
    node("Unsqueeze", ["open", "[one]"], "open column")
    node("Mul", ["strength", "open column"], "strength heard")
    node("Transpose", ["strength heard"], "by partial", perm=[1, 0])
    node("Unsqueeze", ["by partial", "[zero]"], "batch of one")
    node("AveragePool", ["batch of one"], "gliding", kernel_shape=[3], pads=[1, 1], count_include_pad=1)
    size = constant("samples a frame", np.array([1, 1, FRAME], np.float32))
    node("Resize", ["gliding", "", size], "loudness", mode="linear", coordinate_transformation_mode="half_pixel")


def _add_up(graph: Graph, tables: Tables) -> None:
    """From the partials' loudness to ``output``, shaped [1, 1, 1, samples] as an exported VITS gives it."""
    constant, node = graph.constant, graph.node
    node("Mul", ["total", constant("frame length", np.int64(FRAME))], "samples")
    node("Range", ["zero", "samples", "one"], "sample numbers")
    node("Cast", ["sample numbers"], "sample", to=1)
    turning = (2 * np.pi * tables.frequencies / RATE).astype(np.float32)
    node("Mul", [constant("turning", turning[None, :, None]), "sample"], "turned")
    node("Add", ["turned", constant("phases", tables.phases[None, :, None])], "angle")
    node("Sin", ["angle"], "waves")
    node("Mul", ["waves", "loudness"], "partials")
    node("ReduceSum", ["partials", "[one]"], "sum", keepdims=1)
    node("Mul", ["sum", constant("gain", np.float32(0.25))], "sound")
    node("Unsqueeze", ["sound", "[zero]"], "output")


def _description(speaker: Speaker, ids: dict[str, int]) -> dict[str, Any]:
    """Return what stands in a voice's JSON file."""
    english = {"name_native": "English", "name_english": "English", "country_english": "United States"}
    return {
        "dataset": speaker.name.split("-")[1],
        "audio": {"sample_rate": RATE, "quality": "x_low"},
        "espeak": {"voice": "en-us"},
        "language": {"code": "en_US", "family": "en", "region": "US", **english},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_type": "espeak",
        "phoneme_map": {},
        "phoneme_id_map": {phoneme: [number] for phoneme, number in ids.items()},
        "num_symbols": max(ids.values()) + 1,
        "num_speakers": 1,
        "speaker_id_map": {},
        "hop_length": FRAME,
        "piper_version": "1.0.0",
    }
