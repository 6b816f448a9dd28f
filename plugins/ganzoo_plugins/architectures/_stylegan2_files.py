"""The checkpoints of NVlabs/stylegan2-ada-pytorch (d72cc7d): .pkl files with networks that carry their source text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

import ganzoo
from ganzoo_plugins.architectures._snapshots import dataset_of

#: a class of the program's own that no file names by import: with one, pickles are read as plain data
STYLEGAN2_CLASSES = frozenset({"torch_utils.persistence.Decorator"})


def read_stylegan2(file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
    """G, G_ema and D of a snapshot, or some of them. Raises UsageError where the file is none of the program."""
    states = {name: _tensors(file, name) for name in ("D", "G", "G_ema")}
    if not any(states.values()):
        bare = _tensors(file, "")
        states = {"G": bare} if "synthesis.b4.const" in bare else {"D": bare} if "b4.fc.weight" in bare else {}
    states = {name: state for name, state in states.items() if state}
    if not states:
        few = ", ".join(list(file.tensors)[:4])
        raise ganzoo.UsageError(f"{file.path} is no network of StyleGAN2-ADA for PyTorch: its tensors are {few}.")
    options: dict[str, Any] = {}
    images: dict[str, int] = {}
    for name, state in states.items():
        try:
            found = _discriminator(file, name, state) if name == "D" else _generator(file, name, state)
        except (KeyError, IndexError, ValueError) as error:
            raise ganzoo.UsageError(
                f"{file.path}: {name} is no whole network of StyleGAN2-ADA, there is no layer as expected "
                f"({str(error)[:100]})."
            ) from None
        options |= found[0]
        images |= found[1]
    recipe = _recipe(options, images)
    return ganzoo.ForeignWeights(
        options=options,
        images=images,
        generator=states.get("G"),
        average=states.get("G_ema"),
        discriminator=states.get("D"),
        recipe=recipe,
        dataset="" if recipe.startswith("cifar10") else dataset_of(file, images["height"], images["channels"]),
    )


def _tensors(file: ganzoo.ForeignFile, name: str) -> dict[str, Tensor]:
    """The tensors of a network without the filters of its resampling, which are always the same."""
    return {key: value for key, value in file.below(name).items() if not key.endswith("resample_filter")}


def _generator(file: ganzoo.ForeignFile, name: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Any], Any]:
    """(options, images) of a generator."""
    channels = {r: state[f"synthesis.b{r}.conv1.weight"].shape[0] for r in _resolutions(state, "synthesis.b")}
    layers = len({key for key in state if re.fullmatch(r"mapping\.fc\d+\.weight", key)})
    embed = state.get("mapping.embed.weight")
    options: dict[str, Any] = {
        **_channels(channels),
        "latent_dim": state["mapping.fc0.weight"].shape[1] - (0 if embed is None else embed.shape[0]),
        "style_dim": state[f"mapping.fc{layers - 1}.weight"].shape[0],
        "mapping_layers": layers,
        "classes": embed is not None,
    }
    clamp = file.values.get(f"{name}/synthesis/b4/conv1/conv_clamp")
    options["clamp"] = float(clamp) if isinstance(clamp, int | float) and clamp > 0 else 0.0
    return options, _images(max(channels), state[f"synthesis.b{max(channels)}.torgb.weight"].shape[0], embed)


def _discriminator(file: ganzoo.ForeignFile, name: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Any], Any]:
    """(options, images) of a discriminator."""
    resolutions = _resolutions(state, "b")
    channels = {r: state[f"b{r}.conv0.weight"].shape[0] for r in resolutions if r > 4}
    channels[4] = state["b4.conv.weight"].shape[0]
    more = state["b4.conv.weight"].shape[1] - channels[4]
    if more not in (0, 1):
        raise ValueError(f"{more} channels for the deviation of a group, not 1")
    size, embed = max(channels), state.get("mapping.embed.weight")
    group = file.values.get(f"{name}/b4/mbstd/group_size")
    known = group if isinstance(group, int) and group > 0 else 4
    options = {
        **_channels(channels),
        "residual": f"b{size}.skip.weight" in state,
        "group": known if more else 1,
        "classes": embed is not None,
    }
    return options, _images(size, state[f"b{size}.fromrgb.weight"].shape[1], embed)


def _resolutions(state: Mapping[str, Tensor], prefix: str) -> list[int]:
    """4, 8, ..., the size of the images, as the names of blocks have them."""
    found = {int(match[1]) for key in state if (match := re.match(rf"{re.escape(prefix)}(\d{{1,4}})\.", key))}
    if not found or sorted(found) != [4 << index for index in range(len(found))] or max(found) < 8:
        raise ValueError(f"blocks of {', '.join(map(str, sorted(found)))} pixels")
    return sorted(found)


def _channels(channels: Mapping[int, int]) -> dict[str, int]:
    """`channel_base` and `channel_max` that make these channels."""
    most = max(channels.values())
    below = [count * resolution for resolution, count in channels.items() if count < most]
    base = below[0] if below else most * max(channels)
    if any(min(base // resolution, most) != count for resolution, count in channels.items()):
        raise ValueError("channels " + ", ".join(f"{count} at {r} pixels" for r, count in sorted(channels.items())))
    return {"channel_base": base, "channel_max": most}


def _images(size: int, colours: int, embed: Tensor | None) -> dict[str, int]:
    images = {"channels": colours, "height": size, "width": size}
    return images if embed is None else {**images, "classes": embed.shape[1]}


def _recipe(options: Mapping[str, Any], images: Mapping[str, int]) -> str:
    """The recipe that has networks of this kind; empty for config F."""
    if options.get("residual") is False and images["height"] == 32:
        return "cifar10" if options["classes"] else "cifar10-unconditional"
    if options.get("mapping_layers") == 2 and images["height"] >= 32:
        return f"auto-{images['height']}"
    return {256: "paper256", 512: "paper512"}.get(images["height"], "")
