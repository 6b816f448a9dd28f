"""The example notebook, and an interrupted cell, in a real Jupyter kernel."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebook tests need nbclient and ipykernel")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

# zmq and jupyter warn of their own business
pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
TUTORIAL = ROOT / "examples" / "tutorial.ipynb"
SECONDS = 900


@pytest.fixture(autouse=True)
def _collect_what_jupyter_leaves() -> Iterator[None]:
    """nbclient leaves sockets and an event loop open: they are collected here, before they warn in another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            gc.collect()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    """A kernel in an empty directory, and a way to run cells in it."""
    notebook = nbformat.v4.new_notebook()
    running = nbclient.NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}})
    with running.setup_kernel():
        yield running


def _run(client: Any, source: str) -> Any:
    """Run one cell and return it with its outputs."""
    cell = nbformat.v4.new_code_cell(source)
    client.nb.cells.append(cell)
    return client.execute_cell(cell, len(client.nb.cells) - 1)


def _data(cell: Any, kind: str) -> list[str]:
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def _text(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_the_example_runs_in_a_kernel(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "commit the notebook without outputs"
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        nbclient.NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}

    def cell(words: str) -> Any:
        return next(one for source, one in cells.items() if words in source)

    (progress,) = _data(cell("ganzoo.train("), "text/html")
    assert "finished" in progress
    assert "data:image/png;base64," in progress
    for words in ("stats.plot", "scores.plot", "run.sample(grid"):
        (picture,) = _data(cell(words), "image/png")
        assert picture.startswith("iVBOR"), words
    assert "torch.Size([16, 1, 8, 8])" in _data(cell("samples.png"), "text/plain")[0]
    assert "fid-domain" in _data(cell("run.evaluate"), "text/html")[0]
    assert "mlp-keras-gan" in _data(cell("ganzoo.benchmark"), "text/html")[-1]
    errors = [output.text for one in cells.values() for output in one.outputs if output.get("name") == "stderr"]
    assert not [text for text in errors if "s to import" not in text]  # a busy machine imports slowly
    assert (tmp_path / "runs" / "digits" / "checkpoints").is_dir()


def test_the_tutorial_runs_in_a_kernel_with_small_numbers(tmp_path: Path) -> None:
    """Its first code cell, tagged `parameters`, has all numbers: the test replaces it."""
    notebook = nbformat.read(TUTORIAL, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "commit the notebook without outputs"
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    full: dict[str, Any] = {}
    small: dict[str, Any] = {}
    exec(parameters.source, full)
    parameters.source = (
        'digits = garments = "digits:size=28"\nepochs, more_epochs, garment_epochs = 1, 2, 1\nsteps, samples = 2, 16\n'
        'settings = {"batch_size": 8, "subset": "first 8"}'
    )
    exec(parameters.source, small)
    assert full.keys() == small.keys()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        nbclient.NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for words in ("Image(", "run.sample(grid", "fashion.sample", "mlp.sample", "stats.plot"):
        (cell,) = [one for one in notebook.cells if one.cell_type == "code" and words in one.source]
        assert _data(cell, "image/png") or _data(cell, "image/gif"), words
    assert (tmp_path / "digits.gif").read_bytes().startswith(b"GIF89a")
    assert {run.name for run in (tmp_path / "runs").iterdir()} == {"digits", "garments", "mlp"}


def test_an_interrupted_cell_is_resumed_in_the_next_one(client: Any, tmp_path: Path) -> None:
    _run(client, "import ganzoo, threading, os, signal, time")
    _run(
        client,
        "def stop():\n"
        "    while not os.path.exists('a/stats.jsonl'): time.sleep(0.05)\n"
        "    open('now', 'w').close()\n"
        "threading.Thread(target=stop, daemon=True).start()",
    )
    interrupted = _interrupt_when(
        client,
        tmp_path / "now",
        "run = ganzoo.train('mlp-vanilla', 'digits:size=8', steps=1000000, tick_every=5, out='a')",
    )
    error = interrupted.outputs[-1]
    assert error.output_type == "error"
    assert error.ename == "TrainingInterrupted"
    assert "everything is saved" in error.evalue
    assert "ganzoo.resume('a')" in error.evalue
    assert "stopped" in _data(interrupted, "text/html")[0]
    step = int(
        _run(client, "stopped = ganzoo.load('a'); print(int(stopped.checkpoints[-1].name) // 16)").outputs[0].text
    )
    assert step > 0
    resumed = _run(client, f"run = ganzoo.resume('a', steps={step + 10}); run.progress.step")
    assert _data(resumed, "text/plain")[-1] == str(step + 10)
    assert "finished" in _data(resumed, "text/html")[0]
    assert not (tmp_path / "a" / "lock").exists()


def _interrupt_when(client: Any, sign: Path, source: str) -> Any:
    """Run a cell, and press the notebook's stop button as soon as the file `sign` is there."""
    import threading

    def press() -> None:
        deadline = time.monotonic() + SECONDS
        while not sign.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        manager = client.km
        interrupt = getattr(manager, "_interrupt_kernel", None) or manager.interrupt_kernel
        nbclient.util.run_sync(interrupt)()

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["raises-exception"]})
    client.nb.cells.append(cell)
    done = client.execute_cell(cell, len(client.nb.cells) - 1)
    thread.join()
    return done
