"""A Dockerfile as stages: what each begins from, which others it needs, and in what scope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pannier.build.instructions import Arg, Copy, From, Run
from pannier.build.words import expand
from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pannier.build.instructions import Instruction
    from pannier.build.parser import Dockerfile

__all__ = ["Plan", "Stage", "find_stage", "make_plan"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    :param image: what it begins from, variables replaced; the reference of an image, ``scratch``,
        or the name of an earlier stage, whose number is then *base*.
    :param needs: the numbers of the stages that its instructions name.
    """

    number: int
    begin: From
    image: str
    platform: str
    base: int | None
    instructions: tuple[Instruction, ...]
    needs: frozenset[int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be built.

    :param globals: the ARGs before the first FROM, in order.
    :param values: what they come to, for stages that declare one of them.
    :param stages: those that the target needs, itself the last, in the Dockerfile's order.
    :param all: every stage; a trigger of a base image may name one that nothing else needs.
    """

    globals: tuple[Arg, ...]
    values: Mapping[str, str]
    stages: tuple[Stage, ...]
    all: tuple[Stage, ...]

    @property
    def target(self) -> Stage:
        """The stage whose image is the build's."""
        return self.stages[-1]


def make_plan(
    dockerfile: Dockerfile,
    *,
    build_args: Mapping[str, str],
    platform_args: Mapping[str, str],
    target: str = "",
) -> Plan:
    """Find out what is to be built.

    :param target: a stage's name or number; empty for the last.
    :raises InvalidRequest: there is no such stage, or the Dockerfile does not begin with FROM.
    """
    globals, rest = _split(dockerfile.instructions)
    escape = dockerfile.escape
    values = _values(globals, build_args, platform_args, escape)
    stages = _stages(rest, {**platform_args, **values}, escape)
    chosen = stages[-1] if not target else stages[_target(stages, target)]
    wanted = {chosen.number}
    for stage in reversed(stages[: chosen.number + 1]):
        if stage.number in wanted:
            wanted |= stage.needs
    needed = tuple(stage for stage in stages if stage.number in wanted)
    return Plan(globals, values, needed, tuple(stages))


def _split(
    instructions: Sequence[Instruction],
) -> tuple[tuple[Arg, ...], Sequence[Instruction]]:
    globals: list[Arg] = []
    for position, instruction in enumerate(instructions):
        if isinstance(instruction, From):
            return tuple(globals), instructions[position:]
        if not isinstance(instruction, Arg):
            raise InvalidRequest(
                f"Dockerfile:{instruction.source.line}: no build stage in current context",
                hint="only ARG may stand before the first FROM",
            )
        globals.append(instruction)
    raise InvalidRequest("no build stage in current context", hint="the Dockerfile has no FROM")


def _values(
    globals: Sequence[Arg],
    build_args: Mapping[str, str],
    platform_args: Mapping[str, str],
    escape: str,
) -> dict[str, str]:
    values: dict[str, str] = {}
    for arg in globals:
        for name, default in arg.pairs:
            if name in build_args:
                values[name] = build_args[name]
            elif default is not None:
                values[name] = _expanded(arg, default, {**platform_args, **values}, escape)
            elif name in platform_args:
                values[name] = platform_args[name]
    return values


def _expanded(where: Instruction, text: str, scope: Mapping[str, str], escape: str) -> str:
    try:
        return expand(text, scope, escape)
    except InvalidRequest as error:
        message = f"Dockerfile:{where.source.line}: {error.message}"
        raise InvalidRequest(message, hint=error.hint) from None


def _stages(
    instructions: Sequence[Instruction], scope: Mapping[str, str], escape: str
) -> list[Stage]:
    grouped: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            grouped.append((instruction, []))
        else:
            grouped[-1][1].append(instruction)
    stages: list[Stage] = []
    for number, (begin, own) in enumerate(grouped):
        image = _expanded(begin, begin.image, scope, escape)
        if not image:
            raise InvalidRequest(
                f"Dockerfile:{begin.source.line}: base name ({begin.image[:100]}) should not be "
                "blank",
                hint="give the ARG a default, or a value with --build-arg",
            )
        base = _named(stages, image)
        needs = {base} if base is not None else set[int]()
        for origin in _origins(own):
            found = find_stage(stages, origin)
            if found is not None:
                needs.add(found)
        stages.append(
            Stage(
                number,
                begin,
                image,
                _expanded(begin, begin.platform, scope, escape),
                base,
                tuple(own),
                frozenset(needs),
            )
        )
    return stages


def _origins(instructions: Sequence[Instruction]) -> list[str]:
    found: list[str] = []
    for instruction in instructions:
        if isinstance(instruction, Copy) and instruction.origin:
            found.append(instruction.origin)
        elif isinstance(instruction, Run):
            found += [mount.origin for mount in instruction.mounts if mount.origin]
    return found


def _named(stages: Sequence[Stage], name: str) -> int | None:
    """Return the last stage of a name: later ones hide earlier ones."""
    for stage in reversed(stages):
        if stage.begin.name and stage.begin.name == name.lower():
            return stage.number
    return None


def find_stage(stages: Sequence[Stage], text: str) -> int | None:
    """Return the number of the stage that ``--from`` means, of those before; None for an image.

    :raises InvalidRequest: a number is too high.
    """
    found = _named(stages, text)
    if found is None and text.isascii() and text.isdigit():
        if int(text[:9]) >= len(stages):
            raise InvalidRequest(
                f"invalid from flag value {text[:20]}: index out of bounds",
                hint="stages are counted from 0, and only earlier ones may be named",
            )
        return int(text)
    return found


def _target(stages: Sequence[Stage], target: str) -> int:
    found = _named(stages, target)
    if found is None and target.isascii() and target.isdigit() and int(target[:9]) < len(stages):
        found = int(target)
    if found is None:
        raise InvalidRequest(
            f"failed to reach build target {target[:100]} in Dockerfile",
            hint="`FROM … AS name` gives a stage its name",
        )
    return found
