"""The recogniser hears commands, gives their beginnings at pauses, and leaves other speech alone."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Run
from roomtone.child import child
from roomtone.core.errors import EngineCrashed, EngineTimeout
from roomtone.core.room import convolve, impulse_response
from roomtone.core.sound import RATE, Audio, join
from roomtone.engines.stt import Hints, Pause, Transcript, _pocketsphinx_child, pocketsphinx, script
from roomtone.engines.stt._dereverberation import dereverberated
from roomtone.engines.stt._jsgf import graph
from roomtone.engines.stt._pocketsphinx_child import Decoded, Found, Recogniser, Segment
from roomtone.flow import worker
from speech import room_noise, said

HOME = """#JSGF V1.0; /* comment */
grammar home;
<number> = one | two | nine | ten;
public <command> = what time is it {time} | set (a | the) [/2/ (pasta | tea)] timer for <number> minutes
    | cancel the [frobnicator] timer | (unmutify | be quiet);
"""
HINTS = Hints(grammar=HOME)


async def stream(*parts: Audio | Pause) -> AsyncIterator[Audio | Pause]:
    for part in parts:
        if isinstance(part, Pause):
            yield part
        else:
            for start in range(0, len(part), 320):
                yield part.cut(start, start + 320)


async def heard(stt: pocketsphinx.Pocketsphinx, *parts: Audio | Pause, hints: Hints = HINTS) -> list[Transcript]:
    return [transcript async for transcript in stt.transcribe(stream(*parts), hints)]


def test_a_command_is_heard_and_other_speech_is_not(run: Run[None]) -> None:
    async def scenario() -> None:
        async with pocketsphinx.open(pocketsphinx.Settings()) as stt:
            (command,) = await heard(stt, await said("set a pasta timer for nine minutes"))
            assert (command.text, command.final) == ("set a pasta timer for nine minutes", True)
            assert command.confidence > 0.5
            (other,) = await heard(stt, await said("the garden was full of yellow flowers"))
            assert other.text == ""
            (noise,) = await heard(stt, Audio(room_noise(RATE, -30).astype(np.int16)))
            assert noise.text == ""

    run(scenario())


def test_an_everyday_word_is_not_taken_for_a_short_command(run: Run[None]) -> None:
    short = Hints(grammar="#JSGF V1.0; grammar short; public <command> = stop | thanks | hello;")

    async def scenario() -> None:
        async with pocketsphinx.open(pocketsphinx.Settings(min_score=-4)) as stt:
            assert [t.text for t in await heard(stt, await said("stop"), hints=short)] == ["stop"]
            assert [t.text for t in await heard(stt, await said("seven"), hints=short)] == [""]
            assert [t.text for t in await heard(stt, await said("window"), hints=short)] == [""]

    run(scenario())


def test_a_pause_gives_the_beginning_of_an_unfinished_sentence(run: Run[None]) -> None:
    async def scenario() -> None:
        async with pocketsphinx.open(pocketsphinx.Settings()) as stt:
            beginning = await said("set a timer for", tail_s=0.2)
            rest = await said("nine minutes", lead_s=0.3)
            partial, final = await heard(stt, beginning, Pause(), rest)
            assert (partial.text, partial.final) == ("set a timer for", False)
            assert (final.text, final.final) == ("set a timer for nine minutes", True)

    run(scenario())


def test_what_is_said_only_now_is_heard_besides_the_rest_and_only_then(run: Run[None]) -> None:
    nods = Hints(grammar=HOME, besides="#JSGF V1.0; grammar nods; public <nod> = exactly | interesting;")

    async def scenario() -> None:
        async with pocketsphinx.open(pocketsphinx.Settings()) as stt:
            nod, command = await said("interesting"), await said("set a pasta timer for nine minutes")
            assert [t.text for t in await heard(stt, nod)] == [""]
            assert [t.text for t in await heard(stt, nod, hints=nods)] == ["interesting"]
            (heard_besides,) = await heard(stt, command, hints=nods)
            assert heard_besides.text == "set a pasta timer for nine minutes"

    run(scenario())


class Counting:
    """Stands in for the child: says how often it decoded."""

    def __init__(self) -> None:
        self.decodes = 0

    async def call(self, method: str, *args: object, timeout: float) -> object:
        if method == "prepare":
            return []
        self.decodes += 1
        return Decoded(Found(f"decode {self.decodes}", 0.0), Found())


def test_nothing_is_decoded_again_where_only_silence_followed_the_pause(run: Run[None]) -> None:
    async def scenario() -> None:
        with worker("preparing") as thread:
            stt = pocketsphinx.Pocketsphinx(Counting(), thread, pocketsphinx.Settings())  # type: ignore[arg-type]
            command, quiet = (
                await said("what time is it", tail_s=0.2),
                Audio(room_noise(RATE, -58, seed=3).astype(np.int16)),
            )
            partial, final = await heard(stt, command, Pause(), quiet)
            assert (partial.text, final.text) == ("decode 1", "decode 1")
            more = await said("now", lead_s=0.1)
            *_, final = await heard(stt, command, Pause(), more)
            assert final.text == "decode 3"

    run(scenario())


def test_too_much_too_little_and_no_grammar_are_nothing_and_wake_nobody(run: Run[None]) -> None:
    async def scenario() -> None:
        async with pocketsphinx.open(pocketsphinx.Settings()) as stt:
            assert [t.text for t in await heard(stt, hints=Hints())] == [""]
            assert [t.text for t in await heard(stt, Audio.silence(1.0), hints=Hints())] == [""]
            assert stt.pid is None
            assert [t.text for t in await heard(stt)] == [""]  # an empty utterance compiles the grammar
            assert stt.pid is not None
            long = join([await said("what time is it"), Audio.silence(12.0)])
            assert [t.text for t in await heard(stt, long)] == [""]

    run(scenario())


class Unwell:
    """A recogniser that hangs on its first decode, dies on its second process's first, and then is well."""

    def __init__(self, marks: str) -> None:
        self.marks = marks

    def prepare(self, grammar: str) -> list[str]:
        return []

    def decode(self, pcm: bytes, grammars: tuple[str, ...], expected: tuple[str, ...]) -> Decoded:
        with open(self.marks, "a+") as marks:
            marks.seek(0)
            before = len(marks.read())
            marks.write("x")
        if before == 0:
            time.sleep(60)
        if before == 1:
            os._exit(11)
        return Decoded(Found("well", 0.0), Found())


def test_a_hang_and_a_crash_cost_one_utterance_each(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))

    async def scenario() -> None:
        unwell = child("pocketsphinx", "test_stt:Unwell", os.path.join(tmp_path, "marks"))
        with worker("preparing") as thread:
            async with unwell as process:
                stt = pocketsphinx.Pocketsphinx(process, thread, pocketsphinx.Settings(timeout_s=2))
                with pytest.raises(EngineTimeout):
                    await heard(stt, Audio.silence(1.0))
                with pytest.raises(EngineCrashed):
                    await heard(stt, Audio.silence(1.0))
                assert [t.text for t in await heard(stt, Audio.silence(1.0))] == ["well"]

    run(scenario())


def test_reverberation_becomes_weaker_and_dry_speech_stays_as_it_was(run: Run[Audio]) -> None:
    dry = run(said("set a pasta timer for nine minutes")).samples.astype(np.float64)
    wet = convolve(dry, impulse_response(1.0, 0.4, seed=1))[: len(dry) + RATE // 4]
    end = slice(len(dry) - RATE * 4 // 10, len(dry) - RATE * 2 // 10)  # the last word dies away
    assert np.std(dereverberated(wet)[end]) < 0.85 * np.std(wet[end])
    assert np.std(dereverberated(dry) - dry) < 0.1 * np.std(dry)
    assert [len(dereverberated(np.zeros(length))) for length in (0, 1, 700, 16_000)] == [0, 1, 700, 16_000]


def sentences(grammar: str, unknown: Iterable[str] = ()) -> set[str]:
    """Walk a loopless graph and return all it can say."""
    compiled = graph(grammar, lambda word: word not in set(unknown))
    found, waiting = set(), [(0, "")]
    while waiting:
        at, text = waiting.pop()
        if at in compiled.ends:
            found.add(text.strip())
        waiting += [(to, f"{text} {word}") for start, to, word in compiled.steps if start == at]
        waiting += [(to, text) for start, to in compiled.skips if start == at]
    return found


def test_a_grammar_says_what_its_rules_say_less_what_is_unknown() -> None:
    assert sentences("public <a> = turn (on | off) [the] light | <b>; <b> = stop [it];") == {
        *("turn on light", "turn off light", "turn on the light", "turn off the light", "stop", "stop it")
    }
    assert sentences("public <a> = (un | go) [the] way | <void> x | y [z];", ["un", "z"]) == {
        "go way",
        "go the way",
        "y",
    }
    assert graph("public <a> = x y*;", lambda word: True).steps == ((0, 1, "x"), (1, 1, "y"))
    assert graph(HOME, lambda word: word not in ("unmutify", "frobnicator")).unknown == ("frobnicator", "unmutify")


@pytest.mark.parametrize(
    ("grammar", "complaint"),
    [
        ("hello", "no sentence"),
        ("public <a> = (x;", "brackets"),
        ("public <a> = x);", "brackets"),
        ("public <a> = [x);", "brackets"),
        ("public <a> = x <a>;", "refers to itself"),
        ("public <a> = zz;", "unknown words: zz"),
    ],
)
def test_a_grammar_that_cannot_be_used_says_why(grammar: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        graph(grammar, lambda word: word != "zz")


def test_what_is_said_in_several_places_stands_in_the_graph_once() -> None:
    names = ["bath", "bread", "cake", "coffee", "dinner", "egg", "oven", "pasta", "rice", "tea"]
    lists = f"public <a> = (set | cancel) [the] ({' | '.join(names)}) timer | hello;"

    def times(word: str, **endings: str) -> int:
        compiled = graph(lists, lambda word: True, lambda word: endings.get(word, "T"))
        assert not {start for start, _ in compiled.skips} & {to for _, to in compiled.skips}
        return [step[2] for step in compiled.steps].count(word)

    assert times("cake") == times("tea") == 1
    assert times("cake", the="AH") == 2  # what begins after another sound is said in another way
    assert len(sentences(lists)) == 41


TREES = st.recursive(
    st.sampled_from("abc"),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda items: f"({' | '.join(items)})"),
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        inner.map(lambda item: f"[{item}]"),
    ),
    max_leaves=8,
)


def expanded(text: str) -> set[str]:
    """Say the same in another way: as a regular expression over all short texts."""
    import itertools
    import re

    pattern = re.sub(r"[abc]", r"(?:\g<0> )", text.replace(" | ", "|")).replace("[", "(?:(?:").replace("]", ")|)")
    pattern = re.sub(r"(?<!\?)\((?!\?)", "(?:", pattern.replace(") (", ")("))
    pattern = re.sub(r"(?<=\)) (?=\()", "", pattern)
    words = (
        "".join(f"{letter} " for letter in some) for n in range(5) for some in itertools.product("abc", repeat=n)
    )
    return {word.strip() for word in words if re.fullmatch(pattern, word)}


@settings(max_examples=60)
@given(TREES)
def test_the_smallest_graph_says_exactly_the_grammar(text: str) -> None:
    said_by_graph = {some for some in sentences(f"public <a> = {text};") if len(some.split()) < 5}
    assert said_by_graph == expanded(text)


def test_the_script_gives_its_texts_in_order(run: Run[None]) -> None:
    async def scenario() -> None:
        async with script.open(script.Settings(texts=("set a timer", "stop"))) as stt:
            sound = Audio.silence(0.1)
            got = [
                [t async for t in stt.transcribe(stream(sound, Pause(), sound, Pause()), Hints())] for _ in range(3)
            ]
        assert [[(t.text, t.final) for t in one] for one in got] == [
            [("set a", False), ("set a timer", False), ("set a timer", True)],
            [("stop", False), ("stop", False), ("stop", True)],
            [("", False), ("", False), ("", True)],
        ]

    run(scenario())


def test_words_that_nobody_could_say_in_their_time_are_not_believed() -> None:
    recogniser = Recogniser()
    recogniser._look_up(["hello", "stop", "it"])
    assert recogniser._pronounceable([Segment("hello", 0, 35, 0.0)])
    assert not recogniser._pronounceable([Segment("hello", 0, 9, 0.0)])
    assert not recogniser._pronounceable([Segment("hello", 0, 120, 0.0)])
    assert recogniser._pronounceable([Segment("stop", 0, 30, 0.0), Segment("it", 31, 36, 0.0)])


def test_grammars_are_kept_as_far_as_memory_allows_and_compiled_again_when_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pocketsphinx_child, "KEPT_STEPS", 5)
    kept = {word: f"#JSGF V1.0; grammar a; public <a> = {word} it;" for word in ("stop", "hear", "say")}
    recogniser = Recogniser()
    for grammar in kept.values():
        recogniser.prepare(grammar)
    assert list(recogniser._grammars) == [kept["hear"], kept["say"]]
    quiet = Audio(room_noise(RATE, -30).astype(np.int16)).to_bytes()
    assert recogniser.decode(quiet, [kept["stop"], kept["say"]]).sentence.text in ("", "stop it", "say it")
    assert list(recogniser._grammars) == [kept["stop"], kept["say"]]
