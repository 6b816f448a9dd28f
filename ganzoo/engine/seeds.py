"""Seeds derived from keys such as (run seed, "step", step), so that checkpoints need no random state."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(*key: int | str) -> int:
    """A 63-bit seed from a key such as (run seed, "order", epoch); the same on every machine and in every version."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A new random generator on `device`, with the seed `derive(*key)`.

    torch's CPU generator uses only the low 32 bits of a seed, and all of them depend on the key.
    """
    return torch.Generator(device).manual_seed(derive(*key))


def reseed(*key: int | str) -> None:
    """Seed all global random generators: torch on the CPU and on CUDA, numpy and random.

    torch's generators are seeded directly: `torch.manual_seed` calls all backends and takes 60 times as long.
    """
    seed = derive(*key)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device_generator in torch.cuda.default_generators:
            device_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)


def host_states() -> Callable[[], None]:
    """Save the states of the global CPU generators (torch, numpy, random); returns a function that restores them."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()

    def restore() -> None:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])

    return restore


@contextmanager
def aside(*key: int | str) -> Iterator[None]:
    """Context manager: seed all global generators from `key`, and restore their states at the end."""
    restore = host_states()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices):
        reseed(*key)
        try:
            yield
        finally:
            restore()
