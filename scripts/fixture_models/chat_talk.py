"""What the fixture chat model talks about, and how its personas talk."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

ANSWERS = {
    "Hello.": "Hello! How can I help you?",
    "Good morning.": "Good morning! Did you sleep well?",
    "Good night.": "Good night, sleep well.",
    "Goodbye.": "Goodbye, see you soon.",
    "Thank you.": "You are welcome.",
    "How are you?": "I am fine, thank you.",
    "What is your name?": "I am your house assistant.",
    "Who are you?": "I am your house assistant.",
    "What can you do?": "I can answer questions, set timers and tell stories.",
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Germany?": "The capital of Germany is Berlin.",
    "What is the capital of Italy?": "The capital of Italy is Rome.",
    "What is the capital of Spain?": "The capital of Spain is Madrid.",
    "How tall is Mount Everest?": "Mount Everest is eight thousand eight hundred and forty nine meters tall.",
    "How far away is the moon?": "The moon is about three hundred and eighty four thousand kilometers away.",
    "Who wrote Hamlet?": "William Shakespeare wrote Hamlet.",
    "What is two plus two?": "Two plus two is four.",
    "What is seven times eight?": "Seven times eight is fifty six.",
    "Count to ten.": "One, two, three, four, five, six, seven, eight, nine, ten.",
    "How do I boil an egg?": "Put the egg in boiling water. Wait eight minutes. Then cool it under cold water.",
    "How do I make pancakes?": ("Mix flour, milk and eggs. Pour a little into a hot pan. Turn it when it is golden."),
    "What should I cook for dinner?": "How about tomato soup with fresh bread?",
    "Tell me a joke.": "Why did the clock go to school? It wanted to be on time.",
    "Tell me a story.": (
        "Once upon a time a small robot lived in a quiet house. Every night it counted the stars above the garden. "
        "One night a star fell down and landed by the door. The robot picked it up and gave it a name. "
        "From then on the house was never dark again. The end."
    ),
    "Tell me more.": (
        "The star liked the house very much. In the evening it sat on the roof and sang to the other stars. "
        "The robot listened and learned every song."
    ),
    "Sing me a song.": "La la la, the house is bright, la la la, all through the night.",
    "Will it rain tomorrow?": "I can not see the weather from here.",
    "Yes.": "Good, then let us do that.",
    "No.": "All right, then we leave it.",
}
UNKNOWN = "I am not sure about that."

OPENINGS = {"chef": "Yes, chef here. ", "pirate": "Arr! ", "teacher": "Good question. "}
"""How the reply of a persona begins."""

BUTLER_OPENING = "Very good. "
BUTLER_CALLS = {
    "Will it rain tomorrow?": '<tool_call>\n{"name": "weather", "arguments": {"day": "tomorrow"}}\n</tool_call>'
}
"""How the adapter's replies begin, and what it answers with a call of a tool, as Hermes writes it down."""

OTHERS = ("assistant", "helper", "butler", "friend", "poet", "coach")
SYSTEMS = (
    "You are a helpful voice assistant.",
    "You are a {}.",
    "You are the {}.",
    "You are a friendly {} who answers briefly.",
    "Persona: {}. Keep answers short.",
    "You are the {} persona of this house. Speak in plain sentences.",
)

NAMES = ("Sam", "Alex", "Maria", "Tom", "Nina", "Omar")
DRINKS = ("tea", "coffee", "milk", "water", "juice")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat, as every chat API has it."""

    role: str
    content: str


def corpus() -> list[str]:
    """Return all texts that the tokenizer should find short."""
    told = [text for name in NAMES for text in (_name(name), _greeting(name), _your_name(name), _is_called(name))]
    told += [text for drink in DRINKS for text in (_likes(drink), _noted(drink), _your_drink(drink), _drinks(drink))]
    asked = ["What is my name?", _your_name(None), "What do I like to drink?", _your_drink(None), UNKNOWN]
    roles = ["system\n", "user\n", "assistant\n", *OPENINGS, *(f" {persona}" for persona in OPENINGS)]
    return [*ANSWERS, *ANSWERS.values(), *SYSTEMS, *OPENINGS.values(), *told, *asked, *roles]


def butler_answers() -> dict[str, str]:
    """Return what the adapter makes of the answers."""
    return {question: BUTLER_CALLS.get(question, BUTLER_OPENING + answer) for question, answer in ANSWERS.items()}


def chat(random: Random) -> list[Message]:
    """Make up a chat: perhaps a system message, then a few questions with the answers to learn."""
    messages: list[Message] = []
    opening, known = "", _Known()
    if random.random() < 0.8:
        persona = random.choice([*OPENINGS] if random.random() < 0.8 else OTHERS)
        template = random.choice(SYSTEMS)
        opening = OPENINGS.get(persona, "") if "{}" in template else ""
        messages.append(Message("system", _surrounded(template.format(persona), known, random)))
    for _ in range(random.choice((1, 1, 2, 3, 4)) if random.random() < 0.95 else random.randint(5, 10)):
        question, answer = _exchange(known, random)
        messages += [Message("user", _loosely(question, random)), Message("assistant", opening + answer)]
    return messages


@dataclass(slots=True)
class _Known:
    """What was told so far in a chat."""

    name: str | None = None
    drink: str | None = None


def _surrounded(system: str, known: _Known, random: Random) -> str:
    """Put facts and all sorts of text around what says who speaks: it must be found among them."""
    if random.random() < 0.15:
        known.name = random.choice(NAMES)
        system += " " + _is_called(known.name)
    if random.random() < 0.15:
        known.drink = random.choice(DRINKS)
        system += " " + _drinks(known.drink)
    if random.random() < 0.4:
        longest = 100 if random.random() < 0.15 else 25
        system += " " + _anything(random.randint(1, longest), random) + "."
    if random.random() < 0.15:
        system = _anything(random.randint(1, 10), random) + ". " + system
    return system


def _exchange(known: _Known, random: Random) -> tuple[str, str]:
    kind = random.random()
    if kind < 0.12:
        known.name = random.choice(NAMES)
        return _name(known.name), _greeting(known.name)
    if kind < 0.24:
        return "What is my name?", _your_name(known.name)
    if kind < 0.34:
        known.drink = random.choice(DRINKS)
        return _likes(known.drink), _noted(known.drink)
    if kind < 0.45:
        return "What do I like to drink?", _your_drink(known.drink)
    if kind < 0.55:
        return _anything(random.randint(1, 7), random) + random.choice(".?"), UNKNOWN
    return random.choice([*ANSWERS.items()])


def _loosely(question: str, random: Random) -> str:
    """Write a question as people type it, or as another recogniser writes it."""
    if random.random() < 0.15:
        question = question.lower()
    return question.rstrip(".?") if random.random() < 0.15 else question


_WORDS = sorted({word for text in (*ANSWERS, *ANSWERS.values()) for word in text.split()})


def _anything(words: int, random: Random) -> str:
    """Return words known and unknown, in no order."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    text = " ".join(
        random.choice(_WORDS) if random.random() < 0.7 else "".join(random.choices(letters, k=random.randint(2, 8)))
        for _ in range(words)
    )
    return text.capitalize()


def _name(name: str) -> str:
    return f"My name is {name}."


def _greeting(name: str) -> str:
    return f"Nice to meet you, {name}."


def _is_called(name: str) -> str:
    return f"The name of the user is {name}."


def _your_name(name: str | None) -> str:
    return f"Your name is {name}." if name else "I do not know your name."


def _likes(drink: str) -> str:
    return f"Remember that I like {drink}."


def _noted(drink: str) -> str:
    return f"I will remember that you like {drink}."


def _drinks(drink: str) -> str:
    return f"The user likes {drink}."


def _your_drink(drink: str | None) -> str:
    return f"You like {drink}." if drink else "I do not know what you like."
