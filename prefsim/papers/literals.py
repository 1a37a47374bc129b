"""What a file assigns to a name, where it is written in literals: read without importing it."""

from __future__ import annotations

import ast
import re
from typing import Any, NamedTuple

__all__ = ["Called", "assigned", "called"]


class Called(NamedTuple):
    """A call written in literals, such as ``Paper(slug="dpo", year=2023)``.

    Attributes
    ----------
    function
        The name that is called, without the module before it.
    arguments
        By position.
    named
        By name.
    """

    function: str
    arguments: list[Any]
    named: dict[str, Any]


def assigned(source: str, name: str) -> ast.expr | None:
    """Return the expression that ``name`` is assigned, if the source is Python and has one."""
    # Most files that are asked have none, and need not be parsed.
    if not re.search(rf"^{name}\b", source, flags=re.MULTILINE):
        return None
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    for statement in body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return statement.value
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == name:
            return statement.value
    return None


def called(expression: ast.expr | None) -> Called | None:
    """Return a call, or None where the expression is none or not all of it is literal."""
    if not isinstance(expression, ast.Call):
        return None
    try:
        arguments = [ast.literal_eval(value) for value in expression.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in expression.keywords}
    except (ValueError, TypeError):
        return None
    return Called(ast.unparse(expression.func).rpartition(".")[2], arguments, named)
