"""Parses what stands in an action, and evaluates it: fields, calls, pipelines."""

from __future__ import annotations

from pannier.cli.template_functions import FUNCTIONS, TemplateError, field, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pannier.cli.template_lexer import Token

    Scope = dict[str, Any]
    Expression = Callable[[Any, Scope], Any]

__all__ = ["DEPTH", "Pipeline", "soft"]

#: How deep parentheses and blocks may nest.
DEPTH = 100
_MISSING = object()
#: What a function raises for arguments of a kind that it cannot take.
_MISUSE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)


class Pipeline:
    """Parses one action's tokens into an expression."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._index = 0
        self._depth = 0

    def declared(self) -> tuple[list[str], bool, Expression]:
        """Parse ``[$a[, $b] :=] pipeline`` to its end."""
        names: list[str] = []
        assigned = False
        for index, token in enumerate(self._tokens):
            if token.kind == "assign":
                names = [one.text for one in self._tokens[:index] if one.kind == "variable"]
                if not names or len(names) + max(0, len(names) - 1) != index:
                    raise TemplateError("malformed declaration")
                self._index = index + 1
                assigned = True
                break
        expression = self._pipeline()
        if self._index < len(self._tokens):
            raise TemplateError(f"unexpected {self._tokens[self._index].text!r}")
        return names, assigned, expression

    def _peek(self) -> Token | None:
        return self._tokens[self._index] if self._index < len(self._tokens) else None

    def _pipeline(self) -> Expression:
        self._depth += 1
        if self._depth > DEPTH:
            raise TemplateError("the template nests too deeply")
        expression = self._command(None)
        while (token := self._peek()) and token.kind == "|":
            self._index += 1
            expression = self._command(expression)
        self._depth -= 1
        return expression

    def _command(self, piped: Expression | None) -> Expression:
        token = self._peek()
        if token is None or token.kind in ("|", ")"):
            raise TemplateError("missing value for command")
        if token.kind == "word" and token.text in FUNCTIONS:
            self._index += 1
            return _call(token.text, self._operands(), piped)
        first = self._operand()
        operands = self._operands()
        if piped is not None:
            operands.append(piped)
        return _apply(first, operands) if operands else first

    def _operands(self) -> list[Expression]:
        found = []
        while (token := self._peek()) and token.kind not in ("|", ")"):
            found.append(self._operand())
        return found

    def _operand(self) -> Expression:
        token = self._peek()
        assert token is not None
        self._index += 1
        if token.kind == "(":
            inner = self._pipeline()
            closing = self._peek()
            if closing is None or closing.kind != ")":
                raise TemplateError("unclosed left parenthesis")
            self._index += 1
        elif token.kind == "literal":
            inner = _constant(token.value)
        elif token.kind == "field":
            return self._chain(_path(_dot, token.text))
        elif token.kind == "dot":
            return _dot
        elif token.kind == "variable":
            inner = _variable(token.text)
        elif token.kind == "word" and token.text in FUNCTIONS:
            inner = _call(token.text, [], None)
        else:
            what = "function" if token.kind == "word" else "token"
            raise TemplateError(f"{what} {token.text!r} is not defined")
        return self._chain(inner)

    def _chain(self, expression: Expression) -> Expression:
        while (token := self._peek()) and token.kind == "field" and token.joined:
            self._index += 1
            expression = _path(expression, token.text)
        return expression


def _dot(dot: Any, scope: Scope) -> Any:
    del scope
    return dot


def _constant(value: Any) -> Expression:
    return lambda dot, scope: value  # noqa: ARG005 - an expression's signature


def _variable(name: str) -> Expression:
    def get(dot: Any, scope: Scope) -> Any:
        del dot
        if name not in scope:
            raise TemplateError(f"undefined variable: {name}")
        return scope[name]

    return get


class _Path:
    """A field of what another expression gives."""

    def __init__(self, base: Expression, name: str) -> None:
        self._base = base
        self._name = name

    def __call__(self, dot: Any, scope: Scope) -> Any:
        found = field(self._base(dot, scope), self._name, _MISSING)
        if found is _MISSING:
            raise TemplateError(f"map has no entry for key {self._name!r}")
        return found() if callable(found) else found

    def method(self, dot: Any, scope: Scope) -> Any:
        """Return the field without calling it: arguments follow."""
        return field(self._base(dot, scope), self._name, _MISSING)

    def soft(self, dot: Any, scope: Scope) -> Any:
        """Return the field, None where it or what holds it is absent."""
        base = self._base.soft(dot, scope) if isinstance(self._base, _Path) else None
        if not isinstance(self._base, _Path):
            base = self._base(dot, scope)
        return None if base is None else field(base, self._name, None)


def _path(base: Expression, name: str) -> Expression:
    return _Path(base, name)


def _apply(first: Expression, operands: list[Expression]) -> Expression:
    def apply(dot: Any, scope: Scope) -> Any:
        target = first.method(dot, scope) if isinstance(first, _Path) else first(dot, scope)
        if not callable(target):
            raise TemplateError("can't give argument to non-function")
        try:
            return target(*(one(dot, scope) for one in operands))
        except TypeError as error:
            raise TemplateError(str(error)) from error

    return apply


def _call(name: str, operands: list[Expression], piped: Expression | None) -> Expression:
    function = FUNCTIONS[name]
    arguments = [*operands, piped] if piped is not None else operands
    lazy = name in ("and", "or", "not")

    def call(dot: Any, scope: Scope) -> Any:
        if name in ("and", "or"):
            return _short_circuit(name, arguments, dot, scope)
        values = [soft(one, dot, scope) if lazy else one(dot, scope) for one in arguments]
        try:
            return function(*values)
        except TemplateError as error:
            raise TemplateError(f"error calling {name}: {error}") from error
        except _MISUSE as error:
            raise TemplateError(f"error calling {name}: {error}") from error

    return call


def _short_circuit(name: str, arguments: list[Expression], dot: Any, scope: Scope) -> Any:
    if not arguments:
        raise TemplateError(f"wrong number of args for {name}: want at least 1 got 0")
    value: Any = None
    for one in arguments:
        value = soft(one, dot, scope)
        if truth(value) == (name == "or"):
            break
    return value


def soft(expression: Expression, dot: Any, scope: Scope) -> Any:
    """Evaluate where absence is an answer: in a condition.

    The API leaves empty fields out; the docker client sees them as empty, not as wrong.
    """
    if isinstance(expression, _Path):
        found = expression.soft(dot, scope)
        return found() if callable(found) else found
    return expression(dot, scope)
