"""``pannier build`` and ``builder prune``."""

from __future__ import annotations

import os
import sys

from pannier.cli.command import Command, Flag, UsageError, arg, flag, many, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pannier.build.ignore import IgnoreRules
    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["BUILD", "BUILDER_PRUNE"]

_EXTRAS = "X-Pannier-Build-Extras"
_HEAD = 512
_MAGIC = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh")
_REFUSED = {
    "output": "build an image, and take files out with `pannier cp`",
    "squash": "use FROM scratch and COPY --from=0 / /",
    "ssh": "fetch with a key given by --secret, and RUN --mount=type=secret",
}
_REFUSED_LISTS = ("output", "ssh")
_STYLES = ("auto", "plain", "tty", "tree", "quiet")


class _Source:
    """The context as it is sent.

    :param dockerfile: in the context; empty where it is sent by itself.
    """

    def __init__(self) -> None:
        self.pieces: Iterable[bytes] = ()
        self.dockerfile = ""
        self.dockerfile_text: bytes | None = None
        self.remote = ""


def _build(ctx: Context, values: Values) -> int:
    from pannier.cli.buildview import BuildError, show_build

    style = _style(values)
    query = _query(values)
    secrets = _secrets(values)
    security = _security(values)
    source = _source(values)
    query |= {"dockerfile": source.dockerfile or None, "remote": source.remote or None}
    headers, pieces = _body(source, secrets, security)
    from pannier.cli.credentials import config_header

    headers |= config_header()
    answer = ctx.client.request("POST", "/build", query=query, upload=pieces, headers=headers)
    try:
        image = show_build(answer.objects(), style=style, out=sys.stdout)
    except BuildError as error:
        ctx.report(error)
        return error.code or 1
    if values.text("iidfile"):
        from pannier.cli.files import write_output

        write_output(values.text("iidfile"), [image.encode()])
    if style == "quiet":
        ctx.out(image)
    return 0


def _style(values: Values) -> str:
    style = values.text("progress") or "auto"
    if style not in _STYLES:
        raise UsageError(f"unknown progress: {style}", hint=f"use one of: {', '.join(_STYLES)}")
    if values.on("quiet") or style == "quiet":
        return "quiet"
    if style == "auto":
        return "tree" if os.isatty(1) else "plain"
    return "plain" if style == "plain" else "tree"


# -- what is asked -------------------------------------------------------------------------------


def _query(values: Values) -> dict[str, Any]:
    for name, hint in _REFUSED.items():
        if values.many(name) if name in _REFUSED_LISTS else values.on(name):
            raise UsageError(f"--{name} is not supported", hint=hint)
    args = _pairs(values.many("build-arg"), inherit=True)
    if "SOURCE_DATE_EPOCH" in os.environ:
        args.setdefault("SOURCE_DATE_EPOCH", os.environ["SOURCE_DATE_EPOCH"])
    return {
        "t": values.many("tag") or None,
        "buildargs": args or None,
        "labels": _pairs(values.many("label")) or None,
        "nocache": values.on("no-cache") or None,
        "pull": values.on("pull") or None,
        "rm": values.on("rm"),
        "forcerm": values.on("force-rm") or None,
        "target": values.text("target") or None,
        "platform": values.text("platform") or None,
        "cachefrom": _json([one for text in values.many("cache-from") for one in text.split(",")]),
        "networkmode": values.text("network") or None,
        "memory": _size(values, "memory"),
        "memswap": _size(values, "memory-swap"),
        "shmsize": _size(values, "shm-size"),
        "cpushares": values.number("cpu-shares") or None,
        "cpuperiod": values.number("cpu-period") or None,
        "cpuquota": values.number("cpu-quota") or None,
        "cpusetcpus": values.text("cpuset-cpus") or None,
        "cpusetmems": values.text("cpuset-mems") or None,
        "cgroupparent": values.text("cgroup-parent") or None,
        "isolation": values.text("isolation") or None,
        "q": values.on("quiet") or None,
        **_of_containers(values),
    }


def _of_containers(values: Values) -> dict[str, Any]:
    """Return what is written as for ``run``; its reading is imported where it is needed."""
    hosts, ulimits = values.many("add-host"), values.many("ulimit")
    if not hosts and not ulimits:
        return {}
    from pannier.cli.hostconfig import extra_host, parse_ulimits

    return {
        "extrahosts": [extra_host(one) for one in hosts] or None,
        "ulimits": _json(parse_ulimits(ulimits)),
    }


def _secrets(values: Values) -> dict[str, bytes]:
    given = values.many("secret")
    if not given:
        return {}
    from pannier.cli.buildsecrets import read_secret

    return dict(map(read_secret, given))


def _security(values: Values) -> list[str]:
    given = values.many("security-opt")
    if not given:
        return []
    from pannier.cli.hostconfig import security_option

    return [security_option(one) for one in given]


def _json(value: list[Any]) -> str | None:
    import json

    return json.dumps(value) if value else None


def _size(values: Values, name: str) -> int | None:
    given = values.text(name)
    if not given:
        return None
    from pannier.cli.units import parse_size

    return -1 if given == "-1" else parse_size(given)


def _pairs(given: list[str], *, inherit: bool = False) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals and inherit:
            # A name alone takes this environment's value, and nothing where it has none.
            found[name] = os.environ.get(name)
        else:
            found[name] = value
    return found


# -- the context ---------------------------------------------------------------------------------


def _source(values: Values) -> _Source:
    given, dockerfile = values.args[0], values.text("file")
    source = _Source()
    if given == "-" and dockerfile == "-":
        raise UsageError("invalid argument: can't use stdin for both build context and dockerfile")
    if given == "-":
        _from_stdin(source, dockerfile)
    elif given.startswith(("http://", "https://", "git://", "git@", "ssh://", "github.com/")):
        source.remote, source.dockerfile = given, dockerfile
    else:
        _from_folder(source, given, dockerfile)
    return source


def _from_stdin(source: _Source, dockerfile: str) -> None:
    from pannier.cli.files import open_input
    from pannier.client.api import read_pieces

    descriptor = open_input("-")
    head = b""
    while len(head) < _HEAD:
        more = os.read(descriptor, _HEAD - len(head))
        if not more:
            break
        head += more
    if head.startswith(_MAGIC) or head[257:262] == b"ustar" or not head:
        source.dockerfile = dockerfile
        source.pieces = _chained(head, read_pieces(descriptor))
        return
    source.dockerfile_text = b"".join(_chained(head, read_pieces(descriptor)))


def _chained(head: bytes, pieces: Iterable[bytes]) -> Iterable[bytes]:
    yield head
    yield from pieces


def _from_folder(source: _Source, folder: str, dockerfile: str) -> None:
    from pannier.cli.contexttar import pack_context

    if not os.path.isdir(folder):  # noqa: PTH112 - pathlib is slow
        raise UsageError(
            f'unable to prepare context: path "{folder}" not found',
            code=1,
            hint="the context is a folder, a URL, or - for stdin",
        )
    if dockerfile == "-":
        source.dockerfile_text = sys.stdin.buffer.read()
        rules = _rules(os.path.join(folder, ".dockerignore"))  # noqa: PTH118 - pathlib is slow
    else:
        rules = _locate(source, folder, dockerfile)
    source.pieces = pack_context(folder, rules)


def _locate(source: _Source, folder: str, dockerfile: str) -> IgnoreRules | None:
    """Find the Dockerfile and the rules that go with it; return the rules."""
    path = dockerfile or os.path.join(folder, "Dockerfile")  # noqa: PTH118 - pathlib is slow
    if not dockerfile and not os.path.lexists(path):
        lower = os.path.join(folder, "dockerfile")  # noqa: PTH118 - pathlib is slow
        path = lower if os.path.lexists(lower) else path
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib is slow
            content = file.read()
    except OSError as error:
        raise UsageError(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
            f"{path}: {error.strerror}",
            code=1,
            hint="name the Dockerfile with -f",
        ) from error
    rules = _rules(f"{path}.dockerignore")
    if rules is None:
        rules = _rules(os.path.join(folder, ".dockerignore"))  # noqa: PTH118 - pathlib is slow
    inside = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    outside = inside == os.pardir or inside.startswith(f"{os.pardir}/")
    if outside or os.path.islink(path) or (rules is not None and rules.ignores(inside)):  # noqa: PTH114 - pathlib is slow
        source.dockerfile_text = content
    else:
        source.dockerfile = inside
    return rules


def _rules(path: str) -> IgnoreRules | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib is slow
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code=1) from error
    from pannier.build.ignore import IgnoreRules

    return IgnoreRules(content)


def _body(
    source: _Source, secrets: dict[str, bytes], security: list[str]
) -> tuple[dict[str, str], Iterable[bytes]]:
    """Return the headers and the body: before the context what must not be in it."""
    if source.dockerfile_text is None and not secrets and not security:
        return {}, source.pieces
    import base64
    import json

    extras: dict[str, Any] = {
        "secrets": {name: base64.b64encode(data).decode() for name, data in secrets.items()},
        "security": security,
    }
    if source.dockerfile_text is not None:
        extras["dockerfile"] = base64.b64encode(source.dockerfile_text).decode()
    data = json.dumps(extras).encode()
    return {_EXTRAS: str(len(data))}, _chained(data, source.pieces)


# -- builder prune -------------------------------------------------------------------------------


def _prune(ctx: Context, values: Values) -> int:
    from pannier.cli.commands.prune import confirm, prune_cache
    from pannier.cli.readers import filters
    from pannier.cli.units import human_size

    whole = values.on("all")
    what = "all build cache" if whole else "all dangling build cache"
    if not confirm(values, f"WARNING! This will remove {what}.", " "):
        return 0
    query = {
        "all": whole or None,
        "filters": filters(values.many("filter")),
        "keep-storage": _size(values, "keep-storage"),
    }
    ctx.out(f"Total reclaimed space: {human_size(prune_cache(ctx, query))}")
    return 0


_FLAGS: list[Flag] = [
    many("--add-host", "Add a custom host-to-IP mapping (host:ip)"),
    many("--build-arg", "Set build-time variables"),
    many("--cache-from", "Images to consider as cache sources", metavar="strings"),
    text("--cgroup-parent", "Optional parent cgroup for the container"),
    flag("--compress", "Compress the build context (accepted; a local socket gains nothing)"),
    text("--cpu-period", "Limit the CPU CFS period", metavar="int"),
    text("--cpu-quota", "Limit the CPU CFS quota", metavar="int"),
    text("-c,--cpu-shares", "CPU shares (relative weight)", metavar="int"),
    text("--cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    text("--cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    flag("--disable-content-trust", "Accepted and ignored", default="true"),
    text("-f,--file", "Name of the Dockerfile (default is PATH/Dockerfile)", complete="file"),
    flag("--force-rm", "Always remove intermediate containers"),
    text("--iidfile", "Write the image ID to the file", complete="file"),
    text("--isolation", "Container isolation technology"),
    many("--label", "Set metadata for an image"),
    text("-m,--memory", "Memory limit", metavar="bytes"),
    text("--memory-swap", "Swap limit equal to memory plus swap: -1 for unlimited swap"),
    text("--network", "Set the networking mode for the RUN instructions", complete="network"),
    flag("--no-cache", "Do not use cache when building the image"),
    many("-o,--output", "Output destination (not supported)", metavar="output"),
    text("--platform", "Set platform if server is multi-platform capable"),
    text("--progress", "Set type of progress output (auto, plain, tree)", default="auto"),
    flag("--pull", "Always attempt to pull a newer version of the image"),
    flag("-q,--quiet", "Suppress the build output and print image ID on success"),
    flag("--rm", "Remove intermediate containers after a successful build", default="true"),
    many("--secret", "Secret to expose to the build (id=mysecret,src=/local/secret)"),
    many("--security-opt", "Security options", metavar="strings"),
    text("--shm-size", "Size of /dev/shm", metavar="bytes"),
    flag("--squash", "Squash newly built layers into a single new layer (not supported)"),
    many("--ssh", "SSH agent socket or keys to expose to the build (not supported)"),
    many("-t,--tag", "Name and optionally a tag in the 'name:tag' format"),
    text("--target", "Set the target build stage to build"),
    many("--ulimit", "Ulimit options", metavar="ulimit"),
]

BUILD = Command(
    "build",
    "Build an image from a Dockerfile",
    _build,
    flags=_FLAGS,
    args=[arg("PATH|URL|-", complete="file")],
    example="pannier build -t mine:latest .",
)
BUILDER_PRUNE = Command(
    "builder prune",
    "Remove build cache",
    _prune,
    flags=[
        flag("-a,--all", "Remove all unused build cache, not just dangling ones"),
        many("--filter", "Provide filter values (e.g. until=24h)", metavar="filter"),
        flag("-f,--force", "Do not prompt for confirmation"),
        text("--keep-storage", "Amount of disk space to keep for cache", metavar="bytes"),
    ],
    example="pannier builder prune -f",
)
