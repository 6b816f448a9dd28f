"""Faulty datasets."""

from __future__ import annotations

import os
import socket
import threading

import torch
from torch import Tensor

import ganzoo


class Good(ganzoo.Dataset):
    """Forty small images of noise in three classes."""

    def __init__(self, *, split: str = "train") -> None:
        self.spec = ganzoo.ImageSpec(1, 8, 8, 3)
        self.class_names = ("a", "b", "c")
        self.images = self.draw(split)
        self.labels = torch.arange(40) % 3

    def draw(self, split: str) -> Tensor:
        generator = torch.Generator().manual_seed(int(split == "test"))
        return torch.randint(256, (40, 1, 8, 8), generator=generator).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]

    def verify(self) -> str:
        return "all images were read"


class Floats(Good):
    """Images that are not uint8."""

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = super().read(indices)
        return images.int(), labels


class Unnamed(Good):
    """One class name is missing."""

    def __init__(self, *, split: str = "train") -> None:
        super().__init__(split=split)
        self.class_names = ("a", "b")


class Unlike(Good):
    """Test images with other class names."""

    def __init__(self, *, split: str = "train") -> None:
        super().__init__(split=split)
        if split == "test":
            self.class_names = ("c", "b", "a")


class Leaking(Good):
    """The test images are the training images."""

    def draw(self, split: str) -> Tensor:
        return super().draw("train")


class Fresh(Good):
    """Every object draws new images."""

    def draw(self, split: str) -> Tensor:
        return torch.randint(256, (40, 1, 8, 8), generator=_OWN).to(torch.uint8)


_OWN = torch.Generator()


class Uneven(Good):
    """The first image of a batch is darker."""

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = super().read(indices)
        images[0] //= 2
        return images, labels


class Views(Good):
    """Returns views of its own memory where the indices are evenly spaced."""

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        steps = indices.diff()
        if len(steps) and steps.min() == steps.max() > 0:
            part = slice(int(indices[0]), int(indices[-1]) + 1, int(steps[0]))
            return self.images[part], self.labels[part]
        return super().read(indices)


class OneThread(Good):
    """Its images can be read only in the thread that opened them."""

    def __init__(self, *, split: str = "train") -> None:
        super().__init__(split=split)
        self.opened = threading.local()
        self.opened.images = self.images

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.opened.images[indices], self.labels[indices]


class Drawing(Good):
    """Draws from the global random generator in every read."""

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        torch.rand(1)
        return super().read(indices)


class Silent(Good):
    """`verify` returns no text."""

    def verify(self) -> str:
        return ""


class Fetching(Good):
    """Downloads, and raises an error without advice where there is no network."""

    def __init__(self, *, split: str = "train") -> None:
        super().__init__(split=split)
        if not os.environ.get("GANZOO_OFFLINE"):
            socket.create_connection(("127.0.0.1", 9))


MUTANTS = {
    "images_are_of_their_spec": Floats,
    "labels_are_of_their_classes": Unnamed,
    "splits_are_alike": Unlike,
    "splits_share_no_image": Leaking,
    "reads_the_same_every_time": Fresh,
    "reads_in_any_order": Uneven,
    "reads_copies": Views,
    "reads_in_any_thread": OneThread,
    "random_state_is_left_alone": Drawing,
    "verify_says_what_it_checked": Silent,
    "missing_data_is_explained": Fetching,
}
