"""The kit's machinery: gates, known gaps, and what an author may not do."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pannier.testing import Conformance, StorageConformance, announced, mandatory
from support.kit_runs import SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from support.kit_runs import Run

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def outcomes(kit: Callable[[str, Iterable[str]], Run]) -> Run:
    """Run the small kit."""
    classes = ("TestPlain", "TestWithGaps", "TestWithoutADriver", "TestWithAnotherDriver")
    return kit("machinery.py", classes)


class Small(Conformance[Any]):
    """A kit with two tests."""

    @mandatory
    def test_core(self) -> None:
        """Hold."""

    def test_rest(self) -> None:
        """Hold too."""


def test_tests_are_gated_on_what_the_driver_declares(outcomes: Run) -> None:
    """Declared: the tests run; not declared: they are skipped with the capability's name."""
    assert outcomes["TestPlain", "test_of_what_is_declared"].kind == "passed"
    skipped = outcomes["TestPlain", "test_of_what_is_not_declared"]
    assert skipped.kind == "skipped"
    assert skipped.text == "not applicable: the driver does not declare idmap"
    refused = outcomes["TestPlain", "test_of_a_refusal_of_what_is_declared"]
    assert refused.text == "not applicable: the driver declares size-limit"


def test_a_known_gap_is_a_strict_expected_failure(outcomes: Run) -> None:
    """It does not fail the run, with its reason; one that passes after all does."""
    assert outcomes["TestPlain", "test_that_fails"].kind == "failed"
    gap = outcomes["TestWithGaps", "test_that_fails"]
    assert (gap.kind, gap.text) == ("skipped", "known gap: not yet")
    assert outcomes["TestWithGaps", "test_that_passes"].kind == "failed"
    assert "was mended" in outcomes["TestWithGaps", "test_that_passes"].text
    assert outcomes["TestWithGaps", "test_of_the_core"].kind == "passed"
    skipped = outcomes["TestWithGaps", "test_of_what_is_not_declared"]
    assert skipped.text == "not applicable: the driver does not declare idmap"


def test_a_known_gap_may_be_a_leak(outcomes: Run) -> None:
    """It shows itself after the test, which itself passes."""
    assert outcomes["TestPlain", "test_that_leaks"].kind == "failed"
    gap = outcomes["TestWithGaps", "test_that_leaks"]
    assert (gap.kind, gap.text) == ("skipped", "known gap: not closed yet")


def test_an_announced_test_is_a_warning_at_first(outcomes: Run) -> None:
    """Whoever fails it is told the release from which on that counts; then it does."""
    text = "announced: must pass from Pannier 99.0 on"
    for name in ("test_that_is_announced", "test_that_is_announced_and_leaks"):
        warned = outcomes["TestPlain", name]
        assert (warned.kind, warned.text) == ("skipped", text)
    assert outcomes["TestPlain", "test_that_is_announced_and_passes"].kind == "passed"
    assert outcomes["TestPlain", "test_that_was_announced"].kind == "failed"


def test_what_is_announced_is_listed_at_the_end(tmp_path: Path) -> None:
    """Whatever reports are asked for; the run itself does not fail."""
    file = SUBJECTS / "machinery.py"
    command = (sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider")
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), f"{file}::TestPlain", "-k", "is_announced"],
        env=os.environ | {"PYTHONPATH": str(SUBJECTS.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conformance kit: fails, and will have to pass" in done.stdout
    assert "::test_that_is_announced: announced: must pass from Pannier 99.0 on" in done.stdout


def test_an_announced_test_may_be_a_gap_until_it_counts() -> None:
    """Also one that is mandatory then."""

    class Growing(Conformance[Any]):
        @mandatory
        @announced(since="0.1", required="99.0")
        def test_soon(self) -> None:
            """Hold soon."""

        @mandatory
        @announced(since="0.0", required="0.1")
        def test_now(self) -> None:
            """Hold now."""

    type("Author", (Growing,), {"known_gaps": {"test_soon": "not yet"}})
    with pytest.raises(TypeError, match="test_now is mandatory"):
        type("Author", (Growing,), {"known_gaps": {"test_now": "not yet"}})
    with pytest.raises(ValueError, match="no release lies between"):
        announced(since="0.2", required="0.2")


def test_an_old_form_of_the_contract_is_a_warning_to_its_author(
    kit: Callable[[str, Iterable[str]], Run],
) -> None:
    """Every test tells of it, and none fails for it."""
    outcome = kit("old_form.py", ["TestOldForm"])
    assert outcome["TestOldForm", "test_of_the_core"].kind == "passed"
    assert outcome["TestOldForm", "test_of_the_warning"].kind == "passed"


def test_a_file_may_stay_only_where_the_author_says_so(outcomes: Run) -> None:
    """The kit names what is left when everything was removed."""
    left = outcomes["TestPlain", "test_that_leaves_a_layer"]
    assert left.kind == "failed"
    assert "/root/index" in left.text
    assert outcomes["TestWithGaps", "test_that_leaves_a_layer"].kind == "passed"


def test_leaks_of_a_failed_test_are_not_reported_besides(outcomes: Run) -> None:
    """They are its consequence."""
    failed = outcomes["TestPlain", "test_that_fails_and_leaks"]
    assert "the only failure" in failed.text
    assert "leaves behind" not in failed.text


def test_an_author_is_told_what_is_missing(
    outcomes: Run, kit: Callable[[str, Iterable[str]], Run]
) -> None:
    """The fixture, the right kind of driver, the plugin."""
    assert "needs a fixture open_driver" in outcomes["TestWithoutADriver", "test_of_the_core"].text
    wrong = outcomes["TestWithAnotherDriver", "test_of_the_core"].text
    assert "is no StorageDriver" in wrong
    unplugged = kit("unplugged.py", ["TestUnplugged::test_of_the_core"])
    text = unplugged["TestUnplugged", "test_of_the_core"].text
    assert 'pytest_plugins = "pannier.testing.plugin"' in text


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        ({"test_core": "too hard"}, "mandatory"),
        ({"test_other": "unknown"}, "no test 'test_other'"),
        ({"test_rest": " "}, "needs a reason"),
    ],
)
def test_gaps_that_may_not_be_are_errors(gaps: dict[str, str], message: str) -> None:
    """A mandatory test, one that is none, and a gap without a reason: the class is refused."""
    with pytest.raises(TypeError, match=message):
        type("Author", (Small,), {"known_gaps": gaps})


@pytest.mark.parametrize("replacement", [None, lambda _: None])
def test_the_kit_is_inherited_whole(replacement: object) -> None:
    """A test of the kit can be neither taken out nor replaced."""
    for name in ("test_core", "test_rest"):
        with pytest.raises(TypeError, match=f"replaces what is the kit's: {name}"):
            type("Author", (Small,), {name: replacement})


@pytest.mark.parametrize("name", ["test_layers_are_listed", "opened", "sweep", "surroundings"])
@pytest.mark.parametrize("of_the_kit", [False, True])
def test_a_further_base_replaces_nothing_either(name: str, *, of_the_kit: bool) -> None:
    """Whichever class it is that comes before the kit's."""
    bases = (Conformance,) if of_the_kit and name.startswith("test_") else ()
    mixin = type("Mixin", bases, {name: None})
    with pytest.raises(TypeError, match=f"replaces what is the kit's: {name}"):
        type("Author", (mixin, StorageConformance), {})
    type("Author", (type("Mixin", (), {"test_mine": lambda _: None}), StorageConformance), {})


@pytest.mark.parametrize("name", ["no_leaks", "opened", "refused", "sweep", "surroundings"])
def test_how_tests_are_judged_is_the_kits(name: str) -> None:
    """An author can replace neither the search for leaks nor what it looks at."""
    with pytest.raises(TypeError, match=f"replaces what is the kit's: {name}"):
        type("Author", (StorageConformance,), {name: lambda _: None})


@pytest.mark.parametrize("pattern", ["*", "**", "*/*", "[a-z]*"])
def test_not_everything_may_be_kept(pattern: str) -> None:
    """That would leave no search for files."""
    with pytest.raises(TypeError, match="would let any file stay"):
        type("Author", (Small,), {"may_keep": ("index", pattern)})


def collected(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Have pytest collect an author's module."""
    (tmp_path / "test_mine.py").write_text(
        "import pytest\n"
        "from pannier.testing import StorageConformance\n"
        f'pytest_plugins = "pannier.testing.plugin"\n{body}'
    )
    command = (sys.executable, "-m", "pytest", "--collect-only", "-q", "-c", os.devnull)
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("@pytest.mark.xfail\nclass TestMine(StorageConformance): pass", "is a test of the kit"),
        (
            """class TestMine(StorageConformance): pass
TestMine.known_gaps = {'test_layers_are_listed': 'later'}""",
            "test_layers_are_listed is mandatory",
        ),
        (
            """class TestMine(StorageConformance): pass
TestMine.test_layers_are_listed = lambda _: None""",
            "replaces what is the kit's: test_layers_are_listed",
        ),
    ],
)
def test_nothing_is_waived_behind_the_kits_back(tmp_path: Path, body: str, said: str) -> None:
    """Neither by pytest's own marks, nor once the class was looked at."""
    outcome = collected(tmp_path, body)
    assert outcome.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in outcome.stdout + outcome.stderr


def test_an_authors_own_tests_are_the_authors(tmp_path: Path) -> None:
    """One in the class may be expected to fail."""
    body = (
        "class TestMine(StorageConformance):\n"
        "    @pytest.mark.xfail\n"
        "    def test_speed(self): raise AssertionError\n"
    )
    outcome = collected(tmp_path, body)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "TestMine::test_speed" in outcome.stdout


def test_every_test_of_the_kit_says_what_it_is_about() -> None:
    """A docstring for each, which reports show; most belong to the core."""
    tests = {name: getattr(StorageConformance, name) for name in dir(StorageConformance)}
    undocumented = [
        name for name, test in tests.items() if name.startswith("test_") and not test.__doc__
    ]
    assert undocumented == []
