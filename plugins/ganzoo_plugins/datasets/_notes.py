"""Notes to the user on stderr."""

from __future__ import annotations

import sys
import time

import click

_said: set[str] = set()


def note_once(text: str) -> None:
    """Print a note, unless this process has printed it already: both splits and every evaluation read a dataset."""
    if text not in _said:
        _said.add(text)
        click.echo(text, err=True)


class Progress:
    """How far a long work is: a line that is written over on a terminal, and a new line every ten seconds in a log."""

    #: seconds before the first line
    PATIENCE = 2.0

    def __init__(self, verb: str, total: int, noun: str = "pictures") -> None:
        self._verb, self._total, self._noun = verb, total, noun
        self._start = time.monotonic()
        self._next = self._start + self.PATIENCE
        self._terminal = sys.stderr.isatty()
        self._width = 0

    def show(self, done: int) -> None:
        """Print the line if it is time for one. `done`: of `total`."""
        now = time.monotonic()
        if now < self._next or not done:
            return
        self._next = now + (0.5 if self._terminal else 10)
        seconds = (now - self._start) * (self._total - done) / done
        left = f"{seconds / 60:.0f} min" if seconds > 100 else f"{seconds:.0f} s"
        line = f"{self._verb} {done} of {self._total} {self._noun}, about {left} left"
        if self._terminal:
            click.echo(f"\r{line.ljust(self._width)}", err=True, nl=False)
            self._width = len(line)
        else:
            click.echo(f"{line}.", err=True)

    def end(self) -> None:
        """Wipe the line from the terminal."""
        if self._width:
            click.echo(f"\r{' ' * self._width}\r", err=True, nl=False)
            self._width = 0
