"""The only place that touches ctypes: system calls, mounts, namespaces, capabilities, pidfds.

Each wrapper is a few lines around one system call, raises OSError with the errno and the path, and
imports nothing of Pannier's. Numbers and structures are the kernel's UAPI headers'.
"""
