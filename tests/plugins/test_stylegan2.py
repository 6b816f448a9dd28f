"""StyleGAN2: recorded numbers of the official program, parameter counts, sizes, truncation, and what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official_stylegan2 import Replay
from torch import Tensor, nn

from ganzoo_plugins.architectures import _stylegan2_networks as networks

RECORDINGS = ("config-f-32", "cifar-cond-32")
F64, F32 = torch.float64, torch.float32
SMALL = {"channel_base": 64, "channel_max": 8, "latent_dim": 8, "style_dim": 8, "mapping_layers": 2}


# --- recorded numbers -------------------------------------------------------------------------------------------------


def outputs(replay: Replay) -> dict[str, float]:
    """Errors of what both networks compute with the recorded weights, by name."""
    generator: Any = replay.game.generator.eval()
    discriminator: Any = replay.game.discriminator.train()
    latents, images = replay.inputs["z_fixed"], replay.inputs["x_fixed"]
    labels = replay.inputs.get("y_fixed", torch.zeros(8, dtype=torch.int64))
    features: dict[str, Tensor] = {}
    hooks = [
        *(
            _keep(block, f"G{r}", features)
            for r, block in zip((4, 8, 16, 32), generator.synthesis.blocks(), strict=True)
        ),
        *(_keep(getattr(discriminator, f"b{r}"), f"D{r}", features) for r in (32, 16, 8)),
    ]
    with torch.no_grad():
        styles = generator.styles(latents, labels)
        found = {"w": styles[:, 0], "w_truncated": generator.truncated(styles[:2], 0.7, 4)}
        drawn = generator(latents, labels)
        blocks = {f"block/{name}": value for name, value in features.items() if name[0] == "G"}
        found |= {"img_const": drawn[:2], "img_const_eval": drawn, "d_logit_g": discriminator(drawn, labels)}
        generator.noise = "none"
        found["img_none_eval"] = generator(latents, labels)
        generator.noise = "random"
        found["d_logit_x"] = discriminator(images, labels)
        blocks |= {f"block/{name}": value for name, value in features.items() if name[0] == "D"}
        if discriminator.mapping is not None:
            found["d_cmap"] = discriminator.mapping(None, labels[:2])
        found["mbstd_channel"] = networks.group_deviation(features["D8"], replay.config["mbstd"])
    for hook in hooks:
        hook.remove()
    return {key: replay.recording.error(key, value) for key, value in (found | blocks).items()}


def _keep(module: nn.Module, name: str, features: dict[str, Tensor]) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, tuple):
            features[f"{name}_x"], features[f"{name}_img"] = output
        else:
            features[name] = output

    return module.register_forward_hook(keep)


def gradients(replay: Replay) -> dict[str, float]:
    """Errors of the gradients of all phases of the first step, relative to the largest gradient of the phase."""
    replay.run(1)
    errors = {}
    for phase in replay.gradients:
        names = replay.recording.names(f"grad0:{phase}/")
        scale = max(map(replay.recording.largest, names))
        own = replay.gradients[phase]
        assert {name.partition("/")[2] for name in names} <= own.keys()
        errors |= {n: replay.recording.error(n, own[n.partition("/")[2]], 1e-3 * scale) for n in names}
    assert errors
    return errors


def steps(replay: Replay) -> dict[str, float]:
    """Errors of logits, penalties, weights and averages of three steps, and of the average after five."""
    errors: dict[str, float] = {}
    for step in range(5):
        replay.run(step + 1)
        if step == 0:
            for letter, network in (("G", replay.game.generator), ("D", replay.game.discriminator)):
                errors |= _errors_of(replay, f"after0:{letter}/", network)
        if step < 3:
            errors[f"step{step}/w_avg"] = replay.recording.error(
                f"step{step}/w_avg", replay.game.generator.get_buffer("mapping.w_avg")
            )
            for phase in ("Gmain", "Dmain", "Dreg"):
                for side, logits in replay.rounds[step, phase].computed_logits.items():
                    name = f"step{step}/{phase}/Loss_scores_{side[:-1]}"
                    errors[name] = replay.recording.error(name, logits, 1.0)
    return errors | _errors_of(replay, "ema4:G/", replay.game.ema.network)


def _errors_of(replay: Replay, prefix: str, network: nn.Module) -> dict[str, float]:
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    names = replay.recording.names(prefix)
    assert names
    return {name: replay.recording.error(name, tensors[name[len(prefix) :]], 1.0) for name in names}


CHECKS: dict[str, Callable[[Replay], dict[str, float]]] = {"outputs": outputs, "gradients": gradients, "steps": steps}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_numbers_in_float64(name: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = CHECKS[check](Replay(name, F64, monkeypatch))
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] < 1e-9, (worst, errors[worst])


def _floor(replay: Replay, name: str) -> float:
    """How far the program's own float32 is from its float64 in the group of a recorded value."""
    floors = replay.recording.manifest["float32_against_float64_of_the_official_code"]
    group = name.partition("/")[0]
    return float(floors[group]["rel_to_tensor_max"])


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_numbers_in_float32(name: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = Replay(name, F32, monkeypatch)
    for value, error in CHECKS[check](replay).items():
        assert error <= 4 * _floor(replay, value) + 1e-6, (value, error)
