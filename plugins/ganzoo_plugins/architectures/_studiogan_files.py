"""The checkpoints of POSTECH-CVLab/PyTorch-StudioGAN (947b35e): model=G|G_ema|D-best|current-weights-step=*.pth.

Its backbones `big_resnet` (BigGAN) and `resnet` (SNGAN and others, at 32 pixels) have members here; the others are
refused, with what differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

import ganzoo

_BLOCK = {"conv2d0": "conv_sc", "conv2d1": "conv1", "conv2d2": "conv2"}
_ATTENTION = {"conv1x1_theta": "theta", "conv1x1_phi": "phi", "conv1x1_g": "g", "conv1x1_attn": "o"}
#: end of a name -> what it is in torch's parametrisations
_SPECTRAL = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}
#: number of the generator's blocks -> output channels of the last one, in units of the width
_LAST_UNITS = {3: 4}
#: number of the discriminator's blocks -> size of the images
_SIZES = {4: 32, 5: 64, 6: 128, 7: 256}
#: a layer that no member has -> what is different
_STRANGE = {
    "conv2d3": "its backbone is a deep one, whose blocks have four convolutions",
    "conv2d4": "its backbone is a deep one, whose blocks have four convolutions",
    "deconv0": "its backbone is deep_conv, the DCGAN of StudioGAN, with biases and other kernels than the published",
    "linear2": "its discriminator classifies the images (AC, 2C, D2DCE or the like), and here it has one logit",
    "linear_mi": "its discriminator infers classes with heads of their own",
    "info_discrete_linear": "it has the heads of InfoGAN",
    "info_conti_mu_linear": "it has the heads of InfoGAN",
    "info_mix_linear": "its generator takes the codes of InfoGAN",
    "synthesis": "it is a StyleGAN of StudioGAN, which is a state dict without the names of NVIDIA's program",
}


def is_studiogan(file: ganzoo.ForeignFile) -> bool:
    """Whether a file has the layers of a network of StudioGAN."""
    layers = {name.partition(".")[0] for name in _state(file)}
    return "blocks" in layers and bool(layers & {"linear0", "linear1"})


def _state(file: ganzoo.ForeignFile) -> dict[str, Tensor]:
    tensors = file.below("state_dict") or file.below("")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def _unfit(file: ganzoo.ForeignFile, member: str, difference: str) -> ganzoo.UsageError:
    return ganzoo.UsageError(f"{file.path} is of StudioGAN and does not fit {member}: {difference}.")


def _checked(file: ganzoo.ForeignFile, member: str) -> tuple[dict[str, Tensor], list[tuple[bool, dict[str, Tensor]]]]:
    """(tensors outside of blocks, blocks in order: whether a block is attention, and its tensors)."""
    state = _state(file)
    words = {word for name in state for word in name.split(".")}
    for layer, difference in _STRANGE.items():
        if layer in words:
            raise _unfit(file, member, difference)
    found: dict[tuple[int, int], dict[str, Tensor]] = {}
    outside = {}
    for name, value in state.items():
        if match := re.fullmatch(r"blocks\.(\d{1,4})\.(\d{1,4})\.(.+)", name):
            found.setdefault((int(match[1]), int(match[2])), {})[match[3]] = value
        else:
            outside[name] = value
    blocks = [found[place] for place in sorted(found)]
    marked = [(any(name.startswith("conv1x1_") for name in block), block) for block in blocks]
    if not marked or marked[0][0]:
        raise _unfit(file, member, "it has no residual block before its attention")
    return outside, marked


def _which(file: ganzoo.ForeignFile, state: Mapping[str, Tensor]) -> dict[str, Mapping[str, Tensor]]:
    """A generator's state under the name of the network that the file's name says: `model=G_ema-...` is the average."""
    return {"average" if re.search(r"G_ema|ema", file.path.name) else "generator": state}


def _needed(file: ganzoo.ForeignFile, member: str, state: Mapping[str, Tensor], *names: str) -> list[Tensor]:
    """These tensors. Raises UsageError where one is missing."""
    for name in names:
        if name not in state:
            raise _unfit(file, member, f"it has no {name}")
    return [state[name] for name in names]


def _spectral(name: str) -> str:
    layer, _, last = name.rpartition(".")
    return f"{layer}.{_SPECTRAL[last]}" if last in _SPECTRAL else name


# --- BigGAN -----------------------------------------------------------------------------------------------------------


def read_studiogan_biggan(file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
    """The generator, its average or the discriminator of the backbone `big_resnet`. Raises UsageError for others."""
    outside, blocks = _checked(file, "biggan")
    state = {**outside, **_biggan_blocks(blocks)}
    options: dict[str, Any] = {"program": "studiogan"}
    if any(name.startswith("linear0.") for name in outside):
        return _biggan_generator(file, outside, blocks, state, options)
    return _biggan_discriminator(file, outside, blocks, state, options)


def _biggan_blocks(blocks: list[tuple[bool, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """The tensors of all blocks under our names; attention belongs to the block before it."""
    found: dict[str, Tensor] = {}
    number = -1
    for is_attention, block in blocks:
        number += not is_attention
        place = f"blocks.{number}.{int(is_attention)}"
        for name, value in block.items():
            layer, _, rest = name.partition(".")
            if name == "sigma":
                found[f"{place}.gamma"] = value.reshape(())
            elif rest.startswith("bn."):
                if statistics := {"bn.running_mean": "stored_mean", "bn.running_var": "stored_var"}.get(rest):
                    found[f"{place}.{layer}.{statistics}"] = value
            else:
                own = (_ATTENTION if is_attention else _BLOCK).get(layer, layer)
                found[_spectral(f"{place}.{own}.{rest}")] = value
    return found


def _renamed(state: Mapping[str, Tensor], layers: Mapping[str, str]) -> dict[str, Tensor]:
    """The state with the layers outside of blocks under our names; counters of batches are left out."""
    found = {}
    for name, value in state.items():
        layer, _, rest = name.partition(".")
        if layer in layers and not rest.endswith("num_batches_tracked"):
            found[_spectral(f"{layers[layer]}.{rest}")] = value
        elif layer not in layers:
            found[name] = value
    return found


def _attended(blocks: list[tuple[bool, dict[str, Tensor]]]) -> list[int]:
    """The numbers of the blocks, from 0, that attention follows."""
    return [place - 1 - sum(one for one, _ in blocks[:place]) for place, (one, _) in enumerate(blocks) if one]


def _biggan_generator(
    file: ganzoo.ForeignFile,
    outside: Mapping[str, Tensor],
    blocks: list[tuple[bool, dict[str, Tensor]]],
    state: Mapping[str, Tensor],
    options: dict[str, Any],
) -> ganzoo.ForeignWeights:
    if "shared.weight" not in outside:
        raise _unfit(
            file, "biggan", "its generator has no embedding that its norms share, so it is of the backbone resnet "
            "(import it as sngan or sngan-projection), or has no classes",
        )  # fmt: skip
    if "linear0.weight_orig" not in outside:
        raise _unfit(file, "biggan", "its generator has no spectral norm")
    last, shared, first = _needed(
        file, "biggan", outside, "conv2d5.weight_orig", "shared.weight", "linear0.weight_orig"
    )
    count = sum(not one for one, _ in blocks)
    size, attended = 4 << count, _attended(blocks)
    options |= {
        "width": last.shape[1] // _LAST_UNITS.get(count, 1),
        "latent_dim": first.shape[1] * (count + 1),
        "hierarchical": True,
        "shared": shared.shape[1],
        "attention": 4 << attended[0] + 1 if attended else 0,
        "norm_eps": 1e-6,
    }
    if len(attended) > 1:
        raise _unfit(file, "biggan", f"its generator has attention after {len(attended)} blocks, and here it has one")
    images = {"channels": last.shape[0], "height": size, "width": size, "classes": shared.shape[0]}
    names = {"linear0": "linear", "conv2d5": "output_layer.2"}
    found = _renamed(state, names)
    for theirs, own in (
        ("weight", "gain"),
        ("bias", "bias"),
        ("running_mean", "stored_mean"),
        ("running_var", "stored_var"),
    ):
        (found[f"output_layer.0.{own}"],) = _needed(file, "biggan", outside, f"bn4.{theirs}")
    found = {name: value for name, value in found.items() if not name.startswith("bn4.")}
    return ganzoo.ForeignWeights(options=options, images=images, recipe="studiogan", **_which(file, found))  # type: ignore[arg-type]


def _biggan_discriminator(
    file: ganzoo.ForeignFile,
    outside: Mapping[str, Tensor],
    blocks: list[tuple[bool, dict[str, Tensor]]],
    state: Mapping[str, Tensor],
    options: dict[str, Any],
) -> ganzoo.ForeignWeights:
    first_block = blocks[0][1]
    if "conv2d1.weight_orig" not in first_block:
        raise _unfit(file, "biggan", "its discriminator has no spectral norm, but batch norm")
    (linear,) = _needed(file, "biggan", outside, "linear1.weight_orig")
    if linear.shape[0] != 1:
        raise _unfit(file, "biggan", f"its discriminator has {linear.shape[0]} logits (MH), and here it has one")
    if "embedding.weight_orig" not in outside:
        raise _unfit(file, "biggan", "its discriminator does not use the classes by a projection (PD)")
    count = sum(not one for one, _ in blocks)
    channels, size = first_block["conv2d1.weight_orig"].shape[0], _SIZES.get(count, 0)
    if not size or (size == 32 and channels % 4):
        raise _unfit(file, "biggan", f"its discriminator has {count} blocks, the first of {channels} channels")
    attended = _attended(blocks)
    options |= {
        "discriminator_width": channels // (4 if size == 32 else 1),
        "attention": size >> attended[0] + 1 if attended else 0,
        "norm_eps": 1e-6,
    }
    classes = outside["embedding.weight_orig"].shape[0]
    images = {
        "channels": first_block["conv2d1.weight_orig"].shape[1],
        "height": size,
        "width": size,
        "classes": classes,
    }
    found = _renamed(state, {"linear1": "linear", "embedding": "embed"})
    return ganzoo.ForeignWeights(options=options, images=images, recipe="studiogan", discriminator=found)


# --- SNGAN ------------------------------------------------------------------------------------------------------------


def read_studiogan_resnet(file: ganzoo.ForeignFile, member: str, *, classes: bool) -> ganzoo.ForeignWeights:
    """A network of the backbone `resnet` at 32 pixels, with or without classes. Raises UsageError for others."""
    outside, blocks = _checked(file, member)
    if any(one for one, _ in blocks):
        raise _unfit(file, member, "it has attention")
    if any(name.startswith("shared.") for name in outside):
        raise _unfit(file, member, "its backbone is big_resnet: import it as biggan")
    is_generator = any(name.startswith("linear0.") for name in outside)
    used = "blocks" if is_generator else "features.blocks"
    found = dict(_resnet_blocks([block for _, block in blocks], used))
    if is_generator:
        return _resnet_generator(file, member, outside, found, len(blocks), classes)
    return _resnet_discriminator(file, member, outside, found, len(blocks), classes)


def _resnet_blocks(blocks: list[dict[str, Tensor]], place: str) -> Iterator[tuple[str, Tensor]]:
    layers = {"conv2d0": "shortcut", "conv2d1": "conv1", "conv2d2": "conv2"}
    norms = {"embed0.weight": "scale.weight", "embed1.weight": "shift.weight"}
    for number, block in enumerate(blocks):
        for name, value in block.items():
            layer, _, rest = name.partition(".")
            own = rest.replace("bn.", "norm.") if rest.startswith("bn.") else norms.get(rest, rest)
            # their table holds what is added to a scale of 1
            added = 1 if rest == "embed0.weight" else 0
            yield _spectral(f"{place}.{number}.{layers.get(layer, layer)}.{own}"), value + added if added else value


def _resnet_generator(
    file: ganzoo.ForeignFile,
    member: str,
    outside: Mapping[str, Tensor],
    found: dict[str, Tensor],
    count: int,
    classes: bool,
) -> ganzoo.ForeignWeights:
    if "linear0.weight_orig" in outside:
        raise _unfit(file, member, "its generator has spectral norm")
    if count != 3:
        raise _unfit(file, member, f"it draws images of {4 << count} pixels, with blocks of several widths")
    scale = found.get("blocks.0.bn1.scale.weight")
    if (scale is not None) != classes:
        raise _unfit(file, member, f"its norms {'depend' if scale is not None else 'do not depend'} on the class")
    last, first = _needed(file, member, outside, "conv2d5.weight", "linear0.weight")
    for name, value in outside.items():
        layer, _, rest = name.partition(".")
        found[f"{({'linear0': 'dense', 'bn4': 'bn', 'conv2d5': 'conv'}).get(layer, layer)}.{rest}"] = value
    options = {"program": "studiogan", "latent_dim": first.shape[1], "generator_width": last.shape[1]}
    images = {"channels": last.shape[0], "height": 32, "width": 32}
    images |= {"classes": len(scale)} if scale is not None else {}
    return ganzoo.ForeignWeights(options=options, images=images, recipe="studiogan", **_which(file, found))  # type: ignore[arg-type]


def _resnet_discriminator(
    file: ganzoo.ForeignFile,
    member: str,
    outside: Mapping[str, Tensor],
    found: dict[str, Tensor],
    count: int,
    classes: bool,
) -> ganzoo.ForeignWeights:
    first = found.get("features.blocks.0.conv1.parametrizations.weight.original")
    if first is None:
        raise _unfit(file, member, "its discriminator has no spectral norm")
    if count != 4:
        raise _unfit(file, member, f"its discriminator has {count} blocks, and that of 32 pixels has 4")
    if ("embedding.weight_orig" in outside) != classes:
        used = "uses" if "embedding.weight_orig" in outside else "does not use"
        raise _unfit(file, member, f"its discriminator {used} the classes by a projection (PD)")
    names = {"linear1": "linear" if classes else "dense", "embedding": "projection"}
    found |= _renamed(outside, names)
    images = {"channels": first.shape[1], "height": 32, "width": 32}
    images |= {"classes": len(outside["embedding.weight_orig"])} if classes else {}
    options = {"program": "studiogan", "width": first.shape[0]}
    return ganzoo.ForeignWeights(options=options, images=images, recipe="studiogan", discriminator=found)
