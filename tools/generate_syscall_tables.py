# ruff: noqa: INP001 - a script, not a module of a package
"""Write ``core/pannier/linux/syscall_tables`` anew from the kernel's headers.

Run as ``python tools/generate_syscall_tables.py`` after installing ``linux-libc-dev`` (x86) and,
for the other architectures, ``linux-libc-dev-arm64-cross`` and ``linux-libc-dev-armhf-cross``; an
architecture whose headers are absent is left as it is. With ``--check`` nothing is written and the
exit status says whether a table contradicts the headers.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from pannier.linux.syscall_tables import numbers

PACKAGE = Path(__file__).parent.parent / "core/pannier/linux/syscall_tables"
INCLUDE = Path("/usr/include")

X32_BIT = 0x40000000
FIRST_COMMON = 424
"""From this number on (Linux 5.1) all architectures number new calls alike."""

PRIVATE = 0x0F0000
"""The private calls of 32-bit ARM begin here."""

# What the headers of a long-term release do not know yet; from the kernel's syscall tables.
FROM_451 = (
    "cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount "
    "lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat "
    "removexattrat open_tree_attr file_getattr file_setattr listns"
)
NEWER = {
    "x86_64": {"uretprobe": 335, "uprobe": 336},
    "common": {name: number for number, name in enumerate(FROM_451.split(), 451)},
}

TITLES = {
    "x86_64": "x86-64 (``asm/unistd_64.h``)",
    "i386": "32-bit x86 (``asm/unistd_32.h``)",
    "aarch64": "64-bit ARM (``asm-generic/unistd.h`` as its ``asm/unistd.h`` asks)",
    "arm": "32-bit ARM, EABI (``asm/unistd-eabi.h``)",
    "common": "all architectures, from Linux 5.1 on",
}


def macros(header: Path, *flags: str) -> dict[str, int]:
    """Return the numbers that *header* defines, by the names of the calls."""
    printed = subprocess.run(
        [
            "cpp",
            "-dM",
            "-nostdinc",
            f"-I{INCLUDE}/x86_64-linux-gnu",
            f"-I{INCLUDE}",
            *flags,
            header,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    defined = dict(re.findall(r"^#define (__\w+) (.+)$", printed, re.MULTILINE))
    found = {}
    for macro in defined:
        match = re.fullmatch(
            r"__(?:ARM_)?NR_(?!OABI|SYSCALL|syscalls|BASE|arch_specific)(\w+)", macro
        )
        if match:
            found[match[1]] = _value(defined, macro)
    return found


def _value(defined: dict[str, str], macro: str) -> int:
    text = defined[macro].strip("()")
    total = 0
    for term in text.replace("(", "").split("+"):
        word = term.strip()
        total += int(word, 0) if word[0].isdigit() else _value(defined, word)
    return total


def headers() -> dict[str, dict[str, int]]:
    """Return the tables of those architectures whose headers are here."""
    x86 = INCLUDE / "x86_64-linux-gnu/asm"
    tables = {}
    if (x86 / "unistd_64.h").exists():
        tables["x86_64"] = macros(x86 / "unistd_64.h")
        tables["i386"] = macros(x86 / "unistd_32.h")
        tables["x32"] = macros(x86 / "unistd_x32.h", f"-D__X32_SYSCALL_BIT={X32_BIT:#x}")
    for name, triplet in (("aarch64", "aarch64-linux-gnu"), ("arm", "arm-linux-gnueabihf")):
        include = Path("/usr") / triplet / "include"
        if (include / "asm/unistd.h").exists():
            bits = ("-D__LP64__",) if name == "aarch64" else ("-D__ARM_EABI__",)
            tables[name] = macros(include / "asm/unistd.h", f"-I{include}", "-undef", *bits)
    return tables


def layout(table: dict[str, int]) -> str:
    """Lay a table out: a number, then the names of the calls that follow one another from it."""
    lines: list[str] = []
    expected = -1
    for number, name in sorted((number, name) for name, number in table.items()):
        if number != expected or len(lines[-1]) + len(name) > 95:
            lines.append(str(number))
        lines[-1] += f" {name}"
        expected = number + 1
    return "\n".join(lines)


def module(name: str, table: dict[str, int]) -> str:
    """Return the source of a table's module."""
    return (
        f'"""System calls of {TITLES[name]}.\n\n'
        'Written by ``tools/generate_syscall_tables.py``.\n"""\n\n'
        "from __future__ import annotations\n\n"
        '__all__ = ["TABLE"]\n\n'
        f'TABLE = """\n{layout(table)}\n"""\n'
    )


def write(tables: dict[str, dict[str, int]]) -> None:
    """Write the modules."""
    common = NEWER["common"] | {
        name: number for name, number in tables["x86_64"].items() if number >= FIRST_COMMON
    }
    (PACKAGE / "common.py").write_text(module("common", common))
    for name in ("x86_64", "i386", "aarch64", "arm"):
        if name in tables:
            own = tables[name] | NEWER.get(name, {})
            table = {call: number for call, number in own.items() if common.get(call) != number}
            (PACKAGE / f"{name}.py").write_text(module(name, table))


def contradictions(tables: dict[str, dict[str, int]]) -> list[str]:
    """Say where the package and the headers disagree; newer calls of the headers are no fault."""
    newest = max(NEWER["common"].values())
    shared = {name for name, number in numbers("aarch64").items() if number >= FIRST_COMMON}
    found = []
    for name, table in tables.items():
        ours = numbers(name)
        for call, number in table.items():
            if ours.get(call) != number and not newest < number % X32_BIT < PRIVATE:
                found.append(f"{name}: {call} is {number}, not {ours.get(call)}")
        # A call that exists here only is newer than the headers, or wrong.
        known = table.keys() | shared | NEWER["x86_64"].keys()
        found += [f"{name}: {call} is in no header" for call in ours if call not in known]
    return found


def main() -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    tables = headers()
    if not arguments.check:
        write(tables)
        return 0
    faults = contradictions(tables)
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
