"""Calls about the engine itself, volumes, networks, and what is not there."""

from __future__ import annotations

from support.asking import Ask, filters

__all__ = ["ABSENT", "FIRST", "PLACES"]

_KINDS = ("nodes", "services", "tasks", "secrets", "configs")

FIRST = (
    Ask("ping", "GET", "/_ping"),
    Ask("ping by HEAD", "HEAD", "/_ping"),
    Ask("version", "GET", "/version"),
    Ask("info", "GET", "/info"),
)

PLACES = (
    Ask("volume create", "POST", "/volumes/create", {"Name": "vol", "Labels": {"a": "b"}}),
    Ask("volume create without a name", "POST", "/volumes/create", {}),
    Ask(
        "volume create by a wrong driver",
        "POST",
        "/volumes/create",
        {"Name": "wrong", "Driver": "nonsense"},
    ),
    Ask("volume create with a wrong name", "POST", "/volumes/create", {"Name": "a b"}),
    Ask(
        "volume create with options",
        "POST",
        "/volumes/create",
        {"Name": "opt", "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}},
    ),
    Ask("volume list", "GET", "/volumes"),
    Ask("volume list of none", "GET", f"/volumes?filters={filters(name='nothing')}"),
    Ask("volume list by a wrong filter", "GET", f"/volumes?filters={filters(nonsense='1')}"),
    Ask("volume inspect", "GET", "/volumes/vol"),
    Ask("volume inspect with options", "GET", "/volumes/opt"),
    Ask("volume inspect of none", "GET", "/volumes/nothing"),
    Ask(
        "network create",
        "POST",
        "/networks/create",
        {
            "Name": "net",
            "CheckDuplicate": True,
            "IPAM": {
                "Config": [
                    {
                        "Subnet": "10.91.0.0/24",
                        "IPRange": "10.91.0.128/25",
                        "Gateway": "10.91.0.1",
                        "AuxiliaryAddresses": {"a": "10.91.0.9"},
                    }
                ]
            },
            "Labels": {"a": "b"},
        },
        keep="net",
    ),
    Ask(
        "network create once more",
        "POST",
        "/networks/create",
        {"Name": "net", "CheckDuplicate": True},
    ),
    Ask(
        "network create by a wrong driver",
        "POST",
        "/networks/create",
        {"Name": "w", "Driver": "nonsense"},
    ),
    Ask(
        "network create that overlaps",
        "POST",
        "/networks/create",
        {"Name": "w", "IPAM": {"Config": [{"Subnet": "10.91.0.0/25"}]}},
    ),
    Ask("network create of a predefined one", "POST", "/networks/create", {"Name": "host"}),
    Ask("network list", "GET", "/networks"),
    Ask("network list of none", "GET", f"/networks?filters={filters(name='nothing')}"),
    Ask("network list by a wrong filter", "GET", f"/networks?filters={filters(nonsense='1')}"),
    Ask("network inspect of bridge", "GET", "/networks/bridge"),
    Ask("network inspect of host", "GET", "/networks/host"),
    Ask("network inspect of none", "GET", "/networks/nothing"),
)

ABSENT = (
    Ask("a page that is none", "GET", "/nothing"),
    Ask("a method that is none", "PATCH", "/containers/json"),
    Ask("plugins", "GET", "/plugins"),
    Ask("a plugin that is none", "GET", "/plugins/nothing/json"),
    Ask("swarm", "GET", "/swarm"),
    Ask("nodes", "GET", "/nodes"),
    Ask("services", "GET", "/services"),
    Ask("tasks", "GET", "/tasks"),
    Ask("secrets", "GET", "/secrets"),
    Ask("configs", "GET", "/configs"),
    *(Ask(f"one of {kind}", "GET", f"/{kind}/nothing") for kind in _KINDS),
    *(Ask(f"delete of {kind}", "DELETE", f"/{kind}/nothing") for kind in _KINDS if kind != "tasks"),
    *(
        Ask(f"create of {kind}", "POST", f"/{kind}/create", {"Name": "x"})
        for kind in ("services", "secrets", "configs")
    ),
    *(
        Ask(f"update of {kind}", "POST", f"/{kind}/nothing/update?version=1", {"Name": "x"})
        for kind in _KINDS
        if kind != "tasks"
    ),
    Ask("logs of services", "GET", "/services/nothing/logs?stdout=1"),
    Ask("logs of tasks", "GET", "/tasks/nothing/logs?stdout=1"),
    Ask("swarm leave", "POST", "/swarm/leave"),
    Ask("swarm update", "POST", "/swarm/update?version=1", {"Name": "x"}),
    Ask("swarm unlock", "POST", "/swarm/unlock", {"UnlockKey": "x"}),
    Ask("swarm unlock key", "GET", "/swarm/unlockkey"),
    Ask("plugin delete of none", "DELETE", "/plugins/nothing"),
    *(
        Ask(f"plugin {verb} of none", "POST", f"/plugins/nothing/{verb}", {})
        for verb in ("enable?timeout=0", "disable", "push")
    ),
    Ask("plugin set of none", "POST", "/plugins/nothing/set", ["a=b"]),
    Ask("events by a wrong filter", "GET", f"/events?until=1&filters={filters(nonsense='1')}"),
    Ask("events by wrong times", "GET", "/events?since=nonsense&until=1"),
    Ask("events without until", "GET", "/events?since=2&until=1"),
)
