"""``--change``: the Dockerfile's instructions that commit and import take."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.errors import InvalidRequest
from pannier.images.changes import apply_changes
from pannier.images.config import Healthcheck, RunConfig
from pannier.images.words import expand, split_words

BASE = RunConfig(env=("PATH=/bin", "A=1"), cmd=("old",), working_dir="/base", labels={"l": "1"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', {"cmd": ("a", "b c")}),
        ("CMD a  b", {"cmd": ("/bin/sh", "-c", "a  b")}),
        ("cmd [bad json", {"cmd": ("/bin/sh", "-c", "[bad json")}),
        ("CMD []", {"cmd": ()}),
        ('CMD ["a"] # ignored', {"cmd": ("a",)}),
        ("CMD", {"cmd": ()}),
        ('ENTRYPOINT ["e"]', {"entrypoint": ("e",), "cmd": None}),
        ("ENTRYPOINT e f", {"entrypoint": ("/bin/sh", "-c", "e f"), "cmd": None}),
        ("ENV B=2", {"env": ("PATH=/bin", "A=1", "B=2")}),
        ("ENV A=2 B=3", {"env": ("PATH=/bin", "A=2", "B=3")}),
        ("ENV A two  words", {"env": ("PATH=/bin", "A=two  words")}),
        ('ENV A="x y" B=z\\ w', {"env": ("PATH=/bin", "A=x y", "B=z w")}),
        ("ENV PATH=$PATH:/x", {"env": ("PATH=/bin:/x", "A=1")}),
        ("ENV A=${NO:-d} B=${A:+y} C=${NO:+n}", {"env": ("PATH=/bin", "A=d", "B=y", "C=")}),
        ("ENV A='$PATH'", {"env": ("PATH=/bin", "A=$PATH")}),
        ("ENV A=", {"env": ("PATH=/bin", "A=")}),
        ("EXPOSE 80", {"exposed_ports": ("80/tcp",)}),
        ("EXPOSE 80/UDP 90-91", {"exposed_ports": ("80/udp", "90/tcp", "91/tcp")}),
        ("EXPOSE ${A}00/tcp", {"exposed_ports": ("100/tcp",)}),
        ("LABEL a=b c='d e'", {"labels": {"l": "1", "a": "b", "c": "d e"}}),
        ("LABEL l=2", {"labels": {"l": "2"}}),
        ("LABEL old style", {"labels": {"l": "1", "old": "style"}}),
        ("USER 1:2", {"user": "1:2"}),
        ("VOLUME /a /b", {"volumes": ("/a", "/b")}),
        ('VOLUME ["/a b"]', {"volumes": ("/a b",)}),
        ("WORKDIR /x/../y", {"working_dir": "/x/../y"}),
        ("WORKDIR sub", {"working_dir": "/base/sub"}),
        ("WORKDIR ../sub/.", {"working_dir": "/sub"}),
        ("STOPSIGNAL SIGRTMIN+3", {"stop_signal": "SIGRTMIN+3"}),
        ("STOPSIGNAL 9", {"stop_signal": "9"}),
        ("ONBUILD RUN a", {"on_build": ("RUN a",)}),
        ("HEALTHCHECK NONE", {"healthcheck": Healthcheck(test=("NONE",))}),
        ("HEALTHCHECK CMD a b", {"healthcheck": Healthcheck(test=("CMD-SHELL", "a b"))}),
        (
            'HEALTHCHECK --interval=5s --timeout=1m --start-period=1ms --retries=3 CMD ["a"]',
            {
                "healthcheck": Healthcheck(
                    test=("CMD", "a"),
                    interval=5 * 10**9,
                    timeout=60 * 10**9,
                    start_period=10**6,
                    retries=3,
                )
            },
        ),
        ("# a comment\n\nUSER x", {"user": "x"}),
        ("ENV A=1 \\\n  B=2", {"env": ("PATH=/bin", "A=1", "B=2")}),
    ],
)
def test_each_instruction_changes_its_field(change: str, expected: dict[str, Any]) -> None:
    """And nothing else."""
    before = {name: getattr(BASE, name) for name in RunConfig.__dataclass_fields__}
    assert apply_changes(BASE, [change]) == RunConfig(**before | expected)


def test_changes_are_applied_in_order() -> None:
    """A later one sees what an earlier one set; a command given with an entrypoint stays."""
    config = apply_changes(
        BASE, ["CMD new", "ENV B=2", 'ENTRYPOINT ["e"]', "WORKDIR /x$B", "WORKDIR y"]
    )
    assert config.cmd == ("/bin/sh", "-c", "new")
    assert config.entrypoint == ("e",)
    assert config.working_dir == "/x2/y"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN x", "run is not a valid change command"),
        ("FROM x", "from is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'),
        ("ENV =1", "ENV names can not be blank"),
        ("LABEL", "LABEL requires at least one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("EXPOSE 70000", "Invalid containerPort: 70000"),
        ("EXPOSE 9-8", "Invalid containerPort: 9-8"),
        ("EXPOSE 80/icmp", "Invalid proto: icmp"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("STOPSIGNAL no signal", "Invalid signal: no signal"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK X y", 'Unknown type "X" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --interval=x CMD x", 'time: invalid duration "x"'),
        ("HEALTHCHECK --retries=0 CMD x", "--retries must be at least 1 (not 0)"),
        ("HEALTHCHECK --other=1 CMD x", "unknown flag: --other"),
        ('ENV A="x', "looking for matching double-quote"),
        ("ENV A=${B", "looking for matching }"),
        ("ENV A=${B:?none}", "B: none"),
        ("ENV A=${B@x}", "unsupported modifier"),
    ],
)
def test_malformed_changes_are_refused_in_dockers_words(change: str, message: str) -> None:
    """Each with a hint."""
    with pytest.raises(InvalidRequest) as caught:
        apply_changes(BASE, [change])
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  a  b ", ["a", "b"]),
        ("'a b' c", ["'a b'", "c"]),
        (r"a\ b c", [r"a\ b", "c"]),
        ('"a \' b" c', ['"a \' b"', "c"]),
        (r'"a \" b" c', [r'"a \" b"', "c"]),
        (r"'a\' b", [r"'a\'", "b"]),
    ],
)
def test_words_are_split_like_a_shells(text: str, words: list[str]) -> None:
    """Quotes and escapes stay in the word."""
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("$A", "1"),
        ("${A}b", "1b"),
        ("$AB", ""),
        ("$", "$"),
        ("$$", ""),
        (r"\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A"', "1"),
        (r'"\$A\x"', r"$A\x"),
        ("a\\", "a\\"),
        ("${NO-x}${E-x}${E:-y}", "xy"),
        ("${NO+x}${E+x}${E:+y}", "x"),
        ("${NO:-${A}$A}", "11"),
    ],
)
def test_variables_are_put_in(word: str, value: str) -> None:
    """With the shell's modifiers."""
    assert expand(word, {"A": "1", "E": ""}) == value


@given(st.text("$ {}:-+?'\"\\ABn=[]", max_size=40))
def test_any_change_is_applied_or_refused(text: str) -> None:
    """Never another error."""
    for instruction in ("ENV", "LABEL", "EXPOSE", "CMD", "VOLUME", "HEALTHCHECK", "WORKDIR", ""):
        with contextlib.suppress(InvalidRequest):
            apply_changes(BASE, [f"{instruction} {text}"])
