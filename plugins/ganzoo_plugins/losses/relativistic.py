"""The pairing loss of R3GAN."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

import ganzoo


class Relativistic(ganzoo.Loss):
    """Loss on the difference between the logits of a real and a fake image.

    RpGAN of Jolicoeur-Martineau 2018 (arXiv:1807.00734), in the form of R3GAN, Huang et al. 2024 (arXiv:2501.05441),
    section 2: the discriminator's loss is E softplus(-(D(real) - D(fake))), the generator's is
    E softplus(-(D(fake) - D(real))), with D the logits. The i-th fake is paired with the i-th real, which has
    the same class unless the recipe draws classes for the fakes. R3GAN adds the penalties `r1` and `r2`.
    """

    def __init__(self) -> None:  # no options
        super().__init__()

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        """E softplus(D(fake) - D(real))."""
        return softplus(round.fake_logits - round.real_logits).mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        """E softplus(D(real) - D(fake))."""
        return softplus(round.real_logits - round.fake_logits).mean()
