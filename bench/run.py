"""Side-by-side benchmarks: the same work on Pannier and on the peers that are installed, in turn.

    python bench/run.py                       # everything, against docker and podman
    python bench/run.py --only run --runs 5   # the works whose name holds "run"
    python bench/run.py --growth 300          # how cost grows with running containers
    python bench/run.py --json result.json

The engines' folders lie below TMPDIR. Have it on the filesystem that you care for; an ext4 without
a journal is slow to make files for a minute after others were deleted (it looks at each of those
first), which in repeated pulls drowns what the engines themselves do.

Absolute times move with the machine's mood: the ratios, taken in one run, are what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from engines import Engine, available
from growth import measure_growth
from works import WORKS, Work

if TYPE_CHECKING:
    from collections.abc import Iterator

Figures = dict[str, dict[str, list[float]]]
_PART_TARGETS = {"start": 5.0, "remove": 4.0, "memory": 2.5, "monitor": 1.0, "peak": 1.0}


def main() -> int:
    """Run the benchmarks that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default="pannier,docker,podman", help="comma-separated")
    parser.add_argument("--only", default="", help="works whose name holds this text")
    parser.add_argument("--runs", type=int, help="how often each work is done")
    parser.add_argument("--growth", type=int, default=0, metavar="N", help="beside N containers")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("the engines need root\n")
        return 1
    # An end from outside, too, unwinds what was started.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="pb-") as folder, contextlib.ExitStack() as stack:
        engines = available(options.engines.split(","), Path(folder))
        for engine in engines:
            stack.enter_context(engine.running())
        result: dict[str, object] = {}
        if options.growth:
            result["growth"] = _report_growth(engines, options.growth)
        else:
            result["works"] = dict(_report_works(engines, options.only, options.runs))
        if options.json:
            options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _report_works(
    engines: list[Engine], only: str, runs: int | None
) -> Iterator[tuple[str, Figures]]:
    names = [engine.name for engine in engines]
    print(f"{'work':46}" + "".join(f"{name:>12}" for name in names) + "   ratio  reach")
    for work in WORKS:
        if only in work.name:
            figures = _take(work, [e for e in engines if e.api or not work.api], runs or work.runs)
            for part in sorted({part for parts in figures.values() for part in parts}):
                _print_row(work, part, names, figures)
            yield work.name, figures


def _take(work: Work, engines: list[Engine], runs: int) -> Figures:
    figures: Figures = {engine.name: {} for engine in engines}
    for number in range(runs + 1):
        for engine in engines:
            for part, value in work.measure(engine).items():
                if number or runs == 1:  # the first round warms up
                    figures[engine.name].setdefault(part, []).append(value)
    return figures


def _print_row(work: Work, part: str, names: list[str], figures: Figures) -> None:
    medians = {
        name: statistics.median(figures[name][part])
        for name in names
        if figures.get(name, {}).get(part)
    }
    size = part in {"memory", "monitor", "peak"}
    cells = "".join(f"{_show(medians.get(name), size=size):>12}" for name in names)
    peers = [value for name, value in medians.items() if name != "pannier"]
    target = _PART_TARGETS.get(part, work.target)
    ratio = min(peers) / medians["pannier"] if peers and "pannier" in medians else None
    shown = f"{ratio:6.2f}x  {target:.1f}x" if ratio else ""
    print(f"{f'{work.name} {part}'.strip():46}{cells}  {shown}", flush=True)


def _show(value: float | None, *, size: bool) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.2f} MB" if size else f"{value * 1e3:.1f} ms"


def _report_growth(engines: list[Engine], crowd: int) -> dict[str, dict[str, tuple[float, float]]]:
    result = {}
    for engine in engines:
        if engine.api:
            result[engine.name] = measure_growth(engine, crowd)
            for name, (alone, crowded) in result[engine.name].items():
                print(
                    f"{engine.name:10} {name:6} alone {alone * 1e3:7.2f} ms, beside {crowd}: "
                    f"{crowded * 1e3:7.2f} ms, {crowded / alone:.2f}x",
                    flush=True,
                )
    return result


if __name__ == "__main__":
    sys.exit(main())
