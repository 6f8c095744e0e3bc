"""Reads sums of losses: "cross_entropy + 0.5*focal(gamma=2)". No TensorFlow."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field
from typing import Any

from deeplab.utils.errors import UserError


@dataclass(frozen=True)
class Term:
    """One part of a sum.

    Attributes:
      text: as it was written, for example "0.5*focal(gamma=2)".
      name: the registered name.
      factor: what its value is multiplied by.
      options: keyword arguments of the loss, numbers, words or booleans.
    """

    text: str
    name: str
    factor: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


def parse(text: str) -> list[Term]:
    """The terms of a sum, in order.

    Raises:
      UserError: the text is no sum of names with factors and options (code `not-a-sum-of-losses`).
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return [_term(part) for part in _summands(tree)]
    except (SyntaxError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            "not-a-sum-of-losses",
            f"{text!r} cannot be read as a sum of losses",
            "write it as `loss=cross_entropy + 0.5*focal(gamma=2)`",
            field="loss",
            value=text,
        ) from error


def _summands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_summands(node.left), *_summands(node.right)]
    return [node]


def _term(node: ast.expr) -> Term:
    factor: Any = 1.0
    loss = node
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        number, loss = (node.left, node.right) if isinstance(node.left, ast.Constant) else (node.right, node.left)
        factor = ast.literal_eval(number)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not math.isfinite(factor):
        raise ValueError(ast.unparse(node))
    name, options = _name_and_options(loss)
    return Term(ast.unparse(node), name, float(factor), options)


def _name_and_options(node: ast.expr) -> tuple[str, dict[str, Any]]:
    function, options = (node.func, node.keywords) if isinstance(node, ast.Call) and not node.args else (node, [])
    if not isinstance(function, ast.Name):
        raise ValueError(ast.unparse(node))
    return function.id, {str(option.arg): ast.literal_eval(option.value) for option in options}
