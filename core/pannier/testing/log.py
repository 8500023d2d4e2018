"""The kit for log drivers.

The kit stands in for the engine: it asks for the form of files, opens sinks, writes lines to them,
and looks at where these arrive. See :mod:`pannier.testing.base` for how the class is used.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from pannier.drivers.log import LogCapability, LogForm
from pannier.errors import InvalidRequest
from pannier.testing.base import mandatory, refuses, requires
from pannier.testing.leaks import files_below
from pannier.testing.log_bench import source
from pannier.testing.log_delivery import DeliveryTests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pannier.testing.log_bench import LogBench

__all__ = ["LogConformance"]

_PREFIXES = ("", "cache-")
"""Of the options that limit the file, where a driver has them."""

_COMMON: tuple[Mapping[str, str], ...] = (
    {"max-size": "10m"},
    {"max-file": "3"},
    {"cache-max-size": "10m"},
    {"cache-max-file": "3"},
    {"cache-disabled": "true"},
    {"compress": "true"},
    {"tag": "{{.Name}}"},
    {"labels": "org.example.team"},
    {"env": "PATH"},
)
"""Options that drivers have in common; which of them, each says itself."""


class LogConformance(DeliveryTests):
    """The contract of :class:`~pannier.drivers.log.LogDriver`, as tests to inherit whole.

    Beside ``open_driver``, the author of a driver that declares DELIVER supplies the fixture
    ``arrived``, and should supply ``outage``; any author may set ``log_options`` (or the fixture
    ``options``) and ``wrong_options``.
    """

    # Options.

    @mandatory
    def test_the_options_of_a_container_are_checked(self, bench: LogBench) -> None:
        """Good ones pass, again and again, and a form of file follows from them."""
        for _ in range(2):
            bench.driver.check(bench.options)
        bench.form()

    @mandatory
    def test_unknown_options_are_refused(self, bench: LogBench) -> None:
        """By name and with a hint, when the container is made, so that no slip goes unnoticed."""
        if not bench.writes:
            pytest.skip("not applicable: nothing is logged, whatever the options are")
        with pytest.raises(InvalidRequest) as caught:
            bench.driver.check(MappingProxyType({**bench.options, "no-such-option": "1"}))
        assert "no-such-option" in caught.value.message
        assert caught.value.hint, "the error has no hint: which options are there?"

    @mandatory
    @pytest.mark.parametrize("prefix", _PREFIXES)
    def test_senseless_limits_are_refused(self, bench: LogBench, prefix: str) -> None:
        """A size or a number of files that means nothing is never taken for none."""
        self._needs_limits(bench, prefix)
        for name, values in (
            (f"{prefix}max-size", ("nonsense", "0", "-5", "10q")),
            (f"{prefix}max-file", ("nonsense", "0", "-1", "1.5", "²")),
        ):
            for value in values:
                with pytest.raises(InvalidRequest):
                    bench.driver.check(MappingProxyType({**bench.options, name: value}))

    def test_wrong_values_are_refused(self, bench: LogBench) -> None:
        """When the container is made: not when it first writes."""
        if not self.wrong_options:
            pytest.skip("not applicable: the author names no wrong_options")
        for wrong in self.wrong_options:
            with pytest.raises(InvalidRequest):
                bench.driver.check(MappingProxyType({**bench.options, **wrong}))

    @mandatory
    def test_what_was_checked_is_good(self, bench: LogBench) -> None:
        """No option that passed the check fails when the container is started."""
        for more in _COMMON:
            if bench.accepts(more):
                assert_sound(bench.form(more))

    # The file.

    @mandatory
    def test_the_form_is_one_that_can_be_kept(self, bench: LogBench) -> None:
        """A limit is none or positive, and the current file is always kept."""
        assert_sound(bench.form())

    @mandatory
    @pytest.mark.parametrize("prefix", _PREFIXES)
    def test_limits_are_honoured(self, bench: LogBench, prefix: str) -> None:
        """The size and the number that a container asks for are those that its file gets."""
        self._needs_limits(bench, prefix)
        form = bench.form({f"{prefix}max-size": "3m", f"{prefix}max-file": "7"})
        assert form is not None
        assert (form.max_size, form.max_files) == (3 << 20, 7)

    @mandatory
    def test_the_form_follows_from_the_options(self, bench: LogBench) -> None:
        """Asked twice, by many threads, after a restart: the same; and nothing is written for it.

        The options are not written to.
        """
        first = bench.form()
        before = files_below(bench.opened.context.root, bench.opened.context.state)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: bench.form(), range(32))) == {first}
        assert bench.form() == first
        assert files_below(bench.opened.context.root, bench.opened.context.state) == before
        bench.opened.reopen()
        assert bench.form() == first

    @mandatory
    @requires(LogCapability.READ)
    def test_what_can_be_read_is_kept(self, bench: LogBench) -> None:
        """A driver that declares READ has output written, and lets it be read."""
        form = bench.form()
        assert form is not None, "nothing is written that could be read"
        assert form.readable

    @mandatory
    @requires(LogCapability.DELIVER)
    def test_what_is_delivered_is_written(self, bench: LogBench) -> None:
        """The file is the buffer: without one nothing would ever be delivered."""
        assert bench.form() is not None

    @mandatory
    @refuses(LogCapability.DELIVER)
    def test_delivery_is_refused(self, bench: LogBench) -> None:
        """Without the capability no sink is given that nobody writes to."""
        with self.refused():
            bench.driver.open(source(), bench.options)

    # What the tests share.

    def _needs_limits(self, bench: LogBench, prefix: str) -> None:
        if not bench.writes:
            pytest.skip("not applicable: nothing is logged, whatever the options are")
        if not bench.accepts({f"{prefix}max-size": "3m", f"{prefix}max-file": "7"}):
            pytest.skip(f"not applicable: there are no options {prefix}max-size and -file")


def assert_sound(form: object) -> None:
    """Assert that a runtime can keep a file in a form, or that there is to be none."""
    if form is not None:
        assert isinstance(form, LogForm)
        assert form.max_size >= 0
        assert form.max_files >= 1
