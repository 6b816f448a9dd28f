"""Make a trained generator of the package from a finished run: score its float16 weights and write both.

    python benchmarks/make_pretrained.py RUN NAME/DATASET [-e EVALUATOR ...] [--samples N] [--license ID]

It writes plugins/ganzoo_plugins/pretrained/NAME/DATASET/{card.json, generator.safetensors}, which `ganzoo list
pretrained` shows and `ganzoo sample pretrained:NAME/DATASET` draws from. A member of that name is replaced. The scores
on the card are those of the float16 weights, measured here. Look at `ganzoo sample` of it before it is committed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch

from ganzoo.contract.choice import Choice
from ganzoo.registry.zoo import zoo
from ganzoo.results.evaluate import evaluate
from ganzoo.results.export.write import half_precision_files

PRETRAINED = Path(__file__).parents[1] / "plugins" / "ganzoo_plugins" / "pretrained"


def make(run: Path, name: str, evaluators: list[Choice], samples: int | None, license: str, root: Path) -> Path:
    """The folder of the member that was written."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), half_precision_files(run, zoo(), license, scores=[]))
        scores = evaluate(Path(folder), zoo(), torch.device("cpu"), evaluators, samples)
    out = root / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    _write(out, half_precision_files(run, zoo(), license, scores))
    return out


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def main() -> None:
    """Read the arguments, write the member, and print its folder and scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name", metavar="NAME/DATASET")
    parser.add_argument("-e", "--evaluator", action="append", default=[], type=Choice.parse)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--license", default="apache-2.0")
    given = parser.parse_args()
    if given.name.count("/") != 1:
        parser.error("the name is written NAME/DATASET, such as dcgan/digits")
    evaluators = given.evaluator or [Choice("fid-domain"), Choice("precision-recall")]
    print(make(given.run, given.name, evaluators, given.samples, given.license, PRETRAINED))


if __name__ == "__main__":
    main()
