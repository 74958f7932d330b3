"""Sums: written as an expression, worked out in exact fractions, said as a person would."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from roomtone.mind.numbers import in_digits, is_short, spoken
from roomtone.mind.skills import Asked, Heard

LONGEST = 120
"""Characters of a sum; who says more does not want it worked out by ear."""

BITS = 4_000
"""Bound on the size of what a power may come to."""

WRITTEN = re.compile(r"(?:[\d.+\-*/() ]|root)+")

SIGNS: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def accepts(heard: Heard) -> bool:
    """Say whether the words are a sum: numbers with at least one operation."""
    return written(heard) is not None


async def answer(asked: Asked) -> list[str]:
    """Work it out."""
    tree = written(asked)
    assert tree is not None
    try:
        result = value(tree)
        said = spoken(result, asked.phrases)
    except ZeroDivisionError:
        return [asked.say("by_zero")]
    except ArithmeticError as error:
        return [_too_big(asked, str(error))]
    except ValueError:
        return [asked.say("no_root")]
    return [asked.say("exactly" if is_short(result) and _exact(tree) else "about", number=said)]


def written(heard: Heard) -> ast.expr | None:
    """Return what was said as an expression; None where it is no sum."""
    match = heard.match
    spelt = match.get("sum") or f"{match.get('a')} {match.get('sign')} {match.get('b')}"
    text = in_digits(spelt, heard.phrases.language.language) if len(spelt) <= LONGEST else ""
    for said, put in heard.data["written"]:
        text = re.sub(said, put, text.strip())
    text = " ".join(text.split())
    if not WRITTEN.fullmatch(text):
        return None
    text = re.sub(r"root ([\d.]+)", r"root(\1)", text)
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text)
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        return None
    return tree if isinstance(tree, ast.BinOp | ast.Call) and _all_known(tree) else None


def _all_known(tree: ast.expr) -> bool:
    signs = (*SIGNS, ast.Pow, ast.USub, ast.UAdd)
    known = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Constant, ast.Name, ast.Load, *signs)
    return all(
        isinstance(node, known) and (not isinstance(node, ast.Call) or isinstance(node.func, ast.Name))
        for node in ast.walk(tree)
    )


def value(tree: ast.expr) -> Fraction:
    """Work an expression out. Raises ZeroDivisionError, OverflowError, and ValueError for what has no value."""
    if isinstance(tree, ast.Constant):
        return Fraction(str(tree.value))
    if isinstance(tree, ast.UnaryOp):
        inner = value(tree.operand)
        return -inner if isinstance(tree.op, ast.USub) else inner
    if isinstance(tree, ast.Call):
        return _root(value(tree.args[0]))
    if not isinstance(tree, ast.BinOp):
        raise ValueError(f"no number: {ast.dump(tree)}")
    left, right = value(tree.left), value(tree.right)
    if isinstance(tree.op, ast.Pow):
        return _power(left, right)
    return SIGNS[type(tree.op)](left, right)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    size = max(abs(base.numerator).bit_length(), base.denominator.bit_length())
    if size * abs(exponent) > BITS:
        raise OverflowError("")
    if exponent.denominator > 1:
        return Fraction(float(base) ** float(exponent)) if base >= 0 else _root(base)
    return base ** int(exponent)


def _root(number: Fraction) -> Fraction:
    """Return the square root, exactly where it is a fraction. Raises ValueError below zero."""
    if number < 0:
        raise ValueError("no root")
    above, below = math.isqrt(number.numerator), math.isqrt(number.denominator)
    exact = Fraction(above, below)
    return exact if exact * exact == number else Fraction(math.sqrt(number))


def _exact(tree: ast.expr) -> bool:
    """Say whether a result was worked out in whole fractions: an irrational root never is, round as it may look."""
    roots = [value(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return all(_root(number) ** 2 == number for number in roots)


def _too_big(asked: Asked, reason: str) -> str:
    digits = re.match(r"\d+", reason)
    return asked.say("too_big", digits=asked.phrases.number(int(digits.group()))) if digits else asked.say("beyond")
