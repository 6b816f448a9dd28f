"""The FID Inception-v3: the network of 2015-12-05 that Heusel et al. 2017 (arXiv:1706.08500) scored with.

Network and weights are those of torch-fidelity (toshas/torch-fidelity, feature_extractor_inceptionv3.py, Apache-2.0),
converted from TensorFlow's; torchmetrics' subclass of it is what we load them with.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import Annotated, Literal

import click
import torch
from torch import Tensor
from torchmetrics.image.fid import NoTrainInceptionV3

import ganzoo
from ganzoo_plugins.extractors._exact import exact
from ganzoo_plugins.extractors._inception_network import LAYERS, InceptionNetwork
from ganzoo_plugins.extractors._weights_file import read_weights

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SIZE = 95_628_359
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
#: what to do without the download
_ADVICE = (
    "name a file with --inception-weights or GANZOO_INCEPTION_WEIGHTS, or use an evaluator that works offline, such as "
    "fid-domain"
)


def archive() -> ganzoo.Archive:
    """The published weights, kept in the cache folder."""
    source, _, name = URL.rpartition("/")
    return ganzoo.Archive("inception", name, SIZE, SHA256, (source,), base=ganzoo.cache_dir(), advice=_ADVICE)


def _read_cached() -> tuple[bytes, str]:
    """The bytes of the published weights, downloaded once, and their path for messages."""
    path = archive().fetch()
    return path.read_bytes(), str(path)


def _read_given(name: str) -> tuple[bytes, str]:
    """A file that the user named. Weights other than the published ones are allowed, with a note to stderr."""
    data = read_weights(name, "The Inception weights")
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        click.echo(
            f"{name} is not the published file of Inception weights (sha256 {found[:12]}, not {SHA256[:12]}): scores "
            "compare with none but those of this file.",
            err=True,
        )
    return data, name


def _published_network(data: bytes, name: str) -> NoTrainInceptionV3:
    """torchmetrics' network with the weights of a file's bytes."""
    try:
        weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        # torch-fidelity would load the file's pickles: it gets our own copy, which has tensors only
        copy = io.BytesIO()
        torch.save({key: value.float() for key, value in weights.items()}, copy)
        copy.seek(0)
        with torch.random.fork_rng(devices=[]):  # it initialises weights at random before it loads these
            return NoTrainInceptionV3("inception", list(LAYERS), copy)  # type: ignore[arg-type]
    except Exception as error:  # torch may raise anything for a file that is not a checkpoint
        reason = str(error).strip().partition("\n")[0]
        if not isinstance(
            error, RuntimeError
        ):  # of an UnpicklingError torch goes on to advise that the safety be switched off
            reason = "it is not a file of plain tensors"
        raise ganzoo.GanzooError(
            f"{name} does not hold the weights of the FID Inception-v3 ({reason}); name another file."
        ) from None


class Inception(ganzoo.Extractor):
    """The Inception-v3 network FID is defined with (2015-12-05 weights): layers 64, 192, 768, 2048 and the logits.

    The weights are the file named by `weights`, else by GANZOO_INCEPTION_WEIGHTS, else they are fetched once (91 MiB,
    https, sha256 checked) into `ganzoo.cache_dir()/inception`.

    As it comes, the features are those of torch-fidelity and torchmetrics. With `precision=bf16` or `compile=true` the
    batch norms are folded into the convolutions: the same network up to rounding. bf16 keeps weights and activations in
    bfloat16 (the resize and the averages stay float32), features within a percent; `compile` fuses what is small. The
    preprocessing and the digest say all of it, and where nothing can be compiled they say that it was not.
    """

    placed: Tensor

    def __init__(
        self,
        *,
        weights: Annotated[str, "weights file; empty: $GANZOO_INCEPTION_WEIGHTS, else fetched once"] = "",
        antialias: Annotated[bool, "resize as torchmetrics does by default, not as the original does"] = False,
        precision: Annotated[Literal["fp32", "bf16"], "of the network; literature has fp32"] = "fp32",
        compile: Annotated[bool, "compile the network: half a minute, then faster; needs a C++ compiler"] = False,
    ) -> None:
        super().__init__()
        self.layers = LAYERS
        self.digest = ""
        self.weights = weights
        self.antialias = antialias
        self.precision = precision
        self.compile_network = compile
        self.fast = compile or precision == "bf16"
        self.preprocessing = self._words(compile)
        self.network: InceptionNetwork | None = None
        self.register_buffer("placed", torch.zeros(0), persistent=False)  # shows the device of this module

    def _words(self, compiled: bool) -> str:
        kernel = "antialiased bilinear" if self.antialias else "bilinear as TensorFlow 1, antialias=False,"
        words = f"{kernel} to 299x299, grey repeated to 3 channels, (x - 128) / 128"
        words += ", batch norms folded" * self.fast + ", network in bfloat16" * (self.precision == "bf16")
        return words + ", compiled" * compiled

    def bind(self, name: str, train: ganzoo.Dataset) -> None:
        """Load the weights, the same for every dataset. The constructor does not: it must not download."""
        given = self.weights or os.environ.get("GANZOO_INCEPTION_WEIGHTS", "")
        data, source = _read_given(given) if given else _read_cached()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        network = InceptionNetwork(_published_network(data, source), self.antialias, dtype, self.fast)
        network.to(self.placed.device)
        compiled = False
        if self.compile_network:
            with exact(self.placed.device):
                compiled = network.compile_tower()
        self.preprocessing = self._words(compiled)
        weights = hashlib.sha256(data).hexdigest()
        self.digest = hashlib.sha256(f"inception-2: {self.preprocessing}|{weights}".encode()).hexdigest()
        self.network = network

    def train(self, mode: bool = True) -> Inception:
        """Always in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (N, 1 or 3, H, W) of any size -> float32 (N, D) by layer; grey is repeated to 3 channels."""
        if self.network is None:
            raise ganzoo.GanzooError("The inception extractor has no weights yet: call bind(name, train) first.")
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            given = f"{images.dtype} {tuple(images.shape)}"
            raise ganzoo.GanzooError(f"The inception extractor takes uint8 images (N, 1 or 3, H, W), not {given}.")
        with exact(images.device):
            features: dict[str, Tensor] = self.network(images)
        return features
