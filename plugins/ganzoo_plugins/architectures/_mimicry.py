"""The checkpoints of kwotsin/mimicry (a7fda06): netG_*_steps.pth and netD_*_steps.pth at 32 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import ganzoo

_GENERATOR_LAYERS = {"l1": "dense", "b5": "bn", "c5": "conv"}
_BLOCK_LAYERS = {"c1": "conv1", "c2": "conv2", "c_sc": "shortcut", "b1": "bn1", "b2": "bn2"}
#: end of a name -> what it is in torch's parametrisations
_SPECTRAL = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}


def read_mimicry(
    file: ganzoo.ForeignFile, discriminator_layers: Mapping[str, str], spectral_layers: tuple[str, ...] = ()
) -> ganzoo.ForeignWeights:
    """The generator or the discriminator of a file of mimicry.

    `discriminator_layers` are the names of layers behind the blocks, theirs -> ours; `spectral_layers` are those of
    them with mimicry's own spectral norm. Raises UsageError where the file is none of mimicry.
    """
    tensors = file.below("model_state_dict") or file.below("")
    if "l1.weight" in tensors and "c5.weight" in tensors and "block4.c1.weight" in tensors:
        return _generator(tensors)
    if "l5.bias" in tensors and "block1.c1.bias" in tensors and "block5.c1.bias" not in tensors:
        return _discriminator(tensors, discriminator_layers, spectral_layers)
    raise ganzoo.UsageError(
        f"{file.path} is no netG or netD of mimicry at 32 pixels: it has no layers l1, block2 to block4, c5, nor "
        f"block1 to block4, l5; its tensors are {_few(tensors)}."
    )


def _few(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(list(tensors)[:4]) + (", ..." if len(tensors) > 4 else "")


def _generator(tensors: Mapping[str, Tensor]) -> ganzoo.ForeignWeights:
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        layer, _, rest = name.partition(".")
        if layer.startswith("block"):
            part, _, rest = rest.partition(".")
            place = f"blocks.{int(layer.removeprefix('block')) - 2}.{_BLOCK_LAYERS.get(part, part)}"
            if rest == "embed.weight":  # one table, scales first
                found[f"{place}.scale.weight"], found[f"{place}.shift.weight"] = value.chunk(2, dim=1)
                continue
            found[f"{place}.{rest.replace('bn.', 'norm.')}"] = value
        else:
            found[f"{_GENERATOR_LAYERS.get(layer, layer)}.{rest}"] = value
    _count_batches(found)
    width, channels = found["conv.weight"].shape[1], found["conv.weight"].shape[0]
    images = {"channels": channels, "height": 32, "width": 32}
    if "blocks.0.bn1.scale.weight" in found:
        images["classes"] = len(found["blocks.0.bn1.scale.weight"])
    options: dict[str, Any] = {"latent_dim": found["dense.weight"].shape[1], "generator_width": width}
    return ganzoo.ForeignWeights(
        options={**options, "program": "mimicry"}, images=images, generator=found, recipe="mimicry"
    )


def _discriminator(
    tensors: Mapping[str, Tensor], layers: Mapping[str, str], spectral: tuple[str, ...]
) -> ganzoo.ForeignWeights:
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        layer, _, rest = name.partition(".")
        if layer.startswith("block"):
            part, _, rest = rest.partition(".")
            place = f"features.blocks.{int(layer.removeprefix('block')) - 1}.{_BLOCK_LAYERS.get(part, part)}"
        else:
            place = layers.get(layer, layer)
        if layer in spectral and rest == "sn_sigma":
            continue  # kept for logs only
        if layer in spectral and rest in ("weight", "sn_u"):
            rest = {"weight": "weight_orig", "sn_u": "weight_u"}[rest]
        # mimicry's own vectors are rows
        found[f"{place}.{_SPECTRAL.get(rest, rest)}"] = value.flatten() if rest == "weight_u" else value
    first = tensors["block1.c1.weight_orig" if "block1.c1.weight_orig" in tensors else "block1.c1.weight"]
    images = {"channels": first.shape[1], "height": 32, "width": 32}
    if "l_y.weight" in tensors:
        images["classes"] = len(tensors["l_y.weight"])
    options = {"width": first.shape[0], "program": "mimicry"}
    return ganzoo.ForeignWeights(options=options, images=images, discriminator=found, recipe="mimicry")


def _count_batches(state: dict[str, Tensor]) -> None:
    """Add the counters of batches that old files do not have."""
    for name in [name for name in state if name.endswith(".running_mean")]:
        state.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
