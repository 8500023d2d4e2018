"""The part of Go's template language that ``--format`` takes.

Source: Go's text/template documentation. Offered: fields and chains, variables, pipelines,
parentheses, literals, ``if``/``else if``/``else``, ``range`` (with variables, ``break``,
``continue``), ``with``, comments, trim markers, and the functions of
:mod:`pannier.cli.template_functions`. Not offered: ``define``, ``template``, ``block``.

A template is parsed once into nodes and rendered against JSON values: dictionaries, lists, texts,
numbers, booleans and None.
"""

from __future__ import annotations

from pannier.cli.template_functions import FUNCTIONS, TemplateError, field, show, truth
from pannier.cli.template_lexer import Token, split_actions, tokenize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Scope = dict[str, Any]
    Expression = Callable[[Any, Scope], Any]
    Node = Callable[[Any, Scope, list[str]], None]

__all__ = ["Template", "TemplateError"]

_DEPTH = 100
_MISSING = object()
#: What a function raises for arguments of a kind that it cannot take.
_MISUSE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)


class _Break(Exception):
    """``{{break}}``."""


class _Continue(Exception):
    """``{{continue}}``."""


class Template:
    """A parsed template.

    :raises TemplateError: where the text is no template of this language.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._nodes = _Parser(source).parse()

    def render(self, data: Any) -> str:
        """Return the template filled in.

        :raises TemplateError: where a field is missing or a function cannot take its arguments.
        """
        out: list[str] = []
        try:
            _run(self._nodes, data, {"$": data}, out)
        except (_Break, _Continue):
            raise TemplateError("break or continue outside range") from None
        except RecursionError:
            raise TemplateError("the template nests too deeply") from None
        return "".join(out)


def _run(nodes: Iterable[Node], dot: Any, scope: Scope, out: list[str]) -> None:
    for node in nodes:
        node(dot, scope, out)


class _Parser:
    def __init__(self, source: str) -> None:
        self._parts = split_actions(source)
        self._index = 0
        self._depth = 0

    def parse(self) -> list[Node]:
        nodes, ended_by = self._block(())
        assert ended_by is None
        return nodes

    def _block(self, ends: tuple[str, ...]) -> tuple[list[Node], list[Token] | None]:
        """Parse up to one of the words in ``ends``; return the nodes and that action."""
        nodes: list[Node] = []
        while self._index < len(self._parts):
            kind, text = self._parts[self._index]
            self._index += 1
            if kind == "text":
                nodes.append(_text(text))
                continue
            tokens = tokenize(text)
            if not tokens:
                raise TemplateError("missing value for command: {{}} is empty")
            word = tokens[0].text if tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                if word not in ends:
                    raise TemplateError(f"unexpected {{{{{word}}}}}")
                return nodes, tokens
            nodes.append(self._action(word, tokens))
        if ends:
            raise TemplateError("unexpected end of the template: {{end}} is missing")
        return nodes, None

    def _action(self, word: str, tokens: list[Token]) -> Node:
        if word in ("if", "with", "range"):
            self._depth += 1
            if self._depth > _DEPTH:
                raise TemplateError("the template nests too deeply")
            node = self._control(word, tokens[1:])
            self._depth -= 1
            return node
        if word in ("define", "template", "block"):
            raise TemplateError(f"{{{{{word}}}}} is not offered")
        if word == "break" and len(tokens) == 1:
            return _break
        if word == "continue" and len(tokens) == 1:
            return _continue
        names, assigned, expression = _Pipeline(tokens).declared()
        if len(names) > 1:
            raise TemplateError("too many declarations in an action")
        if assigned:
            return _assign(names[0], expression)
        return _print(expression)

    def _control(self, word: str, tokens: list[Token]) -> Node:
        names, _, expression = _Pipeline(tokens).declared()
        if len(names) > (2 if word == "range" else 1):
            raise TemplateError(f"too many declarations in {word}")
        body, ended_by = self._block(("end", "else"))
        assert ended_by is not None
        otherwise: list[Node] = []
        if ended_by[0].text == "else":
            if len(ended_by) > 1:
                if ended_by[1].text not in ("if", "with") or word == "range":
                    raise TemplateError(f"unexpected {ended_by[1].text!r} after else")
                otherwise = [self._action(ended_by[1].text, ended_by[1:])]
            else:
                otherwise, ended_by = self._block(("end",))
        make = {"if": _if, "with": _with, "range": _range}[word]
        return make(names, expression, body, otherwise)


class _Pipeline:
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
        if self._depth > _DEPTH:
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


# -- expressions ---------------------------------------------------------------------------------


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
        values = [_soft(one, dot, scope) if lazy else one(dot, scope) for one in arguments]
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
        value = _soft(one, dot, scope)
        if truth(value) == (name == "or"):
            break
    return value


def _soft(expression: Expression, dot: Any, scope: Scope) -> Any:
    """Evaluate where absence is an answer: in a condition.

    The API leaves empty fields out; the docker client sees them as empty, not as wrong.
    """
    if isinstance(expression, _Path):
        found = expression.soft(dot, scope)
        return found() if callable(found) else found
    return expression(dot, scope)


# -- nodes ---------------------------------------------------------------------------------------


def _text(text: str) -> Node:
    def node(dot: Any, scope: Scope, out: list[str]) -> None:
        del dot, scope
        out.append(text)

    return node


def _print(expression: Expression) -> Node:
    return lambda dot, scope, out: out.append(show(expression(dot, scope)))


def _assign(name: str, expression: Expression) -> Node:
    def node(dot: Any, scope: Scope, out: list[str]) -> None:
        del out
        scope[name] = expression(dot, scope)

    return node


def _break(dot: Any, scope: Scope, out: list[str]) -> None:
    del dot, scope, out
    raise _Break


def _continue(dot: Any, scope: Scope, out: list[str]) -> None:
    del dot, scope, out
    raise _Continue


def _if(names: list[str], condition: Expression, body: list[Node], other: list[Node]) -> Node:
    def node(dot: Any, scope: Scope, out: list[str]) -> None:
        value = _soft(condition, dot, scope)
        inner = {**scope, **dict.fromkeys(names, value)} if names else scope
        _run(body if truth(value) else other, dot, inner, out)

    return node


def _with(names: list[str], value: Expression, body: list[Node], other: list[Node]) -> Node:
    def node(dot: Any, scope: Scope, out: list[str]) -> None:
        found = _soft(value, dot, scope)
        inner = {**scope, **dict.fromkeys(names, found)}
        if truth(found):
            _run(body, found, inner, out)
        else:
            _run(other, dot, inner, out)

    return node


def _range(names: list[str], value: Expression, body: list[Node], other: list[Node]) -> Node:
    def node(dot: Any, scope: Scope, out: list[str]) -> None:
        pairs = _pairs(_soft(value, dot, scope))
        if not pairs:
            _run(other, dot, scope, out)
        for key, item in pairs:
            inner = dict(scope)
            inner.update(zip(names, (key, item) if len(names) == 2 else (item,), strict=False))
            try:
                _run(body, item, inner, out)
            except _Break:
                return
            except _Continue:
                continue

    return node


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool) and value <= 10_000:
        return [(one, one) for one in range(value)]
    raise TemplateError(f"range can't iterate over {show(value)}")
