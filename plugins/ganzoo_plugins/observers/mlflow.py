"""A run in MLflow, by default in a database file beside the runs: no server is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock

import ganzoo
from ganzoo_plugins.observers._tracker import (
    Event,
    Tracker,
    name_of,
    not_installed,
    recipe_fields,
    scalars_of,
    texts_of,
)

#: MLflow's limits of one call of log_batch
_METRICS, _PARAMS = 1000, 100
#: its longest value of a param
_LONGEST_PARAM = 500


class MLflow(Tracker):
    """Logs metrics, params and artifacts of a run, by default into `mlflow.db` beside the run's directory.

    `mlflow ui --backend-store-uri sqlite:///runs/mlflow.db` shows them. MLflow cannot take back a point, nor change a
    param. Where a resumed run needs that, its MLflow run is written again as a new one, and the old one is moved to
    MLflow's trash. Otherwise only what is missing is added. mlflow.json in the run has the id of its MLflow run.
    """

    def __init__(
        self,
        *,
        uri: Annotated[str, "Tracking URI, such as http://host:5000; default: mlflow.db beside the run."] = "",
        experiment: Annotated[str, "Experiment of the run."] = "ganzoo",
        name: Annotated[str, "Name of the run; default: the name of its directory."] = "",
    ) -> None:
        super().__init__()
        self._uri, self._experiment, self._name = uri, experiment, name
        self._client: Any = None
        self._id = ""

    def start(self, run: Any, events: list[Event]) -> None:
        """Open the MLflow run of this run, new or old, and add what it lacks."""
        try:
            import mlflow
        except ImportError as error:
            raise not_installed("mlflow") from error
        with _one_at_a_time(run, self._uri):  # two processes must not make the tables of a database at once
            uri = self._uri or f"sqlite:///{_parent(run) / 'mlflow.db'}"
            self._client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            experiment = self._experiment_id(run)
        missing = self._reopen(run, events)
        if missing is None:
            self._id = self._client.create_run(experiment, run_name=name_of(run, self._name)).info.run_id
            _id_file(run).write_text(json.dumps({"run_id": self._id, "experiment_id": experiment}) + "\n")
            self._log_params(run)
            missing = events
        for name, text in texts_of(run).items():
            self._client.log_text(self._id, text, f"{name}.json")
        self.log(run, missing)

    def _experiment_id(self, run: Any) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise ganzoo.GanzooError(f"The MLflow experiment {self._experiment} is in the trash: restore it")
            return str(found.experiment_id)
        place = None if self._uri else (_parent(run) / "mlflow-artifacts").as_uri()
        return str(self._client.create_experiment(self._experiment, artifact_location=place))

    def _reopen(self, run: Any, events: list[Event]) -> list[Event] | None:
        """The events that the MLflow run of an earlier process lacks; None where a new MLflow run is needed."""
        found = self._found(run)
        if found is None:
            return None
        logged = self._logged_steps(found)
        expected = {(_series(event), event.step) for event in events if event.kind != "samples"}
        params = {name: value for name, value in _params(run).items() if found.data.params.get(name) != value}
        if logged - expected or params:
            self._client.delete_run(found.info.run_id)
            return None
        self._id = found.info.run_id
        self._client.update_run(self._id, status="RUNNING")
        pictures = {item.path for item in self._client.list_artifacts(self._id, "samples")}

        def is_logged(event: Event) -> bool:
            return _picture(event) in pictures if event.kind == "samples" else (_series(event), event.step) in logged

        return [event for event in events if not is_logged(event)]

    def _found(self, run: Any) -> Any:
        """The MLflow run that mlflow.json names; None where there is none."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(json.loads(_id_file(run).read_text())["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return found if found.info.lifecycle_stage == "active" else None

    def _logged_steps(self, found: Any) -> set[tuple[str, int]]:
        """(metric, step) of the ticks and the scores that the MLflow run has; one metric stands for those of a tick."""
        names = [name for name in found.data.metrics if name == "training/images" or name.startswith("scores/")]
        histories = {name: self._client.get_metric_history(found.info.run_id, name) for name in names}
        return {(name, metric.step) for name, history in histories.items() for metric in history}

    def _log_params(self, run: Any) -> None:
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in _params(run).items()]
        for first in range(0, len(params), _PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _PARAMS])

    def log(self, run: Any, events: Iterable[Event]) -> None:
        """Add events: the numbers in one call, each grid as an artifact."""
        from mlflow.entities import Metric

        metrics = []
        for event in events:
            time = round(1000 * self.time_of(run, event))  # the run's own time: the same if it is logged again
            if event.kind == "samples":
                self._client.log_artifact(self._id, str(event.line["path"]), "samples")
                continue
            values = scalars_of(event.line)
            if event.kind == "score":
                values = {_series(event): event.line["value"]}
                self._log_card(event)
            metrics += [Metric(name, float(value), time, event.step) for name, value in values.items()]
        for first in range(0, len(metrics), _METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _METRICS])

    def _log_card(self, event: Event) -> None:
        name, card = event.line["score"], event.line["card"]
        if self._client.get_run(self._id).data.tags.get(f"card.{name}") != card["digest"]:
            self._client.log_text(self._id, json.dumps(card, indent=2), f"cards/{name}-{card['digest']}.json")
            self._client.set_tag(self._id, f"card.{name}", card["digest"])

    def finish(self, run: Any, error: BaseException | None) -> None:
        """Set the state of the MLflow run; after a failure before the first tick, move it to the trash."""
        if not self._id:
            return
        stopped = isinstance(error, KeyboardInterrupt | SystemExit) or type(error).__name__ == "Interrupted"
        state = "FINISHED" if error is None else "KILLED" if stopped else "FAILED"
        self._client.set_terminated(self._id, state)
        if error is not None and not run.lines("stats.jsonl"):
            self._client.delete_run(self._id)
            _id_file(run).unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(run: Any, uri: str) -> Iterator[None]:
    if uri:
        yield
        return
    with FileLock(_parent(run) / ".mlflow.db.lock"):
        yield


def _parent(run: Any) -> Path:
    return Path(run.path).resolve().parent


def _id_file(run: Any) -> Path:
    return Path(run.path) / "mlflow.json"


def _params(run: Any) -> dict[str, str]:
    return {name: str(value)[:_LONGEST_PARAM] for name, value in recipe_fields(run).items()}


def _series(event: Event) -> str:
    """The metric by which an event is found again."""
    return "training/images" if event.kind == "tick" else f"scores/{event.line['score']}"


def _picture(event: Event) -> str:
    """The path of a grid among the artifacts."""
    return f"samples/{event.line['path'].name}"
