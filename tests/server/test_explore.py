"""ganzoo explore: images as functions of a view, the strongest directions, walks, neighbours, files to keep."""

from __future__ import annotations

import base64
import io
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ZOO, ganzoo
from PIL import Image
from torch import nn

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.results.latents import is_gaussian, truncated
from ganzoo.results.sample import draw_images, sample_latents
from ganzoo.server import running
from ganzoo.server.explorer import Explorer
from ganzoo.server.latent_space import strongest_directions, walk
from ganzoo.server.view import Point, View

testclient = pytest.importorskip("starlette.testclient", reason="needs the extra `serve`, and httpx")
_CPU = torch.device("cpu")
_BRIGHTNESS = """
import ganzoo

class Brightness(ganzoo.Extractor):
    layers = {"mean": 1}
    digest = "0"

    def forward(self, images):
        return {"mean": images.float().mean(dim=(1, 2, 3))[:, None]}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional run with Gaussian latents and three generators."""
    path = tmp_path_factory.mktemp("runs") / "plain"
    given = ("--steps", 6, "--checkpoint-every", "2 steps", "--seed", 3, "-q", "--out", path)
    done = ganzoo("train", "mlp-keras-gan", "digits:size=8", *given)
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional run with uniform latents."""
    path = tmp_path_factory.mktemp("runs") / "with classes"
    done = ganzoo("train", "cgan", "digits:size=8", "--steps", 3, "-q", "--out", path)
    assert done.exit_code == 0, done.output
    return path


def _client(path: Path, extractor: Choice | None = None) -> Any:
    from ganzoo.server.explore import ExploreApp
    from ganzoo.server.running import guarded

    explorer = Explorer(path, ZOO, _CPU, False, print)
    app = ExploreApp(explorer, extractor).starlette()
    return testclient.TestClient(guarded(app, "127.0.0.1", ()), base_url="http://127.0.0.1:8430")


@pytest.fixture(scope="module")
def client(run: Path) -> Any:
    return _client(run)


@pytest.fixture(scope="module")
def class_client(classes: Path) -> Any:
    return _client(classes)


def _get(client: Any, path: str, status: int = 200, **parameters: Any) -> Any:
    answer = client.get(path, params=parameters)
    assert answer.status_code == status, answer.text
    return answer


def _pixels(client: Any, *views: str) -> np.ndarray:
    """The images (N, H, W) of views."""
    images = _get(client, "/images.json", view=list(views)).json()["images"]
    return np.stack([_image(each["image"]) for each in images])


def _image(address: str) -> np.ndarray:
    assert address.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


# --- images ---


def test_the_run(client: Any, run: Path) -> None:
    facts = _get(client, "/run.json").json()
    assert facts["run"] == str(run)
    assert facts["classes"] == []
    assert facts["gaussian"] is True
    assert facts["spaces"] == ["pixels"]
    saved = [int(file.stem) for file in sorted((run / "generators").glob("*.safetensors"))]
    assert [each["images"] for each in facts["generators"]] == saved
    assert len(saved) == 3
    assert all(each["epoch"] > 0 for each in facts["generators"])
    shares = facts["directions"]["shares"]
    assert len(shares) == 10
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) < 1.001
    assert _get(client, "/generators.json").json() == {"generators": facts["generators"]}


def test_a_seed_is_the_sample_of_that_seed(client: Any, run: Path) -> None:
    trained = Explorer(run, ZOO, _CPU, False, print).generator(None)
    for seed in (0, 7, 123456789):
        expected = draw_images(trained, 1, 1, seed)[0][0, 0].numpy()
        assert (_pixels(client, f"point={seed}")[0] == expected).all()
    several = _pixels(client, "point=1", "point=2", "point=1")
    assert (several[0] == several[2]).all()
    assert (several[0] != several[1]).any()


def test_the_generator_at_every_moment(client: Any, run: Path) -> None:
    saved = [each["images"] for each in _get(client, "/generators.json").json()["generators"]]
    images = _pixels(client, *(f"point=1&at={at}" for at in saved), "point=1")
    assert (images[0] != images[2]).any()
    assert (images[2] == images[3]).all()
    error = _get(client, "/images.json", 409, view="point=1&at=5").json()["error"]
    assert "no generator saved at 5 images" in error


def test_moves_along_directions(client: Any) -> None:
    still, there, back, away = _pixels(
        client, "point=1", "point=1&move=0:3", "point=1,0:3&move=0:-3", "point=1&move=0:0"
    )
    assert (still != there).any()
    assert np.abs(still.astype(int) - back).max() <= 1
    assert (still == away).all()


def test_truncation(client: Any, class_client: Any) -> None:
    wide, narrow = _pixels(client, "point=1", "point=1&truncation=0.1")
    assert (wide != narrow).any()
    alike = _pixels(client, "point=1&truncation=0.01", "point=2&truncation=0.01").astype(int)
    assert np.abs(alike[0] - alike[1]).max() <= 3
    assert _get(class_client, "/run.json").json()["gaussian"] is False
    error = _get(class_client, "/images.json", 400, view="point=1&truncation=0.5").json()["error"]
    assert "not Gaussian" in error


def test_walks(client: Any) -> None:
    ends = _pixels(client, "point=1", "point=2", "point=3", "point=4")
    two = _pixels(client, "point=1&point=2&along=0", "point=1&point=2&along=1", "point=1&point=2&along=0.5")
    assert (two[0] == ends[0]).all()
    assert (two[1] == ends[1]).all()
    assert (two[2] != ends[0]).any()
    path = "point=1&point=2&point=3"
    three = _pixels(client, f"{path}&along=0.5", f"{path}&along=1")
    assert (three == ends[1:3]).all()
    square = "point=1&point=2&point=3&point=4"
    corners = _pixels(client, *(f"{square}&along={x}&across={y}" for y in (0, 1) for x in (0, 1)))
    assert (corners == ends).all()


def test_classes(class_client: Any, classes: Path) -> None:
    facts = _get(class_client, "/run.json").json()
    assert facts["classes"] == [str(number) for number in range(10)]
    trained = Explorer(classes, ZOO, _CPU, False, print).generator(None)
    images = _pixels(class_client, "point=4&class=7", "point=4")
    assert (images[0] == draw_images(trained, 1, 1, 4, ["7"])[0][0, 0].numpy()).all()
    assert (images[1] == draw_images(trained, 1, 1, 4, ["0"])[0][0, 0].numpy()).all()
    error = _get(class_client, "/images.json", 400, view="point=4&class=10").json()["error"]
    assert error == "class=10 is not below 10, the number of classes of this generator."


# --- files to keep ---


@pytest.mark.parametrize("view", ["point=7", "point=0"])
def test_the_picture_is_the_one_that_its_command_draws(client: Any, view: str, tmp_path: Path) -> None:
    command = _get(client, "/images.json", view=view).json()["images"][0]["command"]
    answer = client.get(f"/picture.png?{view}")
    assert answer.headers["content-disposition"] == f'attachment; filename="seed-{view[6:]}.png"'
    words = shlex.split(command)
    words[-1] = str(tmp_path / words[-1])
    assert ganzoo(*words[1:]).exit_code == 0
    assert (tmp_path / f"seed-{view[6:]}.png").read_bytes() == answer.content


def test_the_picture_of_a_class(class_client: Any, tmp_path: Path) -> None:
    described = _get(class_client, "/images.json", view="point=7&class=3").json()["images"][0]
    assert described["name"] == "seed-7-class-3"
    assert "'" in described["command"]  # the path has a space
    words = shlex.split(described["command"])
    words[-1] = str(tmp_path / words[-1])
    assert ganzoo(*words[1:]).exit_code == 0
    expected = class_client.get("/picture.png?point=7&class=3").content
    assert (tmp_path / "seed-7-class-3.png").read_bytes() == expected


def test_the_latent_of_a_picture_that_no_seed_draws(client: Any, run: Path) -> None:
    view = "point=7&point=8&along=0.25&move=1:2"
    described = _get(client, "/images.json", view=view).json()["images"][0]
    assert described["sample"] is False
    assert "--latents walk-7-8-moved.npy" in described["command"]
    answer = client.get(f"/latents.npy?{view}")
    assert 'filename="walk-7-8-moved.npy"' in answer.headers["content-disposition"]
    latents = torch.from_numpy(np.load(io.BytesIO(answer.content)))
    trained = Explorer(run, ZOO, _CPU, False, print).generator(None)
    drawn = trained.network(latents, torch.zeros(1, dtype=torch.int64))
    shown = _pixels(client, view)[0]
    assert np.abs(((drawn + 1) * 127.5).round()[0, 0].numpy() - shown).max() <= 1
    plain = np.load(io.BytesIO(client.get("/latents.npy?point=7").content))
    assert (plain == sample_latents(trained, 1, 7).numpy()).all()


# --- neighbours ---


def test_nearest_training_images(client: Any, run: Path) -> None:
    found = client.get("/neighbours.json?point=1").json()
    assert found["space"] == "pixels"
    distances = [each["distance"] for each in found["neighbours"]]
    assert len(distances) == 8
    assert distances == sorted(distances)
    generated = _pixels(client, "point=1")[0].astype(float)
    dataset = ZOO.build("datasets", Choice("digits", {"size": 8}), split="train")
    images = dataset.read(torch.arange(len(dataset)))[0][:, 0].numpy()
    differences = np.sqrt(((images - generated) ** 2).mean(axis=(1, 2)))
    first = found["neighbours"][0]
    assert differences.min() == pytest.approx(first["distance"], rel=1e-5)
    assert (images[first["index"]] == _image(first["image"])).all()
    assert "not one of pixels" in client.get("/neighbours.json?point=1&space=inception").json()["error"]


def test_nearest_training_images_by_features(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "brightness.py"
    file.write_text(_BRIGHTNESS)
    client = _client(run, Choice(f"{file}:Brightness"))
    assert _get(client, "/run.json").json()["spaces"] == ["pixels", "brightness.py:Brightness"]
    found = client.get("/neighbours.json?point=1&space=brightness.py:Brightness").json()["neighbours"]
    generated = _pixels(client, "point=1")[0].mean()
    nearest = [abs(_image(each["image"]).mean() - generated) for each in found]
    assert nearest == pytest.approx([each["distance"] for each in found], abs=1e-3)
    assert _client(run, Choice("pixels")).get("/run.json").json()["spaces"] == ["pixels"]


def test_a_dataset_that_is_gone(run: Path, tmp_path: Path) -> None:
    pictures, copy = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    for number in range(12):
        values = np.random.default_rng(number).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(values).save(pictures / f"{number}.png")
    given = ("--steps", 2, "--batch-size", 4, "-q", "--out", copy)
    done = ganzoo("train", "mlp-keras-gan", f"image-folder:path={pictures},size=8,channels=1", *given)
    assert done.exit_code == 0, done.output
    shutil.rmtree(pictures)
    client = _client(copy)
    assert _pixels(client, "point=1").shape == (1, 8, 8)
    assert "pictures" in client.get("/neighbours.json?point=1").json()["error"]


# --- wrong requests ---


@pytest.mark.parametrize(
    "view",
    [
        "",
        "point=",
        "point=x",
        "point=-1",
        "point=1e3",
        "point=1.5",
        "point=9999999999999999",
        "point=1&point=2&point=3&point=4&point=5",
        "point=1&along=2",
        "point=1&along=nan",
        "point=1&along=-0.5",
        "point=1&along=1&along=0",
        "point=1&move=0:inf",
        "point=1&move=99:1",
        "point=1&move=0:21",
        "point=1&move=0",
        "point=1&truncation=0",
        "point=1&truncation=nan",
        "point=1&at=best",
        "point=1&at=../../x",
        "point=1&class=dogs",
        "point=1&colour=red",
        "point=1&point=1%00",
        "point=%ff",
        "&".join(["point=1"] * 40),
    ],
)
def test_wrong_views_get_one_sentence(client: Any, view: str) -> None:
    error = _get(client, "/images.json", 400, view=view).json()["error"]
    assert "\n" not in error
    assert error.endswith(".")
    with pytest.raises(UsageError):
        View.parse(view)


def test_too_many_images(client: Any) -> None:
    assert "1 to 64 images" in _get(client, "/images.json", 400, view=["point=1"] * 65).json()["error"]
    assert "1 to 64 images" in _get(client, "/images.json", 400).json()["error"]
    assert len(_pixels(client, *["point=1"] * 64)) == 64


def test_names_of_files() -> None:
    assert View.parse("point=7").name == "seed-7"
    assert View.parse("point=7&class=3&at=500&truncation=0.5").name == "seed-7-truncation-0.5-class-3-at-500"
    assert View.parse("point=7,0:1&point=8").name == "walk-7-8-moved"
    assert View.parse("point=7,0:1.5,3:-2&move=1:0").points == (Point(7, ((0, 1.5), (3, -2.0))),)


def test_an_image_answers_soon(client: Any) -> None:
    """The times are printed, not asserted: they depend on the machine. docs/explore.md has measured ones."""
    times = []
    for seed in range(50):
        began = time.perf_counter()
        _pixels(client, f"point={seed}&move=0:1,3:2")
        times.append(1000 * (time.perf_counter() - began))
    times.sort()
    sys.stdout.write(f"an image: median {times[25]:.1f} ms, p95 {times[47]:.1f} ms\n")


# --- runs that cannot be explored ---


def test_a_run_without_generators(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "generators")
    done = ganzoo("explore", copy)
    assert done.exit_code == 1
    assert done.output == f"Error: {copy} has no generator saved yet: train it first.\n"


def test_no_run(tmp_path: Path) -> None:
    done = ganzoo("explore", tmp_path)
    assert done.exit_code == 2
    assert "holds no run" in done.output


def test_a_damaged_generator(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    oldest, *_, newest = sorted((copy / "generators").glob("*.safetensors"))
    client = _client(copy)
    oldest.write_bytes(oldest.read_bytes()[:-7] + b"damaged")
    assert "digest" in _get(client, "/images.json", 409, view=f"point=1&at={int(oldest.stem)}").json()["error"]
    assert _pixels(client, "point=1").shape == (1, 8, 8)
    assert _get(client, "/generators.json").json()["generators"][0]["images"] == int(oldest.stem)
    newest.write_bytes(b"nothing")
    done = ganzoo("explore", copy)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {newest} does not fit")
    assert done.output.count("\n") == 1


def test_a_taken_port(run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ganzoo("explore", run, "--port", port)
    assert done.exit_code == 2
    assert done.output == (
        f"Error: Port {port} of 127.0.0.1 is taken: name another by --port, or leave it out to get a free one.\n"
    )


def test_small_answers_are_sent_at_once() -> None:
    """asyncio sets TCP_NODELAY for sockets that are named as TCP; the kernel would hold answers for 40 ms."""
    with running.listen("127.0.0.1", 0, 0) as listener:
        assert (listener.type, listener.proto) == (socket.SOCK_STREAM, socket.IPPROTO_TCP)


def test_without_the_extra(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else object())
    done = ganzoo("explore", run)
    assert done.exit_code == 1
    assert done.output == (
        "Error: `ganzoo explore` needs uvicorn, which is not installed: pip install 'torch-ganzoo[serve]'.\n"
    )


def test_what_is_printed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_server(app: Any, listener: socket.socket, announce: Callable[[str], None], *rest: Any) -> None:
        listener.close()
        announce("http://127.0.0.1:1/")

    monkeypatch.setattr("ganzoo.server.pages.run_server", run_server)
    done = ganzoo("explore", run, "--port", 0)
    assert done.stdout == "http://127.0.0.1:1/\n"
    assert done.stderr == "The page of this run is at this address. Ctrl-C ends it.\n"
    done = ganzoo("explore", run, "--port", 0, "--host", "0.0.0.0")
    assert done.stdout == "http://127.0.0.1:1/\n"
    assert "Warning: with --host 0.0.0.0 everybody who can reach this machine" in done.stderr


# --- the latent space ---


class _Linear(nn.Module):
    """A linear layer with three strong directions; its network is the identity on what follows."""

    def __init__(self, latents: int, features: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(latents, features), nn.Linear(features, 4)
        first = torch.linalg.qr(torch.randn(features, latents, generator=torch.Generator().manual_seed(1)))[0]
        strengths = torch.full((latents,), 0.1)
        strengths[[5, 2, 9]] = torch.tensor([3.0, 2.0, 1.0])
        self.first.weight.data.copy_(first * strengths)

    def forward(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(latents)).view(-1, 1, 2, 2)


class _Latents(Architecture):
    def __init__(self, uniform: bool = False) -> None:
        self.uniform = uniform

    def networks(self, images: ImageSpec) -> tuple[nn.Module, nn.Module]:
        raise NotImplementedError

    def latents(self, count: int, generator: torch.Generator) -> torch.Tensor:
        draw = torch.rand if self.uniform else torch.randn
        return draw(count, 12, generator=generator)


def test_directions_of_a_linear_layer_are_its_singular_vectors() -> None:
    found = strongest_directions(_Linear(12, 30).requires_grad_(False), _Latents(), 1, _CPU)
    assert found.vectors.shape == (10, 12)
    # GANSpace: the principal components of a linear layer are its singular vectors, named from the strongest
    assert found.vectors[:3].abs().argmax(dim=1).tolist() == [5, 2, 9]
    assert found.vectors[:3].gather(1, torch.tensor([[5], [2], [9]])).flatten().tolist() == pytest.approx(
        [1] * 3, abs=0.1
    )
    assert found.shares[:3] == pytest.approx([9 / 14.09, 4 / 14.09, 1 / 14.09], rel=0.15)


def test_gaussian_latents_are_recognised() -> None:
    assert is_gaussian(_Latents())
    assert not is_gaussian(_Latents(uniform=True))
    latents = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0))
    assert float(truncated(latents, 0.5).abs().max()) <= 0.5
    assert (truncated(latents, 8.0) - latents).abs().max() < 1e-3


def test_places_of_a_walk() -> None:
    points = torch.eye(4)
    assert torch.allclose(walk(points[:2], 0.5), torch.tensor([[2**-0.5, 2**-0.5, 0, 0]]))
    assert torch.allclose(walk(points[:3], 0.75), torch.tensor([[0, 2**-0.5, 2**-0.5, 0]]))
    assert torch.allclose(walk(points, 0.5, 0.5), torch.full((1, 4), 0.5))
    assert torch.equal(walk(points[:1], 0.7), points[:1])
