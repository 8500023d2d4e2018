"""The command line: a client of the Docker Engine API, and nothing else.

Commands are declared as data (:mod:`pannier.cli.command`) and parsed by a small parser that
follows the docker client's rules; click writes the help and the completions, and is imported only
for those, since it alone costs three times the start of the interpreter.
"""
