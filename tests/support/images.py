"""Makes image archives for tests, in pure Python: no engine and no network needed.

``busybox_archive()`` is the image that most tests run; the smaller builders below it make layers,
images and archives with whatever content (or damage) a test needs.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "BUSYBOX",
    "BuiltImage",
    "Entry",
    "busybox_archive",
    "busybox_image",
    "busybox_layer",
    "digest",
    "docker_archive",
    "image",
    "layer",
    "legacy_archive",
    "oci_archive",
    "tar",
]

BUSYBOX = Path("/usr/bin/busybox")
"""From Debian's package busybox-static."""

CREATED = "2024-05-18T10:20:30.123456789Z"

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
www-data:x:33:
operator:x:37:
users:x:100:operator,www-data
nobody:x:65534:
"""


def digest(data: bytes) -> str:
    """Return the digest of *data* in the OCI form."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One member of a tar archive.

    :param kind: ``file``, ``dir``, ``symlink``, ``hardlink``, ``fifo`` or ``char``.
    :param target: of a link.
    """

    name: str
    data: bytes = b""
    kind: str = "file"
    mode: int = 0o644
    target: str = ""
    uid: int = 0
    gid: int = 0
    mtime: int = 1_700_000_000
    pax: Mapping[str, str] = field(default_factory=dict)


_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "char": tarfile.CHRTYPE,
}


def tar(entries: Iterable[Entry]) -> bytes:
    """Return an uncompressed tar archive of *entries*, in their order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type = _TYPES[entry.kind]
            info.mode = entry.mode
            info.uid, info.gid, info.mtime = entry.uid, entry.gid, entry.mtime
            info.linkname = entry.target
            info.size = len(entry.data) if entry.kind == "file" else 0
            info.pax_headers = dict(entry.pax)
            archive.addfile(info, io.BytesIO(entry.data) if entry.kind == "file" else None)
    return out.getvalue()


def layer(files: Mapping[str, str | bytes | None]) -> bytes:
    """Return a layer: a path with text or bytes is a file, with None a folder."""
    entries = []
    for name, content in files.items():
        if content is None:
            entries.append(Entry(name, kind="dir", mode=0o755))
        else:
            data = content.encode() if isinstance(content, str) else content
            entries.append(Entry(name, data))
    return tar(entries)


@dataclass(frozen=True)
class BuiltImage:
    """An image in memory.

    :param config: the image configuration, as stored bytes.
    :param layers: uncompressed, bottom first.
    :param tags: familiar names, ``busybox:latest``.
    """

    config: bytes
    layers: tuple[bytes, ...]
    tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The image's id: the digest of its configuration."""
        return digest(self.config)


def image(
    layers: Sequence[bytes],
    *,
    tags: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    created: str = CREATED,
    **top: Any,
) -> BuiltImage:
    """Build an image; *config* is its ``config`` object, *top* further top-level fields."""
    document: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
        "history": [
            {"created": created, "created_by": f"/bin/sh -c #(nop) ADD layer {number} in / "}
            for number in range(len(layers))
        ],
    }
    document.update(top)
    return BuiltImage(json.dumps(document).encode(), tuple(layers), tuple(tags))


@functools.cache
def busybox_layer() -> bytes:
    """Return a small root filesystem: Debian's static busybox, and a link for each applet."""
    if not BUSYBOX.exists():
        raise FileNotFoundError(f"{BUSYBOX} is missing; install Debian's package busybox-static")
    listing = subprocess.run([str(BUSYBOX), "--list"], check=True, capture_output=True, text=True)
    applets = sorted(set(listing.stdout.split()) - {"busybox"})
    entries = [
        Entry("bin", kind="dir", mode=0o755),
        Entry("bin/busybox", BUSYBOX.read_bytes(), mode=0o755),
        *(Entry(f"bin/{name}", kind="symlink", mode=0o777, target="busybox") for name in applets),
        Entry("dev", kind="dir", mode=0o755),
        Entry("etc", kind="dir", mode=0o755),
        Entry("etc/group", _GROUP.encode()),
        Entry("etc/passwd", _PASSWD.encode()),
        Entry("home", kind="dir", mode=0o755, uid=65534, gid=65534),
        Entry("root", kind="dir", mode=0o700),
        Entry("tmp", kind="dir", mode=0o1777),
        Entry("usr", kind="dir", mode=0o755),
        Entry("usr/bin", kind="dir", mode=0o755),
        Entry("usr/bin/env", kind="symlink", mode=0o777, target="../../bin/env"),
        Entry("usr/sbin", kind="dir", mode=0o755),
        Entry("var", kind="dir", mode=0o755),
        Entry("var/www", kind="dir", mode=0o755, uid=33, gid=33),
    ]
    return tar(entries)


def busybox_image(
    *,
    tags: Sequence[str] = ("busybox:latest",),
    config: Mapping[str, Any] | None = None,
    more_layers: Sequence[bytes] = (),
) -> BuiltImage:
    """Return the busybox image; *config* is laid over its PATH and its ``sh`` command."""
    base = {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Cmd": ["sh"],
    }
    return image([busybox_layer(), *more_layers], tags=tags, config=base | dict(config or {}))


def busybox_archive(
    *,
    tags: Sequence[str] = ("busybox:latest",),
    config: Mapping[str, Any] | None = None,
    more_layers: Sequence[bytes] = (),
) -> bytes:
    """Return the busybox image as what ``docker save`` writes, for ``docker load``."""
    return docker_archive([busybox_image(tags=tags, config=config, more_layers=more_layers)])


def docker_archive(images: Sequence[BuiltImage], *, compress_layers: bool = False) -> bytes:
    """Return a docker-archive (manifest.json) of *images*, as Docker 1.10 to 24 write it."""
    entries: dict[str, Entry] = {}
    manifest = []
    for built in images:
        config_name = built.id.removeprefix("sha256:") + ".json"
        entries[config_name] = Entry(config_name, built.config)
        names = []
        for data in built.layers:
            folder = hashlib.sha256(data).hexdigest()
            name = f"{folder}/layer.tar"
            entries[folder] = Entry(folder, kind="dir", mode=0o755)
            stored = gzip.compress(data, 1, mtime=0) if compress_layers else data
            entries[name] = Entry(name, stored)
            names.append(name)
        manifest.append(
            {"Config": config_name, "RepoTags": list(built.tags) or None, "Layers": names}
        )
    entries["manifest.json"] = Entry("manifest.json", json.dumps(manifest).encode())
    return tar(entries.values())


def legacy_archive(images: Sequence[BuiltImage]) -> bytes:
    """Return an archive as Docker before 1.10 wrote it: ``repositories`` and layer folders."""
    entries: dict[str, Entry] = {}
    repositories: dict[str, dict[str, str]] = {}
    for built in images:
        parent = None
        document = json.loads(built.config)
        for number, data in enumerate(built.layers):
            top = number == len(built.layers) - 1
            seed = f"{parent} {digest(data)} {built.id if top else ''}"
            name = hashlib.sha256(seed.encode()).hexdigest()
            v1: dict[str, Any] = {"id": name, "created": document["created"], "os": "linux"}
            if parent is not None:
                v1["parent"] = parent
            if top:
                v1 |= {"architecture": document["architecture"], "config": document["config"]}
            entries[f"{name}/VERSION"] = Entry(f"{name}/VERSION", b"1.0")
            entries[f"{name}/json"] = Entry(f"{name}/json", json.dumps(v1).encode())
            entries[f"{name}/layer.tar"] = Entry(f"{name}/layer.tar", data)
            parent = name
        for tag in built.tags:
            repository, _, label = tag.rpartition(":")
            assert parent is not None
            repositories.setdefault(repository, {})[label] = parent
    entries["repositories"] = Entry("repositories", json.dumps(repositories).encode())
    return tar(entries.values())


def oci_archive(images: Sequence[BuiltImage], *, compress: str = "gzip") -> bytes:
    """Return an OCI image layout as a tar archive; *compress* is ``gzip`` or ``none``."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> dict[str, Any]:
        blobs[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}

    index: list[dict[str, Any]] = []
    media = "application/vnd.oci.image."
    for built in images:
        layers = []
        for data in built.layers:
            stored = gzip.compress(data, 1, mtime=0) if compress == "gzip" else data
            kind = "layer.v1.tar+gzip" if compress == "gzip" else "layer.v1.tar"
            layers.append({"mediaType": media + kind, **put(stored)})
        manifest = {
            "schemaVersion": 2,
            "mediaType": media + "manifest.v1+json",
            "config": {"mediaType": media + "config.v1+json", **put(built.config)},
            "layers": layers,
        }
        descriptor = {
            "mediaType": media + "manifest.v1+json",
            **put(json.dumps(manifest).encode()),
        }
        for tag in built.tags or (None,):
            annotations = {} if tag is None else {"org.opencontainers.image.ref.name": tag}
            index.append({**descriptor, "annotations": annotations} if annotations else descriptor)
    document = {"schemaVersion": 2, "mediaType": media + "index.v1+json", "manifests": index}
    return tar(
        [
            Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            Entry("index.json", json.dumps(document).encode()),
            Entry("blobs", kind="dir", mode=0o755),
            Entry("blobs/sha256", kind="dir", mode=0o755),
            *(Entry(f"blobs/{key.replace(':', '/')}", data) for key, data in blobs.items()),
        ]
    )
