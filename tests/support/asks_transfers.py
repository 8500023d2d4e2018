"""Calls about registries: log-ins, pushes, pulls and searches, and about images with labels."""

from __future__ import annotations

from support.asking import LOGIN, OPEN, PRIVATE, SEARCHED, WRONG_LOGIN, Ask, filters
from support.images import docker_archive, image, layer

__all__ = ["TRANSFERS"]

_OURS = f"{OPEN}/jo/image"
_THEIRS = f"{PRIVATE}/jo/image"
_LABELLED = docker_archive(
    [
        image(
            [layer({"f": "x"}), layer({"g": "y"})],
            tags=[f"{_OURS}:1", f"{_OURS}:2"],
            config={"Labels": {"label": "here"}, "Cmd": ["/f"]},
        )
    ]
)

_SHOWN = docker_archive([image([layer({"h": "x" * 4096})], tags=["shown:1"])])

TRANSFERS = (
    Ask("image load of two names", "POST", "/images/load", _LABELLED),
    Ask("image load with progress", "POST", "/images/load?quiet=0", _SHOWN),
    Ask("image tag of one with labels", "POST", f"/images/{_OURS}:1/tag?repo={_THEIRS}&tag=1"),
    Ask("image save of one with labels", "GET", f"/images/{_OURS}:1/get"),
    Ask("image save of one by two names", "GET", f"/images/get?names={_OURS}:1&names={_OURS}:2"),
    Ask(
        "image import with labels",
        "POST",
        "/images/create?fromSrc=-&repo=imported&tag=2&changes=LABEL%20label%3Dgiven",
        layer({"h": "z"}),
    ),
    Ask("image import without a name", "POST", "/images/create?fromSrc=-", layer({"h": "?"})),
    Ask("image import of nonsense", "POST", "/images/create?fromSrc=-", b"nonsense"),
    # Log-ins.
    Ask("auth", "POST", "/auth", LOGIN),
    Ask("auth with a wrong password", "POST", "/auth", WRONG_LOGIN),
    Ask("auth where none is needed", "POST", "/auth", LOGIN | {"serveraddress": OPEN}),
    Ask("auth without a word", "POST", "/auth", {"serveraddress": PRIVATE}),
    Ask("auth of nonsense", "POST", "/auth", b"nonsense"),
    # Pushes.
    Ask("push", "POST", f"/images/{_OURS}/push?tag=1"),
    Ask("push once more", "POST", f"/images/{_OURS}/push?tag=1"),
    Ask("push of all tags", "POST", f"/images/{_OURS}/push"),
    Ask("push of a tag that is none", "POST", f"/images/{_OURS}/push?tag=none"),
    Ask("push of no image", "POST", f"/images/{OPEN}/nothing/push"),
    Ask("push without a log-in", "POST", f"/images/{_THEIRS}/push?tag=1"),
    Ask("push with a wrong log-in", "POST", f"/images/{_THEIRS}/push?tag=1", auth=WRONG_LOGIN),
    Ask("push with a log-in", "POST", f"/images/{_THEIRS}/push?tag=1", auth=LOGIN),
    Ask(
        "distribution",
        "GET",
        f"/distribution/{_OURS}:1/json",
        keep="digest",
        kept="Descriptor.digest",
    ),
    Ask("distribution without a log-in", "GET", f"/distribution/{_THEIRS}:1/json"),
    Ask("distribution with a log-in", "GET", f"/distribution/{_THEIRS}:1/json", auth=LOGIN),
    Ask("distribution of a tag that is none", "GET", f"/distribution/{_OURS}:none/json"),
    Ask("image inspect of what was pushed", "GET", f"/images/{_OURS}:1/json", keep="pushed"),
    Ask("image list of what was pushed", "GET", f"/images/json?filters={filters(label='label')}"),
    # Away with them.
    Ask("image delete by an id with several names", "DELETE", "/images/{pushed}"),
    Ask("image untag of one with labels", "DELETE", f"/images/{_OURS}:1"),
    Ask("image untag of a repository's last", "DELETE", f"/images/{_OURS}:2"),
    Ask("image delete of one with labels", "DELETE", f"/images/{_THEIRS}:1"),
    # Pulls.
    Ask("pull", "POST", f"/images/create?fromImage={_OURS}&tag=1"),
    Ask("pull of what is here", "POST", f"/images/create?fromImage={_OURS}&tag=1"),
    Ask("pull of all tags", "POST", f"/images/create?fromImage={_OURS}"),
    Ask("pull by a digest", "POST", f"/images/create?fromImage={_OURS}&tag={{digest}}"),
    Ask("pull of a tag that is none", "POST", f"/images/create?fromImage={_OURS}&tag=none"),
    Ask("pull of no image", "POST", f"/images/create?fromImage={OPEN}/nothing&tag=1"),
    Ask("pull without a log-in", "POST", f"/images/create?fromImage={_THEIRS}&tag=1"),
    Ask(
        "pull with a wrong log-in",
        "POST",
        f"/images/create?fromImage={_THEIRS}&tag=1",
        auth=WRONG_LOGIN,
    ),
    Ask("pull with a log-in", "POST", f"/images/create?fromImage={_THEIRS}&tag=1", auth=LOGIN),
    Ask("pull with a wrong name", "POST", "/images/create?fromImage=WRONG&tag=1"),
    Ask("pull of nothing", "POST", "/images/create"),
    Ask("image inspect of what was pulled", "GET", f"/images/{_OURS}:1/json", keep="pulled"),
    Ask("image inspect by a digest", "GET", f"/images/{_OURS}@{{digest}}/json"),
    Ask("image history of what was pulled", "GET", f"/images/{_OURS}:1/history"),
    Ask("image list with digests", "GET", "/images/json?digests=1"),
    Ask(
        "image list by a reference",
        "GET",
        f"/images/json?filters={filters(reference=f'{_OURS}:*')}",
    ),
    Ask("image delete of several names by force", "DELETE", "/images/{pulled}?force=1"),
    # Searches.
    Ask("search", "GET", f"/images/search?term={SEARCHED}/found"),
    Ask("search for few", "GET", f"/images/search?term={SEARCHED}/found&limit=1"),
    Ask("search for none", "GET", f"/images/search?term={SEARCHED}/nothing"),
    Ask(
        "search by stars",
        "GET",
        f"/images/search?term={SEARCHED}/found&filters={filters(stars='3')}",
    ),
    Ask(
        "search for official ones",
        "GET",
        f"/images/search?term={SEARCHED}/found&filters={filters(**{'is-official': 'true'})}",
    ),
    Ask(
        "search by a wrong filter",
        "GET",
        f"/images/search?term={SEARCHED}/found&filters={filters(nonsense='1')}",
    ),
    Ask("search for too many", "GET", f"/images/search?term={SEARCHED}/found&limit=1000"),
    Ask("search with a wrong limit", "GET", f"/images/search?term={SEARCHED}/found&limit=x"),
    Ask("search where there is no index", "GET", f"/images/search?term={OPEN}/jo"),
    Ask("search at nowhere", "GET", "/images/search?term=127.0.0.1:9/found"),
)
