"""The part of Go's template language that ``--format`` takes.

Source: Go's text/template documentation. Offered: fields and chains, variables, pipelines,
parentheses, literals, ``if``/``else if``/``else``, ``range`` (with variables, ``break``,
``continue``), ``with``, comments, trim markers, and the functions of
:mod:`pannier.cli.template_functions`. Not offered: ``define``, ``template``, ``block``.

A template is parsed once into nodes and rendered against JSON values: dictionaries, lists, texts,
numbers, booleans and None.
"""

from __future__ import annotations

from pannier.cli.template_functions import TemplateError, show, truth
from pannier.cli.template_lexer import Token, split_actions, tokenize
from pannier.cli.template_pipeline import DEPTH, Pipeline, soft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Scope = dict[str, Any]
    Expression = Callable[[Any, Scope], Any]
    Node = Callable[[Any, Scope, list[str]], None]

__all__ = ["Template", "TemplateError"]


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
            if self._depth > DEPTH:
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
        names, assigned, expression = Pipeline(tokens).declared()
        if len(names) > 1:
            raise TemplateError("too many declarations in an action")
        if assigned:
            return _assign(names[0], expression)
        return _print(expression)

    def _control(self, word: str, tokens: list[Token]) -> Node:
        names, _, expression = Pipeline(tokens).declared()
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
        value = soft(condition, dot, scope)
        inner = {**scope, **dict.fromkeys(names, value)} if names else scope
        _run(body if truth(value) else other, dot, inner, out)

    return node


def _with(names: list[str], value: Expression, body: list[Node], other: list[Node]) -> Node:
    def node(dot: Any, scope: Scope, out: list[str]) -> None:
        found = soft(value, dot, scope)
        inner = {**scope, **dict.fromkeys(names, found)}
        if truth(found):
            _run(body, found, inner, out)
        else:
            _run(other, dot, inner, out)

    return node


def _range(names: list[str], value: Expression, body: list[Node], other: list[Node]) -> Node:
    def node(dot: Any, scope: Scope, out: list[str]) -> None:
        pairs = _pairs(soft(value, dot, scope))
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
