"""Warnings and errors, on stderr and in the file of ``--log``, in the form of other runtimes."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pannier.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["set_up"]


class _Json(logging.Formatter):
    """An object a line, as engines look for it."""

    def format(self, record: logging.LogRecord) -> str:
        message = {
            "level": record.levelname.lower(),
            "msg": super().format(record),
            "time": _time(record),
        }
        return json.dumps(message)


class _Text(logging.Formatter):
    """``time="…" level=error msg="…"``, a line each."""

    def format(self, record: logging.LogRecord) -> str:
        message = json.dumps(super().format(record), ensure_ascii=False)
        return f'time="{_time(record)}" level={record.levelname.lower()} msg={message}'


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def set_up(path: Path | None, form: str, *, debug: bool) -> None:
    """Write messages to stderr, and to a file where one is given.

    :param form: of the file's lines: ``text`` or ``json``.
    :raises InvalidRequest: the file cannot be written.
    """
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if debug else logging.WARNING)
    root.handlers.clear()
    stream = logging.StreamHandler()
    stream.setFormatter(logging.Formatter("pannier-runtime: %(message)s"))
    root.addHandler(stream)
    if path is None:
        return
    try:
        file = logging.FileHandler(path)
    except OSError as error:
        raise InvalidRequest(f"the log {path}: {error.strerror}") from error
    file.setFormatter(_Json() if form == "json" else _Text())
    root.addHandler(file)
