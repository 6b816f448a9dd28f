"""The base classes of all parts. The keyword arguments of a part's constructor are its options (see options.py)."""

from __future__ import annotations

import dataclasses
import math
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.foreign import ForeignFile, ForeignWeights
from ganzoo.contract.hooks import KINDS
from ganzoo.contract.images import ImageSpec, ValueRange
from ganzoo.contract.launcher import Launcher
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.round import Round
from ganzoo.contract.schedule import Schedule
from ganzoo.contract.suited import Suited


class Architecture(ABC):
    """A generator and a discriminator, and the recipe they were published with."""

    #: (low, high) of the generator's images, and of the real images as the discriminator sees them
    value_range: ClassVar[ValueRange] = (-1.0, 1.0)
    #: whether generated images are always within `value_range`; those of others are clamped where they are drawn
    bounded: ClassVar[bool] = True
    #: whether the networks use the labels; an architecture with an option for it sets it in its constructor
    conditional: bool = False
    #: whether a step with it can be recorded as a CUDA graph; if one part cannot, all steps run eagerly
    capturable: ClassVar[bool] = True
    #: the names of the buffers in which a batch norm of its generator keeps the moving mean and variance of its input
    batch_statistics: ClassVar[tuple[str, str]] = ("running_mean", "running_var")
    #: why its generator cannot be exported as ONNX or as a program of torch.export, in one sentence; empty if it can
    export_refusal: ClassVar[str] = ""
    #: the published recipe: the values of all settings that the user does not change
    recipe: ClassVar[Recipe] = Recipe()
    #: variants of the recipe: name -> the fields that it changes, and their values
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: the recipes that `ganzoo recommend` may take, and what they are made for
    suited: ClassVar[tuple[Suited, ...]] = ()
    #: option that was added later -> the value that keeps the meaning of runs that were recorded without it, where this
    #: is not its default
    former_options: ClassVar[Mapping[str, Any]] = {}

    #: dotted names of the classes of another program that its files pickle; they are read as plain data, never imported
    foreign_classes: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read_foreign(cls, file: ForeignFile) -> ForeignWeights:
        """The weights in a checkpoint of the program that this architecture follows, under the names of `networks`.

        `ganzoo import FILE --as NAME` calls it, and checks every name and shape of the result. Raises UsageError where
        the file is none of that program; by default always.
        """
        raise UsageError(f"{file.path} cannot be imported: {cls.__name__} knows no files of another program.")

    @abstractmethod
    def networks(self, images: ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for images of this shape, initialised from torch's global random state.

        generator: latents (N, Z), labels (N,) int64 -> images (N, C, H, W) in `value_range`.
        discriminator: images (N, C, H, W) in `value_range`, labels (N,) int64 -> logits (N, ...), unbounded.
        Raises RefusedSpec where the architecture has no networks for such images.
        """

    @abstractmethod
    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Latents (count, Z), float, drawn from `generator`, on its device."""

    def truncated(self, generator: nn.Module, truncation: float) -> nn.Module | None:
        """A generator with the same weights whose images are more typical and less varied, the more the smaller it is.

        1 is the generator itself. It is called for `ganzoo sample --truncation`. None, the default: the architecture
        has no truncation of its own, and Gaussian latents are truncated instead.
        """
        return None


class Dataset(ABC):
    """Images by index. The constructor takes the keyword `split` ("train" or "test") and its own options.

    Its files are in `ganzoo.data_dir()`. If they are missing, the constructor raises a GanzooError, whose message
    explains how to get them.
    """

    #: shape of the images, and number of classes
    spec: ImageSpec
    #: names of the classes, in the order of their labels; empty where the numbers are the names
    class_names: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of images of the split."""

    @abstractmethod
    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images, uint8 (n, C, H, W), and labels, int64 (n,), at `indices` (n,) int64, on the CPU.

        A dataset without labels has one class, and all labels are 0.
        """

    def verify(self) -> str:
        """Check the files on disk, and return a few words about what was checked.

        Raises GanzooError with the first fault. By default, every image is read once.
        """
        for start in range(0, len(self), 1000):
            images, labels = self.read(torch.arange(start, min(start + 1000, len(self))))
            if images.dtype != torch.uint8 or images.shape[1:] != (
                self.spec.channels,
                self.spec.height,
                self.spec.width,
            ):
                raise GanzooError(
                    f"Images {start}.. are {images.dtype} {tuple(images.shape[1:])}, not uint8 {self.spec}."
                )
            if labels.min() < 0 or labels.max() >= self.spec.classes:
                raise GanzooError(f"Images {start}.. have labels outside 0..{self.spec.classes - 1}.")
        return f"read {len(self)} images of {self.spec}"

    @classmethod
    def write(cls, folder: Path, splits: Mapping[str, Dataset], done: Callable[[int], None]) -> dict[str, Any]:
        """Write the images, labels and class names of other datasets as files of this dataset, in an empty folder.

        `splits` has "train", and mostly "test"; their spec is the same. `done(count)` is called after `count` more
        images. Returns the options with which this dataset reads the files; a `Path` among them is relative to
        `folder`. By default it raises UsageError: not every dataset can be written.
        """
        raise UsageError(f"{cls.__name__} cannot be written: choose another dataset to convert to.")


class Loss(nn.Module, ABC):
    """One term of the losses of the discriminator and the generator. The losses of a recipe are added.

    Both methods return a scalar, lower is better for that player. A term that only one of them has is 0 for the other.
    """

    #: whether `discriminator` can be computed from the reals alone or the fakes alone; the turns `D.reals` and
    #: `D.fakes` need this
    separable: ClassVar[bool] = False
    #: whether a step with it can be recorded as a CUDA graph; if one part cannot, all steps run eagerly
    capturable: ClassVar[bool] = True
    #: the interval in steps, from the option `every` that all losses have: the loss is computed in the steps whose
    #: number, from 0, is a multiple of it, and is multiplied by it
    every: int = 1
    #: options that recipes have only where they differ from their defaults: they are newer than the loss, and the
    #: digests of recipes without them stay
    newer_options: ClassVar[tuple[str, ...]] = ()
    #: option -> the schedule that its number follows. The attribute of that name is then a scalar tensor, which is
    #: written before each step; the constructor is given the first value
    scheduled: Mapping[str, Schedule] = types.MappingProxyType({})

    def __init__(self) -> None:
        """Takes no options. A part with options defines its own constructor."""
        super().__init__()

    @abstractmethod
    def discriminator(self, round: Round) -> Tensor:
        """The discriminator's loss on this round; a scalar."""

    @abstractmethod
    def generator(self, round: Round) -> Tensor:
        """The generator's loss on this round; a scalar."""


class SeparableLoss(Loss):
    """A loss whose discriminator loss is the sum of a term on the reals and a term on the fakes."""

    separable: ClassVar[bool] = True

    @abstractmethod
    def on_reals(self, logits: Tensor) -> Tensor:
        """The discriminator's loss on logits (N, ...) of reals; a scalar."""

    @abstractmethod
    def on_fakes(self, logits: Tensor) -> Tensor:
        """The discriminator's loss on logits (N, ...) of fakes; a scalar."""

    @final
    def discriminator(self, round: Round) -> Tensor:
        """`on_reals` plus `on_fakes`, or one of them in a round with only this side; a scalar."""
        terms = []
        if "reals" in round.sides:
            terms.append(self.on_reals(round.real_logits))
        if "fakes" in round.sides:
            terms.append(self.on_fakes(round.fake_logits))
        return torch.stack(terms).sum()


class Augmentation(nn.Module, ABC):
    """Changes the images before the discriminator sees them, reals and fakes alike."""

    #: whether a step with it can be recorded as a CUDA graph; if one part cannot, all steps run eagerly
    capturable: ClassVar[bool] = True
    #: option -> the schedule that its number follows, as in `Loss`
    scheduled: Mapping[str, Schedule] = types.MappingProxyType({})

    def __init__(self) -> None:
        """Takes no options. A part with options defines its own constructor."""
        super().__init__()

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> the same shape, differentiable. Random numbers are drawn on the images' device."""

    def observe(self, real_logits: Tensor) -> None:
        """Called after each turn that trains the discriminator on reals, with their logits (N, ...) on this process.

        An augmentation that adapts keeps what it needs in buffers, without reading a value from the device.
        """


class Optimizer(nn.Module, ABC):
    """Builds the torch optimiser of a player: of the generator, the discriminator, or both.

    One object may build the optimisers of several players. State that these share, such as a step counter, is in its
    buffers.
    """

    #: whether a step with it can be recorded as a CUDA graph; if one part cannot, all steps run eagerly
    capturable: ClassVar[bool] = True
    #: options that may follow a schedule. `lr` is an attribute that is written before `learning_rate` is called; every
    #: other one is an attribute that is a float64 scalar tensor before `build` is called, and is written in place
    schedulable: ClassVar[tuple[str, ...]] = ("lr",)
    #: option -> the schedule that its number follows
    scheduled: Mapping[str, Schedule] = types.MappingProxyType({})

    def __init__(self) -> None:
        """Takes no options. A part with options defines its own constructor."""
        super().__init__()

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A torch optimiser whose learning rate is a tensor.

        Its step can be recorded as a CUDA graph, unless `capturable` is False.
        """

    @abstractmethod
    def learning_rate(self, images_seen: int) -> float:
        """The learning rate after `images_seen` real images; it is set before every step."""

    @final
    def scheduled_learning_rate(self, images_seen: int) -> float:
        """`learning_rate`, with `lr` as its schedule has it after `images_seen` real images."""
        if "lr" in self.scheduled:
            vars(self)["lr"] = self.scheduled["lr"].at(images_seen)
        return self.learning_rate(images_seen)


class Extractor(nn.Module, ABC):
    """A network that computes features of images, for evaluators."""

    #: name of each layer that `forward` returns -> number of dimensions; complete after `bind`
    layers: Mapping[str, int]
    #: sha256 of everything the features depend on: weights and preprocessing; complete after `bind`
    digest: str
    #: how images are prepared for the network: resize kernel, antialiasing and value range, as text
    preprocessing: str = "none"
    #: the precision of its computations, as written in the card of a score
    precision: str = "fp32"
    #: the layer whose largest value is the predicted class of the dataset; empty if it predicts none. The accuracy on
    #: the test images is measured and written in the card of a score
    predicts: str = ""

    def __init__(self) -> None:
        """Takes no options. A part with options defines its own constructor."""
        super().__init__()

    def bind(self, name: str, train: Dataset) -> None:
        """Called once before use, with the name and the training split of the dataset. Most extractors ignore both."""

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 images (N, C, H, W) -> float32 features (N, D) by layer; a layer may keep the shape of images."""


#: the images that features are of: the reals that fakes are compared with, the reals of the dataset's other split
#: (held-out), or fakes
Origin = Literal["reals", "held-out", "fakes"]


@dataclasses.dataclass(frozen=True)
class Score:
    """The meaning of a score: whether lower or higher is better, and the bounds of its values."""

    better: Literal["lower", "higher"]
    low: float = 0.0
    high: float = math.inf


class Evaluator(ABC):
    """Computes scores from features. The methods are those of torchmetrics: `reset`, `update`, `compute`.

    The order of calls is: `reset`; `update` with all reals, then with all held-out reals if `held_out` is set (or
    `restore` in place of both); `update` with all fakes; `compute`.
    """

    #: the extractor of its features, written `name` or `name:key=value`, and the name of its layer
    extractor: str
    layer: str
    #: its scores by name
    scores: Mapping[str, Score]
    #: the smallest number of images of each origin for which the scores are meaningful
    minimum: int = 2
    #: whether it also needs the reals of the other split
    held_out: bool = False
    #: the split that its reals must be from; empty: the split of the protocol
    split: str = ""
    #: whether its scores are meaningful for conditional generators only
    conditional: bool = False
    #: how long `compute` takes, as text for users
    cost: str = ""

    @abstractmethod
    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state. Features will be (N, dimensions), or images of `dimensions` values each, on `device`."""

    @abstractmethod
    def update(self, features: Tensor, labels: Tensor, origin: Origin) -> None:
        """Add finite features (N, D) of images of one origin, and their labels (N,) int64.

        The label of a fake is the class it was generated for. It has a meaning for conditional architectures only.
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scores by name. Raises GanzooError where they would be meaningless."""

    def statistics(self) -> dict[str, Tensor] | None:
        """What `compute` needs to know about the reals and held-out reals, as tensors by name. It is stored on disk.

        If it returns None (the default), nothing is stored, and `update` is called with all reals before every score.
        """
        return None

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use the result of `statistics` in place of the reals and held-out reals."""
        raise NotImplementedError("an evaluator that defines `statistics` must define `restore` too")


class Observer:
    """Receives the events of a run, and does not change the run.

    Its methods are run hooks (see `ganzoo.contract.hooks`), marked with `@ganzoo.hookimpl`.
    """

    #: whether a run goes on without this observer after an error in one of its hooks, with one warning; otherwise the
    #: error ends the run
    optional: ClassVar[bool] = False


def class_names(dataset: Dataset) -> Sequence[str]:
    """The names of the classes; their numbers where they have no names."""
    return dataset.class_names or [str(label) for label in range(dataset.spec.classes)]


#: kind of part -> its base class
BASES: Mapping[str, type[Any]] = {kind: {**globals(), "Launcher": Launcher}[name] for kind, name in KINDS.items()}


def kind_of_class(component: object) -> str:
    """The kind of a part's class; empty for anything that is not the class of a part."""
    return next((k for k, base in BASES.items() if isinstance(component, type) and issubclass(component, base)), "")
