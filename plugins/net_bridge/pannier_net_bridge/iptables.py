"""The firewall over the iptables program, for hosts that want all rules there.

Everything is in chains of our own, to which one jump each leads from the built-in ones. Each change
runs a program, so it is slower than nf_tables by some milliseconds.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Final

from pannier.errors import DriverError
from pannier_net_bridge.firewall import Firewall
from pannier_net_bridge.ports import EVERY_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier_net_bridge.firewall import Published
    from pannier_net_bridge.networks import BridgeNetwork

__all__ = ["IptablesFirewall"]

_TIMEOUT: Final = 30

_PORTS: Final = "PANNIER"
_FORWARD: Final = "PANNIER-FORWARD"
_POSTROUTING: Final = "PANNIER-POST"
_GUARD: Final = "PANNIER-GUARD"

_JUMPS: Final = (
    ("raw", "PREROUTING", _GUARD, ()),
    ("nat", "PREROUTING", _PORTS, ("-m", "addrtype", "--dst-type", "LOCAL")),
    ("nat", "OUTPUT", _PORTS, ("-m", "addrtype", "--dst-type", "LOCAL")),
    ("nat", "POSTROUTING", _POSTROUTING, ()),
    ("filter", "FORWARD", _FORWARD, ()),
)
_TRACKED: Final = "-m conntrack --ctstate"


class IptablesFirewall(Firewall):
    """See the module."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def set_up(self, networks: Sequence[BridgeNetwork], *, closed: bool) -> None:
        """Rewrite our chains but that of the ports, and add the jumps that are missing."""
        rules = {
            "raw": (_GUARD, ["! -i lo -d 127.0.0.0/8 -j DROP"]),
            "nat": (_POSTROUTING, [rule for one in networks for rule in _post_rules(one)]),
            "filter": (_FORWARD, _forward_rules(networks, closed=closed)),
        }
        with self._lock:
            self._try("-t", "nat", "-N", _PORTS)
            self._restore(
                "".join(
                    _table(table, chain, chain_rules)
                    for table, (chain, chain_rules) in rules.items()
                )
            )
            for table, builtin, chain, condition in _JUMPS:
                jump = (*condition, "-j", chain)
                if not self._try("-t", table, "-C", builtin, *jump):
                    self._run("-t", table, "-I", builtin, "1", *jump)

    def tear_down(self) -> None:
        """Delete the jumps and the chains."""
        with self._lock:
            for table, builtin, chain, condition in _JUMPS:
                self._try("-t", table, "-D", builtin, *condition, "-j", chain)
            for table, _, chain, _ in _JUMPS:
                self._try("-t", table, "-F", chain)
                self._try("-t", table, "-X", chain)

    def publish(self, ports: Sequence[Published]) -> None:
        """Append a rule for each port that has none."""
        with self._lock:
            missing = [
                rule
                for rule in map(_port_rule, ports)
                if not self._try("-t", "nat", "-C", _PORTS, *rule.split())
            ]
            if missing:
                lines = "".join(f"-A {_PORTS} {rule}\n" for rule in missing)
                self._restore(f"*nat\n{lines}COMMIT\n")

    def withdraw(self, ports: Sequence[Published]) -> None:
        """Delete the rules that are there."""
        with self._lock:
            for rule in map(_port_rule, ports):
                self._try("-t", "nat", "-D", _PORTS, *rule.split())

    def synchronize(self, ports: Sequence[Published]) -> None:
        """Rewrite the chain of the ports."""
        with self._lock:
            self._restore(_table("nat", _PORTS, [_port_rule(port) for port in sorted(ports)]))

    def note_generation(self) -> None:
        """There is none: iptables does not say when its rules were changed."""

    def present(self) -> bool:
        """Whether the jump to our chain is there: a reload of other rules takes it away."""
        return self._try("-C", "FORWARD", "-j", _FORWARD)

    def intact(self) -> bool:
        """Look, which costs a program's run."""
        return self.present()

    def _restore(self, text: str) -> None:
        self._call(["iptables-restore", "--wait", "--noflush"], text)

    def _run(self, *arguments: str) -> None:
        self._call(["iptables", "--wait", *arguments], "")

    def _try(self, *arguments: str) -> bool:
        """Whether it succeeded."""
        command = ["iptables", "--wait", *arguments]
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=_TIMEOUT)
        except FileNotFoundError:
            return False
        return done.returncode == 0

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


def _table(name: str, chain: str, rules: Sequence[str]) -> str:
    """Return the text for iptables-restore that gives one chain exactly these rules."""
    lines = "".join(f"-A {chain} {rule}\n" for rule in rules)
    return f"*{name}\n:{chain} - [0:0]\n{lines}COMMIT\n"


def _port_rule(port: Published) -> str:
    where = "" if str(port.host_ip) == EVERY_ADDRESS else f"-d {port.host_ip}/32 "
    return (
        f"{where}-p {port.protocol} -m {port.protocol} --dport {port.host_port} "
        f"-j DNAT --to-destination {port.address}:{port.port}"
    )


def _post_rules(network: BridgeNetwork) -> list[str]:
    bridge, subnet = network.bridge, network.subnet
    rules = [
        f"-s 127.0.0.0/8 -o {bridge} -j MASQUERADE",
        f"-s {subnet} -o {bridge} {_TRACKED} DNAT -j MASQUERADE",
    ]
    if network.masquerade and not network.internal:
        rules.append(f"-s {subnet} ! -o {bridge} -j MASQUERADE")
    return rules


def _forward_rules(networks: Sequence[BridgeNetwork], *, closed: bool) -> list[str]:
    out = [
        f"-i {network.bridge} ! -o {network.bridge} -j DROP"
        for network in networks
        if network.internal
    ]
    into = [rule for network in networks for rule in _into_rules(network)]
    accept = [f"-i {network.bridge} -j ACCEPT" for network in networks]
    return [*out, *into, *accept, *(["-j DROP"] if closed else [])]


def _into_rules(network: BridgeNetwork) -> list[str]:
    bridge = network.bridge
    rules = [f"-o {bridge} {_TRACKED} RELATED,ESTABLISHED -j ACCEPT"]
    if not network.internal:
        rules.append(f"-o {bridge} {_TRACKED} DNAT -j ACCEPT")
    if network.icc:
        rules.append(f"-i {bridge} -o {bridge} -j ACCEPT")
    return [*rules, f"-o {bridge} -j DROP"]
