"""StepGraph: the first steps run eagerly, then one is recorded as a CUDA graph, then the graph is replayed."""

from __future__ import annotations

import gc
import traceback
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import torch

from ganzoo.engine import seeds
from ganzoo.engine.distributed import any_rank

#: steps that run eagerly on a side stream before one is recorded: they create what torch creates lazily
_EAGER_STEPS = 3


class StepGraph:
    """Runs steps. On CUDA, a step is recorded once for each `key` (the sizes of its minibatches), then replayed.

    The eager steps are steps of the training, and recording runs no kernel: the results do not depend on the warm-up.
    If a step cannot be recorded, all steps run eagerly, and `reason` holds the cause. `generator` is the random
    generator that steps use beside the default one. With `capture=False` or a non-empty `refusal` (why a part cannot be
    recorded), nothing is recorded.
    """

    def __init__(
        self, device: torch.device, generator: torch.Generator, capture: bool = True, refusal: str = ""
    ) -> None:
        self.device = device
        self.reason = _why_eager(device, capture) or refusal
        self._generator = generator
        self._eager_steps: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        #: shared by all graphs: they may overwrite each other's memory, as nothing in it is read after a replay
        self._pool: Any = None
        self._stream: Any = None if self.reason else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def captured(self) -> bool:
        """Whether steps are replayed: at least one was recorded, and no recording failed."""
        return bool(self._graphs)

    def __call__(self, key: Hashable, step: Callable[[], None]) -> None:
        """Run one step. Steps with the same `key` must use the same memory."""
        if self.reason:
            step()
        elif key in self._graphs:
            self._graphs[key].replay()
        elif self._eager_steps.setdefault(key, 0) < _EAGER_STEPS:
            self._eager_steps[key] += 1
            self._on_side_stream(step)
        else:
            self._record(key, step)

    def _on_side_stream(self, step: Callable[[], None]) -> None:
        # the eager steps use the stream of the recording, because autograd stores the stream on which a leaf was first
        # used, and libraries have a workspace for each stream
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def _record(self, key: Hashable, step: Callable[[], None]) -> None:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        self._register_generator(graph)
        restore_random_state = seeds.host_states()
        gc.collect()
        torch.cuda.synchronize(self.device)
        cause: Exception | None = None
        try:
            # thread_local: only this thread is recorded; the thread of a streaming feed may use CUDA at the same time
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                try:
                    step()
                except Exception as error:  # kept, because leaving the recording raises another error
                    cause = error
                    raise
        except Exception as error:  # the code of a part may raise anything
            cause = cause or error
        # all processes must replay a graph or none: a recorded collective operation waits for the others
        if any_rank(cause is not None):
            reason = _error_and_line(cause) if cause is not None else "another process of the training cannot"
            self.reason = f"the step cannot be recorded: {reason}"
            del cause  # its traceback keeps the memory of the step alive
            self._clean_up(graph, current)
            restore_random_state()
            step()
            return
        self._pool = self._pool or graph.pool()
        self._graphs[key] = graph
        graph.replay()

    def _register_generator(self, graph: torch.cuda.CUDAGraph) -> None:
        """Register the generator that is used beside the default one.

        A replay reads the current seed and offset of both generators, so `manual_seed` affects a recorded step.
        """
        if hasattr(graph, "register_generator_state"):
            with warnings.catch_warnings():  # newer versions of torch need no registration, and warn
                warnings.simplefilter("ignore")
                graph.register_generator_state(self._generator)

    def _clean_up(self, graph: torch.cuda.CUDAGraph, current: Any) -> None:
        """After a failed recording: delete all graphs, and replace the generators' states, which the recording uses."""
        # after an error, the side stream is still the current one in older versions of torch
        torch.cuda.set_stream(current)
        graph.reset()
        self._graphs.clear()
        torch.cuda.synchronize(self.device)
        for generator in (self._generator, torch.cuda.default_generators[self.device.index or 0]):
            generator.graphsafe_set_state(generator.clone_state())


def _why_eager(device: torch.device, capture: bool) -> str:
    if not capture:
        return "switched off"
    return "" if device.type == "cuda" else "no CUDA device"


def _error_and_line(error: Exception) -> str:
    """The first line of an error, and the innermost line outside of torch in its traceback."""
    words = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    torch_folder = Path(torch.__file__).parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not Path(f.filename).is_relative_to(torch_folder)]
    return f"{words} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else words
