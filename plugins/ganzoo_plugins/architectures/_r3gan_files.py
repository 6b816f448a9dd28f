"""The checkpoints of brownvc/R3GAN (19a7ddf): network-snapshot-*.pkl, with the networks pickled whole."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

import ganzoo
from ganzoo_plugins.architectures._snapshots import dataset_of

_NETWORKS = ("Generator", "Discriminator")
_PARTS = (
    *("GeneratorStage", "DiscriminatorStage", "GenerativeBasis", "DiscriminativeBasis", "ResidualBlock"),
    *("Convolution", "UpsampleLayer", "DownsampleLayer", *_NETWORKS),
)
#: the classes that its files name, also by the names of older files
R3GAN_CLASSES = frozenset(
    {f"training.{module}.{name}" for module in ("networks", "networks_baseline") for name in _NETWORKS}
    | {
        f"{package}.{name}"
        for package in ("R3GAN", "BaselineGAN")
        for name in (
            *(f"Networks.{part}" for part in _PARTS),
            *("FusedOperators.BiasedActivation", "FusedOperators.BiasedActivationCUDA"),
            *(f"Resamplers.Interpolative{way}sampler{end}" for way in ("Up", "Down") for end in ("", "CUDA")),
        )
    }
)
_LAYER = re.compile(r"MainLayers\.(\d{1,2})\.Layers\.(\d{1,3})\.(.+)")
#: names of tensors, theirs -> ours: of a block, of the layer before or after the blocks, and of the whole network
_BLOCK = {
    "LinearLayer1.Layer.weight": "conv1.weight",
    "NonLinearity1.Bias": "conv1.bias",
    "LinearLayer2.Layer.weight": "conv2.weight",
    "NonLinearity2.Bias": "conv2.bias",
    "LinearLayer3.Layer.weight": "conv3.weight",
}
_CHANGE = "LinearLayer.Layer.weight"
_ENDS = {"Basis": "basis", "Basis.weight": "basis.weight", "LinearLayer.weight": "linear.weight"}
_OUTER = {
    "AggregationLayer.Layer.weight": "aggregate.weight",
    "ExtractionLayer.Layer.weight": "extract.weight",
    "EmbeddingLayer.weight": "embed.weight",
}
#: (pixels, classes) -> the recipe that was published for them
_RECIPES = {
    **{(32, 10): "cifar10", (64, 0): "ffhq-64", (256, 0): "ffhq-256"},
    **{(32, 1000): "imagenet-32", (64, 1000): "imagenet-64"},
}


class _Stage(NamedTuple):
    """What the shapes of the blocks at one size say."""

    width: int
    groups: int
    blocks: int
    bfloat16: bool


class _Network(NamedTuple):
    """A network under our names, and what its shapes say."""

    state: dict[str, Tensor]
    options: dict[str, Any]
    images: dict[str, int]


def read_r3gan(file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
    """G, G_ema and D of a snapshot, or one of them. Raises UsageError where the file is none of the program."""
    whole = {name: file.below(f"{name}/Model") for name in ("D", "G", "G_ema")}
    if not any(whole.values()):
        tensors = file.below("Model") or file.below("")
        whole = {"G": tensors} if "AggregationLayer.Layer.weight" in tensors else {}
        whole |= {"D": tensors} if "ExtractionLayer.Layer.weight" in tensors else {}
    found = {name: _network(file, name, tensors) for name, tensors in whole.items() if tensors}
    if not found:
        few = ", ".join(list(file.tensors)[:4])
        raise ganzoo.UsageError(f"{file.path} is no network-snapshot of R3GAN: its tensors are {few}.")
    options = {key: value for network in found.values() for key, value in network.options.items()}
    images = {key: value for network in found.values() for key, value in network.images.items()}
    published = _RECIPES.get((images["height"], images.get("classes", 0)), "")
    return ganzoo.ForeignWeights(
        options=options,
        images=images,
        generator=found["G"].state if "G" in found else None,
        average=found["G_ema"].state if "G_ema" in found else None,
        discriminator=found["D"].state if "D" in found else None,
        recipe=published,
        dataset="" if published else dataset_of(file, images["height"], images["channels"]),
    )


def _network(file: ganzoo.ForeignFile, name: str, tensors: Mapping[str, Tensor]) -> _Network:
    """The generator or the discriminator in `tensors`."""
    try:
        stages, outer = _by_stage(tensors)
        state, sizes = _generator(stages) if name != "D" else _discriminator(stages)
        state |= outer
        low = [str(file.values.get(f"{name}/Model/MainLayers/{n}/DataType")) == "bfloat16" for n in range(len(stages))]
        found = [_stage(blocks, bfloat16) for blocks, bfloat16 in zip(sizes, low, strict=True)]
        return _facts(state, found if name != "D" else found[::-1])
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ganzoo.UsageError(
            f"{file.path}: {name} is no whole network of R3GAN, there is no layer as expected ({str(error)[:100]})."
        ) from None


def _by_stage(tensors: Mapping[str, Tensor]) -> tuple[list[dict[int, dict[str, Tensor]]], dict[str, Tensor]]:
    """Stage -> number of the layer -> tensors, and those outside of the stages. Filters of resamplers are left out."""
    stages: dict[int, dict[int, dict[str, Tensor]]] = {}
    outer: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if match := _LAYER.fullmatch(name):
            layers = stages.setdefault(int(match[1]), {})
            if match[3] != "Resampler.Kernel":
                layers.setdefault(int(match[2]), {})[match[3]] = value
        else:
            outer[_OUTER.get(name, name)] = value
    if not stages or sorted(stages) != list(range(len(stages))):
        raise ValueError(f"stages {', '.join(map(str, sorted(stages)))}")
    return [stages[number] for number in range(len(stages))], outer


def _parts(layers: Mapping[int, dict[str, Tensor]]) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """(blocks in their order, the tensors of the layer before or after them) of a stage."""
    ordered = [layer for _, layer in sorted(layers.items())]
    blocks = [layer for layer in ordered if "LinearLayer1.Layer.weight" in layer]
    between = {
        name: value for layer in ordered if "LinearLayer1.Layer.weight" not in layer for name, value in layer.items()
    }
    return blocks, between


def _generator(stages: Sequence[Mapping[int, dict[str, Tensor]]]) -> tuple[dict[str, Tensor], list[Any]]:
    """(state, blocks of each stage): basis, blocks; then for each size a convolution, the doubling, and blocks."""
    state: dict[str, Tensor] = {}
    sizes, index = [], 0
    for number, layers in enumerate(stages):
        blocks, between = _parts(layers)
        if number and _CHANGE in between:
            state[f"layers.{index}.weight"] = between.pop(_CHANGE)
            index += 1
        index += bool(number)
        state |= {_ENDS.get(name, f"stage {number} {name}"): value for name, value in between.items()}
        index = _add_blocks(state, blocks, index)
        sizes.append(blocks)
    return state, sizes


def _discriminator(stages: Sequence[Mapping[int, dict[str, Tensor]]]) -> tuple[dict[str, Tensor], list[Any]]:
    """(state, blocks of each stage): for each size blocks, the halving, and a convolution; at last the basis."""
    state: dict[str, Tensor] = {}
    sizes, index = [], 0
    for number, layers in enumerate(stages):
        blocks, between = _parts(layers)
        index = _add_blocks(state, blocks, index) + 1
        if _CHANGE in between:
            state[f"layers.{index}.weight"] = between.pop(_CHANGE)
            index += 1
        state |= {_ENDS.get(name, f"stage {number} {name}"): value for name, value in between.items()}
        sizes.append(blocks)
    return state, sizes


def _add_blocks(state: dict[str, Tensor], blocks: Sequence[Mapping[str, Tensor]], index: int) -> int:
    """Add the blocks to a state, from layer `index` on; returns the index of the layer after them."""
    for block in blocks:
        state |= {f"layers.{index}.{_BLOCK.get(name, name)}": value for name, value in block.items()}
        index += 1
    return index


def _stage(blocks: Sequence[Mapping[str, Tensor]], bfloat16: bool) -> _Stage:
    outer, inner = blocks[0]["LinearLayer1.Layer.weight"], blocks[0]["LinearLayer2.Layer.weight"]
    if inner.shape[0] != 2 * outer.shape[1]:
        raise ValueError(f"blocks of {outer.shape[1]} channels have {inner.shape[0]} inside, not twice as many")
    return _Stage(outer.shape[1], inner.shape[0] // inner.shape[1], len(blocks), bfloat16)


def _facts(state: dict[str, Tensor], stages: Sequence[_Stage]) -> _Network:
    """The network with its options and images; `stages` begin with the smallest size."""
    widths = [stage.width for stage in stages]
    groups, blocks = [stage.groups for stage in stages], [stage.blocks for stage in stages]
    embed = state.get("embed.weight")
    low = [*(stage.bfloat16 for stage in reversed(stages)), False]
    options: dict[str, Any] = {"labels": embed is not None, "bf16_stages": low.index(False)}
    options |= {"width": widths[0]} if len(set(widths)) == 1 else {"widths": _text(widths)}
    if any(width % 8 or 2 * width // 16 != count for width, count in zip(widths, groups, strict=True)):
        options["groups"] = _text(groups)
    if {*blocks} != {2}:
        options["blocks"] = _text(blocks)
    if "basis" in state:
        base, channels = state["basis"].shape[1:], state["aggregate.weight"].shape[0]
        inputs = state["linear.weight"].shape[1]
        options |= {"latent_dim": inputs - (0 if embed is None else embed.shape[0]), "end": "none"}
        options |= {} if embed is None else {"embedding": embed.shape[0]}
    else:
        base, channels = state["basis.weight"].shape[2:], state["extract.weight"].shape[1]
    height, width = (side << len(stages) - 1 for side in base)
    images = {"channels": channels, "height": height, "width": width}
    return _Network(state, options, images if embed is None else {**images, "classes": embed.shape[1]})


def _text(numbers: Sequence[int]) -> str:
    """A list such as 768x4+384; one number where all are the same."""
    runs = [(number, len(list(same))) for number, same in itertools.groupby(numbers)]
    return str(runs[0][0]) if len(runs) == 1 else "+".join(f"{n}x{count}" if count > 1 else str(n) for n, count in runs)
