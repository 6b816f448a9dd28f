"""StepGraph on a fake of CUDA, where a recorded step runs only when it is replayed."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from ganzoo import Augmentation, Loss, Optimizer
from ganzoo.engine import seeds
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.testing import checks
from ganzoo.testing.kit import ExaminedPart, examine
from ganzoo.testing.small_game import captured_is_eager, make_game
from ganzoo.testing.small_parts import GradientDescent, LinearGAN, NonSaturating

CUDA = torch.device("cuda")


class Generator:
    """A random generator of the device. After a failed recording it gets a new state."""

    def __init__(self) -> None:
        self.states: list[Any] = ["first"]

    def clone_state(self) -> str:
        return f"like {self.states[-1]}"

    def graphsafe_set_state(self, state: str) -> None:
        self.states.append(state)


class FakeCUDA:
    """The part of torch.cuda that StepGraph uses. `launch` stands for a kernel; `events` is what happened, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.recording: list[Callable[[], None]] | None = None
        self.broken = False
        self.main = self.current = Stream(self, "main")
        self.streams: list[Any] = []
        self.graphs: list[Any] = []
        self.generators = [Generator()]
        names: dict[str, Any] = {
            "Stream": lambda device: kept(self.streams, Stream(self, "side")),
            "CUDAGraph": lambda: kept(self.graphs, Graph(self, len(self.graphs))),
            "current_stream": lambda device=None: self.current,
            "set_stream": lambda stream: setattr(self, "current", stream),
            "stream": self.stream,
            "graph": self.graph,
            "synchronize": lambda device=None: self.events.append("synchronize"),
            "default_generators": self.generators,
        }
        for name, value in names.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def launch(self, kernel: Callable[[], None]) -> None:
        if self.recording is None:
            kernel()
        else:
            self.recording.append(kernel)

    def read(self) -> None:
        """What `.item()` does while recording."""
        if self.recording is not None:
            self.broken = True
            raise RuntimeError("operation not permitted when stream is capturing\nand more lines")

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.events.append(f"record {graph.number}")
        graph.shared, self.recording, self.current, self.broken = pool, graph.kernels, stream, False
        assert capture_error_mode == "thread_local"
        try:
            yield
        finally:
            self.recording = None
            if self.broken:  # as in older versions of torch: the stream is not restored
                raise RuntimeError("capture was invalidated")
            self.current = self.main


def kept(members: list[Any], member: Any) -> Any:
    members.append(member)
    return member


class Stream:
    def __init__(self, cuda: FakeCUDA, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: Any) -> None:
        self.cuda.events.append(f"{self.name} waits for {other.name}")


class Graph:
    def __init__(self, cuda: FakeCUDA, number: int) -> None:
        self.cuda, self.number = cuda, number
        self.kernels: list[Callable[[], None]] = []
        self.shared: Any = None
        self.registered: list[Any] = []
        self.was_reset = False

    def register_generator_state(self, generator: Any) -> None:
        warnings.warn("deprecated, and does nothing", FutureWarning, stacklevel=2)
        self.registered.append(generator)

    def pool(self) -> str:
        return f"pool {self.number}"

    def replay(self) -> None:
        self.cuda.events.append(f"replay {self.number}")
        for kernel in self.kernels:
            kernel()

    def reset(self) -> None:
        self.was_reset = True


class Training:
    """Steps of two kernels each; `words` is what was computed, `streams` the current stream of each call."""

    def __init__(self, cuda: FakeCUDA, reads: Callable[[Hashable], bool] = lambda key: False) -> None:
        self.cuda, self.reads = cuda, reads
        self.memory: dict[Hashable, int] = {}
        self.words: list[str] = []
        self.streams: list[str] = []
        self.drawn: list[float] = []
        self.random = Generator()

    def run(self, graph: StepGraph, keys: str) -> None:
        for number, key in enumerate(keys):
            seeds.reseed(number)
            self.memory[key] = number  # the feed writes, the step reads
            graph(key, lambda key=key: self.step(key))  # type: ignore[misc]

    def step(self, key: str) -> None:
        self.streams.append(self.cuda.current.name)
        self.drawn.append(random.random() + np.random.random() + torch.rand(()).item())
        self.cuda.launch(lambda: self.words.append(f"D{self.memory[key]}"))
        if self.reads(key):
            self.cuda.read()
        self.cuda.launch(lambda: self.words.append(f"G{self.memory[key]}"))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCUDA:
    return FakeCUDA(monkeypatch)


def all_steps(count: int) -> list[str]:
    return [word for number in range(count) for word in (f"D{number}", f"G{number}")]


def test_three_eager_steps_then_recorded_once_then_replayed(cuda: FakeCUDA) -> None:
    training = Training(cuda)
    graph = StepGraph(CUDA, training.random)
    training.run(graph, "aaaaaaa")
    assert training.words == all_steps(7)
    assert training.streams == ["side"] * 4  # three run, one is recorded, and the host calls no more
    eager = ["side waits for main", "main waits for side"] * 3
    assert cuda.events == [*eager, "synchronize", "record 0", *["replay 0"] * 4]
    assert (graph.captured, graph.reason, cuda.current.name) == (True, "", "main")
    assert cuda.graphs[0].registered == [training.random]


def test_a_last_smaller_batch_has_its_own_graph_in_the_same_memory(cuda: FakeCUDA) -> None:
    training = Training(cuda)
    training.run(StepGraph(CUDA, training.random), "aaaaab" * 5)
    assert training.words == all_steps(30)
    assert [word for word in cuda.events if word.startswith("record")] == ["record 0", "record 1"]
    assert [graph.shared for graph in cuda.graphs] == [None, "pool 0"]
    assert cuda.events.count("replay 0") == 25 - 3
    assert cuda.events.count("replay 1") == 5 - 3


def test_what_cannot_be_recorded_runs_eagerly_and_no_step_is_lost_or_repeated(cuda: FakeCUDA) -> None:
    training = Training(cuda, reads=lambda key: True)
    graph = StepGraph(CUDA, training.random)
    training.run(graph, "aaaaaaa")
    assert training.words == all_steps(7)
    assert training.streams == ["side"] * 4 + ["main"] * 4  # the fourth was tried, then run
    assert not graph.captured
    first = "the step cannot be recorded: operation not permitted when stream is capturing (test_cuda_graph.py, line "
    assert graph.reason.startswith(first)
    assert cuda.graphs[0].was_reset
    assert len(cuda.graphs) == 1  # it is not tried again
    assert [generator.states for generator in (training.random, *cuda.generators)] == [["first", "like first"]] * 2


def test_a_step_that_failed_to_record_draws_the_same_numbers_on_the_host(cuda: FakeCUDA) -> None:
    eager, tried = Training(cuda), Training(cuda, reads=lambda key: True)
    eager.run(StepGraph(CUDA, eager.random, capture=False), "aaaaaa")
    tried.run(StepGraph(CUDA, tried.random), "aaaaaa")
    assert tried.drawn[3] == tried.drawn[4]  # while recording, and when it was run
    assert tried.drawn[:4] + tried.drawn[5:] == eager.drawn


def test_where_one_size_cannot_be_recorded_none_is_replayed_any_more(cuda: FakeCUDA) -> None:
    training = Training(cuda, reads=lambda key: key == "b")
    graph = StepGraph(CUDA, training.random)
    training.run(graph, "aaaaab" * 5)
    assert training.words == all_steps(30)
    assert not graph.captured
    assert cuda.events[-1] == "synchronize"  # after the failure all steps are eager
    assert cuda.events.count("replay 0") == 4 * 5 - 3


def test_an_eager_step_that_fails_is_not_taken_for_one_that_cannot_be_recorded(cuda: FakeCUDA) -> None:
    def fail() -> None:
        raise ValueError("a number is not finite")

    graph = StepGraph(CUDA, Generator())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not finite"):
        graph("a", fail)
    assert not graph.reason


def test_nothing_of_cuda_is_called_when_switched_off_without_a_device_or_refused(cuda: FakeCUDA) -> None:
    training = Training(cuda)
    off = StepGraph(CUDA, training.random, capture=False)
    none = StepGraph(torch.device("cpu"), training.random)
    refused = StepGraph(CUDA, training.random, refusal="the loss Reading has capturable = False")
    for graph in (off, none, refused):
        training.run(graph, "aaaaaa")
    assert [graph.reason for graph in (off, none)] == ["switched off", "no CUDA device"]
    assert refused.reason == "the loss Reading has capturable = False"
    assert training.words == all_steps(6) * 3
    assert not cuda.events
    assert not cuda.streams


# --- parts that are not capturable ---


def uncapturable(base: type[Any]) -> type[Any]:
    return type(f"Reading{base.__name__}", (base,), {"capturable": False, "__doc__": "Reads a number on the host."})


WORDS = {"architectures": "architecture", "losses": "loss", "augmentations": "augmentation", "optimizers": "optimiser"}


class Same(Augmentation):
    """Returns images unchanged."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


@pytest.mark.parametrize(
    ("kind", "base"),
    [("architectures", LinearGAN), ("losses", NonSaturating), ("augmentations", Same), ("optimizers", GradientDescent)],
)
def test_a_part_that_cannot_be_recorded_is_named(kind: str, base: type[Any]) -> None:
    part = ExaminedPart(kind, uncapturable(base), {})
    expected = f"the {WORDS[kind]} Reading{base.__name__} has capturable = False"
    game = make_game(part, own=False).game
    assert game.uncapturable == expected
    assert not make_game(ExaminedPart(kind, base, {}), own=False).game.uncapturable
    outcome = examine(ExaminedPart(kind, uncapturable(base), {}), captured_is_eager)
    assert outcome.state == "ok"
    assert outcome.reason == "it declares capturable = False: its steps run eagerly"


def test_parts_are_taken_to_be_capturable_and_the_kit_has_the_check_for_all_four() -> None:
    assert all(base.capturable for base in (LinearGAN, Loss, Augmentation, Optimizer))
    assert {kind for kind, members in checks().items() if "captured_is_eager" in members} == set(WORDS)
