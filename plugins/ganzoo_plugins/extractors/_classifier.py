"""The classifier behind the domain features: network, training, and the files of its weights."""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

import ganzoo
from ganzoo_plugins.extractors._exact import exact

#: part of every digest: what happens to the images before the network
PREPROCESSING = "domain-1: antialiased bilinear resize to the input size, rounded to bytes, [-1, 1]"
#: network and training; to be changed with either
RECIPE = "domain-1: adamw 4e-3 one-cycle, label smoothing 0.05, batch 128"
#: of images without labels
UNTRAINED = "untrained-1: weights of initialisation from seed 0, batch norms of the training images"
PENULTIMATE = 128
BATCH = 128


def _stage(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolution and pooling to half the height and width."""
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU(), nn.MaxPool2d(2))


class Classifier(nn.Module):
    """Three 3x3 convolutions with batch norm, then a 128-wide layer: about 242,000 parameters for any size of image.

    Measured on MNIST and Fashion-MNIST: deeper networks, means instead of maxima in the stages, and maxima over larger
    windows all answer slight noise out of proportion to missing classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(_stage(channels, 32), _stage(32, 64), _stage(64, 128)),
            nn.AdaptiveAvgPool2d(3),  # 28x28 images are down to 3x3 already
            nn.Flatten(),
            nn.Linear(128 * 3 * 3, PENULTIMATE),
        )
        self.head = nn.Linear(PENULTIMATE, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, C, H, W) -> the penultimate layer before its ReLU (N, 128), and the logits (N, classes)."""
        scaled = images.float().mul_(2 / 255).sub_(1).contiguous(memory_format=torch.channels_last)
        penultimate = self.trunk(scaled)
        return penultimate, self.head(relu(penultimate))


def epochs_for(count: int) -> int:
    """Ten epochs, and at least five hundred steps."""
    return max(10, math.ceil(500 / math.ceil(count / BATCH)))


def train_classifier(
    images: Tensor,
    labels: Tensor,
    classes: int,
    *,
    epochs: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    bfloat16: bool = False,
    after_epoch: Callable[[int, Classifier], None] | None = None,
) -> dict[str, Tensor]:
    """Train on uint8 images (N, C, H, W) and labels (N,); returns the weights for `Domain`, in float16.

    Beside the classifier's parameters there is `deviation` (128,), that of the penultimate layer over these images. The
    global random state is left as it was. `bfloat16` is quicker where the processor has it; the result is as good.
    """
    device = torch.device(device)
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the other devices as well
        network = Classifier(images.shape[1], classes).float().to(device).to(memory_format=torch.channels_last)
        shuffler = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(network.parameters(), foreach=True)
        steps = epochs * math.ceil(len(images) / BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
        for epoch in range(1, epochs + 1):
            network.train()
            for indices in torch.split(torch.randperm(len(images), generator=shuffler), BATCH):
                batch, targets = images[indices].to(device), labels[indices].to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    _, logits = network(batch)
                loss = cross_entropy(logits.float(), targets, label_smoothing=0.05)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            if after_epoch is not None:
                after_epoch(epoch, network.eval())
        counters = "num_batches_tracked"
        weights = {name: value.half() for name, value in network.state_dict().items() if not name.endswith(counters)}
        network.load_state_dict(weights)  # the deviation is that of the rounded weights
        return {**weights, "deviation": _deviation(network.eval(), images, device).half()}


def untrained_weights(images: Tensor, *, seed: int = 0, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The weights for `Domain` where images have no labels: those of initialisation, drawn from `seed`, in float16.

    The batch norms have the means and variances of these uint8 images (N, C, H, W), and `deviation` is that of the
    penultimate layer over them. The global random state is left as it was.
    """
    device = torch.device(device)
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = Classifier(images.shape[1], 1).float().to(device).to(memory_format=torch.channels_last).train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean over all batches, not a running one
        with exact(device):
            for batch in torch.split(images, 1000):
                network(batch.to(device))
        counters = "num_batches_tracked"
        weights = {name: value.half() for name, value in network.state_dict().items() if not name.endswith(counters)}
        network.load_state_dict(weights, strict=False)
        return {**weights, "deviation": _deviation(network.eval(), images, device).half()}


def _deviation(network: Classifier, images: Tensor, device: torch.device) -> Tensor:
    """(128,) standard deviation of the penultimate layer over `images`; 1 where it is constant."""
    with exact(device):
        features = torch.cat([network(batch.to(device))[0].double() for batch in torch.split(images, 1000)])
    deviation = features.std(dim=0, correction=0)
    return torch.where(deviation.half() > 0, deviation, 1.0)


def describe(images: Tensor, classes: int, name: str, epochs: int) -> dict[str, str]:
    """The metadata `Domain` reads back from a weights file, and where it came from."""
    channels, height, width = map(str, images.shape[1:])
    shape = {"channels": channels, "height": height, "width": width, "classes": str(classes)}
    return {**shape, "dataset": name, "recipe": RECIPE, "epochs": str(epochs), "torch": torch.__version__}


def weights_digest(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """sha256 over the preprocessing, the size of the input, and every weight's name, type, shape and bytes."""
    digest = hashlib.sha256(f"{PREPROCESSING}|{metadata.get('height')}x{metadata.get('width')}".encode())
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"|{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a weights file, complete or not at all, with its digest in the metadata."""
    stored = {name: value.cpu().contiguous() for name, value in weights.items()}
    data = safetensors.torch.save(stored, {**metadata, "digest": weights_digest(stored, metadata)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights and metadata of a file. Raises GanzooError where it is damaged or not of this preprocessing."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            metadata = dict(file.metadata() or {})
        digest = weights_digest(weights, metadata)
    except Exception as error:  # of a damaged file, its readers may raise anything
        raise ganzoo.GanzooError(
            f"{path} is not a file of domain weights ({error}); delete it or restore it."
        ) from None
    if metadata.get("digest") != digest:
        raise ganzoo.GanzooError(
            f"{path} is damaged or of another version: its digest is not its own; delete or restore it."
        )
    return weights, metadata
