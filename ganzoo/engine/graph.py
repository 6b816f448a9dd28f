"""StepGraph: a step that is played eagerly at first, then recorded as a CUDA graph, then replayed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from typing import Any

import torch

#: real steps played eagerly on a side stream before one is recorded: they create whatever is created lazily
_EAGER_STEPS = 3


class StepGraph:
    """Calls `step`; on CUDA it records it once for each `key` (the size of the minibatch) and replays from then on.

    The eager steps are ordinary steps of the training, and recording runs nothing, so warming up changes no number.
    Where a step cannot be recorded it stays eager, and `reason` says why.
    """

    def __init__(self, device: torch.device, generator: torch.Generator, capture: bool = True) -> None:
        self.device = device
        self.reason = "" if capture and device.type == "cuda" else ("switched off" if not capture else "no CUDA device")
        self._generator = generator
        self._played: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None
        self._stream: Any = None if self.reason else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

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
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def _record(self, key: Hashable, step: Callable[[], None]) -> None:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        gc.collect()
        torch.cuda.synchronize(self.device)
        try:
            # other threads may copy and pin (a streaming feed does); only this one is recorded
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                step()
        except Exception as error:  # whatever a part does that cannot be recorded
            self.reason = f"the step cannot be recorded: {_first_cause(error)}"
            self._clean_up(graph)
            step()
            return
        self._pool = self._pool or graph.pool()
        self._graphs[key] = graph
        graph.replay()

    def _clean_up(self, graph: torch.cuda.CUDAGraph) -> None:
        """After a recording that failed: forget it, and give the generators states that no recording holds."""
        graph.reset()
        torch.cuda.synchronize(self.device)
        for generator in (self._generator, torch.cuda.default_generators[self.device.index or 0]):
            generator.graphsafe_set_state(generator.clone_state())


def _first_cause(error: BaseException) -> str:
    """The words of the error that came first: a failed recording raises once more when it is ended."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
