"""Round: one minibatch's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ganzoo.contract.errors import UsageError

#: the sides of an ordinary round; the turns `D.reals` and `D.fakes` have one of them
BOTH_SIDES = frozenset({"reals", "fakes"})


class Round:
    """One minibatch's forward pass, computed lazily: fakes and logits are computed once, when a loss first uses them.

    A turn computes only what its losses use, and all its losses share the same fakes, dropout masks and augmentations.
    """

    def __init__(
        self,
        reals: Tensor,
        labels: Tensor,
        latents: Tensor,
        generate: Callable[[Tensor, Tensor], Tensor],
        discriminate: Callable[[Tensor, Tensor], Tensor],
        sides: frozenset[str] = BOTH_SIDES,
        generate_styled: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        joint: bool = False,
        fake_labels: Tensor | None = None,
    ) -> None:
        #: real images (N, C, H, W) in the architecture's value range; they require gradients
        self.reals = reals.detach().requires_grad_()
        #: (N,) int64, the classes of the reals
        self.labels = labels
        #: (N,) int64, the classes of the fakes: those of the reals, unless the recipe draws their own
        self.fake_labels = labels if fake_labels is None else fake_labels
        #: (N, Z), the inputs of the generator
        self.latents = latents
        #: the images the discriminator is trained on: reals, fakes or both
        self.sides = sides
        #: whether the discriminator sees fakes and reals in one forward, fakes first
        self.joint = joint and sides == BOTH_SIDES
        self._generate = generate
        self._discriminate = discriminate
        self._generate_styled = generate_styled
        self._fakes: Tensor | None = None
        self._real_logits: Tensor | None = None
        self._fake_logits: Tensor | None = None

    @property
    def fakes(self) -> Tensor:
        """Generated images (N, C, H, W) of `latents` and `fake_labels`; they require gradients."""
        if self._fakes is None:
            fakes = self.generate(self.latents)
            self._fakes = fakes if fakes.requires_grad else fakes.requires_grad_()
        return self._fakes

    @property
    def real_logits(self) -> Tensor:
        """Logits (N, ...), float32, of the reals."""
        if self._real_logits is None:
            self._discriminate_sides("reals")
        assert self._real_logits is not None  # noqa: S101
        return self._real_logits

    @property
    def fake_logits(self) -> Tensor:
        """Logits (N, ...), float32, of the fakes."""
        if self._fake_logits is None:
            self._discriminate_sides("fakes")
        assert self._fake_logits is not None  # noqa: S101
        return self._fake_logits

    def _discriminate_sides(self, side: str) -> None:
        """Compute the logits of one side, or of both where they are computed together."""
        if self.joint:
            both = torch.cat([self.fakes, self.reals]), torch.cat([self.fake_labels, self.labels])
            logits = self._discriminate(*both)
            self._fake_logits, self._real_logits = logits.chunk(2)
        elif side == "reals":
            self._real_logits = self.discriminate(self.reals)
        else:
            self._fake_logits = self.discriminate(self.fakes, self.fake_labels)

    def discriminate(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N, ...), float32, of other images (N, C, H, W), for penalties. The images are augmented first.

        `labels` (N,) int64 are the classes of the images; by default those of the reals, also for images between
        reals and fakes.
        """
        return self._discriminate(images, self.labels if labels is None else labels)

    def generate(self, latents: Tensor) -> Tensor:
        """Images (N, C, H, W) of other latents (N, Z) with the classes of the fakes; for penalties.

        They have gradients of the generator's weights in a turn that updates it. The generator is called again.
        """
        return self._generate(latents, self.fake_labels)

    def split(self, count: int) -> Iterator[Round]:
        """Rounds of `count` images each, of the last of which may be fewer; the round itself where it is not larger.

        Nothing may have been computed before. Each part computes its own fakes and logits.
        """
        if len(self.labels) <= count:
            yield self
            return
        for start in range(0, len(self.labels), count):
            here = slice(start, start + count)
            yield Round(
                *(self.reals[here], self.labels[here], self.latents[here], self._generate, self._discriminate),
                *(self.sides, self._generate_styled, self.joint, self.fake_labels[here]),
            )

    def styled_fakes(self, count: int) -> tuple[Tensor, Tensor]:
        """Images (count, C, H, W) of the first latents, drawn again, and the styles they were computed from.

        For penalties on the generator. It must have two methods: `styles(latents, labels)`, and `images(styles)`, which
        together are its `forward`. Raises UsageError for other generators.
        """
        if self._generate_styled is None:
            raise UsageError(
                "A loss of the recipe needs a generator with styles (`styles` and `images`), and this one has none: "
                "leave the loss out."
            )
        return self._generate_styled(self.latents[:count], self.fake_labels[:count])

    @property
    def computed_logits(self) -> dict[str, Tensor]:
        """The logits that have been computed so far, by side (`reals`, `fakes`). Reading this computes nothing."""
        logits = {"reals": self._real_logits, "fakes": self._fake_logits}
        return {side: value for side, value in logits.items() if value is not None}

    @property
    def said(self) -> dict[str, Tensor]:
        """The name of `computed_logits` before version 0.2."""
        return self.computed_logits
