"""Extractors: what the features are, what they depend on, and that nothing else can change them."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import random_inception as random_inception_weights
import torch
from helpers import ZOO
from scoring import scores
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

import ganzoo
from ganzoo.evaluation import corruptions
from ganzoo_plugins.datasets.digits import Digits
from ganzoo_plugins.datasets.stacked_mnist import StackedMNIST
from ganzoo_plugins.datasets.torchvision_sets import MNIST
from ganzoo_plugins.evaluators.frechet import FID, FIDDomain
from ganzoo_plugins.extractors import inception
from ganzoo_plugins.extractors._classifier import load_weights, save_weights, weights_digest
from ganzoo_plugins.extractors.domain import PINNED, Domain, _content, _load_kept
from ganzoo_plugins.extractors.inception import LAYERS, Inception


class Colours(ganzoo.Dataset):
    """Six tiny images, red or blue: enough to train on in a second."""

    def __init__(self, *, classes: int = 2, seed: int = 0) -> None:
        drawn = torch.randint(0, 60, (6, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
        self.labels = torch.arange(6) % 2
        drawn[self.labels == 0, 0] += 180
        drawn[self.labels == 1, 2] += 180
        self.images = drawn.to(torch.uint8)
        self.spec = ganzoo.ImageSpec(3, 8, 8, classes)

    def __len__(self) -> int:
        return 6

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


@pytest.fixture(scope="module")
def digits() -> Domain:
    extractor = Domain()
    extractor.bind("digits", Digits())
    return extractor


@pytest.fixture(scope="module")
def colours() -> Domain:
    """Trained for this module, and so in the session's cache."""
    extractor = Domain()
    extractor.bind("colours", Colours())
    return extractor


def some_digits(count: int = 50) -> Tensor:
    images, _ = Digits(split="test").read(torch.arange(count))
    return images


@pytest.mark.parametrize(("name", "least"), [("digits", 0.97), ("mnist", 0.993), ("fashion-mnist", 0.925)])
def test_pinned_weights_classify_the_test_images_as_their_log_says(
    name: str, least: float, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "digits":
        monkeypatch.setenv("GANZOO_DATA", str(request.getfixturevalue("shared_data")))
    test = ZOO.load("datasets", ganzoo.Choice(name))(split="test")
    extractor = Domain()
    extractor.bind(name, test)
    right = 0
    for indices in torch.arange(len(test)).split(500):
        images, labels = test.read(indices)
        right += int((extractor(images)["logits"].argmax(1) == labels).sum())
    _, metadata = load_weights(PINNED[name])
    assert right / len(test) == pytest.approx(float(metadata["test_accuracy"]), abs=0.001)
    assert right / len(test) >= least
    assert PINNED[name].stat().st_size < 1_000_000


def test_pinned_weights_are_half_precision_and_features_single(digits: Domain) -> None:
    weights, _ = load_weights(PINNED["digits"])
    assert {value.dtype for value in weights.values()} == {torch.float16}
    features = digits(some_digits(7))
    assert {layer: (tuple(value.shape), value.dtype) for layer, value in features.items()} == {
        "pre128": ((7, 128), torch.float32),
        "logits": ((7, 10), torch.float32),
    }
    assert digits.layers == {"pre128": 128, "logits": 10}
    assert not features["pre128"].requires_grad


def test_every_dimension_has_deviation_one_over_the_training_images(digits: Domain) -> None:
    train = Digits()
    images, _ = train.read(torch.arange(len(train)))
    deviation = digits(images)["pre128"].std(dim=0, correction=0)
    assert torch.allclose(deviation, torch.ones(128), atol=2e-3)


def test_digest_is_that_of_weights_and_input(digits: Domain) -> None:
    weights, metadata = load_weights(PINNED["digits"])
    assert digits.digest == metadata["digest"] == weights_digest(weights, metadata)
    value = weights["head.bias"].clone()
    value[3] += 0.001
    assert weights_digest({**weights, "head.bias": value}, metadata) != digits.digest
    assert weights_digest(weights, {**metadata, "height": "17"}) != digits.digest
    assert weights_digest({**weights, "deviation": weights["deviation"] * 2}, metadata) != digits.digest


def test_a_damaged_file_of_weights_is_refused(tmp_path: Path) -> None:
    data = bytearray(PINNED["digits"].read_bytes())
    data[-1000] ^= 1
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(ganzoo.GanzooError, match="digest is not its own"):
        load_weights(path)
    path.write_bytes(data[:1000])
    with pytest.raises(ganzoo.GanzooError, match="not a file of domain weights"):
        load_weights(path)


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"a": torch.ones(1)}, {})
    path_as_folder = tmp_path / "folder.safetensors"
    (path_as_folder / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        save_weights(path_as_folder, {"a": torch.ones(1)}, {})
    assert sorted(tmp_path.iterdir()) == [path_as_folder, path]


def test_nothing_switches_the_features(digits: Domain) -> None:
    images, before = some_digits(), digits(some_digits())["pre128"]
    nn.Sequential(digits).train()
    state = {name: value.clone() for name, value in digits.state_dict().items()}
    assert torch.equal(digits(images)["pre128"], before)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(digits(images)["pre128"], before)
    assert all(torch.equal(value, state[name]) for name, value in digits.state_dict().items())


def test_images_of_another_size_are_resized(digits: Domain) -> None:
    images = ganzoo.resize(some_digits(), 28)
    assert torch.equal(digits(images)["logits"], digits(ganzoo.resize(images, 16))["logits"])


def test_any_labelled_dataset_trains_one_of_its_own(colours: Domain) -> None:
    images, labels = Colours().read(torch.arange(6))
    features = colours(images)
    assert colours.layers == {"pre128": 128, "logits": 2}
    assert torch.equal(features["logits"].argmax(1), labels)
    deviation = features["pre128"].std(dim=0, correction=0)
    assert torch.allclose(deviation, torch.ones(128), atol=2e-3)


def test_the_second_time_it_is_in_the_cache_whatever_the_name(
    colours: Domain, capsys: pytest.CaptureFixture[str]
) -> None:
    again = Domain()
    again.bind("digits", Colours())  # no digits: three channels
    assert capsys.readouterr().err == ""
    assert again.digest == colours.digest
    assert again.digest != load_weights(PINNED["digits"])[1]["digest"]


def _files_of(extractor: Domain) -> list[Path]:
    """The files of an extractor in the cache, among those of other tests."""
    files = (ganzoo.cache_dir() / "domain").glob("*.safetensors")
    return [path for path in files if load_weights(path)[1]["digest"] == extractor.digest]


def test_what_is_damaged_in_the_cache_is_made_again_the_same(
    colours: Domain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kept,) = _files_of(colours)
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    damaged = tmp_path / "domain" / kept.name
    damaged.parent.mkdir()
    damaged.write_bytes(kept.read_bytes()[:-10])
    again, random_state = Domain(), torch.get_rng_state()
    with torch.inference_mode():  # a caller's mode does not hinder it
        again.bind("colours", Colours())
    said = capsys.readouterr().err
    assert f"{damaged} is damaged and will be made again" in said
    assert "Training the domain extractor of colours, once: 6 images" in said
    assert again.digest == colours.digest
    assert torch.equal(torch.get_rng_state(), random_state)


def test_no_bit_of_what_is_in_the_cache_can_flip_unseen(colours: Domain) -> None:
    """Places of the header, and some of the weights."""
    (kept,) = _files_of(colours)
    good = kept.read_bytes()
    shape = {key: load_weights(kept)[1][key] for key in ("channels", "height", "width", "classes")}
    header = 8 + int.from_bytes(good[:8], "little")
    refused = 0
    try:
        for place in [*range(0, header, 31), *range(header, len(good), len(good) // 8)]:
            content = bytearray(good)
            content[place] ^= 1 << place % 8
            kept.write_bytes(content)
            found = _load_kept(kept, shape)
            refused += found is None
            if found:
                again = Domain()
                again.load(*found)
                assert again.digest == colours.digest, place
                assert again.layers == colours.layers
        assert refused > 10
    finally:
        kept.write_bytes(good)


def test_other_images_have_another_place_in_the_cache() -> None:
    first, other, relabelled = Colours(), Colours(seed=1), Colours()
    relabelled.labels = 1 - relabelled.labels
    assert len({_content(dataset, (8, 8))[2] for dataset in (first, other, relabelled)}) == 3
    assert _content(Colours(), (8, 8))[2] == _content(first, (8, 8))[2]


def test_of_several_processes_one_trains(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/evaluation']\n"
        "from test_extractors import Colours, Domain\n"
        "extractor = Domain(); extractor.bind('colours', Colours(seed=5)); print(extractor.digest)"
    )
    environment = os.environ | {"GANZOO_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(2)
    ]
    said = [worker.communicate(timeout=120) for worker in workers]
    digests = {digest for digest, _ in said}
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64
    assert sum(note.count("Training the domain extractor") for _, note in said) == 1, said


def stacked_digits(count: int) -> tuple[Tensor, Tensor]:
    """Three real MNIST digits an image, as the dataset of that name stacks them: red first."""
    test = StackedMNIST(split="test")
    return test.read(torch.arange(count))


def test_stacked_digits_are_read_channel_by_channel(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GANZOO_DATA", str(shared_data))
    stacked, single = Domain(), Domain()
    stacked.bind("stacked-mnist", StackedMNIST(split="test"))
    single.bind("mnist", MNIST(split="test"))
    assert capsys.readouterr().err == ""  # nothing is trained
    assert stacked.layers == {"pre128": 384, "logits": 1000}
    assert stacked.digest != single.digest
    assert "each channel by itself" in stacked.preprocessing
    images, labels = stacked_digits(2000)
    features = torch.cat([stacked(batch)["logits"] for batch in images.split(500)])
    assert float((features.argmax(1) == labels).double().mean()) >= 0.98
    assert torch.allclose(features.exp().sum(1), torch.ones(2000), atol=1e-4)
    red = single(images[:5, :1])["pre128"]
    torch.testing.assert_close(stacked(images[:5])["pre128"][:, :128], red)
    blue = single(images[:5, 2:])["logits"].log_softmax(1)
    joint = stacked(images[:5])["logits"].reshape(5, 10, 10, 10)
    torch.testing.assert_close(joint.logsumexp((1, 2)), blue, atol=1e-4, rtol=1e-4)
    single.bind("mnist", MNIST(split="test"))
    stacked.bind("mnist", MNIST(split="test"))  # bound again, it is another
    assert torch.equal(stacked(images[:5, :1])["pre128"], red)
    assert stacked.digest == single.digest


def test_says_what_happens_to_images(digits: Domain, colours: Domain) -> None:
    assert "resize" in digits.preprocessing
    assert digits.preprocessing.endswith("at 16x16")
    assert colours.preprocessing.endswith("at 8x8")
    original, antialiased = Inception(), Inception(antialias=True)
    assert original.preprocessing.startswith("bilinear as TensorFlow 1, antialias=False, to 299x299, grey repeated")
    assert antialiased.preprocessing.startswith("antialiased bilinear to 299x299, grey repeated")


class Unlabelled(ganzoo.Dataset):
    """The digits of one split, without their labels."""

    def __init__(self, size: int = 8, split: str = "train") -> None:
        digits = Digits(split=split, size=size)
        self.images, self.labels = digits.read(torch.arange(len(digits)))
        self.spec = ganzoo.ImageSpec(1, size, size)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], torch.zeros_like(indices)


@pytest.fixture(scope="module")
def unlabelled() -> Domain:
    extractor = Domain()
    extractor.bind("plain", Unlabelled())
    return extractor


def test_without_labels_the_network_is_not_trained(
    unlabelled: Domain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unlabelled.layers == {"pre128": 128}
    assert unlabelled.predicts == ""
    assert unlabelled.preprocessing.endswith("at 8x8, not trained")
    images = Unlabelled().images
    features = unlabelled(images)["pre128"]
    assert torch.allclose(features.std(dim=0, correction=0), torch.ones(128), atol=2e-3)
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    again, random_state = Domain(), torch.get_rng_state()
    with torch.inference_mode():
        again.bind("another name", Unlabelled())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert again.digest == unlabelled.digest
    assert torch.equal(again(images)["pre128"], features)
    (kept,) = (tmp_path / "domain").glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:-10])
    again.bind("plain", Unlabelled())
    assert again.digest == unlabelled.digest
    assert "is damaged and will be made again" in capsys.readouterr().err
    again.bind("colours", Colours())  # bound to labelled images, it predicts classes again
    assert (again.layers, again.predicts) == ({"pre128": 128, "logits": 2}, "logits")


@pytest.mark.parametrize("size", [8, 16])
def test_without_labels_the_distance_grows_with_every_corruption(size: int) -> None:
    extractor, reals, test = Domain(), Unlabelled(size), Unlabelled(size, "test")
    extractor.bind("plain", reals)
    labels = Digits(split="test", size=size).read(torch.arange(len(test)))[1]

    def distance(images: Tensor) -> float:
        features = (
            torch.cat([extractor(some)["pre128"] for some in each.split(250)]) for each in (reals.images, images)
        )
        return scores(FIDDomain(), *features)["fid-domain"]

    undamaged = distance(test.images)
    repeated = reals.images[torch.arange(len(test)) % 30]
    for damaged in (
        [corruptions.add_noise(test.images, deviation) for deviation in corruptions.NOISES],
        [corruptions.blur(test.images, width) for width in corruptions.BLURS],
        [test.images[labels >= missing] for missing in (1, 3, 5)],
        [repeated],
        [corruptions.uniform_noise(test.images)],
    ):
        values = [undamaged, *map(distance, damaged)]
        assert values == sorted(set(values)), values


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_features_are_computed_in_float32_whatever_the_caller_allows(digits: Domain, precision: str) -> None:
    """On a CPU without bfloat16 the features would be the same anyway, so the settings inside are looked at too."""
    images, before, seen = some_digits(), digits(some_digits())["pre128"], []
    matmul, conv = torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv
    watch = digits.network.register_forward_hook(
        lambda *given: seen.append((matmul.fp32_precision, conv.fp32_precision))
    )
    try:
        torch.set_float32_matmul_precision(precision)
        allowed = matmul.fp32_precision
        assert torch.equal(digits(images)["pre128"], before)
        assert seen == [("ieee", "ieee")]
        assert (torch.get_float32_matmul_precision(), matmul.fp32_precision) == (precision, allowed)
    finally:
        torch.set_float32_matmul_precision("highest")
        watch.remove()


@pytest.mark.parametrize(
    ("images", "given"),
    [
        (torch.zeros(2, 1, 16, 16), "float32"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), r"\(2, 3, 16, 16\)"),
        (torch.zeros(16, 16, dtype=torch.uint8), r"\(16, 16\)"),
    ],
)
def test_images_it_does_not_take(digits: Domain, images: Tensor, given: str) -> None:
    with pytest.raises(ganzoo.GanzooError, match=f"takes uint8 images .N, 1, H, W., not .*{given}"):
        digits(images)


@pytest.mark.parametrize("extractor", [Domain(), Inception()], ids=["domain", "inception"])
def test_unbound_it_says_so(extractor: ganzoo.Extractor) -> None:
    with pytest.raises(ganzoo.GanzooError, match="call bind"):
        extractor(torch.zeros(2, 1, 16, 16, dtype=torch.uint8))


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception_weights.write(tmp_path_factory.mktemp("inception") / "random.pth")


@pytest.fixture(scope="module")
def random_inception(weights_file: Path) -> Inception:
    random_state = torch.get_rng_state()
    extractor = Inception(weights=str(weights_file))
    extractor.bind("digits", Digits())
    assert torch.equal(torch.get_rng_state(), random_state)
    return extractor


def bytes_at_random(count: int, channels: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 12, 14), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_features_are_those_of_torch_fidelity(
    random_inception: Inception, weights_file: Path, channels: int
) -> None:
    images = bytes_at_random(3, channels)
    reference = FeatureExtractorInceptionV3("reference", list(LAYERS), str(weights_file))
    expected = dict(zip(LAYERS, reference(images.repeat(1, 3 // channels, 1, 1)), strict=True))
    nn.Sequential(random_inception).train()
    with torch.autocast("cpu", torch.bfloat16):
        features = random_inception(images)
    assert {layer: value.shape[1] for layer, value in features.items()} == random_inception.layers
    for layer, value in features.items():
        torch.testing.assert_close(value, expected[layer], rtol=1e-6, atol=0.0)


def test_in_bfloat16_they_are_others_and_say_so(random_inception: Inception, weights_file: Path) -> None:
    bf16 = Inception(weights=str(weights_file), precision="bf16")
    bf16.bind("digits", Digits())
    assert (random_inception.precision, bf16.precision) == ("fp32", "bf16")
    assert bf16.digest != random_inception.digest
    assert bf16.preprocessing == random_inception.preprocessing + ", batch norms folded, network in bfloat16"
    images = bytes_at_random(3, 1)
    plain, features = random_inception(images), bf16(images)
    assert {value.dtype for value in features.values()} == {torch.float32}
    for layer, value in features.items():
        assert 1e-4 < float((value - plain[layer]).norm() / plain[layer].norm()) < 0.02, layer


@pytest.mark.slow
def test_where_nothing_can_be_compiled_the_digest_says_so(weights_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys, torch; sys.path[:0] = ['tests', 'tests/evaluation']\n"
        "from test_extractors import Digits, Inception, bytes_at_random\n"
        "plain, other = (Inception(weights=sys.argv[1], precision='bf16', compile=flag) for flag in (False, True))\n"
        "plain.bind('digits', Digits()); other.bind('digits', Digits())\n"
        "images = bytes_at_random(2, 1)\n"
        "print(plain.digest == other.digest, torch.equal(plain(images)['64'], other(images)['64']))"
    )
    environment = os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(weights_file)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split() == ["True", "True"], done.stderr
    assert done.stderr.count("The Inception network is not compiled") == 1


@pytest.mark.slow
def test_compiled_it_takes_any_number_of_images(weights_file: Path) -> None:
    pytest.importorskip("torch._inductor")
    plain, compiled = (Inception(weights=str(weights_file), compile=flag) for flag in (False, True))
    for extractor in (plain, compiled):
        extractor.bind("digits", Digits())
    if not compiled.preprocessing.endswith(", compiled"):
        pytest.skip("nothing can be compiled here")
    assert compiled.digest != plain.digest
    images = bytes_at_random(35, 1)
    expected, features = plain(images), compiled(images)
    for layer, value in features.items():
        assert value.shape == expected[layer].shape
        assert float((value - expected[layer]).norm() / expected[layer].norm()) < 2e-6, layer


def test_fid_is_that_of_torchmetrics_and_torch_fidelity(random_inception: Inception, weights_file: Path) -> None:
    reals, fakes = bytes_at_random(5, 3), bytes_at_random(5, 3, seed=1) // 2
    features = {kind: random_inception(images)["64"] for kind, images in (("real", reals), ("fake", fakes))}
    score = scores(FID(layer="64"), features["real"], features["fake"])["fid"]

    metric = FrechetInceptionDistance(64, antialias=False, feature_extractor_weights_path=str(weights_file))
    metric.update(reals, real=True)
    metric.update(fakes, real=False)
    assert score == pytest.approx(float(metric.compute()), rel=1e-6)

    statistics = [fid_features_to_statistics(value) for value in features.values()]
    (reference,) = fid_statistics_to_metric(*statistics, verbose=False).values()
    assert score == pytest.approx(reference, rel=1e-6)


def test_antialias_is_the_default_of_torchmetrics(weights_file: Path, random_inception: Inception) -> None:
    extractor = Inception(weights=str(weights_file), antialias=True)
    extractor.bind("digits", Digits())
    images = bytes_at_random(2, 3)
    theirs = FrechetInceptionDistance(64, feature_extractor_weights_path=str(weights_file)).inception(images)
    ours = extractor(images)["64"]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0.0)
    assert not torch.allclose(ours, random_inception(images)["64"], rtol=1e-3)
    assert extractor.digest != random_inception.digest


def test_weights_named_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    weights_file: Path,
    random_inception: Inception,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GANZOO_INCEPTION_WEIGHTS", str(weights_file))
    extractor = Inception()
    extractor.bind("digits", Digits())
    assert extractor.digest == random_inception.digest
    (note,) = capsys.readouterr().err.splitlines()
    assert f"{weights_file} is not the published file of Inception weights" in note

    weights = torch.load(weights_file, weights_only=True)
    weights["fc.bias"][0] += 1
    old_format = tmp_path / "changed.pth"
    torch.save(weights, old_format, _use_new_zipfile_serialization=False)
    changed = Inception(weights=str(old_format))  # what is named beats the environment
    changed.bind("digits", Digits())
    assert changed.digest != random_inception.digest


class Touch:
    """A pickle that runs code when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_file_that_holds_no_weights(tmp_path: Path) -> None:
    path, proof = tmp_path / "weights.pth", tmp_path / "code was run"
    for content in (b"", b"not weights", pickle.dumps(Touch(proof), 2), pickle.dumps({"fc.weight": 1}, 2)):
        path.write_bytes(content)
        with pytest.raises(ganzoo.GanzooError, match="does not hold the weights of the FID Inception-v3"):
            Inception(weights=str(path)).bind("digits", Digits())
    for value in ([torch.zeros(1)], {"fc.weight": torch.zeros(1008, 2048)}, {"fc.weight": 1}):
        torch.save(value, path)
        with pytest.raises(ganzoo.GanzooError, match="does not hold the weights of the FID Inception-v3"):
            Inception(weights=str(path)).bind("digits", Digits())
    assert not proof.exists()
    with pytest.raises(ganzoo.GanzooError, match="cannot be read"):
        Inception(weights=str(tmp_path / "absent.pth")).bind("digits", Digits())


def test_a_cached_file_with_another_digest_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights_file: Path
) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    path = tmp_path / "inception" / inception.URL.rpartition("/")[2]
    path.parent.mkdir()
    path.write_bytes(weights_file.read_bytes())
    with pytest.raises(ganzoo.GanzooError, match=f"its sha256 is .* and should be {inception.SHA256}: move it"):
        Inception().bind("digits", Digits())


def test_without_a_network_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    start = time.perf_counter()
    with pytest.raises(ganzoo.GanzooError) as error:
        Inception().bind("digits", Digits())
    assert time.perf_counter() - start < 5
    for word in ("Connection refused", inception.URL, "GANZOO_INCEPTION_WEIGHTS", "fid-domain", "offline"):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_may_come_from_a_mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights_file: Path) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GANZOO_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror/inception").mkdir(parents=True)
    content = weights_file.read_bytes()
    name = inception.URL.rpartition("/")[2]
    (tmp_path / "mirror/inception" / name).write_bytes(content)
    monkeypatch.setattr(inception, "SIZE", len(content))
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(content).hexdigest())
    Inception().bind("digits", Digits())
    assert (tmp_path / "cache/inception" / name).read_bytes() == content


def test_offline_the_message_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    with pytest.raises(ganzoo.GanzooError) as error:
        Inception().bind("digits", Digits())
    for word in ("nothing is fetched here (GANZOO_OFFLINE)", "--inception-weights", "fid-domain"):
        assert word in str(error.value)
    assert list(tmp_path.iterdir()) == []
