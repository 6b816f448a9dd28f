"""ganzoo data prepare, verify, convert, list."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ganzoo.api.progress import Waiting
from ganzoo.cli.options import data_dir_option, device_named, json_option, matches
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import PartParam
from ganzoo.contract.choice import Choice

_SPLITS = ("train", "test")


@click.group()
def data() -> None:
    """Download, verify, convert and list datasets."""


def _each_split(name: Choice) -> list[dict[str, Any]]:
    """Number, shape and checks of the images of both splits."""
    from ganzoo.contract.components import class_names
    from ganzoo.registry.zoo import zoo

    facts = []
    for split in _SPLITS:
        with Waiting(f"Reading and checking the {split} images of {name}"):
            dataset = zoo().build("datasets", name, split=split)
            checked = dataset.verify()
        spec = dataset.spec
        facts.append(
            {
                "split": split,
                "images": len(dataset),
                "shape": str(spec),
                "classes": spec.classes,
                "checked": checked,
                "class_names": list(class_names(dataset)),
            }
        )
    return facts


def _print(name: Choice, splits: list[dict[str, Any]], as_json: bool, extractor: str = "") -> None:
    """A line for each split, and the number of each class where the classes have names."""
    if as_json:
        return print_json(dataset=str(name), splits=splits, **({"extractor": extractor} if extractor else {}))
    last = {"domain extractor": extractor} if extractor else {}
    rows = [{"dataset": name, **{key: row[key] for key in row if key != "class_names"}, **last} for row in splits]
    print_table(list(rows[0]), [list(map(str, row.values())) for row in rows])
    names = splits[0]["class_names"]
    if names != [str(label) for label in range(len(names))]:
        more = f", and {len(names) - 20} more (--json lists all)" if len(names) > 20 else ""
        log("Classes: " + ", ".join(f"{label} = {each}" for label, each in enumerate(names[:20])) + more)


@data.command(short_help="Download a dataset and verify every image.")
@click.argument("name", type=PartParam("datasets"))
@click.option(
    "--no-extractor", "bare", is_flag=True, help="Do not prepare the classifier whose features the domain scores use."
)
@data_dir_option
@json_option
def prepare(name: Choice, bare: bool, as_json: bool) -> None:
    """Download dataset NAME where it is missing, and verify every image.

    The domain extractor is prepared as well: the classifier whose features fid-domain and other scores use. Its weights
    for mnist, fashion-mnist and digits come with ganzoo. For another labelled dataset it is trained once, which takes
    minutes, and kept. Without labels it is not trained, and made in seconds.
    """
    splits = _each_split(name)
    _print(name, splits, as_json, "left out" if bare else _extractor(name))


def _extractor(name: Choice) -> str:
    """Train the domain extractor of a dataset if that was not done before; its digest, and its test accuracy."""
    from ganzoo.contract.protocol import Protocol
    from ganzoo.evaluation.scorer import Scorer
    from ganzoo.registry.zoo import zoo

    words = f"Loading the classifier of {name}, whose features the domain scores use, and testing it on the test images"
    with Waiting(words):
        scorer = Scorer(zoo(), name, [Choice("fid-domain")], device_named("auto"), Protocol.named("default"))
    (group,) = scorer.groups
    accuracy = (group.accuracy or {}).get("test_accuracy")
    share = "" if accuracy is None else f", {accuracy:.1%} of the test images correct"
    return f"ready, digest {group.extractor.digest[:12]}{share}"


@data.command(short_help="Check the files of a dataset, without a download.")
@click.argument("name", type=PartParam("datasets"))
@data_dir_option
@json_option
def verify(name: Choice, as_json: bool) -> None:
    """Check the files of dataset NAME against their checksums, and read every image. Nothing is downloaded."""
    os.environ["GANZOO_OFFLINE"] = "1"
    _print(name, _each_split(name), as_json)


@data.command(short_help="Write a dataset as tar files or NumPy files.")
@click.argument("name", type=PartParam("datasets"))
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="shards|npy", help="What to write: tar files of PNGs, or NumPy files.")
@data_dir_option
@json_option
def convert(name: Choice, out: Path, to: str, as_json: bool) -> None:
    """Write the images of dataset NAME to the new folder DIR, with labels, splits and class names.

    \b
      ganzoo data convert ./photos:size=64 --to shards photos-64
      ganzoo train dcgan shards:path=photos-64

    `shards` are tar files of PNGs in the WebDataset layout: small, one file for many pictures, decoded when they are
    read. `npy` are NumPy files of bytes: larger, and the fastest to read. Both may be larger than memory. DIR is
    complete or absent, and is compared with what it was made from.
    """
    from ganzoo.api.convert import convert_dataset

    done = convert_dataset(name, to, out)
    if as_json:
        return print_json(path=str(out), dataset=str(done.dataset), images=done.images, bytes=done.size)
    counts = " and ".join(f"{count:,} {split}" for split, count in done.images.items())
    log(f"Wrote {counts} images, {done.size / 2**20:,.1f} MB. Train on them with")
    click.echo(done.dataset)


@data.command("list", short_help="List the datasets and the data folder.")
@click.argument("name", required=False)
@data_dir_option
@json_option
def list_datasets(name: str | None, as_json: bool) -> None:
    """List the datasets, all or those whose name matches NAME, and the content of the data folder."""
    from ganzoo.contract.paths import data_dir, filled_folders
    from ganzoo.registry.describe import part_facts, summary
    from ganzoo.registry.zoo import zoo

    root = data_dir()
    here = filled_folders(root)
    parts = [part for part in zoo().components("datasets") if matches(part.name, name)]
    if as_json:
        return print_json(path=str(root), folders=here, parts=[part_facts(part) for part in parts])
    print_table(["dataset", "what it is"], [[part.name, summary(part)] for part in parts])
    log(f"Data folder {root}: {', '.join(here) or 'empty'}")
