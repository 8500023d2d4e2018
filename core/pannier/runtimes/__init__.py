"""What a runtime driver needs besides its mechanism; the native runtime is made of it, too.

:class:`~pannier.runtimes.supervised.SupervisedRuntime` answers the contract by asking monitors, one
for each container, over a socket in the container's folder. A driver that is content with a monitor
of Pannier's takes :class:`~pannier.runtimes.monitored.MonitoredRuntime`, and adds a
:class:`~pannier.runtimes.mechanism.Mechanism`: what makes a container, starts it, and adds
processes to it. The other modules turn parts of a specification into plain values
(:mod:`~pannier.runtimes.processes`, :mod:`~pannier.runtimes.options`), and do in a container's
processes what these say (:mod:`~pannier.runtimes.launch`).

Nothing is imported here: the processes that become containers import this package.
"""
