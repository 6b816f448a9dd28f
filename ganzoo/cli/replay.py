"""ganzoo replay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ganzoo.cli.options import (
    changed_code_option,
    changed_images_option,
    data_dir_option,
    device_option,
    json_option,
    run_argument,
)
from ganzoo.cli.output import log, print_json, print_table
from ganzoo.cli.parameters import WholeNumber


@click.command()
@run_argument
@click.option("--step", type=WholeNumber(1), required=True, metavar="N", help="Number of the step, from 1.")
@click.option("--anomaly", is_flag=True, help="Let torch name the operation whose backward pass returns NaN.")
@changed_code_option
@changed_images_option
@device_option(None)
@data_dir_option
@json_option
def replay(
    run: Path,
    step: int,
    anomaly: bool,
    changed_code: bool,
    changed_images: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Run one step of RUN again, exactly as it was, and show every loss, gradient and weight.

    \b
      ganzoo replay runs/a --step 1234
      ganzoo replay runs/a --step 1234 --anomaly     after a run has diverged; see RUN/diagnosis.json

    Training starts again at the newest checkpoint before that step, or at the beginning. Nothing is written to RUN.
    """
    from ganzoo.registry.zoo import zoo
    from ganzoo.training.diagnosis import described
    from ganzoo.training.environment import describe_changes
    from ganzoo.training.replay import replay as replay_step

    found = replay_step(run, zoo(), step, device, anomaly, changed_code, changed_images, log)
    if as_json:
        return print_json(**_facts(found))
    for change in describe_changes(found["not_as_it_was"]):
        log(f"Replayed with {change}: the numbers are not the same bit for bit.")
    log(f"Step {step} of {run}, {found['images']} images seen, trained again from step {found['played_from']}.")
    if "anomaly" in found:
        click.echo(found["anomaly"])
        return
    print_table(
        ["loss", "player", "value"], [[loss["name"], loss["what"], str(loss["value"])] for loss in found["costs"]]
    )
    rows = [[name, str(found["gradients"][name]), str(found["weights"][name])] for name in found["weights"]]
    print_table(["parameter", "gradient norm", "weight norm after the step"], rows)
    bad = found["first_bad"]
    click.echo(f"First value that is not finite: {described(bad)}" if bad else "All numbers are finite.")
    if found["same"] is not None:
        verdict = "is the same as" if found["same"] else "DIFFERS from"
        click.echo(f"The state {verdict} the checkpoint of this step, bit for bit.")


def _facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """The step as plain data. With --anomaly and a NaN there are no losses and parameters."""
    from ganzoo.training.environment import describe_changes

    losses, gradients, weights = (found.get(name, {}) for name in ("costs", "gradients", "weights"))
    return {
        "run": found["run"],
        "step": found["step"],
        "images": found["images"],
        "from_step": found["played_from"],
        "anomaly": found.get("anomaly"),
        "first_bad": _not_finite(found.get("first_bad")),
        "losses": [{"name": loss["name"], "player": loss["what"], "value": loss["value"]} for loss in losses],
        "parameters": [
            {"name": name, "gradient_norm": gradients[name], "weight_norm": weights[name]} for name in weights
        ],
        "sha256": found["state"],
        "same_as_checkpoint": found["same"],
        "changes": describe_changes(found["not_as_it_was"]),
    }


def _not_finite(bad: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The first value that is not finite: a loss, a gradient, a weight or an output, with its name."""
    from ganzoo.training.diagnosis import quantity

    if bad is None:
        return None
    return {"quantity": quantity(bad), "name": bad["name"], "type": bad["what"], "value": bad["value"]}
