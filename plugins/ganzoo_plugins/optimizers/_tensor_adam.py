"""Adam whose numbers are scalar tensors: they may change from step to step, also in a recorded CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: a number, or a float64 scalar tensor on the parameters' device
Number = float | Tensor


class TensorAdam(torch.optim.Optimizer):
    """AdamW with the same formulas and the same state as torch's.

    The bias corrections of update t are 1 - beta1^t and 1 - beta2^t with the present betas. torch's fused kernel takes
    betas as numbers of the host, which a recorded CUDA graph keeps.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: Callable[[], tuple[Number, Number]],
        eps: Number,
        weight_decay: Number,
    ) -> None:
        parameters = list(parameters)
        rate = torch.tensor(lr, dtype=torch.float64, device=parameters[0].device)
        super().__init__(parameters, {"lr": rate})
        self._betas, self._eps, self._weight_decay = betas, eps, weight_decay
        self._decays = isinstance(weight_decay, Tensor) or bool(weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients, without a transfer to the host."""
        (group,) = self.param_groups
        parameters: list[Any] = [parameter for parameter in group["params"] if parameter.grad is not None]
        gradients: Any = [parameter.grad for parameter in parameters]
        states = [self._state_of(parameter) for parameter in parameters]
        means: Any = [state["exp_avg"] for state in states]
        squares: Any = [state["exp_avg_sq"] for state in states]
        counts: Any = [state["step"] for state in states]
        torch._foreach_add_(counts, 1)
        rate, dtype = group["lr"].double(), parameters[0].dtype
        beta1, beta2 = (torch.as_tensor(beta, dtype=torch.float64, device=rate.device) for beta in self._betas())
        eps = torch.as_tensor(self._eps, dtype=torch.float64, device=rate.device)
        count = counts[0].double()  # every update is of all parameters
        corrections = [1 - beta**count for beta in (beta1, beta2)]
        if self._decays:
            torch._foreach_mul_(parameters, (1 - rate * self._weight_decay).to(dtype))
        _move_average(means, gradients, beta1, dtype)
        _move_average(squares, torch._foreach_mul(gradients, gradients), beta2, dtype)
        steps: Any = torch._foreach_sqrt(squares)
        torch._foreach_div_(steps, corrections[1].sqrt().to(dtype))
        torch._foreach_add_(steps, eps.to(dtype))
        steps = torch._foreach_div(means, steps)
        torch._foreach_mul_(steps, (rate / corrections[0]).to(dtype))
        torch._foreach_sub_(parameters, steps)

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


def _move_average(averages: list[Tensor], values: Any, decay: Tensor, dtype: torch.dtype) -> None:
    """a <- decay a + (1 - decay) v."""
    torch._foreach_mul_(averages, decay.to(dtype))
    torch._foreach_add_(averages, torch._foreach_mul(values, (1 - decay).to(dtype)))
