"""Calls about images: in and out of archives, of registries and of builds."""

from __future__ import annotations

from support.asking import Ask, filters
from support.images import Entry, busybox_archive, docker_archive, image, layer, tar

__all__ = ["IMAGES"]

_CONTEXT = tar([Entry("Dockerfile", b"FROM busybox\nRUN echo 1 > /said\nLABEL a=b\n")])
_OTHER = docker_archive([image([layer({"f": "x" * 4096})], tags=["other:1"])])
_ROOT = layer({"g": "y"})


IMAGES = (
    Ask("image load", "POST", "/images/load", busybox_archive()),
    Ask("image load of another", "POST", "/images/load?quiet=1", _OTHER),
    Ask("image load of nonsense", "POST", "/images/load", b"nonsense"),
    Ask("image import", "POST", "/images/create?fromSrc=-&repo=imported&tag=1", _ROOT),
    Ask("image list", "GET", "/images/json"),
    Ask("image list of all", "GET", "/images/json?all=1&digests=1"),
    Ask("image list by a wrong filter", "GET", f"/images/json?filters={filters(nonsense='1')}"),
    Ask("image inspect", "GET", "/images/busybox/json"),
    Ask("image inspect of none", "GET", "/images/nothing/json"),
    Ask("image history", "GET", "/images/busybox/history"),
    Ask("image history of none", "GET", "/images/nothing/history"),
    Ask("image tag", "POST", "/images/busybox/tag?repo=tagged&tag=1"),
    Ask("image tag of none", "POST", "/images/nothing/tag?repo=tagged&tag=1"),
    Ask("image tag with a wrong name", "POST", "/images/busybox/tag?repo=WRONG&tag=1"),
    Ask("image untag", "DELETE", "/images/tagged:1"),
    Ask("image save", "GET", "/images/busybox/get"),
    Ask("image save of some", "GET", "/images/get?names=busybox&names=other:1"),
    Ask("image save of none", "GET", "/images/nothing/get"),
    Ask("image pull from nowhere", "POST", "/images/create?fromImage=127.0.0.1:9/none&tag=1"),
    Ask("image push of none", "POST", "/images/127.0.0.1:9/nothing/push?tag=1"),
    Ask("distribution from nowhere", "GET", "/distribution/127.0.0.1:9/none/json"),
    Ask("auth at nowhere", "POST", "/auth", {"username": "a", "serveraddress": "127.0.0.1:9"}),
    Ask("build", "POST", "/build?t=built:1", _CONTEXT),
    Ask("build from a cache", "POST", "/build?t=built:2", _CONTEXT),
    Ask("build quietly", "POST", "/build?q=1", _CONTEXT),
    Ask("build of nonsense", "POST", "/build", tar([Entry("Dockerfile", b"NONSENSE\n")])),
    Ask(
        "build that fails",
        "POST",
        "/build",
        tar([Entry("Dockerfile", b"FROM busybox\nRUN exit 3\n")]),
    ),
    Ask("image list of what was built", "GET", "/images/json?all=1"),
    Ask("image inspect of what was built", "GET", "/images/built:1/json"),
    Ask("image history of what was built", "GET", "/images/built:1/history"),
)
