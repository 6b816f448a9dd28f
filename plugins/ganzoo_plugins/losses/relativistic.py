"""The pairing loss of R3GAN."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

import ganzoo


class Relativistic(ganzoo.Loss):
    """Each fake is judged against one real: how much more real does one look than the other.

    RpGAN of Jolicoeur-Martineau 2018 (arXiv:1807.00734), in the form of R3GAN, Huang et al. 2024 (arXiv:2501.05441),
    section 2: the discriminator's cost is E softplus(-(D(real) - D(fake))), the generator's is
    E softplus(-(D(fake) - D(real))), with D the logits and the i-th fake beside the i-th real (of the same class).
    R3GAN adds `r1` and `r2` to it.
    """

    def __init__(self) -> None:  # no options
        super().__init__()

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """E softplus of how much more real the fakes look."""
        return softplus(round.fake_logits - round.real_logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """E softplus of how much more real the reals look."""
        return softplus(round.real_logits - round.fake_logits).mean()
