"""What a container is shown of its control groups, where its specification mounts ``cgroup``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pannier.drivers.runtime import CreateRequest

__all__ = ["ShownGroups", "shown_groups"]


@dataclass(frozen=True, slots=True)
class ShownGroups:
    """The container's own groups, each to be bound at its place.

    :param whole: of cgroup v2 alone: it is shown at the mount's destination itself.
    :param groups: otherwise, each by the name of its folder below the destination.
    :param links: symbolic links beside them: a controller's name, and the folder that it is in.
    """

    whole: Path | None = None
    groups: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def shown_groups(request: CreateRequest) -> ShownGroups:
    """Return the groups that a container is to see, of those that its processes enter."""
    groups: dict[str, Path] = {}
    links: dict[str, str] = {}
    for names, hierarchy in request.cgroup_mounts.items():
        group = _group_below(hierarchy, request)
        if group is None:
            continue
        folder = hierarchy.name if names else "unified"
        groups[folder] = group
        words = (word for word in names.split(",") if word and word != folder and "=" not in word)
        links.update(dict.fromkeys(words, folder))
    if len(groups) == 1 and (alone := _group_below(request.cgroup_mounts.get(""), request)):
        return ShownGroups(whole=alone)
    return ShownGroups(None, groups, links)


def _group_below(hierarchy: Path | None, request: CreateRequest) -> Path | None:
    for file in request.procs:
        if hierarchy is not None and file.is_relative_to(hierarchy):
            return file.parent
    return None
