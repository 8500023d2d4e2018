"""Hooks that run in the runtime's own namespaces."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from pannier.errors import DriverError
from pannier_runtime_native.composing import hook_jobs
from pannier_runtime_native.hooks import HookError, run_hook

if TYPE_CHECKING:
    from pannier.drivers import oci
    from pannier_runtime_native.messages import HookJob

__all__ = ["run_hooks", "run_last_hooks"]

_log = logging.getLogger(__name__)


def run_hooks(kind: str, spec: oci.Spec, state: dict[str, object]) -> None:
    """Run the hooks of one point of the life cycle, in order.

    :raises DriverError: one has failed; those behind it are not run.
    """
    text = json.dumps(state).encode()
    for job in _jobs(kind, spec):
        try:
            run_hook(kind, job, text)
        except HookError as error:
            raise DriverError(str(error)) from error


def run_last_hooks(spec: oci.Spec, state: dict[str, object]) -> None:
    """Run the poststop hooks; one that fails is a warning, and the others still run."""
    text = json.dumps(state | {"status": "stopped", "pid": 0}).encode()
    for job in _jobs("poststop", spec):
        try:
            run_hook("poststop", job, text)
        except HookError as error:
            _log.warning("%s", error)


def _jobs(kind: str, spec: oci.Spec) -> list[HookJob]:
    hooks: dict[str, list[oci.Hook]] = dict(spec.get("hooks") or {})  # type: ignore[arg-type]
    return hook_jobs(kind, hooks.get(kind) or ())
