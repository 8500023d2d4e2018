"""Contexts from elsewhere: Git repositories, archives and single Dockerfiles. It blocks."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from pannier.build.fetching import fetch, is_url
from pannier.errors import InvalidRequest, PannierError, UnsupportedOperation
from pannier.images.compression import Compression, detect
from pannier.images.tar_headers import BLOCK, checksum_ok

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.build.context import Context
    from pannier.images.compression import Limits

__all__ = ["fetch_context", "is_git", "split_git"]

_GIT: Final = re.compile(
    r"(?:git://|git@[^:/]+:|github\.com/|ssh://)|https?://[^#]+\.git(?:#.*)?$", re.IGNORECASE
)
_TIMEOUT: Final = 600
_LIMIT: Final = 1 << 30


def is_git(url: str) -> bool:
    """Whether a URL names a Git repository."""
    return _GIT.match(url) is not None


def split_git(url: str) -> tuple[str, str, str]:
    """Return a repository, a ref and a folder of ``URL#ref:folder``.

    :raises InvalidRequest: a part begins like an option, or the folder leads out.
    """
    repository, _, fragment = url.partition("#")
    ref, _, folder = fragment.partition(":")
    if repository.lower().startswith("github.com/"):
        repository = f"https://{repository}"
    if ref.startswith("-") or repository.startswith("-"):
        raise InvalidRequest(f"invalid Git context {url[:200]!r}")
    if folder.startswith("/") or ".." in folder.split("/"):
        raise InvalidRequest(f"the folder {folder[:200]!r} leads out of the repository")
    return repository, ref, folder


def fetch_context(url: str, context: Context, limits: Limits) -> bytes | None:
    """Fill a context; return the Dockerfile where the URL gave nothing else.

    :raises UnsupportedOperation: Git is not installed.
    :raises InvalidRequest: it is no URL.
    """
    if is_git(url):
        _clone(url, context)
        return None
    if not is_url(url):
        raise InvalidRequest(
            f"unable to prepare context: {url[:200]!r} is no URL",
            hint="write https://… or name.git",
        )
    data = fetch(url, limit=_LIMIT).data
    head = data[:BLOCK]
    plain_tar = len(head) == BLOCK and checksum_ok(head, head[148:156])
    if plain_tar or detect(data[:6]) is not Compression.PLAIN:
        context.unpack(io.BytesIO(data), limits)
        return None
    return data


def _clone(url: str, context: Context) -> None:
    if shutil.which("git") is None:
        raise UnsupportedOperation(
            "a Git context needs git, which is not installed beside the daemon",
            hint="install git, or clone the repository and build in its folder",
        )
    repository, ref, folder = split_git(url)
    target = context.scratch / "git"
    target.mkdir()
    _git(target, "init", "--quiet")
    _git(target, "fetch", "--quiet", "--depth", "1", "--", repository, ref or "HEAD")
    _git(target, "-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD")
    _git(target, "submodule", "update", "--quiet", "--init", "--recursive", "--depth", "1")
    shutil.rmtree(target / ".git", ignore_errors=True)
    source = target / folder
    if source.is_symlink() or not source.is_dir():
        raise InvalidRequest(f"there is no folder {folder!r} in {repository}")
    for entry in os.listdir(source):  # noqa: PTH208 - names as they are
        (source / entry).rename(context.folder / entry)


def _git(folder: Path, *words: str) -> None:
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        # No transport that runs a program, or reads files of this host.
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PannierError(f"git {words[0]} took longer than {_TIMEOUT} seconds") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise PannierError(
            f"unable to prepare context: git {words[0]} failed: {said[-500:]}",
            hint="the URL is like https://host/repository.git#ref:folder",
        )
