"""Files written beside the training: in order, errors where they can be heard, and nothing alive behind the end."""

from __future__ import annotations

import threading
import time

import pytest

from ganzoo.storage.background import BackgroundWriter


class Slow:
    """What a job holds on to, and takes its time to let go."""

    def __del__(self) -> None:
        time.sleep(0.2)


def _writing() -> bool:
    return any(thread.name == "writer" for thread in threading.enumerate())


def test_closed_means_that_the_thread_has_ended() -> None:
    """Not only its job: Python aborts a process that ends over a thread which still lets go of tensors."""
    writer, done = BackgroundWriter(), list[int]()

    def submit(held: Slow) -> None:
        writer.submit(lambda: len([held]), done.append)

    submit(Slow())
    writer.close()
    assert not _writing()
    writer.settle()
    assert done == [1]


def test_a_close_that_may_not_take_long_does_not() -> None:
    writer, free = BackgroundWriter(), threading.Event()
    writer.submit(lambda: free.wait(10), lambda result: None)
    since = time.perf_counter()
    writer.close(0.1)
    assert time.perf_counter() - since < 5
    assert _writing()
    free.set()
    writer.close()


def test_what_fails_is_raised_at_the_next_call() -> None:
    writer = BackgroundWriter()
    writer.submit(lambda: 1 // 0, lambda result: None)
    with pytest.raises(ZeroDivisionError):
        writer.submit(lambda: 1, lambda result: None)
    writer.close()
