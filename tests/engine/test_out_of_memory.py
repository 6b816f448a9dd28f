"""Out of memory during a training: one sentence with what to lower, and the last checkpoint is kept."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner
from torch import Tensor

from ganzoo.cli import cli
from ganzoo.storage import checkpoints


class Hungry(tiny.Tiny):
    """Draws latents for some steps, then allocates more memory than there is."""

    recipe = tiny.RECIPE.merged({"checkpoint_every": "2 steps", "losses": "nonsaturating"})
    draws = 0

    def __init__(self, *, kind: str = "cpu") -> None:
        super().__init__()
        self.kind = kind
        type(self).draws = 0

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Latents (N, 4)."""
        type(self).draws += 1
        if type(self).draws > 12:
            if self.kind == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
            if self.kind == "python":
                raise MemoryError
            if self.kind == "limit":  # the kernel refuses memory that the machine may have
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                room = pages * resource.getpagesize() + (64 << 20)
                resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))
                torch.empty(1 << 28)
            torch.empty(1 << 50)  # no machine has it
        return super().latents(count, generator)


@pytest.fixture
def limits() -> Iterator[None]:
    """Restores the memory limit of this process."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("kind", ["cpu", "cuda", "python", "limit"])
def test_out_of_memory_is_a_sentence(kind: str, tmp_path: Path, limits: None) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(cli, ["train", f"{__file__}:Hungry:kind={kind}", "digits:size=8", "--out", str(out)])
    assert result.exit_code == 1, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: Out of memory ("), result.stderr
    assert "lower --batch-size" in last
    saved = checkpoints.load_latest(out / "checkpoints")
    assert saved is not None
    assert saved.notes == []
    assert saved.meta["step"] >= 2
    assert not (out / "lock").exists()
