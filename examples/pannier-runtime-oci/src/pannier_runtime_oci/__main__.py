"""A monitor's process: ``python -m pannier_runtime_oci DESCRIPTOR``, as the driver calls it."""

from __future__ import annotations

import os
import socket
import sys

from pannier.linux.process import set_child_subreaper, set_name

from pannier_runtime_oci.monitor import Monitor, reply
from pannier_runtime_oci.wire import receive


def main() -> None:
    """Be a monitor: take a container's job from the socket that is inherited."""
    driver = socket.socket(fileno=int(sys.argv[1]))
    driver.set_inheritable(False)
    if os.fork():
        os._exit(0)
    os.setsid()
    set_name("pannier-oci")
    set_child_subreaper()
    message = receive(driver)
    if message is None:
        return
    job, descriptors = message
    os.chdir(descriptors[job["folder"]])
    monitor = Monitor(job, descriptors)
    try:
        answer = monitor.begin(descriptors)
        if "pid" in answer:
            reply(driver, answer)
            monitor.serve()
    finally:
        monitor.end()
    if "error" in answer:
        # Only now: whoever is told takes the folder away.
        reply(driver, answer)


if __name__ == "__main__":
    main()
