"""Types at a terminal: ``python terminal.py PROMPT=ANSWER… -- COMMAND…``.

The command has a terminal of its own. Each answer is typed, with Return, once its prompt is shown;
one that was not asked for is a failure.
"""

from __future__ import annotations

import contextlib
import os
import pty
import sys


def main(words: list[str]) -> int:
    """Run a command and answer it; return its exit status, or 1 where it did not ask."""
    split = words.index("--")
    answers = [word.partition("=")[::2] for word in words[:split]]
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(words[split + 1], words[split + 1 :])
    shown = b""
    with contextlib.suppress(OSError):  # EIO is what the end of a terminal looks like
        while piece := os.read(terminal, 4096):
            os.write(1, piece)
            shown += piece
            if answers and answers[0][0].encode() in shown:
                os.write(terminal, f"{answers.pop(0)[1]}\n".encode())
                shown = b""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status or bool(answers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
