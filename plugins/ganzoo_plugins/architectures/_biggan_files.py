"""The checkpoints of ajbrock/BigGAN-PyTorch (9845943): G.pth, G_ema.pth and D.pth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

import ganzoo

#: number of the discriminator's blocks -> size of the images
_SIZES = {4: 32, 5: 64, 6: 128, 7: 256}


def read_biggan(file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
    """The generator, its average or the discriminator. Raises UsageError where the file is none of the program."""
    tensors = {name.removeprefix("module."): value for name, value in file.below("").items()}
    if "output_layer.2.weight" in tensors and "linear.weight" in tensors:
        return _generator(file, tensors)
    if "embed.weight" in tensors and "linear.weight" in tensors and _blocks(tensors) in _SIZES:
        return _discriminator(tensors)
    few = ", ".join(list(tensors)[:4])
    raise ganzoo.UsageError(f"{file.path} is no G, G_ema or D of BigGAN-PyTorch: its tensors are {few}.")


def _generator(file: ganzoo.ForeignFile, tensors: Mapping[str, Tensor]) -> ganzoo.ForeignWeights:
    found, blocks = _renamed(tensors), _blocks(tensors)
    size, last = 4 << blocks, tensors["output_layer.2.weight"]
    shared = tensors.get("shared.weight")
    gain = tensors["blocks.0.0.bn1.gain.weight"]
    hierarchical = shared is not None and gain.shape[1] > shared.shape[1]
    options: dict[str, Any] = {
        "width": last.shape[1] // {3: 4, 4: 2}.get(blocks, 1),
        "latent_dim": tensors["linear.weight"].shape[1] * (blocks + 1 if hierarchical else 1),
        "hierarchical": hierarchical,
        "shared": 0 if shared is None else shared.shape[1],
        "attention": next((4 << index + 1 for index in range(blocks) if f"blocks.{index}.1.gamma" in tensors), 0),
    }
    classes = gain.shape[0] if shared is None else shared.shape[0]
    images = {"channels": last.shape[0], "height": size, "width": size, "classes": classes}
    which = {"average": found} if "ema" in file.path.name.lower() else {"generator": found}
    return ganzoo.ForeignWeights(options=options, images=images, **which)  # type: ignore[arg-type]


def _discriminator(tensors: Mapping[str, Tensor]) -> ganzoo.ForeignWeights:
    first, blocks = tensors["blocks.0.0.conv1.weight"], _blocks(tensors)
    size = _SIZES[blocks]
    attended = [index for index in range(blocks) if f"blocks.{index}.1.gamma" in tensors]
    options = {
        "discriminator_width": first.shape[0] // (4 if size == 32 else 1),
        "attention": 0 if not attended else 16 if size == 32 else size >> attended[0] + 1,
    }
    images = {"channels": first.shape[1], "height": size, "width": size, "classes": len(tensors["embed.weight"])}
    return ganzoo.ForeignWeights(options=options, images=images, discriminator=_renamed(tensors))


def _blocks(tensors: Mapping[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names: only the layers with spectral norm have others. Singular values, kept for logs, are left out."""
    found = {}
    for name, value in tensors.items():
        layer, _, last = name.rpartition(".")
        if last == "u0":
            found[f"{layer}.parametrizations.weight.0._u"] = value.flatten()
        elif last == "weight" and f"{layer}.u0" in tensors:
            found[f"{layer}.parametrizations.weight.original"] = value
        elif last != "sv0":
            found[name] = value
    return found
