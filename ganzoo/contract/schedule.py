"""Schedule: a number that changes with the real images seen, written `BASE -> FINAL by N`."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Self

from ganzoo.contract.choice import Amount
from ganzoo.contract.errors import UsageError

#: how the number moves between the two ends
FORMS = ("cosine", "linear", "step")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+|[kM])?"
_TEXT = re.compile(
    rf"\s*({_NUMBER})\s*->\s*({_NUMBER})(?:\s+from\s+(\S+))?\s+by\s+(\S+)(?:\s+images)?(?:\s+([a-z]+))?\s*"
)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A number that is `base` until `start` real images were seen, and `final` from `end` images on.

    In between it follows a half cosine, base + (1 - cos(pi t)) / 2 (final - base), with t from 0 to 1 (`cosine`, the
    form of R3GAN, arXiv:2501.05441), a straight line (`linear`), or stays at `base` (`step`). `end` is 0 where it is
    the end of the run, whose length `of_length` fills in.
    """

    base: float
    final: float
    end: int
    start: int = 0
    form: str = "cosine"

    @staticmethod
    def is_text(value: object) -> bool:
        """Whether a value is meant as a schedule: text with an arrow."""
        return isinstance(value, str) and "->" in value

    @classmethod
    def parse(cls, text: str) -> Self:
        """The schedule `BASE -> FINAL [from N] by N|end [cosine|linear|step]`; N is a number of images such as 20M.

        Raises UsageError for any other text, and for a schedule that does not end after it begins.
        """
        match = _TEXT.fullmatch(text)
        if not match or (match[5] or "cosine") not in FORMS:
            raise UsageError(
                f"{text!r} is not a schedule: write 'BASE -> FINAL by N', such as '0.05 -> 0.005 by 20M', where N is "
                f"a number of real images or the word end; 'from N' before 'by' and a form ({', '.join(FORMS)}) at "
                f"the end may be added."
            )
        start, end = (
            Amount.parse(word, "images") for word in (match[3] or "0", "0" if match[4] == "end" else match[4])
        )
        if match[4] != "end" and end.count <= start.count:
            raise UsageError(
                f"The schedule {text!r} ends at {end.count} images, and it begins at {start.count}: its end must come "
                f"after its beginning."
            )
        return cls(_number(match[1]), _number(match[2]), end.count, start.count, match[5] or "cosine")

    def of_length(self, images: int) -> Schedule:
        """The schedule for a run that has seen so many images at its end."""
        return dataclasses.replace(self, end=max(images, self.start + 1)) if not self.end else self

    def at(self, images_seen: int) -> float:
        """The number after so many real images; `base` where the schedule ends with a run of unknown length."""
        if not self.end or images_seen < self.start:
            return self.base
        if images_seen >= self.end:
            return self.final
        share = (images_seen - self.start) / (self.end - self.start)
        moved = {"cosine": 1 - (1 + math.cos(math.pi * share)) / 2, "linear": share, "step": 0.0}[self.form]
        return self.base + moved * (self.final - self.base)

    def __str__(self) -> str:
        begins = f" from {self.start}" if self.start else ""
        form = "" if self.form == "cosine" else f" {self.form}"
        return f"{self.base!r} -> {self.final!r}{begins} by {self.end or 'end'}{form}"


def _number(text: str) -> float:
    """The number that a text with a suffix k or M stands for."""
    factor = {"k": 1e3, "M": 1e6}.get(text[-1])
    return float(text[:-1]) * factor if factor else float(text)
