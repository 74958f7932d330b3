"""Sums that a model had better not do in its head."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from pydantic import Field

from roomtone.core.dialog import Noun
from roomtone.core.errors import ToolError
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.tools.built_in import built_in

LONGEST = 200

BITS = 4_000
"""Bound on the size of what a power may come to."""

DIGITS = 12
"""Of a result that is no whole number; a float is not sure of more than fifteen."""

TOO_LONG = 10**30
"""No whole number beyond this is told to the last digit."""


PLACES = 15

WRITTEN = re.compile(r"[\w\s.,+\-*/%()]+")


class Sum(Noun):
    """What to work out."""

    expression: str = Field(min_length=1, max_length=LONGEST, description="such as 0.15*80+sqrt(2)")


@built_in("arithmetic.calculate", "Work out a sum", Sum)
async def calculate(wanted: Sum, _: Household) -> Result:
    """Work out an expression of numbers, + - * / // % ** and a few functions."""
    return Result(_written(_value(wanted.expression)))


def _value(expression: str) -> int | float:
    """Work an expression out. Raises ToolError, a line that says what is wrong with it."""
    from simpleeval import InvalidExpression, SimpleEval  # not needed until the first sum

    written = expression.replace("^", "**").replace("×", "*").replace("÷", "/").replace("−", "-").strip(" =")
    evaluator = SimpleEval(operators=_OPERATORS, functions=_FUNCTIONS, names={"pi": math.pi, "e": math.e})
    evaluator.nodes = {kind: work for kind, work in evaluator.nodes.items() if kind in _PARTS}
    try:
        if not WRITTEN.fullmatch(written):  # no text among them: a million times a letter is a megabyte
            raise ValueError("write numbers, + - * / // % ** and brackets")
        value = evaluator.eval(written)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise ValueError("it comes to no number")
        if value in (math.inf, -math.inf):
            raise OverflowError
    except ZeroDivisionError as error:
        raise ToolError("nothing can be divided by zero") from error
    except OverflowError as error:
        raise ToolError("that number is too big") from error
    except (InvalidExpression, ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ToolError(f"that is no sum: {error}") from error
    return value


def _written(value: int | float) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.{DIGITS}g}"
    if abs(value) >= TOO_LONG:
        return f"about {'-' if value < 0 else ''}10 to the {math.log10(abs(value)):.1f}"
    return str(int(value))


def _power(base: Any, exponent: Any) -> Any:
    if math.log2(abs(base) + 2) * abs(exponent) > BITS:
        raise OverflowError
    value = base**exponent
    if isinstance(value, complex):
        raise ValueError("a negative number has no such root")
    return value


def _rounded(number: Any, places: int = 0) -> Any:
    return round(number, max(-PLACES, min(PLACES, places)))  # to a billion places it would never end


_PARTS = (ast.Expr, ast.Constant, ast.UnaryOp, ast.BinOp, ast.Call, ast.Name)

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "round": _rounded,
    "abs": abs,
    "min": min,
    "max": max,
    "log": math.log,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
}

TOOLS = (calculate,)
