"""The trackers against their real libraries: what they log, that a resumed run has no point twice, and that no failure
of a tracker ends a run."""

import json
import shutil
import struct
import sys
import time

import pytest
from helpers import ZOO, tiny_recipe

from ganzoo import GanzooError, Observer, hookimpl
from ganzoo.contract.choice import Amount, Choice
from ganzoo.engine.device import find_device
from ganzoo.registry.observers import Observers
from ganzoo.storage.run import Run
from ganzoo.training.train import resume, start
from ganzoo_plugins.observers._tracker import _step_at, events_of

# what a tracker's library deprecates is no error here, also with -W error; what our own code causes is one
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.filterwarnings("error:::ganzoo")]
LENGTH = 24
TRACKERS = ("jsonl", "tensorboard", "wandb", "mlflow")
_NEEDS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def need(tracker):
    if tracker in _NEEDS:
        pytest.importorskip(_NEEDS[tracker], reason=f"{tracker} is not installed")


def recipe(*observers, **fields):
    fields = {"length": f"{LENGTH} steps", "checkpoint_every": "8 steps", "tick_every": "4 steps", **fields}
    fields |= {"samples_every": "6 steps", "score_every": "12 steps", "evaluators": ["sliced-wasserstein"]}
    return tiny_recipe(observers=list(observers), score_samples=32, **fields)


def train(path, *observers, notes=None, **fields):
    notes = [] if notes is None else notes
    run, _ = start(recipe(*observers, **fields), path, ZOO, find_device("cpu"), note=notes.append)
    return run


def go_on(path, notes=None, **more):
    resume(path, ZOO, note=(notes if notes is not None else []).append, **more)
    return Run.open(path)


def forget_after(run, step):
    """Leave a run as a process leaves it that was killed before it could save a checkpoint after this step."""
    for path in sorted((run.path / "checkpoints").iterdir()):
        if json.loads((path / "meta.json").read_text())["step"] > step:
            shutil.rmtree(path)


# --- what the real libraries have to say about a run ---


def read_jsonl(run):
    lines = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    scalars, grids = {}, []
    for line in lines:
        if line["event"] == "tick":
            for name in line.keys() - {"event", "step", "partial"}:
                scalars.setdefault(f"training/{name}", []).append((line["step"], line[name]))
        elif line["event"] == "score":
            scalars.setdefault(f"scores/{line['score']}", []).append((line["step"], line["value"]))
        elif line["event"] == "samples":
            assert (run.path / line["path"]).is_file()
            grids.append(line["step"])
    digests = {line["card"]["digest"] for line in lines if line["event"] == "score"}
    return scalars, grids, lines[0]["recipe"], digests


def read_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    tags = found.Tags()
    scalars = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags["scalars"]}
    texts = {tag: [make_ndarray(e.tensor_proto)[0].decode() for e in found.Tensors(tag)] for tag in tags["tensors"]}
    grids = [event.step for event in found.Images("samples")]
    digests = {text.split()[1] for tag, many in texts.items() if tag.startswith("cards/") for text in many}
    assert len(texts["environment/text_summary"]) == 1
    return scalars, grids, json.loads(texts["recipe/text_summary"][-1]), digests


def wandb_records(file):
    """The records of a .wandb file: blocks of 32 KiB, and records that may go over several of them (leveldb's log)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        _, length, kind = struct.unpack("<IHB", data[position : position + 7]) if left >= 7 else (0, 0, 0)
        if not kind:
            position += left
            continue
        if position + 7 + length > len(data):
            return  # the rest of this record is not written yet
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def read_wandb(run):
    (folder,) = (run.path / "wandb").glob("offline-run-*")  # nothing is left of the folder before
    (file,) = folder.glob("*.wandb")
    scalars, grids, config, digests, times = {}, [], {}, set(), []
    records, patience = [], time.monotonic() + 30
    while not any(record.WhichOneof("record_type") == "exit" for record in records):
        assert time.monotonic() < patience, [record.WhichOneof("record_type") for record in records]
        records = list(wandb_records(file))  # a process of wandb writes the file
    for record in records:
        if record.WhichOneof("record_type") == "run":
            config |= {entry.key: json.loads(entry.value_json) for entry in record.run.config.update}
        if record.WhichOneof("record_type") != "history":
            continue
        row = {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in record.history.item}
        times.append(row["_timestamp"])
        for name, value in row.items():
            if name.startswith(("training/", "scores/")):
                scalars.setdefault(name, []).append((record.history.step.num, value))
            elif name.startswith("cards/"):
                digests.add(value)
            elif name == "samples/path":
                assert (folder / "files" / value).is_file()
                grids.append(record.history.step.num)
    begin = (run.path / "environment.json").stat().st_mtime
    assert times == sorted(times)
    assert begin <= times[0] <= begin + run.lines("stats.jsonl")[-1]["seconds"]  # the run's own time
    return scalars, grids, config["recipe"], digests


def mlflow_runs(run, view=1):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run.path.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ganzoo")
    found = client.search_runs([experiment.experiment_id], run_view_type=view)
    return client, [one for one in found if one.info.run_name == run.path.name]


def read_mlflow(run):
    client, (found,) = mlflow_runs(run)
    assert found.info.status == "FINISHED"
    history = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    scalars = {name: sorted((point.step, point.value) for point in points) for name, points in history.items()}
    root = run.path.parent / "mlflow-artifacts" / found.info.run_id / "artifacts"
    names = sorted(path.stem for path in (root / "samples").glob("*.png"))
    grids = [event.step for event in events_of(run) if event.kind == "samples" and event.line["path"].stem in names]
    assert len(names) == len(grids)
    assert found.data.params["batch_size"] == str(run.recipe.batch_size)
    assert found.data.params["generator_optimizer"] == "adam"
    assert found.data.params["generator_optimizer.lr"] == str(run.recipe.generator_optimizer.options["lr"])
    digests = {value for tag, value in found.data.tags.items() if tag.startswith("card.")}
    return scalars, grids, json.loads((root / "recipe.json").read_text()), digests


READ = {"jsonl": read_jsonl, "tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


def check(tracker, run):
    """A tracker has every point of the run's own files, and each of them once."""
    scalars, grids, stored, digests = READ[tracker](run)
    expected = {}
    for line in run.lines("stats.jsonl"):
        for name in line.keys() - {"step", "partial"}:
            expected.setdefault(f"training/{name}", []).append((line["step"], pytest.approx(line[name], rel=1e-6)))
    lines = run.lines("scores.jsonl")
    for line in lines:
        expected.setdefault(f"scores/{line['score']}", []).append((line["step"], pytest.approx(line["value"])))
    assert scalars == expected
    assert grids == [event.step for event in events_of(run) if event.kind == "samples"]
    assert len(grids) == len(list((run.path / "samples").glob("*.png")))
    assert stored == run.recipe.to_dict()
    assert digests == {line["card"]["digest"] for line in lines}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trackers")


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_tracker_logs_everything_once_also_after_a_kill_and_a_longer_run(tracker, folder):
    need(tracker)
    run = train(folder / tracker, tracker)
    check(tracker, run)
    forget_after(run, 16)
    check(tracker, go_on(run.path))
    # 24 steps are a whole number of ticks; 25 are not, so the longer run takes a point back
    check(tracker, go_on(run.path, length=Amount(25, "steps")))
    check(tracker, go_on(run.path, length=Amount(32, "steps")))


def test_wandb_keeps_one_offline_folder_of_a_run_after_any_number_of_starts(folder):
    need("wandb")
    run = train(folder / "quick", "wandb")
    (first,) = (run.path / "wandb").glob("offline-run-*")
    key = first.name.rpartition("-")[2]
    # what several starts within a second left, and a run of somebody else
    for name in (
        f"20260101_000000-{key}",
        f"20260101_000000-{key}-1",
        f"20260101_000000-{key}-2",
        "20260101_000000-other",
    ):
        made = run.path / "wandb" / f"offline-run-{name}"
        made.mkdir()
        (made / f"run-{key}.wandb").write_bytes(b"points")
    for _ in range(4):
        observers = Observers({"wandb": ZOO.build("observers", Choice("wandb"))})
        opened = Run.open(run.path, writes=True)
        try:
            observers.tell("on_run_start", run=opened)
            observers.tell_end(opened, None)
        finally:
            opened.close()
        found = {path.name for path in (run.path / "wandb").glob("offline-run-*")}
        assert len(found) == 2
        assert "offline-run-20260101_000000-other" in found
    shutil.rmtree(run.path / "wandb" / "offline-run-20260101_000000-other")
    check("wandb", run)


def test_mlflow_adds_to_its_run_and_trashes_it_only_where_points_must_go(folder):
    need("mlflow")
    run = train(folder / "stopped", "mlflow")
    client, (first,) = mlflow_runs(run)
    forget_after(run, 16)
    go_on(run.path)
    _, (second,) = mlflow_runs(run)
    assert second.info.run_id != first.info.run_id
    assert client.get_run(first.info.run_id).info.lifecycle_stage == "deleted"
    # the same points again, as after a signal: nothing is to be taken back
    observers = Observers({"mlflow": ZOO.build("observers", Choice("mlflow"))})
    opened = Run.open(run.path, writes=True)
    try:
        observers.tell("on_run_start", run=opened)
        observers.tell_end(opened, None)
    finally:
        opened.close()
    _, (third,) = mlflow_runs(run)
    assert third.info.run_id == second.info.run_id
    check("mlflow", run)


# --- failures ---


class Fragile(Observer):
    """Fails in one hook, and counts the calls after it."""

    optional = True

    def __init__(self, hook):
        self.hook, self.calls = hook, []

    def called(self, hook):
        self.calls.append(hook)
        if hook == self.hook:
            raise OSError(28, "No space left on device")

    @hookimpl
    def on_run_start(self, run):
        self.called("on_run_start")

    @hookimpl
    def on_tick(self, run, scalars):
        self.called("on_tick")

    @hookimpl
    def on_samples(self, run, path):
        self.called("on_samples")

    @hookimpl
    def on_checkpoint(self, run, path):
        self.called("on_checkpoint")

    @hookimpl
    def on_score(self, run, scores):
        self.called("on_score")

    @hookimpl
    def on_run_end(self, run, error):
        self.called("on_run_end")


@pytest.mark.parametrize("hook", ["on_run_start", "on_tick", "on_samples", "on_checkpoint", "on_score", "on_run_end"])
def test_an_optional_observer_that_fails_is_one_warning(tmp_path, hook):
    notes, fragile = [], Fragile(hook)
    device = find_device("cpu")
    start(recipe(), tmp_path / "a", ZOO, device, note=notes.append, extra_observers={"fragile": fragile})
    warnings = [text for text in notes if "fragile" in text]
    assert len(warnings) == 1
    assert f"observer fragile failed in {hook}: OSError: [Errno 28] No space left on device" in warnings[0]
    assert "goes on without it" in warnings[0]
    assert fragile.calls.count(hook) == 1
    assert fragile.calls[-1] == "on_run_end"
    if hook != "on_run_end":
        assert fragile.calls.index(hook) == len(fragile.calls) - 2  # no other hook was called after it
    assert len(Run.open(tmp_path / "a").lines("stats.jsonl")) == LENGTH // 4


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_is_one_sentence_and_the_resumed_run_catches_up(tmp_path, monkeypatch, tracker):
    notes = []
    with monkeypatch.context() as without:
        for module in [name for name in sys.modules if name.partition(".")[0] == tracker]:
            without.delitem(sys.modules, module)
        without.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
        without.setitem(sys.modules, tracker, None)
        run = train(tmp_path / "a", tracker, notes=notes)
    (warning,) = [text for text in notes if tracker in text]
    assert f"{tracker} is not installed: pip install 'torch-ganzoo[{tracker}]'" in warning
    assert notes.index(warning) == 0  # before the training
    assert len(run.lines("stats.jsonl")) == LENGTH // 4
    if tracker != "mlflow":  # its database takes seconds; the test above fills one
        need(tracker)
        check(tracker, go_on(run.path, length=Amount(28, "steps")))


def test_a_disk_that_is_full_in_the_middle_costs_no_step(tmp_path, monkeypatch):
    need("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    add, notes = SummaryWriter.add_scalar, []

    def full(self, tag, value, step, **more):
        if step > 8:
            raise OSError(28, "No space left on device")
        add(self, tag, value, step, **more)

    with monkeypatch.context() as patch:
        patch.setattr(SummaryWriter, "add_scalar", full)
        run = train(tmp_path / "a", "tensorboard", notes=notes)
    assert len([text for text in notes if "No space left" in text]) == 1
    assert run.lines("stats.jsonl")[-1]["step"] == LENGTH
    check("tensorboard", go_on(run.path, length=Amount(28, "steps")))


def test_a_run_that_fails_before_its_first_step_leaves_nothing_of_a_tracker(tmp_path):
    need("tensorboard")

    class Broken(Observer):
        @hookimpl
        def on_samples(self, run, path):
            raise ValueError("boom")

    device = find_device("cpu")
    observers = {"broken": Broken()}
    with pytest.raises(GanzooError, match="boom"):
        start(recipe("jsonl", "tensorboard"), tmp_path / "a", ZOO, device, extra_observers=observers, note=print)
    assert not (tmp_path / "a").exists()


# --- options ---


def test_logs_in_another_folder_have_the_name_of_the_run(tmp_path):
    need("tensorboard")
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("a", "b"):
        train(tmp_path / name, f"tensorboard:folder={logs}", f"jsonl:path={logs}", length="4 steps")
    assert sorted(path.name for path in logs.iterdir()) == ["a", "a.jsonl", "b", "b.jsonl"]
    assert not (tmp_path / "a" / "tensorboard").exists()
    before = sorted(logs.rglob("*tfevents*"))
    go_on(tmp_path / "a", length=Amount(8, "steps"))
    after = sorted(logs.rglob("*tfevents*"))
    assert len(after) == 2
    assert [path for path in before if path.parent.name == "b"] == [path for path in after if path.parent.name == "b"]


def test_a_file_with_the_name_of_the_folder_is_a_warning(tmp_path):
    need("tensorboard")
    (tmp_path / "logs").write_text("mine")
    notes = []
    train(tmp_path / "a", f"tensorboard:folder={tmp_path / 'logs'}", notes=notes, length="4 steps")
    assert sum("goes on without it" in text for text in notes) == 1
    assert (tmp_path / "logs").read_text() == "mine"


@pytest.mark.parametrize(
    ("known", "images", "step"),
    [
        ([(0, 0)], 0, 0),
        ([(0, 0), (40, 5)], 40, 5),
        ([(0, 0), (40, 5)], 24, 3),
        ([(0, 0), (40, 5), (77, 10)], 61, 8),  # an epoch of 61 images: its last batch has 5
    ],
)
def test_the_step_of_a_grid_is_found_from_its_images(known, images, step):
    assert _step_at(images, known) == step
