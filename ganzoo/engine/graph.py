"""StepGraph: a step that is played eagerly at first, then recorded as a CUDA graph, then replayed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable

import torch

#: real steps played eagerly on a side stream before one is recorded: they create whatever is created lazily
_EAGER_STEPS = 3


class StepGraph:
    """Calls `step`; on CUDA it records it once for each `key` (the size of the minibatch) and replays from then on.

    The eager steps are ordinary steps of the training, and recording runs nothing, so warming up changes no number.
    Where a step cannot be recorded it stays eager, and `reason` says why.
    """

    def __init__(self, device: torch.device, generators: list[torch.Generator], capture: bool = True) -> None:
        self.device = device
        self.reason = "" if capture and device.type == "cuda" else ("switched off" if not capture else "no CUDA device")
        self._generators = generators
        self._played: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}

    @property
    def captured(self) -> bool:
        """Whether at least one step has been recorded."""
        return bool(self._graphs)

    def __call__(self, key: Hashable, step: Callable[[], None]) -> None:
        """Play one step over the memory that `key` stands for."""
        if self.reason:
            step()
        elif key in self._graphs:
            self._graphs[key].replay()
        elif self._played.setdefault(key, 0) < _EAGER_STEPS:
            self._played[key] += 1
            self._on_side_stream(step)
        else:
            self._record(key, step)

    def _on_side_stream(self, step: Callable[[], None]) -> None:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream(self.device).wait_stream(stream)

    def _record(self, key: Hashable, step: Callable[[], None]) -> None:
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        gc.collect()
        torch.cuda.synchronize(self.device)
        try:
            with torch.cuda.graph(graph):
                step()
        except Exception as error:  # whatever a part does that cannot be recorded
            torch.cuda.synchronize(self.device)
            self.reason = (
                f"the step cannot be recorded: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
            step()
            return
        self._graphs[key] = graph
        graph.replay()
