"""``pannier-runtime``: the native runtime behind the command line of OCI runtimes.

A program of its own, neither core nor driver: like the daemon it composes drivers (the resource
drivers that are installed) with the set-up code of the native runtime, and like a driver it has no
part in the engine. Nothing imports it.
"""

from __future__ import annotations

__all__: list[str] = []
