"""The build context: a private folder, unpacked from what the client sends or a URL gives."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import stat
from typing import TYPE_CHECKING, BinaryIO

from pannier.build.ignore import IgnoreRules
from pannier.build.lexer import MAX_DOCKERFILE
from pannier.errors import InvalidRequest
from pannier.images.compression import open_stream
from pannier.images.unpack import unpack_layer
from pannier.linux.paths import open_in_root
from pannier.linux.trees import DIRECTORY, remove_tree

if TYPE_CHECKING:
    from pathlib import Path

    from pannier.images.compression import Limits

__all__ = ["Context", "Workspace"]

_MAX_IGNORE = 1 << 20


class Workspace:
    """The builder's folder: contexts of the builds under way, and the folders of cache mounts.

    What a killed process left of contexts goes when it is opened.

    :param state: a folder that is lost at reboot, for secrets.
    """

    def __init__(self, root: Path, state: Path) -> None:
        self._contexts = root / "contexts"
        self.mounts = root / "mounts"
        self.secrets = state / "build-secrets"
        for folder in (self._contexts, self.secrets):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (root, self._contexts, self.mounts):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self) -> Path:
        """Return a new folder for one build."""
        folder = self._contexts / secrets.token_hex(8)
        for path in (folder, folder / "context", folder / "scratch"):
            path.mkdir(mode=0o700)
        (folder / "context").chmod(0o755)
        return folder

    def end(self, folder: Path) -> None:
        """Remove a build's folder. Idempotent."""
        parent = os.open(self._contexts, DIRECTORY)
        try:
            remove_tree(os.fsencode(folder.name), parent)
        finally:
            os.close(parent)


class Context:
    """The files of one build.

    :param folder: of the workspace.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "context"
        self.scratch = folder / "scratch"
        self.descriptor = os.open(self.folder, DIRECTORY)

    def close(self) -> None:
        """Close the folder. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def unpack(self, stream: BinaryIO, limits: Limits) -> None:
        """Fill the folder from an archive, compressed or not.

        :raises ImageInvalid: it is broken or hostile.
        """
        plain, _ = open_stream(stream, limits)
        if not plain.peek(1):
            return  # a build without files: the Dockerfile came by itself
        unpack_layer(plain, self.descriptor, whiteouts="none")

    def read(self, path: str, limit: int = MAX_DOCKERFILE) -> bytes | None:
        """Return a small file of the context; None where it is not there.

        :raises InvalidRequest: it is too long.
        """
        try:
            # Not blocking: it may be a fifo.
            descriptor = open_in_root(self.descriptor, path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        with io.BufferedReader(io.FileIO(descriptor)) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InvalidRequest(
                f"{path} has more than {limit} bytes", hint="is it the right file?"
            )
        return data

    def dockerfile(self, path: str) -> bytes:
        """Return the Dockerfile, and take out of the context what the client sent only for us.

        The default name is looked for in lower case as well.

        :raises InvalidRequest: it is not there.
        """
        data = self.read(path)
        if data is None and path == "Dockerfile":
            data = self.read("dockerfile")
        if data is None:
            raise InvalidRequest(
                f"Cannot locate specified Dockerfile: {path}",
                hint="name it with -f; the path is relative to the context's folder",
            )
        self._remove_ignored(path)
        return data

    def _remove_ignored(self, dockerfile: str) -> None:
        """Remove what clients send whatever ``.dockerignore`` says, since the builder needs it."""
        name = f"{dockerfile}.dockerignore"
        ignore = self.read(name, _MAX_IGNORE)
        if ignore is None:
            name = ".dockerignore"
            ignore = self.read(name, _MAX_IGNORE)
        if ignore is None:
            return
        rules = IgnoreRules(ignore.decode("utf-8", "replace"))
        for path in (name, dockerfile):
            if rules.ignores(path.removeprefix("./")):
                with contextlib.suppress(OSError):
                    head, _, leaf = path.rpartition("/")
                    parent = open_in_root(self.descriptor, head or ".", os.O_PATH)
                    try:
                        os.unlink(leaf, dir_fd=parent)
                    finally:
                        os.close(parent)
