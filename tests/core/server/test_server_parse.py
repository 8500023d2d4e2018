from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.drivers.network import PortRequest
from pannier.drivers.resources import DeviceRule
from pannier.engine.model import CreateOptions, EndpointOptions, MountKind, MountSpec
from pannier.errors import InvalidRequest, PannierError, UnsupportedOperation
from pannier.server.body import parse_json
from pannier.server.parse.create import check_container_name, parse_create
from pannier.server.parse.fields import Fields
from pannier.server.parse.limits import parse_limits
from pannier.server.parse.mounts import parse_bind
from pannier.server.parse.ports import parse_exposed, parse_port
from pannier.server.parse.query import parse_time
from pannier.server.views.config import config_view, host_view


def host(**fields: object) -> CreateOptions:
    """Parse a create body with this HostConfig."""
    return parse_create(Fields({"Image": "busybox", "HostConfig": fields}))


def message_of(body: dict[str, Any]) -> str:
    """Return why a create body is refused."""
    with pytest.raises(InvalidRequest) as caught:
        parse_create(Fields(body))
    return caught.value.message


class TestRefusals:
    """What is refused, in the words that a real dockerd 20.10 or newer uses."""

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"Memory": 100}, "Minimum memory limit allowed is 6MB"),
            ({"Memory": -1}, "Minimum memory limit allowed is 6MB"),
            ({"MemoryReservation": 1500}, "Minimum memory reservation allowed is 6MB"),
            (
                {"MemorySwap": 100_000_000},
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                {"Memory": 100_000_000, "MemorySwap": 50_000_000},
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                {"Memory": 100_000_000, "MemoryReservation": 150_000_000},
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ),
            (
                {"MemorySwappiness": 200},
                "Invalid value: 200, valid memory swappiness range is 0-100",
            ),
            (
                {"NanoCpus": 1_000_000, "CpuQuota": 5},
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
            ({"CpuQuota": 5}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
            (
                {"CpuPeriod": 5},
                (
                    "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s "
                    "(i.e. 1000000)"
                ),
            ),
            ({"CpusetCpus": "zz"}, "Invalid value zz for cpuset cpus: invalid format: zz"),
            ({"CpusetCpus": "2-1"}, "Invalid value 2-1 for cpuset cpus: invalid format: 2-1"),
            ({"Links": ["a:b:c"]}, "bad format for links: a:b:c"),
            ({"Links": [""]}, "empty string specified for links"),
            ({"VolumesFrom": [""]}, "volumes-from specification cannot be an empty string"),
            ({"CpuShares": -1}, "invalid CPU shares (-1): value must be a positive integer"),
            ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
            (
                {"BlkioWeightDevice": [{"Path": "/dev/null", "Weight": 100}]},
                "cannot limit the device /dev/null: it is not a block device",
            ),
            (
                {"BlkioDeviceReadBps": [{"Path": "/dev/nope", "Rate": 100}]},
                "cannot limit the device /dev/nope: No such file or directory",
            ),
            (
                {"Binds": ["a"]},
                (
                    "invalid volume specification: 'a': invalid mount config for type \"volume\": "
                    "invalid mount path: 'a' mount path must be absolute"
                ),
            ),
            (
                {"Binds": ["/a:/"]},
                (
                    "invalid volume specification: '/a:/': invalid mount config for type \"bind\": "
                    "invalid specification: destination can't be '/'"
                ),
            ),
            (
                {"Binds": ["/a:/../.."]},
                (
                    "invalid volume specification: '/a:/../..': invalid mount config for type "
                    "\"bind\": invalid specification: destination can't be '/'"
                ),
            ),
            (
                {"Binds": ["/a:/b:nocopy"]},
                (
                    "invalid volume specification: '/a:/b:nocopy': invalid mount config for type "
                    '"bind": field VolumeOptions must not be specified'
                ),
            ),
            ({"Binds": ["/a:/b:q"]}, "invalid mode: q"),
            ({"Binds": ["/a:/b:ro,rw"]}, "invalid mode: ro,rw"),
            ({"Binds": ["v1:/b:rshared"]}, "invalid mode: rshared"),
            ({"Binds": ["/a:/b:ro:x"]}, "invalid volume specification: '/a:/b:ro:x'"),
            ({"Binds": ["/a:"]}, "invalid volume specification: '/a:'"),
            ({"Binds": ["/a:/b", "/c:/b/"]}, "Duplicate mount point: /b"),
            ({"Binds": ["/a:/b"], "Tmpfs": {"/b": ""}}, "Duplicate mount point: /b"),
            (
                {"Mounts": [{"Type": "foo", "Target": "/x"}]},
                'invalid mount config for type "foo": mount type unknown',
            ),
            (
                {"Mounts": [{"Type": "bind", "Source": "rel", "Target": "/x"}]},
                (
                    "invalid mount config for type \"bind\": invalid mount path: 'rel' mount path "
                    "must be absolute"
                ),
            ),
            (
                {"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": ""}]},
                'invalid mount config for type "bind": field Target must not be empty',
            ),
            (
                {"Mounts": [{"Type": "bind", "Target": "/x"}]},
                'invalid mount config for type "bind": field Source must not be empty',
            ),
            (
                {"Mounts": [{"Type": "tmpfs", "Source": "/tmp", "Target": "/x"}]},
                'invalid mount config for type "tmpfs": field Source must not be specified',
            ),
            (
                {"Mounts": [{"Type": "bind", "Source": "/t", "Target": "/x", "VolumeOptions": {}}]},
                'invalid mount config for type "bind": field VolumeOptions must not be specified',
            ),
            (
                {
                    "Mounts": [
                        {
                            "Type": "volume",
                            "Source": "vol",
                            "Target": "/x",
                            "VolumeOptions": {"Subpath": "../x"},
                        }
                    ]
                },
                (
                    'invalid mount config for type "volume": subpath must be a relative path '
                    "within the volume: ../x"
                ),
            ),
            (
                {
                    "Mounts": [
                        {
                            "Type": "image",
                            "Source": "busybox",
                            "Target": "/x",
                            "ImageOptions": {"Subpath": "/x"},
                        }
                    ]
                },
                (
                    'invalid mount config for type "image": subpath must be a relative path '
                    "within the image: /x"
                ),
            ),
            (
                {"Mounts": [{"Type": "image", "Target": "/x"}]},
                'invalid mount config for type "image": field Source must not be empty',
            ),
            (
                {"Mounts": [{"Type": "bind", "Source": "/t", "Target": "/x", "ImageOptions": {}}]},
                'invalid mount config for type "bind": field ImageOptions must not be specified',
            ),
            ({"Tmpfs": {"x": ""}}, "invalid mount path: 'x' mount path must be absolute"),
            ({"Tmpfs": {"/x": "foo=bar"}}, 'invalid tmpfs option "foo=bar"'),
            ({"Tmpfs": {"/x": "size=lots"}}, 'invalid tmpfs option "size=lots"'),
            ({"Tmpfs": {"/x": "mode=99"}}, 'invalid tmpfs option "mode=99"'),
            (
                {"PortBindings": {"80/tcp": [{"HostPort": "abc"}]}},
                'invalid port specification: "abc"',
            ),
            (
                {"PortBindings": {"80/tcp": [{"HostPort": "70000"}]}},
                'invalid port specification: "70000"',
            ),
            ({"PortBindings": {"80/foo": [{"HostPort": "1"}]}}, "invalid protocol: foo"),
            (
                {"PortBindings": {"80/tcp": [{"HostIp": "x", "HostPort": "1"}]}},
                "invalid IP address: x",
            ),
            (
                {"RestartPolicy": {"Name": "foo"}},
                (
                    "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', "
                    "'unless-stopped', 'on-failure'"
                ),
            ),
            (
                {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}},
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ),
            (
                {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -3}},
                "invalid restart policy: maximum retry count cannot be negative",
            ),
            (
                {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
                "can't create 'AutoRemove' container with restart policy",
            ),
            ({"PidMode": "foo"}, "invalid PID mode: foo"),
            ({"PidMode": "container:"}, "invalid PID mode: container:"),
            ({"IpcMode": "foo"}, "invalid IPC mode: foo"),
            ({"UTSMode": "foo"}, "invalid UTS mode: foo"),
            ({"UsernsMode": "foo"}, "invalid user namespace mode: foo"),
            ({"CgroupnsMode": "foo"}, "invalid cgroup namespace mode: foo"),
            ({"ShmSize": -1}, "SHM size can not be less than 0"),
            (
                {"OomScoreAdj": -10000},
                "Invalid value -10000, range for oom score adj is [-1000, 1000]",
            ),
            ({"CapAdd": ["FOO"]}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
            ({"SecurityOpt": ["foo"]}, 'invalid --security-opt 1: "foo"'),
            ({"SecurityOpt": ["foo=bar"]}, 'invalid --security-opt 2: "foo=bar"'),
            ({"ExtraHosts": ["a"]}, 'bad format for add-host: "a"'),
            ({"Dns": ["a"]}, "bad nameserver address: a"),
            ({"VolumesFrom": ["a:zz"]}, "invalid mode: zz"),
            ({"Ulimits": [{"Name": "foo", "Soft": 1, "Hard": 2}]}, "invalid ulimit type: foo"),
            (
                {"Ulimits": [{"Name": "nofile", "Soft": 3, "Hard": 2}]},
                "ulimit soft limit must be less than or equal to hard limit: 3 > 2",
            ),
            (
                {"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "z"}]},
                "invalid device mode: z",
            ),
            ({"DeviceCgroupRules": ["x"]}, "invalid device cgroup rule format: 'x'"),
            ({"ConsoleSize": [1, "x"]}, "ConsoleSize must be [height, width]"),
        ],
    )
    def test_host_config(self, fields: dict[str, Any], message: str) -> None:
        """Each malformed option is refused before anything is made."""
        assert message_of({"Image": "busybox", "HostConfig": fields}) == message

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"Env": ["=a"]}, "invalid environment variable: =a"),
            ({"Env": [""]}, "invalid environment variable: "),
            (
                {"WorkingDir": "rel"},
                "the working directory 'rel' is invalid, it needs to be an absolute path",
            ),
            ({"StopSignal": "FOO"}, "Invalid signal: FOO"),
            ({"Hostname": "-bad-"}, "invalid hostname format: -bad-"),
            ({"Hostname": "a" * 65}, f"invalid hostname format: {'a' * 65}"),
            ({"MacAddress": "zz"}, "invalid MAC address: zz"),
            (
                {"Healthcheck": {"Interval": 5}},
                "Interval in Healthcheck cannot be less than 1ms",
            ),
            ({"Healthcheck": {"Retries": -5}}, "Retries in Healthcheck cannot be negative"),
            (
                {"Healthcheck": {"Test": ["FOO"]}},
                "Unknown healthcheck type 'FOO' (expected 'CMD')",
            ),
            ({"Volumes": {"rel": {}}}, "invalid mount path: 'rel' mount path must be absolute"),
            ({"Volumes": {"/": {}}}, "invalid specification: destination can't be '/'"),
            ({"ExposedPorts": {"abc": {}}}, 'invalid port specification: "abc"'),
            (
                {
                    "NetworkingConfig": {
                        "EndpointsConfig": {"a": {"IPAMConfig": {"IPv4Address": "zz"}}}
                    }
                },
                "invalid IPv4 address: zz",
            ),
            (
                {"Hostname": "h", "HostConfig": {"NetworkMode": "container:x"}},
                "conflicting options: hostname and the network mode",
            ),
            (
                {
                    "HostConfig": {
                        "NetworkMode": "container:x",
                        "PortBindings": {"80/tcp": [{}]},
                    }
                },
                "conflicting options: port publishing and the container type network mode",
            ),
            (
                {"HostConfig": {"NetworkMode": "container:"}},
                "Container network mode requires a container's name or id",
            ),
        ],
    )
    def test_config(self, fields: dict[str, Any], message: str) -> None:
        """Likewise what travels with an image, and networks."""
        assert message_of({"Image": "busybox", **fields}) == message

    def test_cpus(self) -> None:
        """More processors than there are cannot be asked for."""
        count = os.cpu_count()
        for nano in (-1, 1, (count or 1) * 10**9 + 1):
            assert message_of({"Image": "x", "HostConfig": {"NanoCpus": nano}}) == (
                f"Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs "
                "available"
            )

    def test_device_requests(self) -> None:
        """A request for a GPU is refused by name, never ignored."""
        with pytest.raises(UnsupportedOperation, match='could not select device driver "nvidia"'):
            host(DeviceRequests=[{"Driver": "nvidia", "Count": -1}])
        with pytest.raises(UnsupportedOperation, match=r"capabilities: \[\[gpu\] \[a b\]\]$"):
            host(DeviceRequests=[{"Capabilities": [["gpu"], ["a", "b"]]}])

    @pytest.mark.parametrize(("name", "words"), [("Cpus", "CPUs"), ("Mems", "memory nodes")])
    def test_what_the_host_has_not(self, name: str, words: str) -> None:
        """Processors and memory nodes that are not there are refused with those that are."""
        assert host(**{f"Cpuset{name}": "0"}) is not None
        with pytest.raises(InvalidRequest, match=f"Requested {words} are not available"):
            host(**{f"Cpuset{name}": "0,4000-4001"})

    @pytest.mark.parametrize("name", ["a", "a!", "/", "-ab", "a b", "a/b", "", "ab\n"])
    def test_container_names(self, name: str) -> None:
        """A name is a letter or digit and at least one more of a few characters."""
        with pytest.raises(InvalidRequest, match="Invalid container name"):
            check_container_name(name)


class TestMeanings:
    """What an option means."""

    def test_binds(self) -> None:
        """`-v` in all its forms."""
        assert parse_bind("/x") == MountSpec(MountKind.VOLUME, "/x")
        assert parse_bind("vol:/x/../y", "nfs") == MountSpec(
            MountKind.VOLUME, "/y", source="vol", driver="nfs"
        )
        assert parse_bind("/a/:/b:ro,z,rslave") == MountSpec(
            MountKind.BIND,
            "/b",
            source="/a",
            read_only=True,
            propagation="rslave",
            create_source=True,
            mode="ro,z,rslave",
        )
        assert parse_bind("vol:/x:nocopy").no_copy

    def test_mounts(self) -> None:
        """`--mount` does not make a missing source."""
        bind, volume, tmpfs = host(
            Mounts=[
                {
                    "Type": "bind",
                    "Source": "/a",
                    "Target": "/b",
                    "ReadOnly": True,
                    "BindOptions": {"Propagation": "rshared", "NonRecursive": True},
                },
                {
                    "Type": "volume",
                    "Target": "/v",
                    "VolumeOptions": {
                        "NoCopy": True,
                        "Labels": {"a": "b"},
                        "DriverConfig": {"Name": "local", "Options": {"o": "x"}},
                    },
                },
                {
                    "Type": "tmpfs",
                    "Target": "/t",
                    "TmpfsOptions": {
                        "SizeBytes": 4096,
                        "Mode": 0o700,
                        "Options": [["uid", "5"], ["noexec"]],
                    },
                },
            ]
        ).host.mounts
        assert (bind.create_source, bind.recursive, bind.propagation) == (False, False, "rshared")
        assert (volume.source, volume.no_copy, volume.driver_options) == ("", True, {"o": "x"})
        assert (tmpfs.tmpfs_size, tmpfs.tmpfs_mode) == (4096, 0o700)
        assert tmpfs.tmpfs_options == ("uid=5", "noexec")

    def test_tmpfs(self) -> None:
        """`--tmpfs` takes mount's options."""
        (mount,) = host(Tmpfs={"/t": "rw,noexec,size=64m,mode=1777"}).host.mounts
        assert (mount.tmpfs_size, mount.tmpfs_mode) == (64 << 20, 0o1777)
        assert (mount.tmpfs_options, mount.read_only) == (("noexec",), False)

    def test_ports(self) -> None:
        """Ranges are spelled out; a range of host ports for one port is a choice."""
        options = parse_create(
            Fields(
                {
                    "Image": "x",
                    "ExposedPorts": {"80": {}, "90-92/UDP": {}},
                    "HostConfig": {
                        "PortBindings": {
                            "80/tcp": [{"HostIp": "::1", "HostPort": "8000-8010"}, {}],
                            "90-91/udp": [{"HostPort": "100-101"}],
                            "99/tcp": None,
                        }
                    },
                }
            )
        )
        assert options.config.exposed_ports == ("80/tcp", "90/udp", "91/udp", "92/udp")
        assert options.host.ports == (
            PortRequest(80, "tcp", "::1", (8000, 8010)),
            PortRequest(80, "tcp", "", (0, 0)),
            PortRequest(90, "udp", "", (100, 100)),
            PortRequest(91, "udp", "", (101, 101)),
        )

    def test_limits(self) -> None:
        """Zero leaves a thing as it is; processors become a quota."""
        limits = host(
            Memory=1 << 28,
            MemorySwap=-1,
            NanoCpus=500_000_000,
            CpuShares=512,
            PidsLimit=0,
            OomKillDisable=True,
            CpusetCpus="0-1,1",
        ).host.limits
        assert (limits.memory, limits.memory_swap) == (1 << 28, -1)
        assert (limits.cpu_quota, limits.cpu_period, limits.cpu_shares) == (50_000, 100_000, 512)
        assert (limits.pids, limits.oom_kill_disable, limits.cpuset_cpus) == (-1, True, "0-1,1")
        nothing = parse_limits(Fields({"Memory": 0, "CpuQuota": 0, "PidsLimit": None}))
        assert (nothing.memory, nothing.cpu_quota, nothing.pids) == (None, None, None)
        assert nothing.oom_kill_disable is None

    def test_small_things(self) -> None:
        """What stands for the default is the default; capabilities stay as they were asked for."""
        options = host(
            NetworkMode="default",
            CapAdd=["net_admin", "CAP_CHOWN", "all"],
            DeviceCgroupRules=["b 8:* r"],
            SecurityOpt=["seccomp:unconfined", "no-new-privileges:TRUE", "label=disable"],
            RestartPolicy={"Name": ""},
        ).host
        assert options.network_mode == ""
        assert options.cap_add == ("net_admin", "CAP_CHOWN", "all")
        assert options.device_rules == (DeviceRule(True, "b", 8, None, "r"),)
        assert options.security_options == (
            "seccomp=unconfined",
            "no-new-privileges=true",
            "label=disable",
        )
        assert options.restart.name == "no"
        assert options.masked_paths is None
        assert host(MaskedPaths=[]).host.masked_paths == ()
        assert (options.init, host(Init=False).host.init) == (None, False)

    def test_runtime(self) -> None:
        """Beside the host's settings too, where Docker's library for Python puts it."""
        body: dict[str, object] = {"Image": "x", "Runtime": "runc"}
        assert parse_create(Fields(body)).host.runtime == "runc"
        body["HostConfig"] = {"Runtime": "other"}
        assert parse_create(Fields(body)).host.runtime == "other"

    def test_commands(self) -> None:
        """A single string is one word; an empty list is not the image's command."""
        one = parse_create(Fields({"Image": "x", "Cmd": "echo a", "Entrypoint": []})).config
        assert (one.cmd, one.entrypoint) == (("echo a",), ())
        none = parse_create(Fields({"Image": "x", "Cmd": None})).config
        assert (none.cmd, none.entrypoint) == (None, None)

    def test_networks(self) -> None:
        """Several networks at once; the older field's address goes to the first."""
        options = parse_create(
            Fields(
                {
                    "Image": "x",
                    "MacAddress": "02:42:AC:11:00:02",
                    "HostConfig": {"NetworkMode": "lan"},
                    "NetworkingConfig": {
                        "EndpointsConfig": {
                            "lan": {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}},
                            "other": None,
                        }
                    },
                }
            )
        )
        assert options.networks == {
            "lan": EndpointOptions("10.0.0.5", aliases=("db",), mac="02:42:ac:11:00:02"),
            "other": EndpointOptions(),
        }

    def test_times(self) -> None:
        """Since and until in every form that Docker takes."""
        for text, expected in (
            ("0", 0),
            ("1700000000", 1_700_000_000 * 10**9),
            ("1700000000.000000001", 1_700_000_000 * 10**9 + 1),
            ("1970-01-01T00:00:01Z", 10**9),
            ("1970-01-01T01:00:01.5+01:00", 1_500_000_000),
            ("1970-01-02", 86400 * 10**9),
            ("1970-01-01T00:01", 60 * 10**9),
            ("10s", 90 * 10**9),
            ("1m30s", 10 * 10**9),
            ("1h", 0),
            ("1.0000000000001", 10**9),
            ("-5", 1),
            ("-1.5", 1),
        ):
            assert parse_time(text, lambda: 100.0) == expected, text
        for text in ("zz", "-", "-1h", "1.", ".5", "1970-13-01", "1 s", "9" * 30):
            with pytest.raises(InvalidRequest, match="invalid time"):
                parse_time(text, lambda: 100.0)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=8,
)
# Names that the parser knows, so that what is found under them is really looked at.
NAMES = sorted(
    {
        *config_view(parse_create(Fields({"Image": "x"})).config),
        *host_view(parse_create(Fields({"Image": "x"})).host),
        *("Mounts", "Tmpfs", "HostConfig", "NetworkingConfig", "Healthcheck", "ExposedPorts"),
        *("Rootfs", "MacAddress", "StopSignal", "Sysctls", "StorageOpt", "Init", "Name", "Type"),
    }
)
BODY = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6)


class TestAnything:
    """Whatever a client sends is understood or refused; nothing else ever happens."""

    @given(body=BODY, inner=BODY)
    @settings(max_examples=400, deadline=None)
    def test_create_bodies(self, body: dict[str, Any], inner: dict[str, Any]) -> None:
        """Any JSON under any name is either a container or a named error."""
        try:
            options = parse_create(Fields({"Image": "busybox", "HostConfig": inner, **body}))
        except PannierError as error:
            assert error.status in {400, 501}  # noqa: PT017 - it may also not be raised
            assert error.message  # noqa: PT017 - as above
        else:
            json.dumps([config_view(options.config), host_view(options.host)])

    @given(data=st.binary(max_size=200))
    def test_bytes(self, data: bytes) -> None:
        """Any bytes are an object or are refused."""
        try:
            assert isinstance(parse_json(data), dict)
        except InvalidRequest as error:
            assert error.message.startswith("invalid JSON")  # noqa: PT017 - as above

    @given(text=st.text(max_size=30))
    def test_short_grammars(self, text: str) -> None:
        """Any text is a bind, a port, a name or a time, or is refused."""
        for parse in (parse_bind, parse_port, check_container_name):
            try:
                assert parse(text) is not None
            except InvalidRequest:
                continue
        for more in (lambda: parse_exposed((text,)), lambda: parse_time(text, lambda: 0.0)):
            try:
                assert more() is not None
            except InvalidRequest:
                continue

    @given(text=st.from_regex(r"[/a-z.:]{0,12}", fullmatch=True))
    def test_binds_never_leave_the_root(self, text: str) -> None:
        """A destination is an absolute path without a step upwards, and never the root itself."""
        try:
            mount = parse_bind(text)
        except InvalidRequest:
            return
        assert mount.destination.startswith("/")
        assert mount.destination != "/"
        assert ".." not in mount.destination.split("/")
