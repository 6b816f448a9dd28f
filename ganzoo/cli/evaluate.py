"""ganzoo evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ganzoo.api.progress import Waiting
from ganzoo.cli.help import SectionedCommand
from ganzoo.cli.options import (
    at_option,
    changed_code_option,
    changed_images_option,
    data_dir_option,
    device_named,
    device_option,
    inception_weights_option,
    json_option,
)
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import PartParam, RunParam, WholeNumber
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError
from ganzoo.contract.protocol import PROTOCOLS


@click.command(
    cls=SectionedCommand,
    sections={
        "Scores": "--evaluator --against --resize --samples --protocol --seed --at "
        "--standing-statistics --save-fakes --inception-weights",
        "Calibration, in place of a RUN": "--calibrate --other --out",
        "How it runs": "--device --data-dir --accept-changed-code --accept-changed-images",
        "Output": "--json --help",
    },
)
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=RunParam())
@click.option(
    "-e",
    "--evaluator",
    "evaluators",
    multiple=True,
    type=PartParam("evaluators"),
    metavar="NAME[:k=v]",
    help="An evaluator; may be repeated.  [default: of the run, or fid-domain]",
)
@click.option(
    "--against",
    metavar="DATASET|FOLDER|FILE",
    help="Compare with this dataset, folder of pictures or .npy file.  [default: the dataset of the run]",
)
@click.option("--resize", is_flag=True, help="Bring fakes of another size to the size of the real images.")
@click.option("--samples", type=WholeNumber(2), metavar="N", help="Number of fakes.  [default: as the protocol says]")
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    help="Number of fakes, split of the reals, and how images are resized.  [default: that of the run]",
)
@click.option("--seed", type=WholeNumber(0), default=0, show_default=True, help="Seed of the latents.")
@at_option
@click.option(
    "--standing-statistics",
    type=WholeNumber(1),
    metavar="N",
    help="Recompute the statistics of batch norm over N batches of fakes; such scores have a card of their own.",
)
@click.option(
    "--save-fakes",
    type=click.Path(path_type=Path),
    metavar="FILE.npy|.npz",
    help="Write the fakes of the run that are scored; .npz keeps their labels too.",
)
@click.option(
    "--calibrate",
    "dataset",
    type=PartParam("datasets"),
    metavar="DATASET",
    help="Score corrupted real images instead of a RUN.",
)
@click.option(
    "--other", type=PartParam("datasets"), metavar="DATASET", help="The dataset whose images --calibrate also scores."
)
@click.option(
    "-o",
    "--out",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="The plot of --calibrate.",
)
@inception_weights_option
@changed_code_option
@changed_images_option
@device_option()
@data_dir_option
@json_option
def evaluate(
    runs: tuple[Path, ...],
    evaluators: tuple[Choice, ...],
    against: str | None,
    resize: bool,
    samples: int | None,
    protocol: str | None,
    seed: int,
    at: int | str | None,
    standing_statistics: int | None,
    save_fakes: Path | None,
    dataset: Choice | None,
    other: Choice | None,
    out: Path | None,
    changed_code: bool,
    changed_images: bool,
    device: str,
    as_json: bool,
) -> None:
    """Score the generator of RUN against the real images of its dataset; or other images; or calibrate the scores.

    \b
      ganzoo evaluate runs/a                     Frechet distance on features of a classifier of the dataset, offline
      ganzoo evaluate runs/a -e fid              Inception FID (its weights are downloaded once)
      ganzoo evaluate runs/a --at best           the best generator of a run that was scored during training
      ganzoo evaluate runs/a runs/b runs/c       one table
      ganzoo evaluate fakes.npy --against mnist  images of another program: an array, or a folder of pictures
      ganzoo evaluate --calibrate mnist          the scores of real images under known corruptions; cached and plotted

    Each score is appended to RUN/scores.jsonl with a card that describes how it was measured. Compare two scores only
    if their cards have the same digest. Where scores.jsonl cannot be written, the scores are printed all the same.

    A RUN may be a .npy or .npz file of uint8 images (N,C,H,W), (N,H,W,C) or (N,H,W), or a folder of pictures. Their
    scores are those of the run that drew them if they are the same images: see --save-fakes.
    """
    from ganzoo.api.scoring import against_choice

    if dataset is not None:
        _refuse_with_calibrate(
            runs, at is not None, seed, changed_code, changed_images, against, resize, save_fakes, standing_statistics
        )
        return _calibrate(dataset, evaluators, samples, protocol or "default", other, out, device, as_json)
    if other is not None or out is not None:
        raise UsageError("--other and -o belong to --calibrate DATASET.")
    if not runs:
        raise UsageError(
            "Name the RUN to score: the directory that `ganzoo train` printed, or images, with --against; or "
            "--calibrate a DATASET."
        )
    if save_fakes is not None and len(runs) > 1:
        raise UsageError(f"--save-fakes is for one RUN, and there are {len(runs)}.")
    arguments = (evaluators, samples, protocol, seed, at, changed_code, changed_images)
    compared = against_choice(against) if against else None
    options: dict[str, Any] = {"against": compared, "resize": resize, "save_fakes": save_fakes}
    options |= {"standing_statistics": standing_statistics}
    found: list[tuple[Path, list[dict[str, Any]]]] = []
    try:
        for run in runs:
            found.append((run, _score(run, device, *arguments, **options)))
    finally:  # where one of several cannot be scored, the scores of those before are printed all the same
        if found:
            _print_json(found, several=len(runs) > 1) if as_json else _print_scores(found, several=len(runs) > 1)


def _refuse_with_calibrate(*given: Any) -> None:
    """Raises UsageError where an option that only a generator has is given."""
    if any(given):
        raise UsageError(
            "--calibrate scores real images, not a generator: leave out RUN, --at, --seed, --against, --resize, "
            "--save-fakes, --standing-statistics, --accept-changed-code and --accept-changed-images, or leave out "
            "--calibrate."
        )


def _score(run: Path, device: str, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.evaluate import evaluate as score

    with Waiting(f"Scoring {run}") as waiting:
        return score(run, zoo(), device_named(device), *arguments, note=log, on_progress=waiting, **options)


def _print_json(found: Sequence[tuple[Path, list[dict[str, Any]]]], several: bool) -> None:
    """One object: the scores of the only RUN, or a list of such objects."""
    objects = [{"run": str(run), "scores": lines} for run, lines in found]
    print_json(runs=objects) if several else print_json(**objects[0])


def _print_scores(found: Sequence[tuple[Path, list[dict[str, Any]]]], several: bool) -> None:
    """One table; of several runs, the lines of one score below each other, with a note if they cannot be compared."""
    lines = [(run, line) for run, scores in found for line in scores]
    names = list(dict.fromkeys(line["score"] for _, line in lines))
    rows = [
        [
            *([str(run)] if several else []),
            line["score"],
            f"{line['value']:.4f}",
            line["better"],
            str(line["card"]["measure"]["fakes"]),
            f"{line['card']['measure']['reals']['images']} {line['card']['measure']['reals']['split']}",
            "" if line["images"] is None else str(line["images"]),
            line["card"]["digest"],
        ]
        for name in names
        for run, line in lines
        if line["score"] == name
    ]
    columns = ["score", "value", "better", "fakes", "reals", "images seen", "card"]
    print_table([*(["run"] if several else []), *columns], rows)
    for name in names:
        digests = {line["card"]["digest"] for _, line in lines if line["score"] == name}
        if len(digests) > 1:
            log(
                f"The values of {name} cannot be compared: their cards have {len(digests)} digests, so they were not "
                "measured alike. The numbers of fakes, the reals and the protocol must be the same."
            )


def _calibrate(
    dataset: Choice,
    evaluators: Sequence[Choice],
    samples: int | None,
    protocol: str,
    other: Choice | None,
    out: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Print the scores of corrupted real images, plot them, and log the path of the plot."""
    from ganzoo.contract.paths import cache_dir
    from ganzoo.contract.protocol import Protocol
    from ganzoo.evaluation.calibrate import calibrate
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.evaluate import default_evaluators
    from ganzoo.results.report import calibration_plot
    from ganzoo.storage.files import write_atomically

    if out is not None and (out.suffix != ".png" or not out.parent.is_dir()):
        raise UsageError(f"-o {out}: name a file that ends in .png, in a directory that exists.")
    with Waiting(f"Calibrating on {dataset}"):
        chosen = tuple(evaluators)
        chosen = chosen or default_evaluators(zoo().build("datasets", dataset, split="train").spec.classes, log)
        rows = calibrate(zoo(), dataset, chosen, device_named(device), Protocol.named(protocol), samples, other, log)
    # first, so that a full disk does not cost the scores
    print_json(dataset=str(dataset), scores=rows) if as_json else _print_calibration(rows)
    path = out or cache_dir() / "calibration" / f"{_file_name(str(dataset))}-{protocol}.png"
    title = f"{dataset}: real images, damaged, in the place of {rows[0]['images']} fakes (protocol {protocol})"
    try:
        if out is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, calibration_plot.png(rows, title))
    except OSError as error:
        if out is not None:
            raise
        log(f"There is no plot: {path} cannot be written ({error.strerror or error}).")
    else:
        log(f"The plot: {path}")


def _print_calibration(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each corruption, a column for each score."""
    from ganzoo.evaluation.corruptions import corruption_label

    better = {row["score"]: row["better"] for row in rows}
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(corruption_label(row["damage"], row["strength"]), {"images": str(row["images"])})
        line[row["score"]] = f"{row['value']:.4g}"
    columns = [f"{score} ({which})" for score, which in better.items()]
    print_table(
        ["real images", "count", *columns],
        [[name, line["images"], *(line.get(score, "") for score in better)] for name, line in lines.items()],
    )


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text).strip(".-")
