"""The streams of processes as the runtime contract wants them served, for drivers' monitors.

:class:`~pannier.stdio.streams.Streams` on a :class:`~pannier.stdio.loop.Loop` reads a process's
output to a log (:class:`~pannier.stdio.log.LogFile`) and to clients, and passes their input on.
Nothing here imports more than it must: there is a monitor for each container, as long as it lives.
"""
