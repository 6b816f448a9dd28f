"""Learning rates that are zero: noted at the start of a training, because nothing moves there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ganzoo.contract.components import Optimizer


def learning_rate_notes(
    optimizers: Mapping[str, Optimizer], images_at: Callable[[int], int], step: int, last: int
) -> list[str]:
    """One sentence for each optimiser whose learning rate is 0 at once, or before the last of `last` steps.

    `step` steps have been trained; `images_at(step)` is the number of real images seen after so many steps.
    """
    notes = []
    for role, optimizer in optimizers.items():

        def is_zero(after: int, optimizer: Optimizer = optimizer) -> bool:
            return optimizer.scheduled_learning_rate(images_at(after)) == 0

        # the rate of the last step may be 0; from here on a rate that has become 0 is taken to stay so
        if step >= last - 1 or not is_zero(last - 2):
            continue
        first, end = step, last - 2
        while first < end:
            middle = (first + end) // 2
            first, end = (first, middle) if is_zero(middle) else (middle + 1, end)
        notes.append(
            f"The learning rate of the {role} is 0 in all steps after step {first}, of {last}: they do not change it. "
            f"Change the optimiser's options (lr, decay_images), or train for fewer steps."
        )
    return notes
