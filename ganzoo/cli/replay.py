"""ganzoo replay."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import (
    WholeNumber,
    changed_code_option,
    changed_images_option,
    data_dir_option,
    device_option,
    json_option,
    run_argument,
)
from ganzoo.cli.output import log, print_json, print_table


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
    from ganzoo.training.environment import describe_changes
    from ganzoo.training.replay import replay as replay_step

    found = replay_step(run, zoo(), step, device, anomaly, changed_code, changed_images, log)
    if as_json:
        print_json(found)
        return
    for change in describe_changes(found["not_as_it_was"]):
        log(f"Replayed with {change}: the numbers are not the same bit for bit.")
    log(f"Step {step} of {run}, {found['images']} images seen, trained again from step {found['played_from']}.")
    if "anomaly" in found:
        click.echo(found["anomaly"])
        return
    print_table(
        ["loss", "player", "value"], [[cost["name"], cost["what"], str(cost["value"])] for cost in found["costs"]]
    )
    rows = [[name, str(found["gradients"][name]), str(found["weights"][name])] for name in found["weights"]]
    print_table(["parameter", "gradient norm", "weight norm after the step"], rows)
    bad = found["first_bad"]
    click.echo(
        f"First value that is not finite: {bad['kind']} of {bad['name']} ({bad['what']})"
        if bad
        else "All numbers are finite."
    )
    if found["same"] is not None:
        verdict = "is the same as" if found["same"] else "DIFFERS from"
        click.echo(f"The state {verdict} the checkpoint of this step, bit for bit.")
