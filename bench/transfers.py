"""Pull, push, save and load of a large image."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from large import LARGE, LargeImage, Registry, peak_memory, reset_peak

if TYPE_CHECKING:
    from engines import Engine

__all__ = ["load", "pull", "push", "push_loaded", "save"]

_TARGET = "localhost:5556/bench/large:1"
_FOLDER = Path(os.environ.get("PANNIER_BENCH_IMAGES", tempfile.gettempdir())) / "pannier-bench"
_PLAIN = ("--tls-verify=false",)


def _image() -> LargeImage:
    return LargeImage(_FOLDER)


def _registries(engine: Engine) -> tuple[Registry, Registry]:
    """Return the registry to pull from and the one to push to, started when first needed."""
    if not engine.registries:
        image = _image()
        source = Registry(engine.inside(), engine.folder, image.store, 5555)
        image.fill(source)
        target = Registry(engine.inside(), engine.folder, engine.folder / "target", 5556)
        engine.registries = [source, target]
    source, target = engine.registries
    return source, target


def _plain(engine: Engine) -> tuple[str, ...]:
    """Return the flags for plain HTTP on loopback, where an engine wants them."""
    return _PLAIN if engine.name == "podman" else ()


def _forget(engine: Engine) -> None:
    found = set(engine.run("images", "-q", "--no-trunc", LARGE).split())
    if found:
        engine.run("rmi", "-f", *found)
    os.sync()


def _here(engine: Engine) -> None:
    """See that the engine has the image."""
    if not engine.run("images", "-q", LARGE):
        _registries(engine)
        engine.run("pull", *_plain(engine), LARGE)
    os.sync()


def _timed(engine: Engine, *arguments: str) -> float:
    begin = time.perf_counter()
    done = subprocess.run(
        engine.command(*arguments), env=engine.environment(), capture_output=True, check=False
    )
    took = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{engine.name} {arguments}: {done.stderr.decode()}")
    return took


def pull(engine: Engine) -> dict[str, float]:
    """Pull the image, which is not there; measure the daemon's memory, too."""
    _registries(engine)
    _forget(engine)
    if engine.daemon is not None:
        reset_peak(engine.daemon.pid)
    figures = {"": _timed(engine, "pull", *_plain(engine), LARGE)}
    if engine.daemon is not None:
        figures["peak"] = peak_memory(engine.daemon.pid)
    return figures


def push(engine: Engine) -> dict[str, float]:
    """Push the image that was pulled, to another registry, which is empty."""
    _here(engine)
    _, target = _registries(engine)
    target.empty()
    engine.run("tag", LARGE, _TARGET)
    try:
        return {"": _timed(engine, "push", *_plain(engine), _TARGET)}
    finally:
        engine.run("rmi", _TARGET)


def push_loaded(engine: Engine) -> dict[str, float]:
    """Push the image that came out of an archive: nobody has it compressed."""
    _registries(engine)
    _forget(engine)
    engine.run("load", "-i", str(_image().archive))
    os.sync()
    figures = push(engine)
    _forget(engine)
    return figures


def save(engine: Engine) -> dict[str, float]:
    """Save the image into a file."""
    _here(engine)
    target = engine.folder / "saved.tar"
    target.unlink(missing_ok=True)
    try:
        return {"": _timed(engine, "save", "-o", str(target), LARGE)}
    finally:
        target.unlink(missing_ok=True)


def load(engine: Engine) -> dict[str, float]:
    """Load the image from an archive of plain layers, as Docker writes it."""
    _forget(engine)
    return {"": _timed(engine, "load", "-i", str(_image().archive))}
