"""Round: what both players saw, and what was said of it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

#: the discriminator's view of a whole round; `D.reals` and `D.fakes` turns see one of the two
BOTH_SIDES = frozenset({"reals", "fakes"})


class Round:
    """One round of the game. Fakes and logits are computed when first asked for, and only then.

    So the cost of a turn follows the formulas of its losses, and every loss sees the same dropout and augmentation.
    """

    def __init__(
        self,
        reals: Tensor,
        labels: Tensor,
        latents: Tensor,
        generate: Callable[[Tensor, Tensor], Tensor],
        discriminate: Callable[[Tensor, Tensor], Tensor],
        sides: frozenset[str] = BOTH_SIDES,
    ) -> None:
        #: (N, C, H, W) in the architecture's value range; may be differentiated
        self.reals = reals.detach().requires_grad_()
        #: (N,) int64 classes of the reals and of the fakes: a fake is made for each real's class
        self.labels = labels
        #: (N, Z)
        self.latents = latents
        #: which halves of the round the discriminator is judged on: reals, fakes or both
        self.sides = sides
        self._generate = generate
        self._discriminate = discriminate
        self._fakes: Tensor | None = None
        self._real_logits: Tensor | None = None
        self._fake_logits: Tensor | None = None

    @property
    def fakes(self) -> Tensor:
        """(N, C, H, W) drawn from `latents` and `labels`; may be differentiated."""
        if self._fakes is None:
            fakes = self._generate(self.latents, self.labels)
            self._fakes = fakes if fakes.requires_grad else fakes.requires_grad_()
        return self._fakes

    @property
    def real_logits(self) -> Tensor:
        """(N, ...) float32 logits of the reals."""
        if self._real_logits is None:
            self._real_logits = self.discriminate(self.reals)
        return self._real_logits

    @property
    def fake_logits(self) -> Tensor:
        """(N, ...) float32 logits of the fakes."""
        if self._fake_logits is None:
            self._fake_logits = self.discriminate(self.fakes)
        return self._fake_logits

    def discriminate(self, images: Tensor) -> Tensor:
        """Augment, then the discriminator, for the classes of this round: for penalties at other points.

        images (N, C, H, W); returns float32 logits (N, ...).
        """
        return self._discriminate(images, self.labels)

    @property
    def computed_logits(self) -> dict[str, Tensor]:
        """The logits that were asked for, by side; asking here computes nothing."""
        logits = {"reals": self._real_logits, "fakes": self._fake_logits}
        return {side: value for side, value in logits.items() if value is not None}

    @property
    def said(self) -> dict[str, Tensor]:
        """The name of `computed_logits` before version 0.2."""
        return self.computed_logits
