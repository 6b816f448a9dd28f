"""README.md of an export: the card for people, with front matter in the convention of model hubs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ganzoo.contract.recipe import Recipe
from ganzoo.results.export.card import FILE
from ganzoo.results.export.formats import FORMATS, ONNX, PROGRAM

SAMPLES = "samples.png"
README = "README.md"
_TASK = "unconditional-image-generation"


def readme(card: Mapping[str, Any]) -> bytes:
    """The text of README.md for this card."""
    architecture = Recipe.from_dict(card["recipe"]).architecture
    return "\n".join([*_front_matter(card, str(architecture and architecture.name)), *_body(card), ""]).encode()


def _front_matter(card: Mapping[str, Any], architecture: str) -> Iterator[str]:
    """YAML of the keys that hubs read. A JSON text is a YAML text too, so every value is written as JSON."""
    dataset = card["dataset"].partition(":")[0]
    yield "---"
    yield f"license: {_yaml(card['license'])}"
    yield "library_name: ganzoo"
    yield f"pipeline_tag: {_TASK}"
    tags = ["gan", "ganzoo", architecture.rpartition("/")[2], card["format"]]
    yield f"tags: {_yaml(list(dict.fromkeys(tags)))}"
    yield f"datasets: {_yaml([dataset])}"
    if card["scores"]:
        yield "model-index:"
        yield f"- name: {_yaml(card['name'])}"
        yield "  results:"
        yield f"  - task: {{type: {_TASK}}}"
        yield f"    dataset: {_yaml({'type': dataset, 'name': card['dataset']})}"
        yield "    metrics:"
        for line in card["scores"]:
            facts = {"type": line["score"], "value": line["value"], "args": {"card": line["card"]["digest"]}}
            yield f"    - {_yaml(facts)}"
    yield "---"


def _yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _body(card: Mapping[str, Any]) -> Iterator[str]:
    what = "A conditional generator" if card["conditional"] else "A generator"
    yield f"\n# {card['name']}\n"
    kind = "the EMA of its weights" if card["weights"] == "averaged" else "its raw weights"
    images = card["outputs"][0]
    channels, height, width = images["shape"][1:]
    epochs = f" ({card['epoch']:g} epochs)" if card["epoch"] else ""
    yield (
        f"{what} of {channels}x{height}x{width} images like those of `{card['dataset']}`: {card['parameters']:,} "
        f"parameters, {kind} after {card['images_seen']:,} real images{epochs}. Exported by "
        f"[ganzoo](https://pypi.org/project/torch-ganzoo/) {card['made_with']['torch-ganzoo']} as {card['format']}, "
        f"{card['dtype']}."
    )
    if SAMPLES in card["files"]:
        yield f"\n![samples, not chosen]({SAMPLES})"
    yield "\n## Draw images\n\n```\nganzoo sample THIS_FOLDER\n```\n"
    yield from _snippet(card)
    yield "\n## Inputs and images\n"
    yield from _table(("name", "type", "shape", "values"), [_row(card, each) for each in card["inputs"]])
    low, high = images["range"]
    yield f"\nImages are {images['dtype']} `{_shape(images)}` in [{low:g}, {high:g}]. The batch may have any size."
    if card["conditional"]:
        yield f"\nThe labels are: {', '.join(f'{number} {name}' for number, name in enumerate(card['classes']))}."
    check = card["check"]
    sizes = " and ".join(map(str, check["batch_sizes"]))
    yield (
        f"\nCompared with the run at batches of {sizes}: the largest difference of a value is "
        f"{check['largest_error']:.2g}."
    )
    yield "\n## Scores\n"
    if card["scores"]:
        yield from _table(("score", "value", "better", "fakes", "reals", "card"), map(_score, card["scores"]))
        yield f"\nTwo scores can be compared only if their cards have the same digest; the cards are in `{FILE}`."
    else:
        yield "None was measured: `ganzoo evaluate THIS_FOLDER`."
    yield f"\n## Training\n\n```\n{card['command']}\n```\n\nThe whole recipe, as `recipe.toml`:\n"
    yield f"```toml\n{Recipe.from_dict(card['recipe']).to_toml()}```"
    yield "\n## Files\n"
    rows = [(name, f"{file['bytes']:,}", f"`{file['sha256']}`") for name, file in card["files"].items()]
    yield from _table(("file", "bytes", "sha256"), rows)


def _snippet(card: Mapping[str, Any]) -> Iterator[str]:
    """A few lines that draw images without ganzoo, or with its Python API."""
    latents, file = card["inputs"][0], FORMATS[card["format"]].file
    size, last = latents["shape"][1], card["inputs"][1]["range"][1]
    labels = f"np.arange(16) % {last + 1}"
    normal, torch_normal = f"np.random.randn(16, {size})", f"torch.randn(16, {size})"
    uniform, torch_uniform = f"np.random.rand(16, {size})", f"torch.rand(16, {size})"
    if latents["range"] == [-1.0, 1.0]:
        uniform, torch_uniform = f"{uniform} * 2 - 1", f"{torch_uniform} * 2 - 1"
    is_normal = latents["distribution"] != "uniform"
    if card["format"] == ONNX.name:
        yield "```python\nimport numpy as np\nimport onnxruntime\n"
        yield f'session = onnxruntime.InferenceSession("{file}")'
        yield f"latents = ({normal if is_normal else uniform}).astype(np.float32)"
        yield f'(images,) = session.run(["images"], {{"latents": latents, "labels": {labels}}})\n```'
    elif card["format"] == PROGRAM.name:
        yield "```python\nimport torch\n"
        yield f'generator = torch.export.load("{file}").module()  # runs code of the file: only of whom you trust'
        draw = torch_normal if is_normal else torch_uniform
        yield f"images = generator({draw}, torch.arange(16) % {last + 1})\n```"
    else:
        yield '```python\nimport ganzoo\n\nganzoo.load("THIS_FOLDER").sample(16).save("samples.png")\n```'


def _row(card: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    if given["name"] == "labels":
        what = "the class" if card["conditional"] else "not used"
        return given["name"], given["dtype"], _shape(given), f"{given['range'][0]} to {given['range'][1]}, {what}"
    drawn = {"normal": "standard normal", "uniform": "uniform", "own": "drawn by the architecture's code"}
    bounds = f" in [{given['range'][0]:g}, {given['range'][1]:g})" if given["range"] else ""
    return given["name"], given["dtype"], _shape(given), drawn[given["distribution"]] + bounds


def _shape(given: Mapping[str, Any]) -> str:
    return "(" + ", ".join(map(str, given["shape"])) + ("," if len(given["shape"]) == 1 else "") + ")"


def _score(line: Mapping[str, Any]) -> tuple[str, ...]:
    measure = line["card"]["measure"]
    reals = f"{measure['reals']['images']} {measure['reals']['split']}"
    value = f"{line['value']:.4g}"
    return line["score"], value, line["better"], str(measure["fakes"]), reals, line["card"]["digest"]


def _table(columns: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
