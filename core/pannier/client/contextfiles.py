"""Changes docker's contexts: makes one, replaces one, removes one, and packs one up to move it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tarfile
import zipfile
import zlib

from pannier.client.contexts import DEFAULT, Contexts
from pannier.errors import Conflict, InvalidRequest, PannierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

__all__ = ["ContextFiles"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")
_FILE = re.compile(r"tls/docker/([a-zA-Z0-9][a-zA-Z0-9_.-]*)")
_PADDING = 3 * tarfile.BLOCKSIZE
_UNREADABLE = (
    # The last three: of a zip that is damaged, or packed with a password or in another way.
    *(tarfile.TarError, zipfile.BadZipFile, EOFError),
    *(ValueError, zlib.error, RuntimeError),
)
_LIMIT = 10 << 20
"""Bytes of an archive, and of what is in it."""


class ContextFiles(Contexts):
    """The contexts of one user, to be changed."""

    def check_new(self, name: str) -> None:
        """Check that a context of this name can be made.

        :raises InvalidRequest: it is no such name.
        :raises Conflict: there is one already.
        """
        check_name(name)
        if self.meta_folder(name).exists():
            raise Conflict(
                f'context "{name}" already exists', hint="`pannier context update` changes it"
            )

    def certificates(self, name: str) -> dict[str, bytes]:
        """Return a context's certificates and keys, by the names of their files."""
        folder = self.tls_folder(name) / "docker"
        return {one: (folder / one).read_bytes() for one in self.tls_names(name)}

    def save(self, name: str, document: dict[str, Any], certificates: dict[str, bytes]) -> None:
        """Make a context, or replace it.

        The keys are there before anything says that there is a context, readable to their owner.

        :raises InvalidRequest: the name is none.
        :raises PannierError: the files cannot be written.
        """
        check_name(name)
        with self._writing():
            tls, meta = self.tls_folder(name), self.meta_folder(name)
            staged = self._stage(certificates)
            shutil.rmtree(tls, ignore_errors=True)
            if certificates:
                tls.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                staged.rename(tls)
            meta.mkdir(parents=True, exist_ok=True)
            named = {"Name": name} | document | {"Name": name}
            text = json.dumps(named, separators=(",", ":"), ensure_ascii=False)
            _replace(meta / "meta.json", text, 0o644)

    def _stage(self, certificates: dict[str, bytes]) -> Path:
        """Write certificates to a folder beside their place; without any there is none."""
        staged = self._folder / f"contexts/.tls.{os.getpid()}"
        shutil.rmtree(staged, ignore_errors=True)
        if certificates:
            folder = staged / "docker"
            folder.mkdir(mode=0o700, parents=True)
            staged.chmod(0o700)
            for file, data in certificates.items():
                (folder / file).touch(mode=0o600)
                (folder / file).write_bytes(data)
        return staged

    def remove(self, name: str) -> None:
        """Remove a context. What the current one was is the default from then on.

        :raises PannierError: the files cannot be removed.
        """
        if self.current() == name:
            self.use(DEFAULT)
        with self._writing(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.meta_folder(name))
            shutil.rmtree(self.tls_folder(name))

    def use(self, name: str) -> None:
        """Make a context the current one. All else in the file stays.

        :raises NotFound: there is none of that name.
        :raises PannierError: the file cannot be read, or written.
        """
        if name != DEFAULT:
            self.document(name)
        path = self._folder / "config.json"
        with self._writing():
            settings = json.loads(path.read_bytes()) if path.exists() else {}
            settings = {key: settings[key] for key in settings if key != "currentContext"}
            if name != DEFAULT:
                settings["currentContext"] = name
            # It may hold passwords: only its owner may read it, from its first byte on.
            _replace(path, json.dumps(settings, indent="\t"), 0o600)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield
        except (OSError, ValueError, TypeError) as error:
            raise PannierError(
                f"{self._folder} cannot be changed: {error}", hint="mend what is in it, or its mode"
            ) from error

    # Moving one elsewhere.

    def pack(self, name: str) -> bytes:
        """Return a context as a tar archive, its keys included, as docker writes it.

        :raises NotFound: there is none of that name.
        """
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            text = json.dumps(self.document(name), separators=(",", ":"), ensure_ascii=False)
            _add(archive, "meta.json", text.encode(), 0o644)
            found = self.certificates(name)
            for folder in ("tls", "tls/docker") if found else ():
                member = tarfile.TarInfo(folder)
                member.type, member.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(member)
            for file, data in found.items():
                _add(archive, f"tls/docker/{file}", data, 0o600)
        return made.getvalue()

    def unpack(self, name: str, data: bytes) -> None:
        """Make a context of what :meth:`pack` or docker have packed, tar or zip.

        :raises InvalidRequest: it is no such archive, or has something else in it.
        """
        try:
            members = dict(_members(data))
        except _UNREADABLE as error:
            raise InvalidRequest(f"this is no packed context: {error}") from error
        try:
            document = json.loads(members.pop("meta.json", b""))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("this is no packed context: it has no meta.json") from error
        if not isinstance(document, dict) or "docker" not in (document.get("Endpoints") or {}):
            raise InvalidRequest("this is no packed context: its meta.json has no docker endpoint")
        certificates = {}
        for path, content in members.items():
            match = _FILE.fullmatch(path)
            if match is None:
                raise InvalidRequest(f"{path!r} has no business in a packed context")
            certificates[match[1]] = content
        self.save(name, document, certificates)


def check_name(name: str) -> None:
    """Check a name that a context is to have.

    :raises InvalidRequest: it is the default's, or malformed.
    """
    if name == DEFAULT:
        raise InvalidRequest(f'"{DEFAULT}" is a reserved context name')
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f'context name "{name}" is invalid, names are validated against regexp '
            f'"^{_NAME.pattern}$"'
        )


def _replace(path: Path, text: str, mode: int) -> None:
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    staged.touch(mode=mode)
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the files of an archive.

    :raises InvalidRequest: it is larger than any context.
    """
    left = _LIMIT
    if len(data) > left:
        raise InvalidRequest("this is no packed context: it is too large")
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            for info in packed.infolist():
                left -= info.file_size
                if left < 0:
                    raise InvalidRequest("this is no packed context: it is too large")
                if not info.is_dir():
                    yield info.filename, packed.read(info)
        return
    # docker leaves out what fills the last block, and the blocks of zeros behind it.
    with tarfile.open(fileobj=io.BytesIO(data + bytes(_PADDING)), mode="r:") as archive:
        for member in archive:
            left -= member.size  # what a sparse file makes of a few bytes counts, too
            if left < 0:
                raise InvalidRequest("this is no packed context: it is too large")
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()
            elif not member.isdir():
                raise InvalidRequest(f"{member.name!r} has no business in a packed context")
