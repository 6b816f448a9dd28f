"""The differences between members and published programs that version 0.1 did not state, and what became of them."""

from __future__ import annotations

from typing import Literal, NamedTuple

_SILENT = "tests/plugins/test_silent_differences.py"
_R3GAN = "tests/plugins/test_official_r3gan.py"
_STATED = f"{_SILENT}::test_what_is_not_mended_is_stated"
_RECORDED = "tests/plugins/test_fidelity.py::test_it_computes_what_the_official_program_does"


class Difference(NamedTuple):
    """What the program of a member does, what we do now, and the test that holds it."""

    member: str
    program: str
    here: str
    #: whether we do now what the program does, or the docstring of the part says that we do not
    state: Literal["mended", "stated"]
    test: str


DIFFERENCES = [
    Difference(
        "r3gan",
        "nothing after the generator's last convolution",
        "the same; `end=tanh` is version 0.1",
        "mended",
        _RECORDED,
    ),
    Difference(
        "r3gan",
        "the generator's turn looks at reals of its own",
        "the same, `turns = D,G.new`; it took the discriminator's",
        "mended",
        f"{_R3GAN}::test_a_mistake_is_seen",
    ),
    Difference(
        "r3gan",
        "widths, groups and blocks for each size",
        "the same; there was one width, in groups of 16",
        "mended",
        f"{_R3GAN}::test_the_published_networks_have_the_published_numbers_of_parameters",
    ),
    Difference(
        "r3gan",
        "a mirrored copy of each image",
        "each real is mirrored at random, `preprocessing = flip`; there were no flips",
        "stated",
        f"{_SILENT}::test_flips_mirror_half_of_the_reals",
    ),
    Difference(
        "r3gan",
        "the largest sizes in bfloat16",
        "the same, `bf16_stages`",
        "mended",
        f"{_R3GAN}::test_bfloat16_at_the_largest_sizes",
    ),
    Difference(
        "r3gan",
        "classes, schedules, augmentation",
        "the same in five recipes",
        "mended",
        f"{_R3GAN}::test_two_steps_of_the_published_recipes",
    ),
    Difference(
        "r3gan",
        "half-life on a schedule from 0, buffers copied",
        "the same; it was constant, buffers averaged",
        "mended",
        "tests/engine/test_ema.py::test_a_half_life_on_a_schedule_from_0_copies_at_first",
    ),
    Difference(
        "sngan", "batch norm eps 2e-5", "the same; it was 1e-5", "mended", f"{_SILENT}::test_the_eps_of_batch_norm"
    ),
    Difference(
        "sngan",
        "reals x / 128 - 1 + uniform(0, 1/128)",
        "the same, `preprocessing = dequantise`; there was no noise",
        "mended",
        f"{_SILENT}::test_dequantised_reals_are_those_of_the_programs",
    ),
    Difference(
        "sngan",
        "power iteration v, then u, none before training",
        "the same; `power_iteration=pytorch` is version 0.1",
        "mended",
        _RECORDED,
    ),
    Difference("sngan", "begins with a turn of the generator", "ends with it", "stated", _STATED),
    Difference("sngan", "128 fakes in a turn of the generator", "64", "stated", _STATED),
    Difference("sngan", "Adam's eps beside the uncorrected root", "beside the corrected root", "stated", _STATED),
    Difference("sngan", "the recipe is of e84b1a5", "cited; the commit before had no noise", "mended", _STATED),
    Difference(
        "sngan-projection",
        "classes of their own for the fakes",
        "the same, `fake_labels = uniform`; they were those of the reals",
        "mended",
        "tests/engine/test_fake_labels.py::test_published_recipes_draw_them",
    ),
    Difference(
        "sngan, sngan-projection, wgan-gp",
        "networks of mimicry",
        "the same, `program=mimicry`; there were none",
        "mended",
        _RECORDED,
    ),
    Difference(
        "wgan-gp",
        "reals 2 (x / 256 - 0.5), with noise",
        "the same in the recipe `cifar10`",
        "mended",
        f"{_SILENT}::test_the_recipes_dequantise",
    ),
    Difference("wgan-gp", "Adam's eps beside the uncorrected root", "beside the corrected root", "stated", _STATED),
    Difference(
        "dcgan", "batch norm eps 1e-8", "the same; it was 1e-5", "mended", f"{_SILENT}::test_the_eps_of_batch_norm"
    ),
    Difference(
        "dcgan", "the DCGAN of the PyTorch examples", "a member of its own, `dcgan-pytorch`", "mended", _RECORDED
    ),
    Difference(
        "infogan-nets",
        "penalties take sqrt(1e-4 + square)",
        "the same, `eps=1e-4` in its recipes",
        "mended",
        f"{_SILENT}::test_eps_under_the_root",
    ),
    Difference(
        "infogan-nets", "Adam's eps beside the uncorrected root", "beside the corrected root", "stated", _STATED
    ),
    Difference(
        "infogan-nets", "the generator moves after 1, 2, 7, 12, ... updates", "after each five", "stated", _STATED
    ),
    Difference(
        "began",
        "Glorot uniform weights, zero biases",
        "the same; `start=pytorch` is version 0.1",
        "mended",
        f"{_SILENT}::test_began_starts_as_the_program",
    ),
    Difference(
        "began",
        "strides pad at the bottom and the right",
        "the same; they padded at the top and the left",
        "mended",
        f"{_SILENT}::test_the_strided_convolutions_of_began_pad_bottom_and_right",
    ),
    Difference("began", "learning rate 8e-5, halved every 100,000 steps", "1e-4, constant", "stated", _STATED),
    Difference(
        "diffaugment",
        "draws a saturation for one channel too",
        "the same; `saturation=skipped` is version 0.1",
        "mended",
        f"{_SILENT}::test_diffaugment_draws_as_the_program_for_one_channel",
    ),
    Difference(
        "losses",
        "intervals and schedules",
        "the same, `r1:every=16`, `r1:gamma=10 -> 1 by 2M`; there were none",
        "mended",
        "tests/engine/test_schedules.py::test_an_interval_multiplies_the_loss_and_leaves_the_other_steps_alone",
    ),
    Difference(
        "EMA",
        "a start, a ramp, buffers copied",
        "the same, `ema_start`, `ema_ramp`, `ema_buffers`; there were none",
        "mended",
        _RECORDED,
    ),
]


def difference_lines() -> list[str]:
    """A line of the table in docs/fidelity.md for each difference."""
    return [
        f"| {each.member} | {each.program} | {each.here} | {each.state} | `{each.test.rpartition('::')[2]}` |"
        for each in DIFFERENCES
    ]
