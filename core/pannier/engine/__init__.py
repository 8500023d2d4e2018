"""The engine: containers, execs, networks, volumes, events, supervision and the state database."""
