"""The recipes of R3GAN: the five published ones, and small ones of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _published(
    *,
    dataset: str,
    architecture: str,
    gamma: tuple[float, float],
    batch: int,
    images: int,
    half_life: int,
    augmented: float,
) -> dict[str, Any]:
    """A published recipe: numbers at the beginning and from `images` images on.

    The program counts one of the two minibatches of a step, so its numbers of images are doubled. `augmented` is the
    probability of each transformation at the end.
    """
    end = f"by {2 * images}"
    adam = f"adam:lr=2e-4 -> 5e-5 {end},beta1=0.0,beta2=0.9 -> 0.99 {end}"
    return {
        "architecture": f"r3gan:{architecture}",
        "dataset": dataset,
        "losses": ["relativistic", *(f"{penalty}:gamma={gamma[0]} -> {gamma[1]} {end}" for penalty in ("r1", "r2"))],
        "augmentations": [f"ada:pipe=r3gan,mode=fixed,p=0 -> {augmented} {end}"],
        "preprocessing": "flip",
        "turns": "D,G.new",
        "generator_optimizer": adam,
        "discriminator_optimizer": adam,
        "batch_size": batch,
        "batch_order": "stream",
        "ema_half_life": f"0 -> {2 * half_life} {end}",
        "ema_buffers": "copied",
        "length": f"{2 * images} images",
        "samples_every": "500k images",
        "checkpoint_every": "5M images",
    }


_FFHQ: Mapping[str, Any] = {"batch": 256, "images": 20_000_000, "half_life": 500_000, "augmented": 0.3}
_IMAGENET: Mapping[str, Any] = {"batch": 4096, "images": 200_000_000, "half_life": 50_000_000}

PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "cifar10": _published(
        dataset="cifar10",
        architecture="width=768,labels=true,bf16_stages=3",
        gamma=(0.05, 0.005),
        batch=512,
        images=20_000_000,
        half_life=5_000_000,
        augmented=0.55,
    ),
    "ffhq-64": _published(
        dataset="image-folder:path=ffhq,size=64",
        architecture="widths=768x4+384,bf16_stages=4",
        gamma=(2.0, 0.2),
        **_FFHQ,
    ),
    "ffhq-256": _published(
        dataset="image-folder:path=ffhq,size=256",
        architecture="widths=768x4+384+192+96,bf16_stages=4",
        gamma=(150.0, 15.0),
        **_FFHQ,
    ),
    "imagenet-32": _published(
        dataset="image-folder:path=imagenet,size=32",
        architecture="width=1536,groups=96,labels=true,bf16_stages=3",
        gamma=(0.5, 0.05),
        augmented=0.5,
        **_IMAGENET,
    ),
    "imagenet-64": _published(
        dataset="image-folder:path=imagenet,size=64",
        architecture="width=1536,groups=96,labels=true,bf16_stages=4",
        gamma=(1.0, 0.1),
        augmented=0.4,
        **_IMAGENET,
    ),
}

#: the numbers of version 0.1: half the images, as the generator's turn had no minibatch of its own
_SMALL: Mapping[str, Any] = {"ema_half_life": 20_000, "ema_buffers": "averaged", "length": "25 epochs"}

OWN: Mapping[str, Mapping[str, Any]] = {
    # not published: what this architecture was in version 0.1
    "small": {"architecture": "r3gan:end=tanh", "turns": "D,G", **_SMALL},
    "mnist": {"architecture": "r3gan:end=tanh", "dataset": "mnist", "turns": "D,G", **_SMALL},
    # not published: for the 1,498 training images of scikit-learn's digits, at 16x16
    "digits": {
        "architecture": "r3gan:width=16,end=tanh",
        "dataset": "digits",
        "turns": "D,G",
        "generator_optimizer": "adam:lr=5e-4,beta1=0.0,beta2=0.99",
        "discriminator_optimizer": "adam:lr=5e-4,beta1=0.0,beta2=0.99",
        "ema_half_life": 5000,
        "ema_buffers": "averaged",
        "length": "100 epochs",
        "samples_every": "10 epochs",
        "checkpoint_every": "50 epochs",
        "tick_every": "20 steps",
        "grid": "4x8",
    },
}
