"""The optimisers of Keras 2: eps is added to the uncorrected root, and networks that share one share its step count."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import click
import torch
from torch import Tensor, nn
from torch.optim.adam import adam as adam_update

import ganzoo


class _KerasOptimizer(ganzoo.Optimizer):
    """p -= rate * m / (sqrt(v) + eps), where m and v are moving averages of the gradient and of its square.

    `iterations` counts the updates of all networks that this object was built for: networks that share it share the
    count.
    """

    iterations: Tensor

    def __init__(self, lr: float, beta1: float, beta2: float, eps: float, clip_value: float | None) -> None:
        super().__init__()
        self.lr, self.beta1, self.beta2 = float(lr), float(beta1), float(beta2)
        self.eps, self.clip_value = float(eps), clip_value
        self.register_buffer("iterations", torch.zeros((), dtype=torch.float64))

    @abstractmethod
    def rate(self, lr: Tensor) -> Tensor:
        """The rate of the next update, a float64 scalar computed from `lr` and `iterations`."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """An optimiser over `parameters` that counts its updates in `iterations`."""
        return _Update(list(parameters), self)

    def learning_rate(self, images_seen: int) -> float:
        """Constant. Decay and bias correction are in `rate`, because they depend on the number of updates."""
        return self.lr


class KerasAdam(_KerasOptimizer):
    """Adam as Keras 2 and TensorFlow 1 compute it; networks that share it share its step counter.

    Kingma & Ba 2015 (arXiv:1412.6980) in the form given before section 2.1, with "epsilon hat":
    p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps). PyTorch adds eps to the corrected root, which gives
    other steps where gradients are small. The eps of tf.keras and of Keras since 2.1.3 is 1e-7; that of Keras before
    and of TensorFlow 1 is 1e-8.
    """

    def __init__(
        self,
        *,
        lr: Annotated[float, click.FloatRange(min=0), "learning rate"] = 1e-3,
        beta1: Annotated[float, click.FloatRange(0, 1, max_open=True), "decay of the first moment"] = 0.9,
        beta2: Annotated[float, click.FloatRange(0, 1, max_open=True), "decay of the second moment"] = 0.999,
        eps: Annotated[float, click.FloatRange(0, min_open=True), "added to the uncorrected root"] = 1e-7,
        clip_value: Annotated[
            float | None, click.FloatRange(0, min_open=True), "gradients are clipped to -this..this; none: they are not"
        ] = None,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps, clip_value)

    def rate(self, lr: Tensor) -> Tensor:
        """The learning rate with the bias corrections of update t = iterations + 1."""
        t = self.iterations + 1
        return lr * (1 - self.beta2**t).sqrt() / (1 - self.beta1**t)


class KerasRMSprop(_KerasOptimizer):
    """RMSprop of Keras 2 before 2.11: eps outside the root, a decay of the learning rate by updates.

    Tieleman & Hinton 2012, lecture 6e. v = rho v + (1 - rho) g^2 from 0; p -= lr / (1 + decay t) g / (sqrt(v) + eps)
    with t from 0. The eps of Keras up to 2.1.2 is 1e-8. (Keras since 2.11 moves it inside the root, and steps shrink
    for small gradients.)
    """

    def __init__(
        self,
        *,
        lr: Annotated[float, click.FloatRange(min=0), "learning rate before the decay"] = 1e-3,
        rho: Annotated[float, click.FloatRange(0, 1, max_open=True), "decay of the mean square"] = 0.9,
        eps: Annotated[float, click.FloatRange(0, min_open=True), "added to the root of the mean square"] = 1e-7,
        decay: Annotated[float, click.FloatRange(min=0), "the rate is lr / (1 + decay * updates made)"] = 0.0,
        clip_value: Annotated[
            float | None, click.FloatRange(0, min_open=True), "gradients are clipped to -this..this; none: they are not"
        ] = None,
    ) -> None:
        # beta1 = 0: there is no first moment, the average of the gradient is the gradient
        super().__init__(lr, 0.0, rho, eps, clip_value)
        self.decay = decay

    def rate(self, lr: Tensor) -> Tensor:
        """The learning rate after `iterations` updates."""
        return lr / (1 + self.decay * self.iterations)


class _Update(torch.optim.Optimizer):
    """The update of a component, over some parameters, by torch's fused Adam kernel.

    The kernel's own bias corrections are exactly 1 after 1e9 steps, so it is called with that step number: then it
    computes p -= lr m / (sqrt(v) + eps), as Keras does.
    """

    def __init__(self, parameters: list[nn.Parameter], component: _KerasOptimizer) -> None:
        device = parameters[0].device
        super().__init__(parameters, {"lr": torch.tensor(component.lr, dtype=torch.float64, device=device)})
        self.component = component
        # float32: there 1e9 + 1 is 1e9, so the step number stays the same
        self._torch_steps = torch.tensor(1e9, dtype=torch.float32, device=device)
        moments = ("exp_avg", "exp_avg_sq") if component.beta1 else ("square_avg",)
        for parameter in parameters:
            self.state[parameter] = {name: torch.zeros_like(parameter) for name in moments}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients, without a transfer to the host."""
        (group,) = self.param_groups
        rate = self.component.rate(group["lr"])
        self.component.iterations.add_(1)
        # the kernel on CUDA expects float32, the one on a CPU float64
        self._apply(group["params"], rate.to(torch.float32) if rate.is_cuda else rate)

    def _apply(self, parameters: list[nn.Parameter], rate: Tensor) -> None:
        component = self.component
        updated: list[Any] = [parameter for parameter in parameters if parameter.grad is not None]
        gradients: Any = [parameter.grad for parameter in updated]
        if component.clip_value is not None:
            gradients = torch._foreach_clamp_min(gradients, -component.clip_value)
            torch._foreach_clamp_max_(gradients, component.clip_value)
        states = [self.state[parameter] for parameter in updated]
        with_momentum = bool(component.beta1)
        adam_update(
            updated,
            gradients,
            # with beta1 = 0, m is the gradient, so the kernel may write m over the gradient
            exp_avgs=[state["exp_avg"] for state in states] if with_momentum else gradients,
            exp_avg_sqs=[state["exp_avg_sq" if with_momentum else "square_avg"] for state in states],
            max_exp_avg_sqs=[],
            state_steps=[self._torch_steps] * len(updated),
            fused=True,
            amsgrad=False,
            beta1=component.beta1,
            beta2=component.beta2,
            lr=rate,
            weight_decay=0.0,
            eps=component.eps,
            maximize=False,
        )
