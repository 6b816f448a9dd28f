"""Adam with PyTorch's own kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import click
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.optimizers._clipping import clip_gradients, clip_weights
from ganzoo_plugins.optimizers._orthogonal import regularise_orthogonally
from ganzoo_plugins.optimizers._tensor_adam import TensorAdam


class Adam(ganzoo.Optimizer):
    """Adam of Kingma & Ba 2015 in one fused kernel, with GAN defaults; weight decay as in AdamW, clipping as in WGAN.

    arXiv:1412.6980, algorithm 1; decoupled weight decay of Loshchilov & Hutter 2019 (arXiv:1711.05101).
    Defaults of Radford et al. 2015 (arXiv:1511.06434), section 4. As in the paper, `eps` is added to the corrected root
    of the second moment; Keras adds it to the uncorrected one. `clip` is the weight clipping of Arjovsky et al. 2017
    (arXiv:1701.07875), meant for the discriminator. `lazy` corrects for a penalty that is used in every k-th step only,
    in a step of the optimiser of its own (turns `D.lazy`, `G.lazy`): with r = k / (k + 1), the learning rate is
    multiplied by r, and both betas are raised to the power r (Karras et al. 2020, arXiv:1912.04958, appendix B).
    `orthogonal` adds to the gradients that of Brock et al. 2019 (arXiv:1809.11096), section 3.1, meant for the
    generator: 2 s (W W^T with a diagonal of zeros) W for each matrix W.
    """

    schedulable = ("lr", "beta1", "beta2", "eps", "weight_decay")

    def __init__(
        self,
        *,
        lr: Annotated[float, click.FloatRange(min=0), "learning rate, at the beginning"] = 2e-4,
        beta1: Annotated[float, click.FloatRange(0, 1, max_open=True), "decay of the first moment"] = 0.5,
        beta2: Annotated[float, click.FloatRange(0, 1, max_open=True), "decay of the second moment"] = 0.999,
        eps: Annotated[float, click.FloatRange(min=0), "added to the root of the second moment"] = 1e-8,
        weight_decay: Annotated[float, click.FloatRange(min=0), "decoupled: times the learning rate"] = 0.0,
        clip: Annotated[
            float, click.FloatRange(min=0), "weights are clamped to -this..this after each step; 0: they are not"
        ] = 0.0,
        clip_norm: Annotated[
            float, click.FloatRange(min=0), "gradients are scaled down to this norm where it is larger; 0: they are not"
        ] = 0.0,
        orthogonal: Annotated[
            float, click.FloatRange(min=0), "strength of BigGAN's orthogonal regularisation of all matrices"
        ] = 0.0,
        decay_images: Annotated[
            int, click.IntRange(min=0), "real images over which the rate falls linearly to zero; 0: see decay"
        ] = 0,
        decay: Annotated[
            Literal["none", "linear"],
            "linear: the rate falls linearly to zero over the length of the run, unless decay_images is given",
        ] = "none",
        lazy: Annotated[
            int, click.IntRange(min=0), "interval of a lazy penalty that rate and betas are corrected for; 0: none"
        ] = 0,
    ) -> None:
        super().__init__()
        self.decay, self._run_images = decay, 0
        self.lr, self.eps, self.weight_decay = lr, eps, weight_decay
        self.clip, self.clip_norm, self.decay_images = clip, clip_norm, decay_images
        # with a tensor as the learning rate, torch refuses betas that are ints
        self.beta1, self.beta2 = float(beta1), float(beta2)
        self.orthogonal = orthogonal
        #: r, by which the learning rate is multiplied and to the power of which the betas are raised
        self._ratio = lazy / (lazy + 1) if lazy else 1.0

    @property
    def betas(self) -> tuple[float, float]:
        """The decays of the two moments, with the correction of `lazy`."""
        return self.beta1**self._ratio, self.beta2**self._ratio

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """torch's AdamW over `parameters`; without weight decay it is Adam."""
        parameters = list(parameters)
        device = parameters[0].device
        if any(isinstance(number, Tensor) for number in (self.beta1, self.beta2, self.eps, self.weight_decay)):
            following = TensorAdam(parameters, self.lr * self._ratio, lambda: self.betas, self.eps, self.weight_decay)
            return self._hooked(following)
        optimizer = torch.optim.AdamW(
            parameters,
            # a tensor, so that a recorded CUDA graph uses new values; the fused kernel expects float32
            lr=torch.tensor(self.lr * self._ratio, dtype=torch.float32, device=device),
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
            capturable=device.type == "cuda",
        )
        return self._hooked(optimizer)

    def _hooked(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser with what is done to gradients before, and to weights after each step."""
        regularised = regularise_orthogonally(optimizer, self.orthogonal)
        return clip_weights(clip_gradients(regularised, self.clip_norm), self.clip)

    def set_length(self, images: int) -> None:
        """Set the number of real images that the run will have seen at its end: `decay="linear"` falls over them."""
        self._run_images = images

    def learning_rate(self, images_seen: int) -> float:
        """Constant, or falling linearly to zero over `decay_images`, or over the length of the run."""
        images = self.decay_images or (self._run_images if self.decay == "linear" else 0)
        rate = self.lr * self._ratio
        return rate * max(0.0, 1 - images_seen / images) if images else rate
