"""Image configurations, manifests, platforms and times: what is read, what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.errors import ImageInvalid, InvalidRequest, PannierError, UnsupportedOperation
from pannier.images.config import Healthcheck, HistoryEntry, ImageConfig, RunConfig, make_config
from pannier.images.durations import parse_duration
from pannier.images.oci import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    Platform,
    parse_document,
)
from pannier.images.timestamps import ZERO, format_time, parse_time
from support.images import digest

if TYPE_CHECKING:
    from collections.abc import Callable

DIFF = digest(b"layer")
DOCUMENT: dict[str, Any] = {
    "architecture": "arm64",
    "variant": "v8",
    "os": "linux",
    "created": "2024-05-18T10:20:30.123456789Z",
    "author": "me",
    "config": {
        "Env": ["A=1", "B="],
        "Cmd": ["run", "it"],
        "Entrypoint": ["/entry"],
        "WorkingDir": "/work",
        "User": "1:2",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}},
        "Labels": {"k": "v"},
        "StopSignal": "SIGINT",
        "StopTimeout": 3,
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Retries": 2},
        "Shell": ["/bin/bash", "-c"],
        "OnBuild": ["RUN x"],
        "ArgsEscaped": True,
    },
    "rootfs": {"type": "layers", "diff_ids": [DIFF]},
    "history": [{"created": "2024-05-18T10:20:30Z", "created_by": "x"}, {"empty_layer": True}],
    "unknown": {"kept": [1, 2]},
}


def parse(document: object) -> ImageConfig:
    """Parse a document."""
    return ImageConfig.parse(json.dumps(document).encode())


def test_every_field_is_read() -> None:
    """The view that containers are made from."""
    raw = json.dumps(DOCUMENT, indent=3).encode()
    config = ImageConfig.parse(raw)
    assert config.raw == raw
    assert config.id == digest(raw)
    assert str(config.platform) == "linux/arm64/v8"
    assert config.created_ns == parse_time("2024-05-18T10:20:30.123456789Z")
    assert config.history[1].empty_layer
    assert config.diff_ids == (DIFF,)
    assert config.config == RunConfig(
        env=("A=1", "B="),
        cmd=("run", "it"),
        entrypoint=("/entry",),
        working_dir="/work",
        user="1:2",
        exposed_ports=("80/tcp", "53/udp"),
        volumes=("/data",),
        labels={"k": "v"},
        stop_signal="SIGINT",
        stop_timeout=3,
        healthcheck=Healthcheck(test=("CMD", "true"), interval=1_000_000_000, retries=2),
        shell=("/bin/bash", "-c"),
        on_build=("RUN x",),
        extra={"ArgsEscaped": True},
    )


def test_a_configuration_survives_being_written() -> None:
    """What is read can be written again, unknown fields included."""
    config = parse(DOCUMENT).config
    assert config.document() == DOCUMENT["config"]


def test_absent_and_null_fields_are_empty() -> None:
    """As tools in Go write what is unset."""
    config = parse({"rootfs": {"diff_ids": None}, "config": None, "history": None})
    assert config.config == RunConfig()
    assert (config.os, config.created, config.diff_ids, config.history) == ("linux", "", (), ())
    names = ["Env", "Cmd", "Entrypoint", "ExposedPorts", "Volumes", "Labels", "Healthcheck"]
    empty = parse({"rootfs": {}, "config": dict.fromkeys(names)})
    assert empty.config == RunConfig()
    assert format_time(empty.created_ns) == ZERO


def test_no_command_is_not_an_empty_one() -> None:
    """An empty list clears what an entrypoint's image had."""
    assert parse({"rootfs": {}, "config": {"Cmd": []}}).config.cmd == ()
    assert parse({"rootfs": {}, "config": {}}).config.cmd is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rootfs": None}, "rootfs must be present"),
        ({"rootfs": {"type": "other"}}, "type must be"),
        ({"rootfs": {"diff_ids": ["x"]}}, "diff_ids must be a list of sha256 digests"),
        ({"rootfs": {"diff_ids": [1]}}, "diff_ids must be a list of strings"),
        ({"rootfs": []}, "expected a JSON object"),
        ({"created": "yesterday"}, "is not an RFC 3339 time"),
        ({"created": "2024-13-01T00:00:00Z"}, "created"),
        ({"created": 5}, "created must be a string"),
        ({"config": []}, "config: expected a JSON object"),
        ({"config": {"Env": "A=1"}}, "Env must be a list of strings"),
        ({"config": {"Env": [1]}}, "Env must be a list of strings"),
        ({"config": {"Cmd": "sh"}}, "Cmd must be a list of strings"),
        ({"config": {"Labels": {"a": 1}}}, "Labels must be an object of strings"),
        ({"config": {"Volumes": ["/x"]}}, "Volumes must be an object"),
        ({"config": {"StopTimeout": "1"}}, "StopTimeout must be an integer"),
        ({"config": {"StopTimeout": 1 << 70}}, "StopTimeout must be an integer"),
        ({"config": {"Healthcheck": {"Retries": True}}}, "Retries must be an integer"),
        ({"history": {}}, "history must be a list"),
        ({"history": [1]}, r"history\[0\]: expected a JSON object"),
        ({"history": [{"empty_layer": 1}]}, "empty_layer must be true or false"),
    ],
)
def test_wrong_types_are_refused_by_name(change: dict[str, object], message: str) -> None:
    """The message names the field."""
    with pytest.raises(ImageInvalid, match=message):
        parse(DOCUMENT | change)


def test_made_configurations_are_deterministic() -> None:
    """The same parts give the same id, whatever their order was."""

    def make(labels: dict[str, str]) -> ImageConfig:
        return make_config(
            RunConfig(labels=labels, exposed_ports=tuple(f"{label}/tcp" for label in labels)),
            platform=Platform("linux", "amd64"),
            created=ZERO,
            diff_ids=[DIFF],
            history=[HistoryEntry(created=ZERO, comment="x")],
        )

    assert make({"1": "a", "2": "b"}).raw == make({"2": "b", "1": "a"}).raw
    assert make({}).diff_ids == (DIFF,)


# Manifests.

CONFIG = {"mediaType": OCI_CONFIG, "digest": digest(b"c"), "size": 1}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIFF, "size": 5}


def document(**fields: object) -> bytes:
    """Return a manifest with some fields changed."""
    whole = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]} | fields
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


def test_manifests_of_both_kinds_are_read() -> None:
    """OCI's and Docker's schema 2."""
    manifest = parse_document(document(annotations={"a": "b"}))
    assert isinstance(manifest, Manifest)
    assert manifest.media_type == OCI_MANIFEST
    assert manifest.layers[0].digest == DIFF
    assert manifest.descriptor == Descriptor(OCI_MANIFEST, digest(manifest.raw), len(manifest.raw))
    docker = document(mediaType=DOCKER_MANIFEST, config=CONFIG | {"mediaType": DOCKER_CONFIG})
    assert parse_document(docker).media_type == DOCKER_MANIFEST


def test_an_index_is_told_from_a_manifest() -> None:
    """With the platform of each entry."""
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": digest(b"m"),
        "size": 1,
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
        "annotations": {"x": "y"},
    }
    raw = document(config=None, layers=None, manifests=[entry])
    index = parse_document(raw)
    assert isinstance(index, Index)
    assert index.media_type == OCI_INDEX
    assert index.manifests[0].platform == Platform("linux", "arm", "v7")
    assert index.manifests[0].document() == entry


@pytest.mark.parametrize(
    ("raw", "media_type", "error", "message"),
    [
        (document(manifests=[]), "", ImageInvalid, "ambiguous"),
        (document(schemaVersion=3), "", ImageInvalid, "schemaVersion must be 2"),
        (document(schemaVersion=1), "", UnsupportedOperation, "schema 1"),
        (
            document(),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            UnsupportedOperation,
            "schema 1",
        ),
        (document(mediaType=OCI_INDEX), "", ImageInvalid, "unexpected media type"),
        (document(mediaType=OCI_MANIFEST), DOCKER_MANIFEST, ImageInvalid, "is served as"),
        (document(config=None), "", ImageInvalid, "config must be present"),
        (
            document(config=CONFIG | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}),
            "",
            UnsupportedOperation,
            "no container image",
        ),
        (document(layers=[LAYER | {"size": -1}]), "", ImageInvalid, "size must be"),
        (document(layers=[LAYER | {"digest": "x"}]), "", ImageInvalid, "digest must be"),
        (b"[]", "", ImageInvalid, "expected a JSON object"),
        (b"{" * 3, "", ImageInvalid, "not valid JSON"),
        (b'{"a":' * 100_000, "", ImageInvalid, "nested too deeply"),
        (b" " * (9 << 20), "", ImageInvalid, "longer than 8 MiB"),
        (b'{"schemaVersion":' + b"9" * 5000 + b"}", "", ImageInvalid, "not valid JSON"),
    ],
)
def test_bad_manifests_are_refused(
    raw: bytes, media_type: str, error: type[PannierError], message: str
) -> None:
    """Each for what is wrong with it."""
    with pytest.raises(error, match=message):
        parse_document(raw, media_type)


def test_a_made_manifest_reads_back_as_itself() -> None:
    """And has the same bytes for the same parts."""
    config = Descriptor(OCI_CONFIG, digest(b"c"), 1)
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar", DIFF, 5)
    made = Manifest.make(config, [layer])
    assert parse_document(made.raw) == made
    assert Manifest.make(config, [layer]).digest == made.digest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(DIFF),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
parsers: list[Callable[[bytes], object]] = [parse_document, ImageConfig.parse]


@settings(deadline=None)
@given(
    st.sampled_from(parsers),
    st.dictionaries(
        st.sampled_from(
            [*DOCUMENT, "schemaVersion", "mediaType", "config", "layers", "manifests", "rootfs"]
        ),
        json_values,
    ),
    st.booleans(),
)
def test_any_document_is_read_or_refused(
    parser: Callable[[bytes], object], fields: dict[str, object], whole: bool
) -> None:
    """Never another error than ours."""
    base: dict[str, object] = {**DOCUMENT, **json.loads(document())} if whole else {}
    with contextlib.suppress(PannierError):
        parser(json.dumps(base | fields).encode())


# Platforms, times, durations.


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("arm64", "linux/arm64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AArch64", "linux/arm64"),
        ("linux", f"linux/{Platform.native().architecture}"),
    ],
)
def test_platforms_are_parsed(text: str, parsed: str) -> None:
    """With the names that uname has for them."""
    assert str(Platform.parse(text)) == parsed


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d"])
def test_malformed_platforms_are_refused(text: str) -> None:
    """With a hint."""
    with pytest.raises(InvalidRequest, match="invalid platform"):
        Platform.parse(text)


def test_a_lone_word_is_a_known_one() -> None:
    """Else in Docker's words; where the operating system is named any architecture will do."""
    said = '"foobar": unknown operating system or architecture'
    with pytest.raises(InvalidRequest, match=said):
        Platform.parse("foobar")
    assert Platform.parse("linux/foobar") == Platform("linux", "foobar")


def test_a_variant_need_not_be_written_out() -> None:
    """No variant means the common one."""
    arm = Platform("linux", "arm64")
    assert arm.matches(Platform("linux", "arm64", "v8"))
    assert not arm.matches(Platform("linux", "arm64", "v9"))
    assert Platform("linux", "arm", "v6").matches(Platform("linux", "arm"))
    assert not arm.matches(Platform("linux", "amd64"))


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:00:00.5-01:00", 500_000_000),
        ("1969-12-31T23:59:59.9Z", -100_000_000),
        (ZERO, -62_135_596_800_000_000_000),
        ("2024-05-18T10:20:30.123456789012Z", 1_716_027_630_123_456_789),
    ],
)
def test_times_are_exact_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    """Also before the epoch and in other zones."""
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "2024-05-18", "2024-05-18T10:20:30", "2024-99-18T10:20:30Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Dates alone, times without a zone."""
    with pytest.raises(ValueError, match=r"time|month"):
        parse_time(text)


@given(st.integers(-62_135_596_800_000_000_000, 253_402_300_799_999_999_999))
def test_every_time_survives_being_written(nanoseconds: int) -> None:
    """From the year 1 to 9999."""
    assert parse_time(format_time(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1h30m", 5400 * 10**9),
        ("1.5s", 1_500_000_000),
        ("500ms", 500_000_000),
        ("1us1ns", 1001),
    ],
)
def test_durations_are_gos(text: str, nanoseconds: int) -> None:
    """In nanoseconds."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "s", "1s ", "-1s", "1x", "1e3s", "9" * 100 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """In Go's words."""
    with pytest.raises(InvalidRequest, match="invalid duration"):
        parse_duration(text)
