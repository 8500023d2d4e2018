"""Stages: which are needed, what they begin from, and which arguments they see."""

from __future__ import annotations

import pytest

from pannier.build import gotext
from pannier.build.parser import parse_dockerfile
from pannier.build.scope import Arguments, platform_arguments
from pannier.build.stages import Plan, find_stage, make_plan
from pannier.errors import InvalidRequest
from pannier.images.config import Healthcheck
from pannier.images.oci import Platform


def plan(text: str, target: str = "", **args: str) -> Plan:
    """Return the plan of a text."""
    dockerfile = parse_dockerfile(text.encode())
    platform = platform_arguments(Platform("linux", "arm64", "v8"))
    return make_plan(dockerfile, build_args=args, platform_args=platform, target=target)


def numbers(found: Plan) -> list[int]:
    """Return the numbers of the stages that are built."""
    return [stage.number for stage in found.stages]


def test_only_what_the_target_needs_is_built() -> None:
    """A stage that nothing names is left out."""
    text = (
        "FROM x AS a\nFROM x AS unused\nFROM a AS b\nRUN --mount=from=c,target=/m true\n"
        "FROM scratch AS last\nCOPY --from=b /x /\nCOPY --from=0 /y /\nCOPY --from=image:1 /z /\n"
    )
    assert numbers(plan(text)) == [0, 2, 3]
    assert numbers(plan(text, "b")) == [0, 2]
    assert numbers(plan(text, "UNUSED")) == [1]
    assert numbers(plan(text, "1")) == [1]


def test_a_later_stage_hides_an_earlier_one_of_its_name() -> None:
    """For those that come after it."""
    text = "FROM x AS a\nFROM a AS a\nFROM a\n"
    assert [stage.base for stage in plan(text).stages] == [None, 0, 1]


def test_a_stage_does_not_see_itself_or_later_ones() -> None:
    """Such a name is an image's."""
    found = plan("FROM a AS a\nCOPY --from=b /x /\nFROM x AS b\n", "a")
    assert numbers(found) == [0]
    assert found.target.base is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN x", "no build stage in current context"),
        ("ARG a", "no build stage in current context"),
        ("FROM $MISSING", "should not be blank"),
        ("FROM x\nCOPY --from=3 a b", "index out of bounds"),
        ("FROM x\nCOPY --from=0 a b", "index out of bounds"),
    ],
)
def test_what_makes_no_plan_is_refused(text: str, words: str) -> None:
    """In Docker's words."""
    with pytest.raises(InvalidRequest, match=words):
        plan(text)


def test_an_unknown_target_is_refused() -> None:
    """By its name."""
    with pytest.raises(InvalidRequest, match="failed to reach build target nope"):
        plan("FROM x", "nope")


def test_arguments_before_the_first_stage_name_images() -> None:
    """Given ones win over defaults; the platform's are there without being declared."""
    text = "ARG TAG=1\nARG IMAGE=base:$TAG\nFROM --platform=$BUILDPLATFORM ${IMAGE}-$TARGETARCH"
    assert plan(text).target.image == "base:1-arm64"
    assert plan(text, TAG="2").target.image == "base:2-arm64"
    assert plan(text).target.platform == str(Platform.native())


def test_an_argument_before_the_stages_is_seen_where_it_is_declared_again() -> None:
    """With its value from there, unless the stage has a default of its own."""
    used: set[str] = set()
    arguments = Arguments({"GIVEN": "g"}, {"A": "global", "B": "global"}, used)
    assert arguments.values([]) == {}
    arguments.declare("A", None)
    arguments.declare("B", "own")
    arguments.declare("GIVEN", "default")
    arguments.declare("EMPTY", None)
    assert arguments.values([]) == {"A": "global", "B": "own", "GIVEN": "g"}
    assert arguments.values(["A=env"]) == {"B": "own", "GIVEN": "g"}
    assert arguments.variables(["A=env"])["A"] == "env"
    assert used == {"A", "B", "GIVEN", "EMPTY"}


def test_proxies_need_no_declaration_and_leave_no_trace() -> None:
    """They reach commands, but neither the history nor the cache."""
    arguments = Arguments({"HTTP_PROXY": "http://p", "OTHER": "x"}, {}, set())
    assert arguments.values([]) == {"HTTP_PROXY": "http://p"}
    assert arguments.recorded([]) == []
    arguments.declare("HTTP_PROXY", None)
    assert arguments.recorded([]) == ["HTTP_PROXY=http://p"]


def test_stages_are_found_by_name_and_number() -> None:
    """A number that is also no stage's name counts from 0."""
    stages = plan("FROM x AS a\nFROM a AS b\nFROM b").all
    assert find_stage(stages[:2], "B") == 1
    assert find_stage(stages[:2], "0") == 0
    assert find_stage(stages[:2], "image") is None


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (500_000_000, "500ms"),
        (5_000_000_000, "5s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
        (3_661_500_000_000, "1h1m1.5s"),
    ],
)
def test_durations_are_written_as_go_does(nanoseconds: int, text: str) -> None:
    """They stand in histories."""
    assert gotext.duration(nanoseconds) == text


def test_text_is_quoted_as_go_does() -> None:
    """It stands in histories, too."""
    assert gotext.quoted_list(["a", 'b"c', "d\ne", "ü", "\x01"]) == (
        r'["a" "b\"c" "d\ne" "ü" "\x01"]'
    )
    check = Healthcheck(("CMD", "x"), 5_000_000_000, 0, 0, 0, 3)
    assert gotext.health(check) == r"""&{["CMD" "x"] "5s" "0s" "0s" '\x03'}"""
