"""The firewall over the programs iptables and ip6tables, for hosts that want all rules there.

Everything is in chains of our own, to which one jump each leads from the built-in ones. Each change
runs a program, so it is slower than nf_tables by some milliseconds. ip6tables runs only while a
network has IPv6.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError
from pannier_net_bridge.firewall import Firewall
from pannier_net_bridge.ports import EVERY_ADDRESS, EVERY_ADDRESS6, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pannier_net_bridge.firewall import Closed, Published
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["IptablesFirewall"]

_TIMEOUT: Final = 30

_PORTS: Final = "PANNIER"
_FORWARD: Final = "PANNIER-FORWARD"
_POSTROUTING: Final = "PANNIER-POST"
_GUARD: Final = "PANNIER-GUARD"
_REFUSE: Final = "PANNIER-REFUSE"

_Jump = tuple[str, str, str, tuple[str, ...]]
_LOCAL: Final = ("-m", "addrtype", "--dst-type", "LOCAL")
_LOOPBACK6: Final = "::1/128"
_JUMPS: Final[tuple[_Jump, ...]] = (
    ("nat", "PREROUTING", _PORTS, _LOCAL),
    ("nat", "OUTPUT", _PORTS, _LOCAL),
    ("nat", "POSTROUTING", _POSTROUTING, ()),
    ("filter", "FORWARD", _FORWARD, ()),
)
_JUMPS4: Final[tuple[_Jump, ...]] = (*_JUMPS, ("raw", "PREROUTING", _GUARD, ()))
_JUMPS6: Final[tuple[_Jump, ...]] = (
    *_JUMPS,
    ("filter", "OUTPUT", _REFUSE, ("-d", _LOOPBACK6)),
)
_TRACKED: Final = "-m conntrack --ctstate"


class IptablesFirewall(Firewall):
    """See the module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._four = _Program("iptables", _JUMPS4)
        self._six = _Program("ip6tables", _JUMPS6)
        self._wants_six = False

    def set_up(self, networks: Sequence[BridgeNetwork], *, closed: Closed, loopback6: bool) -> None:
        """Rewrite our chains but those of the ports, and add the jumps that are missing."""
        pairs = [(one, str(one.subnet)) for one in networks]
        guard = {("raw", _GUARD): ["! -i lo -d 127.0.0.0/8 -j DROP"]}
        with self._lock:
            self._four.set_up(
                _rules(pairs, "127.0.0.0/8", closed=closed.four) | guard, (("nat", _PORTS),)
            )
            pairs = [(one, str(one.six.subnet)) for one in networks if one.six is not None]
            self._wants_six = bool(pairs)
            if not pairs:
                self._six.tear_down()
                return
            # A rule at the head of the chain keeps ::1 out of it, where it cannot be redirected.
            self._six.skipped = "" if loopback6 else f"-d {_LOOPBACK6} -j RETURN"
            self._six.set_up(
                _rules(pairs, _LOOPBACK6, closed=closed.six),
                (("nat", _PORTS), ("filter", _REFUSE)),
            )

    def tear_down(self) -> None:
        """Delete the jumps and the chains."""
        with self._lock:
            self._four.tear_down()
            self._six.tear_down()

    def publish(self, ports: Sequence[Published]) -> None:
        """Append the rules that are missing."""
        with self._lock:
            for program, mine in self._divided(ports):
                program.publish([rule for port in mine for rule in _port_rules(port)])

    def withdraw(self, ports: Sequence[Published]) -> None:
        """Delete the rules that are there."""
        with self._lock:
            for program, mine in self._divided(ports):
                for port in mine:
                    for table, chain, rule in _port_rules(port):
                        program.tries("-t", table, "-D", chain, *rule.split())

    def synchronize(self, ports: Sequence[Published]) -> None:
        """Rewrite the chains of the ports."""
        with self._lock:
            for program, mine in self._divided(ports, always=True):
                program.synchronize([rule for port in mine for rule in _port_rules(port)])

    def _divided(
        self, ports: Sequence[Published], *, always: bool = False
    ) -> Iterator[tuple[_Program, list[Published]]]:
        """Yield each program with the ports that are its."""
        six = [port for port in ports if ":" in str(port.host_ip)]
        four = [port for port in ports if port not in six]
        if four or always:
            yield self._four, four
        if six or (always and self._wants_six):
            yield self._six, six

    def generation(self) -> int:
        """There is none: iptables does not say when its rules were changed."""
        return 0

    def note_generation(self, looked_at: int) -> None:
        """Note nothing, as there is none."""

    def present(self, *, six: bool = False) -> bool:
        """Whether the jumps to our chains are there: a flush or a reload takes them away."""
        return self._four.present() and (not six or self._six.present())

    def intact(self) -> bool:
        """Look, which costs a run of each program that is in use."""
        return self.present(six=self._wants_six)


_Rule = tuple[str, str, str]
"""A table, a chain and a rule's text."""


@dataclass(slots=True)
class _Program:
    """One of the two programs, and our chains there.

    :param skipped: a rule at the head of the ports' chain; empty for none.
    """

    name: str
    jumps: tuple[_Jump, ...]
    skipped: str = ""

    def set_up(
        self, rules: dict[tuple[str, str], list[str]], kept: Sequence[tuple[str, str]]
    ) -> None:
        """Give chains exactly these rules, have those that are *kept*, and all jumps."""
        for table, chain in kept:
            self.tries("-t", table, "-N", chain)
        self.restore("".join(_table(*where, found) for where, found in rules.items()))
        for table, builtin, chain, condition in self.jumps:
            jump = (*condition, "-j", chain)
            if not self.tries("-t", table, "-C", builtin, *jump):
                self._call([self.name, "--wait", "-t", table, "-I", builtin, "1", *jump], "")

    def tear_down(self) -> None:
        for table, builtin, chain, condition in self.jumps:
            self.tries("-t", table, "-D", builtin, *condition, "-j", chain)
        for table, _, chain, _ in self.jumps:
            self.tries("-t", table, "-F", chain)
            self.tries("-t", table, "-X", chain)

    def publish(self, rules: Sequence[_Rule]) -> None:
        missing = [
            (table, chain, rule)
            for table, chain, rule in rules
            if not self.tries("-t", table, "-C", chain, *rule.split())
        ]
        if missing:
            self.restore(
                "".join(f"*{table}\n-A {chain} {rule}\nCOMMIT\n" for table, chain, rule in missing)
            )

    def synchronize(self, rules: Sequence[_Rule]) -> None:
        chains: dict[tuple[str, str], list[str]] = {
            (table, chain): [self.skipped] if self.skipped and chain == _PORTS else []
            for table, _, chain, _ in self.jumps
            if chain in (_PORTS, _REFUSE)
        }
        for table, chain, rule in sorted(rules):
            chains[table, chain].append(rule)
        self.restore("".join(_table(*where, found) for where, found in chains.items()))

    def present(self) -> bool:
        """Whether all jumps are there; one run tells, as it lists every table that is in use."""
        there = _jumps_in(self._output([f"{self.name}-save"]))
        return all(jump[:3] in there for jump in self.jumps)

    def restore(self, text: str) -> None:
        self._call([f"{self.name}-restore", "--wait", "--noflush"], text)

    def tries(self, *arguments: str) -> bool:
        """Run the program; return whether it succeeded."""
        command = [self.name, "--wait", *arguments]
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=_TIMEOUT)
        except FileNotFoundError:
            return False
        return done.returncode == 0

    def _output(self, command: Sequence[str]) -> str:
        """Run a program that changes nothing; return what it prints, where it succeeds."""
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=_TIMEOUT
            )
        except FileNotFoundError:
            return ""
        return "" if done.returncode else done.stdout

    def _call(self, command: Sequence[str], text: str) -> None:
        if shutil.which(command[0]) is None:
            raise DriverError(
                f"bridge: the program {command[0]} is not here",
                hint='install iptables, or set [network.bridge] firewall = "nftables"',
            )
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, input=text, timeout=_TIMEOUT
        )
        if done.returncode:
            raise DriverError(
                f"bridge: {' '.join(command)} failed: {' '.join(done.stderr.split())}",
                hint='set [network.bridge] firewall = "nftables", which needs no program',
            )


def _jumps_in(saved: str) -> set[tuple[str, str, str]]:
    """Return the table, chain and target of each rule that iptables-save printed."""
    found = set()
    table = ""
    for line in saved.splitlines():
        words = line.split()
        if line.startswith("*"):
            table = line[1:]
        elif words[:1] == ["-A"] and "-j" in words[:-1]:
            found.add((table, words[1], words[words.index("-j") + 1]))
    return found


def _table(name: str, chain: str, rules: Sequence[str]) -> str:
    """Return the text for iptables-restore that gives one chain exactly these rules."""
    lines = "".join(f"-A {chain} {rule}\n" for rule in rules)
    return f"*{name}\n:{chain} - [0:0]\n{lines}COMMIT\n"


def _port_rules(port: Published) -> list[_Rule]:
    """Return what redirects a port, and refuses ::1 where that is not redirected."""
    where = ""
    if str(port.host_ip) not in (EVERY_ADDRESS, EVERY_ADDRESS6):
        where = f"-d {port.host_ip}/{port.host_ip.max_prefixlen} "
    to = f"-p {port.protocol} -m {port.protocol} --dport {port.host_port}"
    target = place(port.address, port.port)
    rules = [("nat", _PORTS, f"{where}{to} -j DNAT --to-destination {target}")]
    if str(port.host_ip) == EVERY_ADDRESS6:
        answer = " --reject-with tcp-reset" if port.protocol == "tcp" else ""
        rules.append(("filter", _REFUSE, f"{to} -j REJECT{answer}"))
    return rules


def _rules(
    networks: Sequence[tuple[BridgeNetwork, str]], loopback: str, *, closed: bool
) -> dict[tuple[str, str], list[str]]:
    """Return the rules of networks, each with its subnet of one IP version, by table and chain."""
    return {
        ("nat", _POSTROUTING): [
            rule for network, subnet in networks for rule in _post_rules(network, subnet, loopback)
        ],
        ("filter", _FORWARD): _forward_rules(
            [one for one, _ in networks], 6 if ":" in loopback else 4, closed=closed
        ),
    }


def _post_rules(network: BridgeNetwork, subnet: str, loopback: str) -> list[str]:
    bridge = network.bridge
    rules = [
        f"-s {loopback} -o {bridge} -j MASQUERADE",
        f"-s {subnet} -o {bridge} {_TRACKED} DNAT -j MASQUERADE",
    ]
    if network.masquerade and not network.internal:
        rules.append(f"-s {subnet} ! -o {bridge} -j MASQUERADE")
    return rules


def _forward_rules(networks: Sequence[BridgeNetwork], version: int, *, closed: bool) -> list[str]:
    out = [
        f"-i {network.bridge} ! -o {network.bridge} -j DROP"
        for network in networks
        if network.internal
    ]
    bridges = [network.bridge for network in networks]
    into = [
        rule
        for network in networks
        for rule in _into_rules(network, bridges if network.modes.unprotected(version) else None)
    ]
    accept = [f"-i {network.bridge} -j ACCEPT" for network in networks]
    return [*out, *into, *accept, *(["-j DROP"] if closed else [])]


def _into_rules(network: BridgeNetwork, kept_out: Sequence[str] | None) -> list[str]:
    """Return what is let into a network.

    :param kept_out: the bridges from which nothing else comes, where all the world does; else None.
    """
    bridge = network.bridge
    rules = [f"-o {bridge} {_TRACKED} RELATED,ESTABLISHED -j ACCEPT"]
    if not network.internal:
        rules.append(f"-o {bridge} {_TRACKED} DNAT -j ACCEPT")
    if network.icc:
        rules.append(f"-i {bridge} -o {bridge} -j ACCEPT")
    if kept_out is not None and not network.internal:
        rules += [f"-i {one} -o {bridge} -j DROP" for one in kept_out]
        rules.append(f"-o {bridge} -j ACCEPT")
    return [*rules, f"-o {bridge} -j DROP"]
