"""DINOv2, CLIP and SwAV: networks trained without the labels of ImageNet, for distances that agree better with people.

Stein et al. 2023, "Exposing flaws of generative model evaluation metrics and their unfair treatment of diffusion
models" (arXiv:2306.04675), compare the features of these networks with judgements of people; DINOv2 ViT-L/14 agreed
best. No weights are part of the package: a file is named by an option or by an environment variable, and its sha256 is
part of the digest of the features, so that scores of unlike weights are told apart.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

import ganzoo
from ganzoo_plugins.extractors._exact import exact
from ganzoo_plugins.extractors._weights_file import read_weights

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_SIDE = 224
_WEIGHTS = "file of weights; empty: the file that the environment variable names"
_SHA256 = "sha256 that the file must have; empty: any"


class _Backbone(ganzoo.Extractor):
    """A network with published weights from a file, applied to images of 224x224. One layer, `features`."""

    #: short name, as in the name of the environment variable and in messages
    name: ClassVar[str]
    #: where the published weights are
    published: ClassVar[str]
    mean_and_std: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]] = _IMAGENET
    placed: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, weights: str, sha256: str, dimensions: int) -> None:
        super().__init__()
        self.weights, self.sha256 = weights, sha256.lower()
        self.layers = {"features": dimensions}
        self.digest = ""
        mean, std = self.mean_and_std
        self.preprocessing = (
            f"antialiased bicubic to {_SIDE}x{_SIDE} in float32, rounded to 0..255, grey repeated to 3 channels, "
            f"x / 255, mean {', '.join(f'{value:.4g}' for value in mean)} and deviation "
            f"{', '.join(f'{value:.4g}' for value in std)} of each channel"
        )
        self.network: nn.Module | None = None
        self.register_buffer("placed", torch.zeros(0), persistent=False)  # shows the device of this module
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def variable(self) -> str:
        """The environment variable that names the file of weights."""
        return f"GANZOO_{self.name.upper()}_WEIGHTS"

    @abstractmethod
    def build(self) -> nn.Module:
        """The network without its weights: normalised images (N, 3, 224, 224) -> features (N, D)."""

    @abstractmethod
    def convert(self, weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """The weights of a published file under the names of `network`."""

    @abstractmethod
    def variant(self) -> str:
        """Everything that determines the network, as text for the digest."""

    def bind(self, name: str, train: ganzoo.Dataset) -> None:
        """Read the weights, the same for every dataset. Raises GanzooError where there are none, or others."""
        given = self.weights or os.environ.get(self.variable, "")
        if not given:
            raise ganzoo.GanzooError(
                f"The extractor {self.name} has no weights; download those of {self.published}, and name the file with "
                f"the option `weights` or with {self.variable}."
            )
        data = read_weights(given, f"The {self.name} weights")
        found = hashlib.sha256(data).hexdigest()
        if self.sha256 and found != self.sha256:
            raise ganzoo.GanzooError(
                f"The weights {given!r} of {self.name} have the sha256 {found}, not {self.sha256}; download them again."
            )
        network = self.build()
        self._load(network, data, given)
        self.network = network.to(self.placed.device).eval().requires_grad_(False)
        text = f"{self.name}-1: {self.variant()}|{self.preprocessing}|{found}"
        self.digest = hashlib.sha256(text.encode()).hexdigest()

    def _load(self, network: nn.Module, data: bytes, name: str) -> None:
        try:
            network.load_state_dict(self.convert(_tensors(data), network))
        except Exception as error:  # torch and timm may raise anything for a file that is not a checkpoint
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = " ".join(lines[:2])[:200]
            if not isinstance(error, RuntimeError | ganzoo.GanzooError):
                reason = "it is not a file of plain tensors"
            raise ganzoo.GanzooError(
                f"{name} does not hold the weights of {self.variant()} ({reason}); name the file of {self.published}."
            ) from None

    def train(self, mode: bool = True) -> _Backbone:
        """Always in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (N, 1 or 3, H, W) of any size -> `features`: float32 (N, D); grey is repeated to 3 channels."""
        if self.network is None:
            raise ganzoo.GanzooError(f"The {self.name} extractor has no weights yet: call bind(name, train) first.")
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            given = f"{images.dtype} {tuple(images.shape)}"
            raise ganzoo.GanzooError(f"The {self.name} extractor takes uint8 images (N, 1 or 3, H, W), not {given}.")
        with exact(images.device):
            values = functional.interpolate(images.float(), (_SIDE, _SIDE), mode="bicubic", antialias=True)
            values = values.round().clamp(0, 255).expand(-1, 3, -1, -1) / 255
            return {"features": self.network((values - self.mean) / self.std).float()}


def _tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a file by torch.save, by name. Never runs code of the file."""
    if data[8:9] == b"{":
        return safetensors.torch.load(data)
    if _is_torchscript(data):
        raise ganzoo.GanzooError("it is a TorchScript archive, which holds code; take a file of plain tensors")
    weights: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    for key in ("model", "state_dict"):
        weights = weights.get(key, weights)
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}


def _is_torchscript(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _vision_transformer(name: str, dimensions: int) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ganzoo.GanzooError(
            "Vision transformers are built with timm; install it with pip install 'torch-ganzoo[backbones]'."
        ) from None
    with torch.random.fork_rng(devices=[]):  # it initialises weights at random before it loads those of the file
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=dimensions, img_size=_SIDE)
    return network


def _vision_transformer_weights(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    from timm.models.vision_transformer import checkpoint_filter_fn

    converted: Mapping[str, Tensor] = checkpoint_filter_fn(dict(weights), network)  # type: ignore[arg-type]
    return {name: value.float() for name, value in converted.items()}


class DINOv2(_Backbone):
    """DINOv2 vision transformer (Oquab et al. 2023, arXiv:2304.07193): the class token after the last norm.

    ViT-L/14 (1,024 dimensions) is what FD-DINOv2 is defined with (Stein et al. 2023, arXiv:2306.04675). `weights` is
    the published file of facebookresearch/dinov2, such as dinov2_vitl14_pretrain.pth, or timm's safetensors of it.
    """

    name = "dinov2"
    published = "facebookresearch/dinov2 (without registers)"
    _SIZES: ClassVar = {"small": 384, "base": 768, "large": 1024, "giant": 1536}

    def __init__(
        self,
        *,
        weights: Annotated[str, _WEIGHTS] = "",
        sha256: Annotated[str, _SHA256] = "",
        size: Annotated[Literal["small", "base", "large", "giant"], "of the transformer"] = "large",
    ) -> None:
        super().__init__(weights, sha256, self._SIZES[size])
        self.size = size

    def variant(self) -> str:
        """The network in words."""
        return f"DINOv2 ViT-{self.size}/14"

    def build(self) -> nn.Module:
        """timm's network without a classifier: its output is the class token."""
        return _vision_transformer(f"vit_{self.size}_patch14_dinov2", 0)

    def convert(self, weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Position embeddings of a 37x37 grid become those of 16x16 as in the published program: bicubic, not
        antialiased, at the scale 16.1 / 37 (dinov2/models/vision_transformer.py, interpolate_pos_encoding)."""
        positions = weights["pos_embed"].float()
        published, used = math.isqrt(positions.shape[1] - 1), _SIDE // 14
        if published != used:
            grid = positions[:, 1:].reshape(1, published, published, -1).permute(0, 3, 1, 2)
            scale = (used + 0.1) / published
            grid = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
            positions = torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
        return _vision_transformer_weights(weights | {"pos_embed": positions}, network)


class CLIP(_Backbone):
    """CLIP's image network (Radford et al. 2021, arXiv:2103.00020): the projected embedding, without normalisation.

    `weights` is a file of OpenCLIP (state dict or safetensors) or timm's safetensors. Networks that OpenAI or the
    `quickgelu` entries of OpenCLIP trained need `activation=quickgelu`; the file does not say so.
    """

    name = "clip"
    published = "OpenCLIP (such as ViT-B-32 laion2b_s34b_b79k)"
    mean_and_std = _CLIP
    _MODELS: ClassVar = {
        "ViT-B-32": ("base_patch32", 512),
        "ViT-B-16": ("base_patch16", 512),
        "ViT-L-14": ("large_patch14", 768),
    }

    def __init__(
        self,
        *,
        weights: Annotated[str, _WEIGHTS] = "",
        sha256: Annotated[str, _SHA256] = "",
        model: Annotated[Literal["ViT-B-32", "ViT-B-16", "ViT-L-14"], "of the image network"] = "ViT-B-32",
        activation: Annotated[Literal["gelu", "quickgelu"], "quickgelu for the weights of OpenAI"] = "gelu",
    ) -> None:
        super().__init__(weights, sha256, self._MODELS[model][1])
        self.model, self.activation = model, activation

    def variant(self) -> str:
        """The network in words."""
        return f"CLIP {self.model} with {self.activation}"

    def build(self) -> nn.Module:
        """timm's network, with the projection as its last layer."""
        size, dimensions = self._MODELS[self.model]
        kind = "clip_quickgelu" if self.activation == "quickgelu" else "clip"
        return _vision_transformer(f"vit_{size}_{kind}_224", dimensions)

    def convert(self, weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """OpenCLIP's names become timm's."""
        return _vision_transformer_weights(weights, network)


class SwAV(_Backbone):
    """SwAV ResNet-50 (Caron et al. 2020, arXiv:2006.09882): the 2,048 values after the average pooling.

    Morozov et al. 2021, "On self-supervised image representations for GAN evaluation" (ICLR), proposed it for the
    Fréchet distance. `weights` is swav_800ep_pretrain.pth.tar of facebookresearch/swav.
    """

    name = "swav"
    published = "facebookresearch/swav (swav_800ep_pretrain.pth.tar)"

    def __init__(self, *, weights: Annotated[str, _WEIGHTS] = "", sha256: Annotated[str, _SHA256] = "") -> None:
        super().__init__(weights, sha256, 2048)

    def variant(self) -> str:
        """The network in words."""
        return "SwAV ResNet-50"

    def build(self) -> nn.Module:
        """torchvision's ResNet-50 without its classifier."""
        from torchvision.models import resnet50

        with torch.random.fork_rng(devices=[]):
            network: nn.Module = resnet50(weights=None)
        network.fc = nn.Identity()
        return network

    def convert(self, weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Without the prefix of data-parallel training, and without the projection and the prototypes."""
        names = {name.removeprefix("module."): value for name, value in weights.items()}
        heads = ("projection_head.", "prototypes.", "fc.")
        return {name: value.float() for name, value in names.items() if not name.startswith(heads)}
