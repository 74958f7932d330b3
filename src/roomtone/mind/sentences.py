"""What a text means, whether more is to come, and all that can be said: the sentences of every skill."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random

from hassil.numbers import get_rbnf_engine
from hassil.util import remove_skip_words

from roomtone.core.endpoint import Completeness
from roomtone.core.errors import ConfigError
from roomtone.mind import grammar, skillfiles
from roomtone.mind.grammar import SILENCE, Node
from roomtone.mind.numbers import in_digits
from roomtone.mind.phrases import load_language
from roomtone.mind.skillfiles import IntentFile, Loaded
from roomtone.mind.skills import Match
from roomtone.mind.tools import FAMILIES

JOINED = re.compile(r"(?<=\d)\.(?=[0-5]\d(?!\d))|(?<=\w)-(?=\w)")
"""Where words are written as one that other texts mean as one: 7.30, a ten-minute timer."""

MAX_DIGITS = 9
"""Of a number that is spelt out; no sentence has a longer one."""

TEXTS_KEPT = 64
"""What the last texts meant is known already: a final text is mostly the partial before it."""


class Skills:
    """All skills of a household in one language.

    ``refused`` tells, a line each, which of the household's own are broken and why.
    """

    def __init__(self, language: str, loaded: Iterable[Loaded], refused: Iterable[str] = ()) -> None:
        self.language = load_language(language)
        self.refused = tuple(refused)
        self._loaded = tuple(loaded)
        self._found = lru_cache(TEXTS_KEPT)(self._search)
        self.skills = tuple(one.skill for one in self._loaded)
        before, spoken_before = skillfiles.polite(self.language.before, language)
        after, spoken_after = skillfiles.polite(self.language.after, language)
        self._before = re.compile(rf"^(?:{before})(?!\S)", re.IGNORECASE)
        self._after = re.compile(rf"(?<!\S)(?:{after})$", re.IGNORECASE)
        self._commands = _rules(self._loaded, alone=False)
        self._polite = {"before": spoken_before or SILENCE, "after": spoken_after or SILENCE}
        self._alone = _rules(self._loaded, alone=True)
        self._whole = grammar.utterance(**self._polite, commands=self._commands.values(), alone=self._alone.values())

    @staticmethod
    def load(language: str = "en", own: Path | None = None) -> Skills:
        """Load the shipped skills, then a household's ``own`` folder of the same shape; its broken ones are refused.

        Raises ConfigError for a language that has no file of its own.
        """
        load_language(language)
        loaded = list(skillfiles.shipped(language))
        refused = []
        taken = {one.skill.name for one in loaded}
        for folder in skillfiles.folders(own, language) if own is not None else []:
            try:
                if folder.name in taken:
                    raise ConfigError(f"{folder}: Roomtone has a skill of this name; give it another")
                skill = skillfiles.load(folder, language)
                skillfiles.check(skill)
                loaded.append(skill)
            except ConfigError as error:
                refused.append(error.message)
        skills = Skills(language, loaded, refused)
        wrong = {one.skill.name: reason for one in loaded[len(taken) :] if (reason := skills.misheard(one))}
        kept = [one for one in loaded if one.skill.name not in wrong]
        return Skills(language, kept, [*refused, *wrong.values()]) if wrong else skills

    def knowing(self, given: skillfiles.Given) -> Skills:
        """Return the same skills with what this household has to be put into their lists: its personas' names."""
        known = [
            skillfiles.load(one.path.parent, self.language.language, given) if one.is_filled else one
            for one in self._loaded
        ]
        return Skills(self.language.language, known, self.refused)

    def of(self, tools: Iterable[str] | None, own: Path | None = None) -> Skills:
        """Return what one persona can do: what everyone can, the skills among its ``tools`` (None: all), and those
        in a folder of its ``own``, which go before the rest. The families of a model's tools are passed over, and so
        are names such as ``weather.today`` and ``home.*``: whether a server brings them is known once it runs.

        Raises ConfigError for a tool that is neither, and for a skill of its own that is broken. Those of a shipped
        persona were held to their samples and dialogues before they were shipped: a switch need not wait for that.
        """
        by_name = {one.skill.name: one for one in self._loaded}
        wanted = set(by_name) if tools is None else set(tools)
        for name in sorted(name for name in wanted - by_name.keys() - FAMILIES if "." not in name):
            choice = f"{', '.join(sorted(by_name.keys() | FAMILIES))}, or a server's tools as '{name}.*'"
            raise ConfigError(f"tools: there is no skill '{name}'; choose of {choice}", key="tools")
        more = []
        for folder in skillfiles.folders(own, self.language.language) if own is not None else []:
            if folder.name in by_name:
                raise ConfigError(f"{folder}: Roomtone has a skill of this name; give it another")
            more.append(skillfiles.load(folder, self.language.language))
            if not skillfiles.is_ours(folder):
                skillfiles.check(more[-1])
        kept = [one for name, one in by_name.items() if name in wanted or one.file.everyones]
        chosen = Skills(self.language.language, [*more, *kept])
        for one in more:
            if not skillfiles.is_ours(one.path.parent) and (reason := chosen.misheard(one)) is not None:
                raise ConfigError(reason)
        return chosen

    def misheard(self, one: Loaded) -> str | None:
        """Return, a line, which text of a skill's dialogues is not understood as it says; None where all are.

        What is asked there of a skill that is not among these is passed over.
        """
        there = {skill.name for skill in self.skills}
        for exchange in (exchange for talk in one.skill.dialogues.values() for exchange in talk):
            wanted = exchange.intent if "." in (exchange.intent or ".") else f"{one.skill.name}.{exchange.intent}"
            match = self.recognise(exchange.heard)
            if wanted and wanted.partition(".")[0] not in there:
                continue
            if wanted and (match is None or match.intent != wanted):
                if match is not None and match.agrees is not None:
                    continue  # what it comes to depends on the question before it
                got = match.intent if match else "nothing"
                return f"{one.path.parent}: dialogues: '{exchange.heard}' is understood as {got}, not as {wanted}"
        return None

    def recognise(self, text: str) -> Match | None:
        """Return what a text asks for: typed or transcribed, digits or words, polite or not."""
        return self._found("strict", text) or self._found("loose", text) or self._in_digits(text)

    def _in_digits(self, text: str) -> Match | None:
        """Try a text with its numbers in digits: nobody's templates spell out what is beyond ninety-nine."""
        written = in_digits(text, self.language.language)
        found = self._found("loose", written) if written != text.lower() else None
        return replace(found, text=text) if found else None

    def completeness(self, text: str) -> Completeness:
        """Say whether a text is a whole command, the beginning of one, or neither."""
        spoken = self._spoken(text)
        if not spoken:
            return Completeness.UNKNOWN
        if _ends_in(spoken, self.language.hesitations):
            return Completeness.INCOMPLETE
        match = self._found("strict", text)
        if match and match.backchannel:
            return Completeness.UNKNOWN
        if match:
            return Completeness.INCOMPLETE if match.unfinished else Completeness.COMPLETE
        if _ends_in(spoken, self.language.unfinished_words) or grammar.begins(self._whole, spoken):
            return Completeness.INCOMPLETE
        return Completeness.COMPLETE if self._found("loose", text) else Completeness.UNKNOWN

    def holds(self, spoken: tuple[str, ...]) -> bool:
        """Say whether the grammar holds a text, cut into words: only then can a recogniser of the grammar hear it."""
        return len(spoken) in grammar.Reader(spoken).ends(self._whole, frozenset({0}))

    def is_backchannel(self, text: str) -> bool:
        """Say whether a text only shows that its speaker listens ("mhm", "yeah")."""
        match = self._found("strict", text)
        return match is not None and match.backchannel

    def grammar(self) -> str:
        """Return all that can be said at any time as JSGF, lower case, one rule a line."""
        return grammar.jsgf(self._polite, self._commands, self._said_alone(_any_time))

    def besides(self, *, interrupting: bool = False, asked: bool = False) -> str:
        """Return what can be said besides, only now, as JSGF; "" where there is nothing.

        Only who speaks into a reply (``interrupting``) says "mhm", only who was ``asked`` says yes or no, and only
        either of them gives an answer to a quiz: else it is no turn of its own, and the fewer sentences a recogniser
        weighs, the surer it is of the right one. A persona's own "go on" goes on with something at any time.
        """

        def now(one: Loaded, intent: IntentFile) -> bool:
            nods, agrees = interrupting and intent.backchannel, asked and intent.agrees is not None
            return not _any_time(one, intent) and (nods or agrees or (intent.replies and (interrupting or asked)))

        said = self._said_alone(now)
        return grammar.jsgf({}, {}, said) if said else ""

    def _said_alone(self, which: Callable[[Loaded, IntentFile], bool]) -> dict[str, Node]:
        """Return the graphs of what is said without politeness around it, of some intents."""
        some = {
            f"{one.skill.name}_{name}"
            for one in self._loaded
            for name, intent in one.file.intents.items()
            if which(one, intent)
        }
        return {rule: node for rule, node in self._alone.items() if rule in some}

    def ring_grammar(self) -> tuple[str, tuple[str, ...]]:
        """Return what people say to something that rings as JSGF, and its words: few, so that none is missed."""
        rules = {
            f"{one.skill.name}_{name}": one.spoken[name]
            for one in self._loaded
            for name, intent in one.file.intents.items()
            if intent.answers_ring
        }
        commands, alone = (
            {rule: node for rule, node in rules.items() if rule in all_} for all_ in (self._commands, self._alone)
        )
        words = set[str]().union(*map(grammar.vocabulary, rules.values()))
        return grammar.jsgf(self._polite, commands, alone), tuple(sorted(words))

    def own_words(self) -> tuple[str, ...]:
        """Return the words that only the household's own skills have, such as "sauna": no recogniser expects them."""
        shipped, own = set[str](), set[str]()
        for one in self._loaded:
            words = own if one.path.parent.parent != skillfiles.SHIPPED else shipped
            words |= set[str]().union(*map(grammar.vocabulary, one.spoken.values()))
        return tuple(sorted(own - shipped))

    def dismissing_words(self) -> tuple[str, ...]:
        """Return the words of all sentences that ask for silence: they must not be missed."""
        nodes = [
            node for one in self._loaded for name, node in one.spoken.items() if one.file.intents[name].dismisses
        ]
        return tuple(sorted(set().union(*(grammar.vocabulary(node) for node in nodes))))

    def sample(self, random: Random) -> tuple[str, str]:
        """Draw an intent and one of its sentences as the grammar has them, without politeness around it."""
        one = random.choice([one for one in self._loaded if one.spoken])
        name = random.choice(list(one.spoken))
        return f"{one.skill.name}.{name}", grammar.sample(one.spoken[name], random)

    def samples(self) -> Iterator[tuple[str, str]]:
        """Return the samples in the skills' files, each with its intent."""
        for one in self._loaded:
            for name, intent in one.file.intents.items():
                yield from ((f"{one.skill.name}.{name}", text) for text in intent.samples)

    def _search(self, kind: str, text: str) -> Match | None:
        for candidate in self._candidates(text):
            for one in self._loaded:
                intents = getattr(one, kind)
                if intents.intents and (found := skillfiles.match(candidate, one, intents)):
                    return replace(found, text=text)
        return None

    def _candidates(self, text: str) -> Iterator[str]:
        """Return a text as it is and with more and more politeness left off; what was literally said comes first."""
        plain = skillfiles.plain(text)
        calm = remove_skip_words(plain, self.language.hesitations, ignore_whitespace=False)
        for whole in dict.fromkeys([plain, calm, JOINED.sub(" ", calm)]):
            for sooner in _peeled(whole, self._after):
                yield from _peeled(sooner, self._before)

    def _spoken(self, text: str) -> tuple[str, ...]:
        """Return the words of a text as they are spoken, numbers spelt."""
        engine = get_rbnf_engine(self.language.language)
        spelt = [
            engine.format_number(int(word)).text if word.isdecimal() and len(word) <= MAX_DIGITS else word
            for word in text.split()
        ]
        return grammar.words(" ".join(spelt)) or ()


def _peeled(text: str, peel: re.Pattern[str]) -> Iterator[str]:
    """Yield a text, then what is left of it as matches of ``peel`` are taken off, as long as anything is."""
    while text:
        yield text
        found = peel.search(text)
        text = (text[: found.start()] + text[found.end() :]).strip() if found else ""


def _any_time(one: Loaded, intent: IntentFile) -> bool:
    """Whether an intent can be asked for without anything said before."""
    agrees = intent.agrees is not None and not one.skill.persona
    return not (intent.backchannel or agrees or intent.replies)


def _rules(loaded: Iterable[Loaded], alone: bool) -> dict[str, Node]:
    """Return the graphs of what is said with politeness around it, or of what is said ``alone``."""
    return {
        f"{one.skill.name}_{name}": node
        for one in loaded
        for name, node in one.spoken.items()
        if _is_alone(one.file.intents[name]) == alone
    }


def _is_alone(intent: IntentFile) -> bool:
    return intent.backchannel or intent.bare or intent.replies


def _ends_in(spoken: tuple[str, ...], endings: Iterable[str]) -> bool:
    return any(spoken[-len(ending.split()) :] == tuple(ending.split()) for ending in endings)
