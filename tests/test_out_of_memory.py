"""Out of memory in the midst of a training: one sentence with what to lower, and the last checkpoint stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner
from torch import Tensor

from ganzoo import checkpoint
from ganzoo.cli import cli


class Hungry(tiny.Tiny):
    """Draws some latents, and then more than there is room for."""

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
            torch.empty(1 << 50)  # no machine has it
        return super().latents(count, generator)


@pytest.mark.parametrize("kind", ["cpu", "cuda", "python"])
def test_out_of_memory_is_a_sentence(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(cli, ["train", f"{__file__}:Hungry:kind={kind}", "digits:size=8", "--out", str(out)])
    assert result.exit_code == 1, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: Out of memory ("), result.stderr
    assert "lower --batch-size" in last
    saved = checkpoint.load_latest(out / "checkpoints")
    assert saved is not None
    assert saved.notes == []
    assert saved.meta["step"] >= 2
    assert not (out / "lock").exists()
