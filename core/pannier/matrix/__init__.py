"""The matrix: one test command on several kernels, and a table of what came of it.

A *cell* is the command on one kernel with one layout of control groups. The host is a kernel of the
table as well; the others are Debian's, booted in a virtual machine over this very root filesystem.
"""
