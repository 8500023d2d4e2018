"""Pannier: a container engine in which every mechanism is a driver."""

__all__ = ["__version__"]

__version__ = "0.1.0"
