"""Train: from names and keywords to a trained run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.displays import progress_observers
from ganzoo.api.interrupt import interruptible
from ganzoo.api.keywords import Part, TrainOptions, check_keywords, folders, keywords_of
from ganzoo.api.progress import log
from ganzoo.api.recipes import plan
from ganzoo.api.trained_run import TrainedRun
from ganzoo.contract.paths import absolute_path

if TYPE_CHECKING:
    from typing import Unpack

#: keywords that are not part of the recipe
_OTHER = (
    *("data_dir", "inception_weights", "capture", "compile", "quiet", "verbose", "out", "device"),
    "start_from",
)


@keywords_of(TrainOptions)
def train(
    architecture: Part | None = None, dataset: Part | None = None, **keywords: Unpack[TrainOptions]
) -> TrainedRun:
    """Train an architecture on a dataset, as its recipe says where no keyword says otherwise, and return the run.

    The keywords are the long options of `ganzoo train`: `epochs=5`, `loss=["hinge", "r1:gamma=1"]`,
    `options={"width": 32, "dataset.size": 32}`. With a `ganzoo.Recipe` as `recipe`, the architecture and the dataset
    may be left out. `start_from` is a run, or a checkpoint of another program, whose weights the training starts from;
    on the command line it is `--from`. The run is written to `out`, by default a new directory
    `runs/ARCHITECTURE-DATASET`.

    Raises UsageError for a wrong request, GanzooError where the training fails, and TrainingInterrupted, with
    everything saved, when it is stopped by Ctrl-C, by a notebook's stop button or by SIGTERM; then
    `ganzoo.resume(path)` goes on.
    """
    check_keywords(train, keywords)
    given: dict[str, Any] = dict(keywords)
    how = {name: value for name in _OTHER if (value := given.pop(name, None)) is not None}
    with folders(how.get("data_dir"), how.get("inception_weights")):
        recipe = plan(architecture, dataset, **given)
        from ganzoo.engine.device import find_device
        from ganzoo.engine.distributed import all_or_none, from_first_rank, init_process_group, rank
        from ganzoo.registry.zoo import zoo
        from ganzoo.results.runs import beside_stopped_run
        from ganzoo.storage.run_directory import claim_directory
        from ganzoo.training.elastic import require_out
        from ganzoo.training.train import start

        if "out" not in how:
            require_out()
        found = find_device(how.get("device", "auto"))
        init_process_group(found)
        claimed = "out" not in how and rank() == 0  # of the processes of one training, the first makes the directory
        with all_or_none():
            named = how.get("out") or (claim_directory(recipe, Path("runs")) if claimed else "")
        out = Path(from_first_rank(str(named)) if "out" not in how else named)
        device = how.get("device", "auto")
        steps: dict[str, Any] = {name: how[name] for name in ("capture", "compile") if name in how}
        observers = progress_observers(how.get("quiet", False), how.get("verbose", False))
        steps |= {"start_from": absolute_path(how["start_from"])} if "start_from" in how else {}
        if claimed and observers and (words := beside_stopped_run(recipe, out)):
            log(words)
        more = {"extra_observers": observers, "note": log, "introduce": bool(observers), **steps}
        try:
            with interruptible(out):
                start(recipe, out, zoo(), found, **more)
        finally:
            if claimed:
                with suppress(OSError):
                    out.rmdir()  # it is empty only where the training did not begin
    return TrainedRun(out, device, how.get("data_dir"))
