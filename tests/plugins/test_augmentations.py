"""DiffAugment: how each policy changes an image, and gradients of first and second order through it."""

import pytest
import torch
from official_augmentations import diffaugment_errors
from torch.nn.functional import pad

import ganzoo
from ganzoo.contract.choice import Choice
from ganzoo_plugins.augmentations import diffaugment
from ganzoo_plugins.augmentations.diffaugment import DiffAugment

SHAPES = [(64, 1, 28, 28), (64, 3, 17, 32)]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def augment(images, **options):
    return DiffAugment(**options)(images)


def spread(images):
    return images - images.mean(dim=(1, 2, 3), keepdim=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", ["color", "translation", "cutout", "color,translation,cutout"])
def test_shape_type_and_change(shape, policy):
    images = torch.rand(shape) + 1
    changed = augment(images, policy=policy)
    assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
    differs = (changed != images).flatten(1).any(dim=1)
    assert differs.float().mean() > 0.9
    assert (images >= 1).all()  # the images that came in are left alone


def test_random_numbers_differ_between_images():
    images = torch.rand(1, 3, 16, 16).expand(32, -1, -1, -1)
    for policy in ("color", "translation", "cutout"):
        changed = augment(images, policy=policy)
        assert len({tuple(image.flatten().tolist()) for image in changed}) > 8, policy


@pytest.mark.parametrize("span", [2.0, 1.0])
def test_brightness_changes_by_up_to_a_quarter_of_the_range(span):
    flat = torch.full((2000, 1, 2, 2), 0.3)  # no contrast and no saturation: brightness alone is left
    moved = augment(flat, policy="color", span=span) - 0.3
    assert torch.allclose(moved, moved[:, :, :1, :1].expand_as(moved), atol=1e-6)
    assert moved.min() == pytest.approx(-span / 4, abs=0.01 * span)
    assert moved.max() == pytest.approx(span / 4, abs=0.01 * span)
    assert moved.mean() == pytest.approx(0, abs=0.02 * span)


def factors_between(before, after):
    """The number by which each image of `before` was multiplied to give `after`; checks that it is one number."""
    factors = (after * before).sum(dim=(1, 2, 3), keepdim=True) / before.square().sum(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(after, factors * before, rtol=1e-3, atol=1e-5)
    return factors


def test_grey_images_get_brightness_and_contrast_only():
    images = torch.rand(2000, 1, 4, 4)
    factors = factors_between(spread(images), spread(augment(images, policy="color")))
    assert factors.min() == pytest.approx(0.5, abs=0.01)
    assert factors.max() == pytest.approx(1.5, abs=0.01)
    assert factors.mean() == pytest.approx(1, abs=0.02)


def test_saturation_scales_the_distance_to_grey():
    images = torch.rand(2000, 3, 4, 4)
    changed = augment(images, policy="color")
    greys = [batch.mean(dim=1, keepdim=True) for batch in (images, changed)]
    contrast = factors_between(*map(spread, greys))  # the mean over channels has no saturation
    factors = factors_between(images - greys[0], changed - greys[1]) / contrast
    assert factors.min() == pytest.approx(0, abs=0.01)
    assert factors.max() == pytest.approx(2, abs=0.01)
    assert factors.mean() == pytest.approx(1, abs=0.05)


def shifted(image, down, right):
    """The image whose pixel (i, j) is the pixel (i + down, j + right) of `image`, and 0 outside."""
    height, width = image.shape[1:]
    padded = pad(image, (width, width, height, height))
    return padded[:, height + down : 2 * height + down, width + right : 2 * width + right]


def test_translation_is_a_shift_of_at_most_an_eighth():
    images = torch.rand(200, 2, 8, 12) + 1  # 12 / 8 is rounded up
    changed = augment(images, policy="translation")
    found = set()
    for image, moved in zip(images, changed, strict=True):
        shifts = [(i, j) for i in range(-2, 3) for j in range(-4, 5) if torch.equal(moved, shifted(image, i, j))]
        assert len(shifts) == 1
        found.update(shifts)
    assert found == {(i, j) for i in (-1, 0, 1) for j in (-2, -1, 0, 1, 2)}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 12)])
def test_cutout_is_one_rectangle_of_half_the_size(height, width):
    changed = augment(torch.rand(500, 2, height, width) + 1, policy="cutout")
    hidden = changed == 0
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    rows, columns = hidden[:, 0].any(dim=2), hidden[:, 0].any(dim=1)
    assert torch.equal(hidden[:, 0], rows[:, :, None] & columns[:, None, :])
    for marks, size in ((rows, height), (columns, width)):
        half = (size + 1) // 2
        counts = marks.sum(dim=1)
        starts = marks.float().argmax(dim=1)
        index = torch.arange(size)
        assert torch.equal(marks, (index >= starts[:, None]) & (index < (starts + counts)[:, None]))  # without a gap
        assert counts.max() == half
        inside = marks[~marks[:, 0] & ~marks[:, -1]]
        assert (inside.sum(dim=1) == half).all()  # it is shorter only at the border
        for cut in (marks[:, 0], marks[:, -1]):  # a centre on the border leaves half of it, at either end
            assert counts[cut].min() == half // 2 + half % 2
        assert marks.any(dim=0).all()  # every pixel can be hidden


def test_translation_and_cutout_do_not_change_other_pixels():
    images = torch.rand(64, 1, 16, 16) + 1
    for policy in ("translation", "cutout", "cutout,translation"):
        for image, changed in zip(images, augment(images, policy=policy), strict=True):
            assert set(changed.unique().tolist()) <= {0.0, *image.unique().tolist()}


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (2, 3, 4, 5)])
def test_gradients_of_first_and_second_order(shape):
    """Against finite differences, with a fixed seed."""
    images = torch.rand(shape, dtype=torch.float64, requires_grad=True)

    def fixed(images):
        torch.manual_seed(1)
        return augment(images).square()

    assert torch.autograd.gradcheck(fixed, images)
    assert torch.autograd.gradgradcheck(fixed, images)


def test_it_depends_on_the_torch_seed_alone():
    """The same seed gives the same images; there is no state between calls."""
    images, augmentation = torch.rand(16, 3, 8, 8), DiffAugment()
    first, second = [], []
    for batches in (first, second):
        torch.manual_seed(5)
        batches += [augmentation(images), augmentation(images)]
    assert not torch.equal(first[0], first[1])
    assert torch.equal(torch.stack(first), torch.stack(second))
    assert not augmentation.state_dict()


def test_the_policy_is_applied_in_its_order():
    images = torch.rand(32, 1, 8, 8) + 1
    cut_last = augment(images, policy="color,cutout")
    cut_first = augment(images, policy="cutout,color")
    assert (cut_last == 0).flatten(1).any(dim=1).all()
    assert not (cut_first == 0).flatten(1).any(dim=1).any()  # colour changes the zeros too


def test_a_policy_can_be_written_on_a_command_line():
    choice = Choice.parse("diffaugment:policy=translation+cutout")
    images = torch.rand(8, 1, 8, 8)
    torch.manual_seed(2)
    expected = augment(images, policy="translation,cutout")
    torch.manual_seed(2)
    assert torch.equal(augment(images, **choice.options), expected)


@pytest.mark.parametrize("policy", ["", "colour", "color,,cutout", "color,color"])
def test_an_invalid_policy_is_refused(policy):
    with pytest.raises(ganzoo.UsageError, match="color, translation, cutout"):
        DiffAugment(policy=policy)


def _cut_a_quarter(images):
    height, width = images.shape[2:]
    masks = []
    for axis, size in ((2, height), (3, width)):
        length = (size + 1) // 2
        centres = torch.randint(0, size + 1 - length % 2, (len(images), 1))
        offsets = torch.arange(size) - (centres - length // 2)
        masks.append(diffaugment._along((offsets >= 0) & (offsets < length // 2), axis))
    return images * ~(masks[0] & masks[1])


#: mistake -> function of the module, what replaces it, the recorded case that shows it
MISTAKES = {
    "stretched around zero": ("_stretch", lambda images, centre, factor: images * factor, "color/4x3x16x16"),
    "moved to the other side": (
        "_translate",
        lambda images, move=diffaugment._translate: move(images.flip(2, 3)).flip(2, 3),
        "translation/4x3x16x16",
    ),
    "a rectangle of a quarter": ("_cut_out", _cut_a_quarter, "cutout/4x3x16x16"),
    "rows and columns exchanged": (
        "_cut_out",
        lambda images, cut=diffaugment._cut_out: cut(images.transpose(2, 3)).transpose(2, 3),
        "translation,cutout/4x3x32x32",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_recorded_numbers_of_the_program_show_a_mistake(mistake, monkeypatch):
    name, wrong, case = MISTAKES[mistake]
    monkeypatch.setattr(diffaugment, name, wrong)
    assert max(diffaugment_errors(case, torch.float64, monkeypatch).values()) > 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_step_draws_new_numbers_at_each_replay():
    images = torch.rand(16, 3, 32, 32, device="cuda", requires_grad=True)
    augmentation = DiffAugment()

    def step():
        return torch.autograd.grad(augmentation(images).square().sum(), images)[0]

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = step()
    torch.cuda.manual_seed(3)
    graph.replay()
    first = recorded.clone()
    graph.replay()
    assert not torch.equal(recorded, first)  # each replay draws new numbers
    torch.cuda.manual_seed(3)
    torch.testing.assert_close(step(), first)
