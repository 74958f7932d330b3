"""What is written becomes what is said."""

from __future__ import annotations

import subprocess
import sys

import emoji
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roomtone.core.speakable import speakable


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It is 16:20.", "It is four twenty p m."),
        ("It is 4:20 PM.", "It is four twenty p m."),
        ("At 9:05 or 10:00?", "At nine oh five or ten o'clock?"),
        ("From 7 a.m. to 00:15", "From seven a m to twelve fifteen a m"),
        ("on 2026-11-21", "on November twenty-first, twenty twenty-six"),
        ("Nov. 3, 1999", "November third, nineteen ninety-nine"),
        ("3 May", "May third"),
        (
            "12/24/2025 or 24/12/2025",
            "December twenty-fourth, twenty twenty-five or December twenty-fourth, twenty twenty-five",
        ),
        ("born in 1984, in the 1990s", "born in nineteen eighty-four, in the nineteen nineties"),
        ("5 km", "five kilometres"),
        ("1 km at 20 °C, then -5°C", "one kilometre at twenty degrees Celsius, then minus five degrees Celsius"),
        ("3.5 kg of 1,200 g", "three point five kilograms of one thousand two hundred grams"),
        ("100 km/h, 5 ft, 2 MHz", "one hundred kilometres per hour, five feet, two megahertz"),
        ("3/4 cup, ½ cup, 1½ cups", "three quarters of a cup, half a cup, one and a half cups"),
        ("½ kg, 1½ l, 1/2 oz", "half a kilogram, one and a half litres, half an ounce"),
        ("7.5 % of ⅞, 5° C", "seven point five percent of seven eighths, five degrees Celsius"),
        ("5,50 €, then ½ €", "five euros and fifty cents, then half a euro"),
        ("50/50, 24/7", "fifty fifty, twenty-four seven"),
        ("1/3 of it, 7/9", "one third of it, seven over nine"),
        ("50% of $5.20", "fifty percent of five dollars and twenty cents"),
        ("£1, 20 € and $3 million", "one pound, twenty euros and three million dollars"),
        ("Dr. Smith met Mrs. Jones, e.g. twice.", "Doctor Smith met Missus Jones, for example twice."),
        ("the 21st, No. 5, #7", "the twenty-first, number five, number seven"),
        ("5-10 minutes", "five to ten minutes"),
        ("2 + 3 * 4 = 14", "two plus three times four equals fourteen"),
        ("call 555-0199 or 007", "call five five five, zero one nine nine or zero zero seven"),
        ("version 1.2.3", "version one point two point three"),
        ("salt & pepper, and/or 2×3", "salt and pepper, or two times three"),
        ("~5 < 6", "about five less than six"),
        ("me@example.com", "me at example dot com"),
    ],
)
def test_english_is_written_out(written: str, said: str) -> None:
    assert speakable(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("**Bold**, *thin* and `code` and ~~gone~~", "Bold, thin and code and gone"),
        ("# Supper\nBoil the _rice_.", "Supper. Boil the rice."),
        ("- milk\n* eggs\n> quoted\n---\n- [x] done", "milk eggs quoted done"),
        ("See [the page](https://example.com/a_b?c=1) ![cat](cat.png)", "See the page cat"),
        ("See https://www.example.com/a/b?c=d.", "See example dot com."),
        ("Look:\n```python\nx = 1\n```\nDone.", "Look: Done."),
        ("```\nnever closed", ""),
        (f"The key is {'a1B2' * 20}, keep it.", "The key is, keep it."),
        ("| a | b |\n|---|---|\n| c | d |", "a, b, c, d"),
        ("<b>Hi</b> there<br/>", "Hi there"),
        ("Great! 👋🏽 👨‍👩‍👧 ☀️", "Great!"),
        ("snake_case and a | b", "snake case and a, b"),
        ("Wait!!!!!!", "Wait!"),
        ("🎉", ""),
        (" \n", ""),
        ("...", ""),
    ],
)
def test_marks_are_taken_away(written: str, said: str) -> None:
    assert speakable(written) == said


def test_other_languages_keep_their_digits() -> None:
    assert speakable("**Es** ist 16:20 Uhr, 5 km. 🎉", "de-DE") == "Es ist 16:20 Uhr, 5 km."


SNIPPETS = st.lists(
    st.one_of(
        st.text(max_size=10),
        st.sampled_from(
            ["**", "`", "```", "[a](b)", "![", "](", "<b>", "# ", "|", "~~", "_x_", "1/0", "$", "http://["]
        ),
        st.sampled_from(
            ["99:99", "2026-13-45", "1" * 30, "-5°C", "👋🏽", "№", "Feb 31", "\ud800", "0/0", "1,2,3", "³½"]
        ),
    ),
    max_size=20,
).map("".join)


@given(SNIPPETS)
@example("\n".join(["> " * 20, "- " * 20, "| - " * 20]))
def test_anything_can_be_said_and_no_mark_is_left(text: str) -> None:
    said = speakable(text)
    assert not set(said) & set("*_`~#|<>[]{}\\^=\n")
    assert emoji.emoji_count(said) == 0
    assert not any(character in "0123456789" for character in said)
    assert speakable(text, "de") is not None


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "[",
            "a ",
            "1 ",
            "1/2 ",
            "**",
            "<a",
            "<!--",
            "# ",
            "- ",
            "|",
            "`",
            "👋",
            "www.",
            "a@",
            "1.",
            "9" * 50 + " ",
        ),
        *(
            "https://a.b/c ",
            "1,000,",
            "-",
            "_",
            " ",
            "\n",
            "\n# a#",
            "5 km ",
            "[](",
            "Dr. ",
            "12:",
            "Nov ",
            "~",
            "x1",
        ),
    ],
)
def test_a_hundred_thousand_characters_are_no_trouble(piece: str) -> None:
    speakable(piece * (100_000 // len(piece)))


def test_every_emoji_is_dropped_and_a_text_without_one_loads_no_table_of_them() -> None:
    assert {speakable(f"Well {one} done.") for one in emoji.EMOJI_DATA} == {"Well done."}
    code = """
import sys
from roomtone.core.speakable import speakable
assert speakable("It’s 20 °C – “cosy”, ½ l of café au lait for 3 €.")
print("emoji" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"
