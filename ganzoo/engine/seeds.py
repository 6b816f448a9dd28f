"""Randomness is derived, never saved: a stable mix of a key, and the generators of a process set from it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(*key: int | str) -> int:
    """A stable 63-bit number from a key such as (run seed, "order", epoch); the same on every machine and version."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A fresh generator on `device`, seeded by `derive`.

    torch's CPU generator reads only the low 32 bits of a seed; the mix spreads the key over all of them.
    """
    return torch.Generator(device).manual_seed(derive(*key))


def reseed(*key: int | str) -> None:
    """Set every global generator a step could draw from: torch on the CPU and on CUDA, numpy and random.

    The torch generators are set directly: `torch.manual_seed` walks all backends and takes 60 times as long.
    """
    seed = derive(*key)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device_generator in torch.cuda.default_generators:
            device_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)


def host_states() -> Callable[[], None]:
    """The host's generators as they are now: what is returned puts them back there."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()

    def put_back() -> None:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])

    return put_back


@contextmanager
def aside(*key: int | str) -> Iterator[None]:
    """Random state of its own, derived from `key`, inside; outside everything is as it was."""
    before = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices):
        reseed(*key)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
