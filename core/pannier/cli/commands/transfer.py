"""``pannier load``, ``save``, ``import``, ``export`` and ``commit``."""

from __future__ import annotations

import os
import stat

from pannier.cli.command import Command, UsageError, arg, flag, many, text
from pannier.cli.creating import container_path
from pannier.cli.files import open_input, write_output
from pannier.cli.progress import show_progress
from pannier.cli.references import split_reference
from pannier.client.api import read_pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pannier.cli.command import Values
    from pannier.cli.context import Context

__all__ = ["COMMIT", "EXPORT", "IMPORT", "LOAD", "SAVE"]


def _upload(descriptor: int) -> Iterable[bytes] | int:
    """Return what to upload: a regular file goes through the kernel, a pipe in pieces."""
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    return descriptor if regular else read_pieces(descriptor)


def _load(ctx: Context, values: Values) -> int:
    descriptor = open_input(values.text("input"))
    query = {
        "quiet": values.on("quiet") or not os.isatty(1),
        "platform": values.text("platform") or None,
    }
    answer = ctx.client.request("POST", "/images/load", query=query, upload=_upload(descriptor))
    show_progress(answer.objects(), quiet=values.on("quiet"))
    return 0


def _save(ctx: Context, values: Values) -> int:
    output = values.text("output")
    query = {"names": values.args, "platform": values.text("platform") or None}
    if not output and os.isatty(1):
        # Before anything is asked of the daemon.
        write_output("", ())
    answer = ctx.client.request("GET", "/images/get", query=query)
    write_output(output, answer.chunks())
    return 0


def _import(ctx: Context, values: Values) -> int:
    source = values.args[0]
    repository, tag = split_reference(values.args[1]) if len(values.args) > 1 else ("", "")
    query = {
        "fromSrc": "-",
        "repo": repository or None,
        "tag": tag or None,
        "message": values.text("message") or None,
        "changes": values.many("change") or None,
        "platform": values.text("platform") or None,
    }
    if source.startswith(("http://", "https://")):
        query["fromSrc"] = source
        answer = ctx.client.request("POST", "/images/create", query=query)
    else:
        upload = _upload(open_input(source))
        answer = ctx.client.request("POST", "/images/create", query=query, upload=upload)
    show_progress(answer.objects())
    return 0


def _export(ctx: Context, values: Values) -> int:
    output = values.text("output")
    if not output and os.isatty(1):
        write_output("", ())
    answer = ctx.client.request("GET", f"{container_path(values.args[0])}/export")
    write_output(output, answer.chunks())
    return 0


def _commit(ctx: Context, values: Values) -> int:
    repository, tag = split_reference(values.args[1]) if len(values.args) > 1 else ("", "")
    if "@" in repository:
        raise UsageError("refusing to create a tag with a digest reference", code=1)
    query = {
        "container": values.args[0],
        "repo": repository or None,
        "tag": tag or None,
        "comment": values.text("message") or None,
        "author": values.text("author") or None,
        "changes": values.many("change") or None,
        "pause": values.on("pause"),
    }
    ctx.out(str(ctx.client.post("/commit", query, {})["Id"]))
    return 0


LOAD = Command(
    "load",
    "Load an image from a tar archive or STDIN",
    _load,
    flags=[
        text("-i,--input", "Read from tar archive file, instead of STDIN", complete="file"),
        text("--platform", "Load only the given platform variant"),
        flag("-q,--quiet", "Suppress the load output"),
    ],
    example="pannier load -i busybox.tar",
)
SAVE = Command(
    "save",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    _save,
    flags=[
        text("-o,--output", "Write to a file, instead of STDOUT", complete="file"),
        text("--platform", "Save only the given platform variant"),
    ],
    args=[arg("IMAGE", most=None, complete="image")],
    example="pannier save -o busybox.tar busybox:latest",
)
IMPORT = Command(
    "import",
    "Import the contents from a tarball to create a filesystem image",
    _import,
    flags=[
        many("-c,--change", "Apply Dockerfile instruction to the created image"),
        text("-m,--message", "Set commit message for imported image"),
        text("--platform", "Set platform if server is multi-platform capable"),
    ],
    args=[arg("file|URL|-", complete="file"), arg("REPOSITORY[:TAG]", least=0)],
    example="tar -C rootfs -c . | pannier import -c 'CMD [\"sh\"]' - mine:latest",
)
EXPORT = Command(
    "export",
    "Export a container's filesystem as a tar archive",
    _export,
    flags=[text("-o,--output", "Write to a file, instead of STDOUT", complete="file")],
    args=[arg("CONTAINER", complete="container")],
    example="pannier export -o rootfs.tar web",
)
COMMIT = Command(
    "commit",
    "Create a new image from a container's changes",
    _commit,
    flags=[
        text("-a,--author", 'Author (e.g., "Jo Doe <jo@example.org>")'),
        many("-c,--change", "Apply Dockerfile instruction to the created image"),
        text("-m,--message", "Commit message"),
        flag("-p,--pause", "Pause container during commit", default="true"),
    ],
    args=[arg("CONTAINER", complete="container"), arg("REPOSITORY[:TAG]", least=0)],
    example="pannier commit -m 'with configuration' web mine:1",
)
