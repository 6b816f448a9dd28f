"""The abstract parts, with their shapes and ranges. A component's constructor is its configuration (see options)."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import KINDS
from ganzoo.contract.images import ImageSpec, ValueRange
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.round import Round


class Architecture(ABC):
    """A generator and a discriminator, and the recipe they were published with."""

    #: the range of the generator's images and of the reals the discriminator is shown
    value_range: ClassVar[ValueRange] = (-1.0, 1.0)
    #: whether the networks use the labels they are given
    conditional: ClassVar[bool] = False
    #: whether a step with it can be recorded in a CUDA graph; with a part that cannot, steps are played eagerly
    capturable: ClassVar[bool] = True
    #: the published recipe; a bare name reproduces it
    recipe: ClassVar[Recipe] = Recipe()
    #: named variants of it: the fields each one changes
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abstractmethod
    def networks(self, images: ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for such images, freshly initialised from torch's global random state.

        generator: latents (N, Z), labels (N,) int64 -> images (N, C, H, W) in `value_range`.
        discriminator: images (N, C, H, W) in `value_range`, labels (N,) int64 -> logits (N, ...), unbounded.
        Raises RefusedSpec where it cannot serve `images`.
        """

    @abstractmethod
    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, Z) float latents drawn from `generator`, on its device."""


class Dataset(ABC):
    """Images by index. The constructor takes the keyword `split` ("train" or "test") beside its own options.

    Files live below `ganzoo.data_dir()`. The constructor raises GanzooError, saying what to do, where data is missing.
    """

    #: what `read` gives
    spec: ImageSpec
    #: names of the classes, in order of their labels; empty where there are none worth telling
    class_names: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of images of the split."""

    @abstractmethod
    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of `indices` (n,) int64: uint8 (n, C, H, W) and int64 (n,), on the CPU.

        A dataset without labels is a dataset of one class: zeros.
        """

    def verify(self) -> str:
        """Check what lies on disk as thoroughly as can be and say in a few words what was checked.

        Raises GanzooError naming the first thing that is wrong. The default reads every image once.
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


class Loss(nn.Module, ABC):
    """One term of the game: what it costs each player. The losses of a recipe are added up.

    Scalars; lower is better for that player; 0 if it says nothing to one.
    """

    #: whether `discriminator` can judge one side of a round alone (turns `D.reals`, `D.fakes`)
    separable: ClassVar[bool] = False
    #: whether a step with it can be recorded in a CUDA graph; with a part that cannot, steps are played eagerly
    capturable: ClassVar[bool] = True

    def __init__(self) -> None:
        """A part without options needs no constructor of its own."""
        super().__init__()

    @abstractmethod
    def discriminator(self, round: Round) -> Tensor:
        """The discriminator's cost of this round."""

    @abstractmethod
    def generator(self, round: Round) -> Tensor:
        """The generator's cost of this round."""


class SeparableLoss(Loss):
    """A loss whose discriminator cost is a sum of one term on reals and one on fakes."""

    separable: ClassVar[bool] = True

    @abstractmethod
    def on_reals(self, logits: Tensor) -> Tensor:
        """The discriminator's cost of these logits of reals; a scalar."""

    @abstractmethod
    def on_fakes(self, logits: Tensor) -> Tensor:
        """The discriminator's cost of these logits of fakes; a scalar."""

    @final
    def discriminator(self, round: Round) -> Tensor:
        """The terms of the sides this turn is judged on, added."""
        terms = []
        if "reals" in round.sides:
            terms.append(self.on_reals(round.real_logits))
        if "fakes" in round.sides:
            terms.append(self.on_fakes(round.fake_logits))
        return torch.stack(terms).sum()


class Augmentation(nn.Module, ABC):
    """Changes what the discriminator sees, reals and fakes alike."""

    #: whether a step with it can be recorded in a CUDA graph; with a part that cannot, steps are played eagerly
    capturable: ClassVar[bool] = True

    def __init__(self) -> None:
        """A part without options needs no constructor of its own."""
        super().__init__()

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> the same shape, differentiable, random draws on the images' device."""


class Optimizer(nn.Module, ABC):
    """Builds a player's optimiser. State shared by all players it serves lives in its buffers."""

    #: whether a step with it can be recorded in a CUDA graph; with a part that cannot, steps are played eagerly
    capturable: ClassVar[bool] = True

    def __init__(self) -> None:
        """A part without options needs no constructor of its own."""
        super().__init__()

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A torch optimiser whose learning rate is a tensor and whose step can be captured in a CUDA graph."""

    @abstractmethod
    def learning_rate(self, images_seen: int) -> float:
        """The learning rate once `images_seen` real images have been seen; written before every step."""


class Extractor(nn.Module, ABC):
    """Images to features."""

    #: names of the layers `forward` gives, and their number of dimensions; complete once bound
    layers: Mapping[str, int]
    #: sha256 of everything the features depend on: weights and preprocessing; complete once bound
    digest: str
    #: what happens to images before the network, in words: resize kernel, antialias, range
    preprocessing: str = "none"
    #: what it computes in, as the card of a score has it
    precision: str = "fp32"

    def __init__(self) -> None:
        """A part without options needs no constructor of its own."""
        super().__init__()

    def bind(self, name: str, train: Dataset) -> None:
        """Called once before use with the dataset that is scored: its name and training split. Most need neither."""

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (N, C, H, W) -> float32 features (N, D) by layer; a layer may keep the shape of images."""


#: whose features an evaluator is given: the reals that are scored against, the reals of the dataset's other split, or
#: generated images
Origin = Literal["reals", "held-out", "fakes"]


@dataclasses.dataclass(frozen=True)
class Score:
    """What a number means: which way is better, and the bounds it cannot leave."""

    better: Literal["lower", "higher"]
    low: float = 0.0
    high: float = math.inf


class Evaluator(ABC):
    """Features to scores, in the manner of torchmetrics: update, then compute.

    After `reset` come all reals (or `restore`, in their place), then all held-out reals where `held_out` asks for them,
    then all fakes; then `compute`.
    """

    #: the extractor whose features it takes, `name` or `name:key=value`, and the layer
    extractor: str
    layer: str
    #: each score by its name
    scores: Mapping[str, Score]
    #: the fewest images of each origin a score means something for
    minimum: int = 2
    #: whether it also looks at the reals of the other split
    held_out: bool = False
    #: the split whose images it must be shown as reals; empty: the protocol's, whichever that is
    split: str = ""
    #: whether it means something only for generators that draw the class they are asked for
    conditional: bool = False
    #: what `compute` costs, in words
    cost: str = ""

    @abstractmethod
    def reset(self, dimensions: int, device: torch.device) -> None:
        """Forget everything; features will have this many dimensions."""

    @abstractmethod
    def update(self, features: Tensor, labels: Tensor, origin: Origin) -> None:
        """Take in finite features (N, D) of images of one origin, and their labels (N,) int64.

        The label of a fake is the class that was asked for: it means something for conditional architectures only.
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scores. Raises GanzooError where they would mean nothing."""

    def statistics(self) -> dict[str, Tensor] | None:
        """All that `compute` needs of the reals and held-out reals taken in, to be kept on disk for the next time.

        None, the default: nothing is kept, and the reals are shown every time.
        """
        return None

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Take up what `statistics` gave, in place of the reals and held-out reals."""
        raise NotImplementedError("an evaluator that keeps statistics restores them")


class Observer:
    """Sees a run and changes nothing: any of the run hooks (see `ganzoo.contract.hooks`), marked `@ganzoo.hookimpl`."""


def class_names(dataset: Dataset) -> Sequence[str]:
    """Names of the classes, numbers where there are none."""
    return dataset.class_names or [str(label) for label in range(dataset.spec.classes)]


#: kind of part -> its base class
BASES: Mapping[str, type[Any]] = {kind: globals()[name] for kind, name in KINDS.items()}


def kind_of_class(component: object) -> str:
    """The kind of part that a class is; empty where it is none."""
    return next((k for k, base in BASES.items() if isinstance(component, type) and issubclass(component, base)), "")
