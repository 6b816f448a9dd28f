"""Networks that are pickled whole, in the layouts of R3GAN and StyleGAN2-ADA, with stand-ins of their classes."""

from __future__ import annotations

import io
import pickle
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from official_files import state
from published import Published
from torch import Tensor, nn

#: buffers under their official names
_BUFFERS = ("noise_const", "resample_filter", "w_avg", "Kernel")


@contextmanager
def stand_in(names: Mapping[str, object]) -> Iterator[None]:
    """Modules with these dotted names, so that pickle finds their members by name."""
    before = dict(sys.modules)
    try:
        for name, value in names.items():
            module, _, member = name.rpartition(".")
            parts = module.split(".")
            for count in range(1, len(parts) + 1):
                sys.modules.setdefault(".".join(parts[:count]), types.ModuleType(".".join(parts[:count])))
            setattr(sys.modules[module], member, value)
        yield
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def named_class(name: str, *bases: type) -> type:
    """A class that pickle looks up by this dotted name."""
    module, _, last = name.rpartition(".")
    return type(last, bases or (nn.Module,), {"__module__": module, "__qualname__": last})


def dumped(content: object, names: Mapping[str, object]) -> bytes:
    """A pickle of protocol 4, as both programs write."""
    with stand_in(names), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # typed storages are deprecated, and modules are still pickled with them
        file = io.BytesIO()
        pickle.dump(content, file, protocol=4)
    return file.getvalue()


def tree(tensors: Mapping[str, Tensor], make: Callable[[str], nn.Module], path: str = "") -> nn.Module:
    """Modules whose state dict is `tensors`; `make` returns an empty module for a path in the network."""
    module = make(path)
    children: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            children.setdefault(first, {})[rest] = value
        elif name in _BUFFERS:
            module.register_buffer(name, value)
        else:
            module.register_parameter(name, nn.Parameter(value))
    for name, inner in children.items():
        module.add_module(name, tree(inner, make, f"{path}.{name}" if path else name))
    return module


def empty(kind: type) -> nn.Module:
    """A module of a class, without what its own __init__ makes."""
    module: nn.Module = kind.__new__(kind)
    nn.Module.__init__(module)
    return module


# --- R3GAN ------------------------------------------------------------------------------------------------------

_R3GAN = {
    "Convolution": "R3GAN.Networks.Convolution",
    "ResidualBlock": "R3GAN.Networks.ResidualBlock",
    "Activation": "R3GAN.FusedOperators.BiasedActivationCUDA",
    "Up": "R3GAN.Resamplers.InterpolativeUpsamplerCUDA",
    "Down": "R3GAN.Resamplers.InterpolativeDownsamplerCUDA",
    **{name: f"R3GAN.Networks.{name}" for name in ("Generator", "Discriminator", "UpsampleLayer", "DownsampleLayer")},
    **{name: f"R3GAN.Networks.{name}" for name in ("GenerativeBasis", "DiscriminativeBasis")},
    **{name: f"R3GAN.Networks.{name}" for name in ("GeneratorStage", "DiscriminatorStage")},
    "WrapperG": "training.networks.Generator",
    "WrapperD": "training.networks.Discriminator",
}


def _r3gan_kind(path: str, letter: str, first: bool, block: bool) -> str | type:
    """The class at a path of an R3GAN network."""
    rules: list[tuple[str, str | type]] = [
        (r"", "Generator" if letter == "G" else "Discriminator"),
        (r"MainLayers|MainLayers\.\d+\.Layers", nn.ModuleList),
        (r"MainLayers\.\d+", "GeneratorStage" if letter == "G" else "DiscriminatorStage"),
        (r".*\.NonLinearity\d", "Activation"),
        (r".*\.Resampler", "Up" if letter == "G" else "Down"),
        (r".*\.Layer|.*\.Basis", nn.Conv2d),
        (r"EmbeddingLayer", nn.Linear),
        (r".*LinearLayer\d|AggregationLayer|ExtractionLayer", "Convolution"),
    ]
    for pattern, kind in rules:
        if re.fullmatch(pattern, path):
            return kind
    if path.endswith("LinearLayer"):
        return nn.Linear if first else "Convolution"
    if block:
        return "ResidualBlock"
    ends = ("GenerativeBasis", "UpsampleLayer") if letter == "G" else ("DiscriminativeBasis", "DownsampleLayer")
    return ends[0 if first else 1]


def write_r3gan(fixture: Published, folder: Path, bfloat16: int = 0) -> list[Path]:
    """A network-snapshot of R3GAN: G, D, G_ema, the optimisers' states, and what it was trained on."""
    classes = {name: named_class(full) for name, full in _R3GAN.items()}
    config = fixture.manifest["config"]
    stages = len(config["widths"])

    def network(letter: str) -> nn.Module:
        tensors = dict(state(fixture, letter))
        # buffers of the resamplers, which the recorded weights do not have
        for stage in range(stages):
            last = stage == (0 if letter == "G" else stages - 1)
            layer = 0 if letter == "G" else config["blocks"][::-1][stage]
            if not last:
                tensors[f"MainLayers.{stage}.Layers.{layer}.Resampler.Kernel"] = torch.ones(4, 4) / 16
        basis = next(name for name in tensors if ".Basis" in name).partition(".Basis")[0]
        blocks = {name.partition(".LinearLayer1")[0] for name in tensors if ".LinearLayer1" in name}

        def make(path: str) -> nn.Module:
            kind = _r3gan_kind(path, letter, path.startswith(basis), path in blocks)
            return empty(kind if isinstance(kind, type) else classes[kind])

        model = tree(tensors, make)
        for stage, layers in model.MainLayers.named_children():  # type: ignore[union-attr,operator]
            size = int(stage) if letter == "G" else stages - 1 - int(stage)
            layers.DataType = torch.bfloat16 if size >= stages - bfloat16 else torch.float32
        wrapper = empty(classes[f"Wrapper{letter}"])
        wrapper.z_dim, wrapper.c_dim, wrapper.img_resolution = config["z"], config["classes"], 4 << stages - 1
        wrapper.Model = model
        return wrapper

    generator = network("G")
    adam = torch.optim.Adam(generator.parameters()).state_dict()
    content = {
        **{"G": generator, "D": network("D"), "G_ema": network("G"), "G_opt_state": adam, "D_opt_state": adam},
        "training_set_kwargs": {"class_name": "training.dataset.ImageFolderDataset", "path": "/data/flowers-32.zip"},
        "cur_nimg": 100_000,
    }
    path = folder / "network-snapshot-00000100.pkl"
    path.write_bytes(dumped(content, {full: classes[name] for name, full in _R3GAN.items()}))
    return [path]


# --- StyleGAN2-ADA ----------------------------------------------------------------------------------------------


class _Persistent(nn.Module):
    """A module that is pickled as one call with its source text and its state."""

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        reconstruct = sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj  # type: ignore[attr-defined]
        meta = {"type": "class", "version": 6, "module_src": self.__dict__["_source"], "class_name": self._kind}
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_source", "_kind")}
        return reconstruct, (sys.modules["dnnlib.util"].EasyDict({**meta, "state": kept}),)  # type: ignore[attr-defined]


def write_stylegan2(fixture: Published, folder: Path, source: str = "", clamp: float | None = None) -> list[Path]:
    """A network-snapshot of StyleGAN2-ADA; `source` is the text that the program's own reader would run."""
    easy = named_class("dnnlib.util.EasyDict", dict)
    config = fixture.manifest["config"]

    def reconstruct(meta: object) -> object:
        raise AssertionError("the source of a network is run")

    reconstruct.__module__, reconstruct.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"

    def network(letter: str) -> nn.Module:
        tensors = dict(state(fixture, letter))
        for name in [name for name in tensors if ".conv" in name and name.endswith(".weight")]:
            tensors[name.replace("weight", "resample_filter")] = torch.ones(4, 4) / 16

        def make(path: str) -> nn.Module:
            module: Any = empty(_Persistent)
            module._source, module._kind = source, _stylegan2_kind(path, letter)
            module._init_args, module._init_kwargs = (), easy(w_dim=config["w"])
            module.weight_gain = np.float64(0.25)
            module.act_gain = np.float32(1.5)
            if re.search(r"conv\d?$|torgb$|fromrgb$|skip$", path):
                module.conv_clamp, module.activation, module.padding = clamp, "lrelu", [1, 1]
            return module  # type: ignore[no-any-return]

        made: Any = tree(tensors, make)
        made.z_dim, made.c_dim, made.w_dim, made.img_resolution = config["z"], config["c"], config["w"], config["res"]
        made._init_kwargs = easy(c_dim=config["c"], synthesis_kwargs=easy(channel_base=config["channel_base"]))
        if letter == "D":
            made.b4.mbstd = make("b4.mbstd")
            made.b4.mbstd.group_size, made.b4.mbstd.num_channels = config["mbstd"], 1
        return made  # type: ignore[no-any-return]

    content = {
        **{"G": network("G"), "D": network("D"), "G_ema": network("G"), "augment_pipe": None},
        "training_set_kwargs": easy(class_name="training.dataset.ImageFolderDataset", path="./data/my flowers.zip"),
    }
    names = {
        "torch_utils.persistence._reconstruct_persistent_obj": reconstruct,
        "dnnlib.util.EasyDict": easy,
    }
    path = folder / "network-snapshot-000100.pkl"
    path.write_bytes(dumped(content, names))
    return [path]


def _stylegan2_kind(path: str, letter: str) -> str:
    if not path:
        return "Generator" if letter == "G" else "Discriminator"
    last = path.rpartition(".")[2]
    return {"mapping": "MappingNetwork", "synthesis": "SynthesisNetwork", "torgb": "ToRGBLayer"}.get(last, "Layer")
