"""A Dockerfile's instructions as values. Variables in them are not replaced yet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pannier.build.lexer import Heredoc, Statement
    from pannier.images.config import Healthcheck

__all__ = [
    "Arg",
    "Cmd",
    "Command",
    "Copy",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "Health",
    "Instruction",
    "Label",
    "Maintainer",
    "MountType",
    "Onbuild",
    "Run",
    "RunMount",
    "SetShell",
    "StopSignal",
    "User",
    "Volume",
    "Workdir",
]


@dataclass(frozen=True, slots=True)
class Command:
    """A command line: words to execute as they are, or one line for the shell.

    :param words: the words, or the line alone.
    :param line: it is one for the shell.
    """

    words: tuple[str, ...]
    line: bool


@dataclass(frozen=True, slots=True)
class Instruction:
    """Any instruction; *source* is where it stands, and how it is written."""

    source: Statement


@dataclass(frozen=True, slots=True)
class From(Instruction):
    """``FROM [--platform=…] image [AS name]``; a name is in lower case."""

    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    """``ARG name[=value] …``; None for one without a default."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    """``ENV name=value …``."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    """``LABEL name=value …``."""

    pairs: tuple[tuple[str, str], ...]


class MountType(StrEnum):
    """What ``RUN --mount`` mounts."""

    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"  # noqa: S105 - the mount's type


@dataclass(frozen=True, slots=True)
class RunMount:
    """One ``RUN --mount``.

    :param origin: the stage or image of ``from=``; empty is the context, or nothing for a cache.
    :param sharing: of a cache: ``shared``, ``private`` or ``locked``.
    :param required: of a secret: without it the build fails.
    :param mode: permission bits; None for the kind's default.
    :param size: bytes of a tmpfs; 0 for no limit.
    """

    kind: MountType
    target: str
    source: str = ""
    origin: str = ""
    id: str = ""
    read_only: bool = False
    sharing: str = "shared"
    required: bool = False
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    """``RUN …``; *network* is ``default``, ``none`` or ``host``."""

    command: Command
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """``COPY`` and ``ADD``.

    :param add: it is ADD: URLs are fetched and archives unpacked.
    :param origin: the stage or image of ``--from``; empty is the context.
    :param checksum: of what a URL gives.
    """

    sources: tuple[str, ...]
    destination: str
    add: bool = False
    origin: str = ""
    chown: str = ""
    chmod: str = ""
    parents: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Workdir(Instruction):
    """``WORKDIR path``."""

    path: str


@dataclass(frozen=True, slots=True)
class User(Instruction):
    """``USER user[:group]``."""

    user: str


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    """``VOLUME path …``."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    """``EXPOSE port[/protocol] …``, as written."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entrypoint(Instruction):
    """``ENTRYPOINT …``; no words take the entrypoint away."""

    command: Command


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    """``CMD …``; no words take the command away."""

    command: Command


@dataclass(frozen=True, slots=True)
class SetShell(Instruction):
    """``SHELL ["…", …]``."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopSignal(Instruction):
    """``STOPSIGNAL signal``."""

    signal: str


@dataclass(frozen=True, slots=True)
class Health(Instruction):
    """``HEALTHCHECK …``."""

    check: Healthcheck


@dataclass(frozen=True, slots=True)
class Onbuild(Instruction):
    """``ONBUILD instruction``, kept as text for the images that build on this one."""

    expression: str


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    """``MAINTAINER name``: the image's author."""

    name: str
