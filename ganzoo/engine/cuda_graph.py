"""StepGraph: a step that is played eagerly at first, then recorded as a CUDA graph, then replayed."""

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

#: real steps played eagerly on a side stream before one is recorded: they create whatever is created lazily
_EAGER_STEPS = 3


class StepGraph:
    """Calls `step`; on CUDA it records it once for each `key` (the size of the minibatch) and replays from then on.

    The eager steps are ordinary steps of the training, and recording runs nothing, so warming up changes no number.
    Where a step cannot be recorded it stays eager, and `reason` says why. `refusal` is what a part says of itself.
    """

    def __init__(
        self, device: torch.device, generator: torch.Generator, capture: bool = True, refusal: str = ""
    ) -> None:
        self.device = device
        self.reason = _why_not(device, capture) or refusal
        self._generator = generator
        self._played: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        #: one for all keys: nothing a graph leaves in it is read after it, so they may overwrite each other
        self._pool: Any = None
        self._stream: Any = None if self.reason else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def captured(self) -> bool:
        """Whether steps are replayed: at least one has been recorded, and none could not be."""
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
        # the one it is recorded on: autograd remembers the stream a leaf was first used on, libraries their workspaces
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def _record(self, key: Hashable, step: Callable[[], None]) -> None:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        self._tell_generator(graph)
        put_back = seeds.host_states()
        gc.collect()
        torch.cuda.synchronize(self.device)
        cause: Exception | None = None
        try:
            # other threads may copy and pin (a streaming feed does); only this one is recorded
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                try:
                    step()
                except Exception as error:  # ending the recording will raise another one
                    cause = error
                    raise
        except Exception as error:  # whatever a part does that cannot be recorded
            cause = cause or error
        # NCCL wants a collective recorded by all of its processes or by none
        if any_rank(cause is not None):
            reason = _in_words(cause) if cause is not None else "another process of the training cannot"
            self.reason = f"the step cannot be recorded: {reason}"
            del cause  # its traceback holds what the step had allocated
            self._clean_up(graph, current)
            put_back()
            step()
            return
        self._pool = self._pool or graph.pool()
        self._graphs[key] = graph
        graph.replay()

    def _tell_generator(self, graph: torch.cuda.CUDAGraph) -> None:
        """Say which generator beside the default one is drawn from.

        Replays read seed and offset of both as they are then, so a recorded step follows `manual_seed`.
        """
        if hasattr(graph, "register_generator_state"):
            with warnings.catch_warnings():  # newer versions of torch find out by themselves, and say so
                warnings.simplefilter("ignore")
                graph.register_generator_state(self._generator)

    def _clean_up(self, graph: torch.cuda.CUDAGraph, current: Any) -> None:
        """After a recording that failed: forget all, and give the generators states that no recording holds."""
        torch.cuda.set_stream(current)  # older versions of torch leave the side stream in its place
        graph.reset()
        self._graphs.clear()
        torch.cuda.synchronize(self.device)
        for generator in (self._generator, torch.cuda.default_generators[self.device.index or 0]):
            generator.graphsafe_set_state(generator.clone_state())


def _why_not(device: torch.device, capture: bool) -> str:
    if not capture:
        return "switched off"
    return "" if device.type == "cuda" else "no CUDA device"


def _in_words(error: Exception) -> str:
    """The first line of an error, and the innermost line of code outside torch that it came through."""
    words = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    torch_folder = str(Path(torch.__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(torch_folder)]
    return f"{words} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else words
