"""A container's view of the world, put together step by step in its own first process.

Each function here is an instruction of the driver's list (see :mod:`.planning`). Mounts are made
detached, their destinations opened inside the root, and the one moved onto the other by
descriptors: no path of the container's is ever given to mount(2), so nothing can be swapped in
between.
"""

from __future__ import annotations

import os
import posixpath
import stat
from errno import EEXIST, EINVAL

from pannier.linux import mounts
from pannier.linux.namespaces import CLONE_NEWCGROUP, unshare
from pannier.linux.paths import (
    open_in_root,
)
from pannier.linux.process import set_domainname, set_hostname
from pannier.linux.rootmounts import (
    attach,
    attach_filesystem,
    enter_root,
    hide,
    new_filesystem,
    open_console,
    protect,
    set_parameter,
)
from pannier.linux.rootpath import (
    make_directory,
    make_parent,
)
from pannier.stdio.small import suppress
from pannier_runtime_native.copyup import copy_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pannier_runtime_native.messages import Job

__all__ = ["DEVICES", "PLACEHOLDER", "Assembly"]

PLACEHOLDER = "/root"
"""Where the container's root is attached before it becomes the root; the zygote makes it."""

DEVICES = "/devices"
"""Where device nodes that were made outside a user namespace are attached meanwhile."""

_NULL = os.makedev(1, 3)


class Assembly:
    """What the instructions have in common. *streams* becomes the terminal where there is one."""

    def __init__(self, job: Job, descriptors: list[int], await_group: Callable[[], None]) -> None:
        self._descriptors = descriptors
        self._null_path = "/null"
        self._await_group = await_group
        self._root = descriptors[job["root"]]
        self._proc = -1
        self.attribute = -1
        self.master = -1
        self.slave = -1

    def run(self, verb: str, *arguments: object) -> None:
        """Carry out one instruction."""
        handler: Callable[..., None] = getattr(self, f"do_{verb}")
        handler(*arguments)

    def do_enter_groups(self, *files: int) -> None:
        """Enter control groups through their ``tasks``, which take in a thread alone."""
        for index in files:
            os.write(self._descriptors[index], b"0")

    # ---- the root and its mounts

    def do_root(self) -> None:
        """Attach the root, still beside the host's."""
        mounts.move_mount(self._root, PLACEHOLDER)
        # What is mounted in it would else be mounted wherever it was copied from.
        mounts.mount_setattr(self._root, propagation=mounts.MS_PRIVATE, recursive=True)

    def do_filesystem(  # noqa: PLR0917 - as the message has them
        self,
        destination: bytes,
        kind: str,
        source: bytes,
        attributes: int,
        options: list[tuple[str, bytes | None]],
        copy_up: bool,  # noqa: FBT001 - as the message has it
        propagation: int,
    ) -> None:
        """Mount a new instance of a filesystem."""
        # What is only now made as a place to mount on has nothing to copy, nor a mode worth taking.
        copy_up = copy_up and self._exists(destination)
        fresh = new_filesystem(kind, source, attributes, options)
        try:
            if propagation:
                mounts.mount_setattr(fresh, propagation=propagation)
            if copy_up:
                target = make_directory(self._root, destination)
                try:
                    copy_tree(target, fresh)
                finally:
                    os.close(target)
            attach_filesystem(self._root, destination, kind, fresh)
        except BaseException:
            os.close(fresh)
            raise
        if kind == "proc" and self._proc < 0:
            self._proc = fresh  # kept: what is written below it is surely procfs
        else:
            os.close(fresh)

    def _exists(self, path: bytes) -> bool:
        try:
            os.close(open_in_root(self._root, path))
        except FileNotFoundError:
            return False
        return True

    def do_bind(self, destination: bytes, index: int) -> None:
        """Attach what was opened and cloned in the host's view."""
        attach(self._root, destination, self._descriptors[index])

    def do_attributes(self, destination: bytes, attributes: int) -> None:
        """Change the attributes of the mount at a place."""
        target = open_in_root(self._root, destination)
        try:
            mounts.mount_setattr(target, set=attributes)
        finally:
            os.close(target)

    def do_propagation(self, flags: int, deep: bool) -> None:  # noqa: FBT001 - as the message has it
        """Set the propagation of the root mount; *deep* of those below it too."""
        mounts.mount_setattr(self._root, propagation=flags, recursive=deep)

    def do_readonly_root(self) -> None:
        """Let nobody write to the root mount."""
        mounts.mount_setattr(self._root, set=mounts.MOUNT_ATTR_RDONLY)

    # ---- devices

    def do_device_place(self, path: bytes, kind: int, device: int) -> None:
        """See that nothing but the device itself is where it is to be made."""
        parent, name = make_parent(self._root, path)
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        finally:
            os.close(parent)
        if stat.S_IFMT(status.st_mode) != kind or status.st_rdev != device:
            raise OSError(EEXIST, "a file that is not this device is there already", path)

    def do_device(  # noqa: PLR0917 - as the message has them
        self, path: bytes, kind: int, device: int, mode: int, uid: int, gid: int
    ) -> None:
        """Make a device node."""
        parent, name = make_parent(self._root, path)
        try:
            # The umask must not take bits from what was asked for.
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
            os.mknod(name, kind | mode, device, dir_fd=parent)
            node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            status = os.fstat(node)
            if stat.S_IFMT(status.st_mode) != kind or status.st_rdev != device:
                raise OSError(EINVAL, "something else has taken the device's place", path)
            own = f"/proc/self/fd/{node}"
            os.chown(own, uid, gid)
            os.chmod(own, mode)  # noqa: PTH101 - pathlib is not loaded here
        finally:
            os.close(node)

    def do_device_nodes(self, descriptor: int) -> None:
        """Attach the folder of nodes that were made outside this user namespace."""
        mounts.move_mount(self._descriptors[descriptor], DEVICES)

    def do_device_bind(self, path: bytes, name: str) -> None:
        """Bind a node that was made outside this user namespace, where none may be made."""
        node = mounts.clone_tree(f"{DEVICES}/{name}")
        try:
            attach(self._root, path, node)
        finally:
            os.close(node)

    def do_link(self, path: bytes, target: bytes) -> None:
        """Make a symlink, unless something is there."""
        parent, name = make_parent(self._root, path)
        try:
            with suppress(FileExistsError):
                os.symlink(target, name, dir_fd=parent)
        finally:
            os.close(parent)

    def do_terminal(self) -> None:
        """Open a terminal of the container's own devpts, and show it as /dev/console."""
        self.master, self.slave = open_console(self._root)

    # ---- what is hidden

    def do_mask(self, path: bytes) -> None:
        """Hide a file behind /dev/null, a folder behind an empty one; nothing where neither is."""
        hide(self._root, path, self._null_path)

    def do_readonly(self, path: bytes) -> None:
        """Let nobody write below a path; nothing where it is missing."""
        protect(self._root, path)

    # ---- names, parameters, control groups

    def do_hostname(self, name: bytes) -> None:
        """Name the host."""
        set_hostname(name)

    def do_domainname(self, name: bytes) -> None:
        """Name the NIS domain."""
        set_domainname(name)

    def procfs(self) -> int:
        """Return a procfs that we have mounted ourselves."""
        if self._proc < 0:
            self._proc = new_filesystem("proc", b"proc")
        return self._proc

    def do_sysctl(self, path: bytes, value: bytes) -> None:
        """Set a kernel parameter, through a procfs that we mounted ourselves."""
        set_parameter(self.procfs(), path, value)

    def do_group(self, namespace: bool) -> None:  # noqa: FBT001 - as the message has it
        """Wait until we are in our control group, and only then make it a namespace's root."""
        self._await_group()
        if namespace:
            unshare(CLONE_NEWCGROUP)

    # ---- the end

    def do_pivot(self) -> None:
        """Make the root the root, and let go of everything else."""
        enter_root(self._root)

    def do_directory(self, path: bytes) -> None:
        """Make the working directory where it is missing."""
        os.close(make_directory(self._root, posixpath.normpath(path)))
