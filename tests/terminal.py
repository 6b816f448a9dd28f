"""The command line in a terminal: a pseudo-terminal of a given width, with all that was written to it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def ganzoo_in_terminal(*arguments: object, columns: int = 80, **environment: str) -> tuple[int, str]:
    """The exit status of `ganzoo ARGUMENTS...` in a terminal, and what it wrote, without escape sequences."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    variables = {**os.environ, "TERM": "xterm", **environment}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        variables.pop(name, None)
    command = [sys.executable, "-m", "ganzoo", *map(str, arguments)]
    written: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                return
            if not data:
                return
            written.append(data)

    process = subprocess.Popen(command, env=variables, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    reader = threading.Thread(target=read)
    reader.start()
    status = process.wait(timeout=600)
    reader.join(10)
    os.close(ours)
    return status, _ESCAPE.sub("", b"".join(written).decode()).replace("\r\n", "\n")
