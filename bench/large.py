"""The large image of the transfer benchmarks, and a registry for each engine to find it in.

About 512 MB in 16,000 files and two layers: a Debian minbase and a Python tree. Debian's
``debootstrap``, ``skopeo`` and ``docker-registry`` make and serve it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

__all__ = ["LARGE", "LargeImage", "Registry", "peak_memory", "reset_peak"]

LARGE = "localhost:5555/bench/large:1"
"""The image in the registry that it is pulled from."""

_BASE = os.environ.get("PANNIER_BENCH_BASE", "")
_TREE = os.environ.get("PANNIER_BENCH_TREE", sys.base_prefix)
_START_SECONDS = 20


class LargeImage:
    """Makes the image once: as an archive, and in a registry's folder.

    The environment may name a ready minbase (PANNIER_BENCH_BASE), and another tree for the second
    layer than this Python's own (PANNIER_BENCH_TREE).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "large.tar"
        self.store = folder / "store"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.archive.exists():
            self._make()

    def _make(self) -> None:
        base = Path(_BASE) if _BASE else self.folder / "base"
        if not base.exists():
            words = ["debootstrap", "--variant=minbase", "stable", str(base)]
            subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        layers = [self.folder / "base.layer", self.folder / "tree.layer"]
        subprocess.run(["tar", "-C", str(base), "-cf", str(layers[0]), "."], check=True)
        tree = Path(_TREE)
        subprocess.run(
            [
                *(
                    "tar",
                    "-C",
                    str(tree.parent),
                    "--transform",
                    f"flags=r;s,^{tree.name},opt/tree,",
                ),
                *("-cf", str(layers[1]), tree.name),
            ],
            check=True,
        )
        digests = []
        for layer in layers:
            with layer.open("rb") as stream:
                digests.append(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["bash"]},
            "rootfs": {"type": "layers", "diff_ids": digests},
        }
        manifest = [
            {"Config": "config.json", "RepoTags": [LARGE], "Layers": [one.name for one in layers]}
        ]
        staged = self.archive.with_suffix(".new")
        with tarfile.open(staged, "w") as archive:
            for name, document in (("config.json", config), ("manifest.json", manifest)):
                data = json.dumps(document).encode()
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
            for layer in layers:
                archive.add(layer, layer.name)
        staged.rename(self.archive)
        for layer in layers:
            layer.unlink()

    def fill(self, registry: Registry) -> None:
        """Put the image into a registry, compressed as skopeo does it."""
        mark = self.store / "filled"
        if not mark.exists():
            subprocess.run(
                [
                    *(*registry.inside, "skopeo", "--insecure-policy", "copy", "--quiet"),
                    *("--dest-tls-verify=false", f"docker-archive:{self.archive}"),
                    f"docker://{LARGE}",
                ],
                check=True,
            )
            mark.touch()


class Registry:
    """docker-registry in an engine's network namespace.

    :param inside: the words that put a command into that namespace.
    :param folder: the engine's, for the registry's configuration.
    :param port: on loopback there.
    """

    def __init__(self, inside: list[str], folder: Path, data: Path, port: int) -> None:
        self.inside = inside
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        config = folder / f"registry-{port}.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage:\n  filesystem: {{rootdirectory: {data}, maxthreads: 100}}\n"
            f"http: {{addr: '127.0.0.1:{port}', secret: none}}\n"
        )
        self._process = subprocess.Popen(
            [*self.inside, "docker-registry", "serve", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_SECONDS
        probe = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        while subprocess.run(
            [*self.inside, sys.executable, "-c", probe], check=False, capture_output=True
        ).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError("docker-registry does not start")
            time.sleep(0.05)

    def empty(self) -> None:
        """Forget everything; there is no cache."""
        shutil.rmtree(self.data / "docker", ignore_errors=True)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


def reset_peak(pid: int) -> None:
    """Begin to measure a process's peak memory anew (proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_memory(pid: int) -> float:
    """Return the most memory, in bytes, that a process had in RAM at once."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    return 0.0
