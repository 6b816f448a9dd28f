"""The history of a training: the sets of images it was trained on, and the lengths it was given, each from a step on.

Images seen and epochs are counted over the whole history, not only over the present set of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ganzoo.contract.choice import Amount


@dataclass(frozen=True)
class BatchPlan:
    """How many images each step sees of a set of `length` images, in `minibatches` batches of `batch_size` a step."""

    length: int
    batch_size: int
    minibatches: int
    batch_order: str

    def images_at(self, step: int) -> int:
        """Number of images seen after `step` steps on this set."""
        minibatch = step * self.minibatches
        if self.batch_order in ("stream", "replacement"):
            return minibatch * self.batch_size
        epoch, position = divmod(minibatch, self.batches_per_epoch)
        return epoch * self.epoch_images + min(position * self.batch_size, self.epoch_images)

    @property
    def epoch_images(self) -> int:
        """Number of images seen in an epoch: all, or those of the full batches where the last batch is dropped."""
        if self.batch_order == "epochs-drop-last":
            return self.batches_per_epoch * self.batch_size
        return self.length

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch, with the last, smaller one unless it is dropped."""
        whole, rest = divmod(self.length, self.batch_size)
        return whole + (rest > 0 and self.batch_order == "epochs")


@dataclass(frozen=True)
class Segment:
    """The steps of a training on one set of images, from `step` on.

    `images` and `epochs` were seen before it. The set has `length` images and the fingerprint `training_images`
    (sha256), which is empty where it is not known. `batch_size` is 0 where it is that of the run's recipe; a segment
    before a change of the batch size has its own.
    """

    step: int
    images: int
    epochs: Fraction
    length: int
    training_images: str = ""
    batch_size: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; epochs are an exact fraction, as text."""
        return {
            "step": self.step,
            "images": self.images,
            "epochs": str(self.epochs),
            "number_of_images": self.length,
            "training_images": self.training_images,
            **({"batch_size": self.batch_size} if self.batch_size else {}),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Segment:
        """The segment of `to_dict`. Raises ValueError, KeyError or TypeError for anything else."""
        numbers = [facts[name] for name in ("step", "images", "number_of_images")]
        numbers.append(facts.get("batch_size", 0))
        if not all(type(number) is int and number >= 0 for number in numbers) or not numbers[2]:
            raise ValueError(f"a segment has the numbers {numbers}")
        epochs = Fraction(str(facts["epochs"]))
        if epochs < 0:
            raise ValueError(f"a segment begins at epoch {epochs}")
        return cls(numbers[0], numbers[1], epochs, numbers[2], str(facts["training_images"]), numbers[3])


@dataclass(frozen=True)
class History:
    """The segments of a training, and its lengths, each with the step from which on it holds; both are in order.

    `changes` are the changes of its recipe, each with the step after which it was made: field -> {"from", "to"}.
    """

    segments: tuple[Segment, ...]
    lengths: tuple[tuple[int, Amount], ...]
    changes: tuple[tuple[int, Mapping[str, Any]], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        facts: dict[str, Any] = {
            "segments": [segment.to_dict() for segment in self.segments],
            "lengths": [{"step": step, "length": str(length)} for step, length in self.lengths],
        }
        changes = [{"step": step, "fields": dict(made)} for step, made in self.changes]
        return {**facts, "changes": changes} if changes else facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> History:
        """The history of `to_dict`. Raises ValueError, KeyError, TypeError or UsageError for anything else."""
        segments = tuple(Segment.from_dict(entry) for entry in facts["segments"])
        lengths = tuple((int(entry["step"]), Amount.parse(entry["length"])) for entry in facts["lengths"])
        for steps in ([segment.step for segment in segments], [step for step, _ in lengths]):
            if steps != sorted(set(steps)) or steps[:1] != [0]:
                raise ValueError(f"its entries begin at the steps {steps}")
        changes = tuple((int(entry["step"]), dict(entry["fields"])) for entry in facts.get("changes", ()))
        return cls(segments, lengths, changes)

    def up_to(self, step: int) -> History:
        """The history of the first `step` steps: without entries that begin later. The first entries always stay."""
        return History(
            tuple(segment for segment in self.segments if segment.step < max(step, 1)),
            tuple(entry for entry in self.lengths if entry[0] < max(step, 1)),
            tuple(entry for entry in self.changes if entry[0] <= step),
        )

    def with_length(self, step: int, length: Amount) -> History:
        """This history with another length from `step` on."""
        if self.lengths[-1][1] == length:
            return self
        return replace(self, lengths=(*(entry for entry in self.lengths if entry[0] < step), (step, length)))

    def with_changes(self, step: int, made: Mapping[str, Any]) -> History:
        """This history with these changes of the recipe after `step` steps."""
        if not made:
            return self
        same = {name: value for first, fields in self.changes if first == step for name, value in fields.items()}
        fields = {name: {**value, "from": same.get(name, value)["from"]} for name, value in made.items()}
        return replace(self, changes=(*(e for e in self.changes if e[0] < step), (step, {**same, **fields})))

    def with_batch_size(self, batch_size: int) -> History:
        """This history, in which all segments so far have had this batch size where none is recorded."""
        segments = [replace(one, batch_size=one.batch_size or batch_size) for one in self.segments]
        return replace(self, segments=tuple(segments))

    def with_segments(self, segments: Sequence[Segment]) -> History:
        """This history with these segments."""
        return replace(self, segments=tuple(segments))

    def length_at(self, step: int) -> Amount:
        """The length of the run at the time when the step after `step` steps was trained."""
        return [length for first, length in self.lengths if first <= step][-1]

    def segment_at(self, step: int) -> Segment:
        """The segment to which the step after `step` steps belongs."""
        return [segment for segment in self.segments if segment.step <= step][-1]
