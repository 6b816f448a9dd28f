"""DINOv2, CLIP and SwAV as extractors: files in the published layouts, against forward passes written here."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy
import pytest
import safetensors.torch
import torch
from helpers import ganzoo as run_ganzoo
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import ganzoo
from ganzoo_plugins.datasets.digits import Digits
from ganzoo_plugins.extractors.backbones import CLIP, DINOv2, SwAV

pytest.importorskip("timm", reason="vision transformers are built with timm")

IMAGES = torch.randint(0, 256, (2, 3, 20, 24), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
CLIPS = (torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711]))


def prepared(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    values = functional.interpolate(images.float(), (224, 224), mode="bicubic", antialias=True).round().clamp(0, 255)
    return (values / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


class Weights:
    """Random numbers by name, small enough that activations stay near 1."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)
        self.tensors: dict[str, Tensor] = {}

    def add(self, name: str, *shape: int, around: float = 0.0) -> None:
        fan = shape[-1] if len(shape) == 2 else 400
        self.tensors[name] = around + torch.randn(shape, generator=self.generator) * fan**-0.5


def published_dinov2() -> dict[str, Tensor]:
    """A ViT-S/14 in the layout of dinov2_vits14_pretrain.pth: positions of 37x37 patches."""
    weights, width = Weights(), 384
    for name, shape in {"cls_token": (1, 1, width), "pos_embed": (1, 1370, width), "mask_token": (1, width)}.items():
        weights.add(name, *shape)
    weights.add("patch_embed.proj.weight", width, 3, 14, 14)
    weights.add("patch_embed.proj.bias", width)
    for block in range(12):
        for name, shape in {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (4 * width, width),
                            "mlp.fc2": (width, 4 * width)}.items():  # fmt: skip
            weights.add(f"blocks.{block}.{name}.weight", *shape)
            weights.add(f"blocks.{block}.{name}.bias", shape[0])
        for name in ("norm1", "norm2"):
            weights.add(f"blocks.{block}.{name}.weight", width, around=1.0)
            weights.add(f"blocks.{block}.{name}.bias", width)
        for name in ("ls1", "ls2"):
            weights.add(f"blocks.{block}.{name}.gamma", width, around=0.3)
    weights.add("norm.weight", width, around=1.0)
    weights.add("norm.bias", width)
    return weights.tensors


def dinov2_features(w: dict[str, Tensor], images: Tensor) -> Tensor:
    """The class token of DINOv2's program, written out."""
    x = functional.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=14)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    grid = w["pos_embed"][:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic", antialias=False)
    x = x + torch.cat([w["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).reshape(1, 256, 384)], dim=1)
    for block in range(12):
        b = {name.removeprefix(f"blocks.{block}."): value for name, value in w.items()}
        y = functional.layer_norm(x, (384,), b["norm1.weight"], b["norm1.bias"], 1e-6)
        q, k, v = (functional.linear(y, b["attn.qkv.weight"], b["attn.qkv.bias"])
                   .reshape(len(y), 257, 3, 6, 64).permute(2, 0, 3, 1, 4))  # fmt: skip
        attention = (q @ k.transpose(-1, -2) / 8).softmax(-1) @ v
        y = attention.transpose(1, 2).reshape(len(y), 257, 384)
        x = x + b["ls1.gamma"] * functional.linear(y, b["attn.proj.weight"], b["attn.proj.bias"])
        y = functional.layer_norm(x, (384,), b["norm2.weight"], b["norm2.bias"], 1e-6)
        y = functional.gelu(functional.linear(y, b["mlp.fc1.weight"], b["mlp.fc1.bias"]))
        x = x + b["ls2.gamma"] * functional.linear(y, b["mlp.fc2.weight"], b["mlp.fc2.bias"])
    return functional.layer_norm(x, (384,), w["norm.weight"], w["norm.bias"], 1e-6)[:, 0]


@pytest.fixture(scope="module")
def dinov2_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dinov2") / "dinov2_vits14_pretrain.pth"
    torch.save(published_dinov2(), path)
    return path


def bound(extractor: ganzoo.Extractor) -> ganzoo.Extractor:
    extractor.bind("digits", Digits())
    return extractor


def test_dinov2_has_the_features_of_the_published_program(dinov2_file: Path) -> None:
    extractor = bound(DINOv2(weights=str(dinov2_file), size="small"))
    features = extractor(IMAGES)["features"]
    assert features.shape == (2, 384)
    assert features.dtype == torch.float32
    with torch.no_grad():
        expected = dinov2_features(published_dinov2(), prepared(IMAGES, *IMAGENET))
    torch.testing.assert_close(features, expected, rtol=2e-4, atol=2e-4)
    grey = extractor(IMAGES[:, :1])["features"]
    torch.testing.assert_close(grey, extractor(IMAGES[:, :1].expand(-1, 3, -1, -1))["features"])


def test_a_safetensors_file_of_the_same_weights_has_the_same_features(dinov2_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(published_dinov2(), path)
    one, other = bound(DINOv2(weights=str(path), size="small")), bound(DINOv2(weights=str(dinov2_file), size="small"))
    torch.testing.assert_close(one(IMAGES), other(IMAGES), rtol=0, atol=0)
    assert one.digest != other.digest  # of the file


def published_clip() -> dict[str, Tensor]:
    """A ViT-B-32 in the layout of OpenCLIP, with a part of the text network, which is left out."""
    weights, width = Weights(), 768
    weights.add("visual.class_embedding", width)
    weights.add("visual.positional_embedding", 50, width)
    weights.add("visual.proj", width, 512)
    weights.add("visual.conv1.weight", width, 3, 32, 32)
    for name in ("ln_pre", "ln_post", *(f"transformer.resblocks.{i}.ln_{k}" for i in range(12) for k in (1, 2))):
        weights.add(f"visual.{name}.weight", width, around=1.0)
        weights.add(f"visual.{name}.bias", width)
    for block in range(12):
        prefix = f"visual.transformer.resblocks.{block}"
        weights.add(f"{prefix}.attn.in_proj_weight", 3 * width, width)
        weights.add(f"{prefix}.attn.in_proj_bias", 3 * width)
        for name, shape in {"attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width),
                            "mlp.c_proj": (width, 4 * width)}.items():  # fmt: skip
            weights.add(f"{prefix}.{name}.weight", *shape)
            weights.add(f"{prefix}.{name}.bias", shape[0])
    weights.add("logit_scale")
    weights.add("text_projection", 512, 512)
    return weights.tensors


def clip_embeddings(w: dict[str, Tensor], images: Tensor, quick: bool) -> Tensor:
    """OpenCLIP's encode_image, written out."""

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (768,), w[f"visual.{name}.weight"], w[f"visual.{name}.bias"], 1e-5)

    x = functional.conv2d(images, w["visual.conv1.weight"], stride=32).flatten(2).transpose(1, 2)
    x = torch.cat([w["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1) + w["visual.positional_embedding"]
    x = norm(x, "ln_pre")
    for block in range(12):
        prefix = f"visual.transformer.resblocks.{block}"
        attention = nn.MultiheadAttention(768, 12, batch_first=True).eval()
        names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
        attention.load_state_dict({name: w[f"{prefix}.attn.{name}"] for name in names})
        y = norm(x, f"transformer.resblocks.{block}.ln_1")
        x = x + attention(y, y, y, need_weights=False)[0]
        y = functional.linear(norm(x, f"transformer.resblocks.{block}.ln_2"), w[f"{prefix}.mlp.c_fc.weight"],
                              w[f"{prefix}.mlp.c_fc.bias"])  # fmt: skip
        y = y * torch.sigmoid(1.702 * y) if quick else functional.gelu(y)
        x = x + functional.linear(y, w[f"{prefix}.mlp.c_proj.weight"], w[f"{prefix}.mlp.c_proj.bias"])
    return norm(x[:, 0], "ln_post") @ w["visual.proj"]


@pytest.mark.parametrize("activation", ["gelu", "quickgelu"])
def test_clip_has_the_embeddings_of_the_published_program(activation: str) -> None:
    extractor = CLIP(activation=activation)  # type: ignore[arg-type]
    network, weights = extractor.build(), published_clip()
    network.load_state_dict(extractor.convert(dict(weights), network))  # not by a file: it would have 350 MB
    extractor.network = network.eval()
    features = extractor(IMAGES)["features"]
    assert features.shape == (2, extractor.layers["features"])
    with torch.no_grad():
        expected = clip_embeddings(weights, prepared(IMAGES, *CLIPS), activation == "quickgelu")
    torch.testing.assert_close(features, expected, rtol=5e-4, atol=5e-4)


def test_swav_has_the_features_of_a_resnet_50(tmp_path: Path) -> None:
    from torchvision.models import resnet50

    network = resnet50(weights=None).eval()
    heads = {"projection_head.0.weight": torch.zeros(2, 2), "prototypes.weight": torch.zeros(3, 2)}
    body = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    path = tmp_path / "swav_800ep_pretrain.pth.tar"
    torch.save({f"module.{name}": value for name, value in (body | heads).items()}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    features = bound(SwAV(weights=str(path), sha256=sha256))(IMAGES)["features"]
    network.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(features, network(prepared(IMAGES, *IMAGENET)), rtol=1e-4, atol=1e-5)


def test_a_score_with_them(dinov2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images scored against themselves: 0. The card names the network's file and the resize."""
    small = DINOv2(size="small").build
    monkeypatch.setattr(DINOv2, "_SIZES", {"large": 384})
    monkeypatch.setattr(DINOv2, "build", lambda extractor: small())
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GANZOO_DINOV2_WEIGHTS", str(dinov2_file))
    images = numpy.random.default_rng(0).integers(0, 256, (8, 8, 8), dtype=numpy.uint8)
    numpy.save(tmp_path / "fakes.npy", images)
    (tmp_path / "photos" / "train").mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "photos" / "train" / f"{number}.png")
    given = ("evaluate", tmp_path / "fakes.npy", "--against", tmp_path / "photos", "-e", "fd-dinov2", "--json")
    output = run_ganzoo(*given).stdout
    (score,) = json.loads(output)["scores"]
    assert (score["score"], score["value"]) == ("fd-dinov2", pytest.approx(0, abs=1e-3))
    assert "bicubic to 224x224" in output


def refusal(extractor: ganzoo.Extractor) -> str:
    with pytest.raises(ganzoo.GanzooError) as caught:
        bound(extractor)
    return str(caught.value)


def test_what_is_refused(dinov2_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DINOV2", "CLIP", "SWAV"):
        monkeypatch.delenv(f"GANZOO_{name}_WEIGHTS", raising=False)
    assert "GANZOO_DINOV2_WEIGHTS" in refusal(DINOv2())
    assert "GANZOO_CLIP_WEIGHTS" in refusal(CLIP())
    assert "cannot be read" in refusal(SwAV(weights=str(tmp_path / "absent")))
    assert "have the sha256" in refusal(DINOv2(weights=str(dinov2_file), sha256="0" * 64, size="small"))
    assert "does not hold the weights of SwAV ResNet-50" in refusal(SwAV(weights=str(dinov2_file)))
    assert "does not hold the weights of DINOv2 ViT-base/14" in refusal(DINOv2(weights=str(dinov2_file), size="base"))
    (tmp_path / "text").write_text("not weights")
    assert "not a file of plain tensors" in refusal(DINOv2(weights=str(tmp_path / "text")))
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as archive:  # the layout of torch.jit.save, which newer versions warn of
        archive.writestr("script/data.pkl", "x" * 9000)
        archive.writestr("script/constants.pkl", "")
    assert "TorchScript" in refusal(CLIP(weights=str(script)))
    with pytest.raises(ganzoo.GanzooError, match="no weights yet"):
        SwAV()(IMAGES)
    with pytest.raises(ganzoo.GanzooError, match="takes uint8 images"):
        bound(DINOv2(weights=str(dinov2_file), size="small"))(IMAGES.float())


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch '{tmp_path / 'ran'}'",)

    torch.save({"pos_embed": Bad()}, tmp_path / "bad.pth")
    assert "not a file of plain tensors" in refusal(DINOv2(weights=str(tmp_path / "bad.pth")))
    assert not (tmp_path / "ran").exists()


def test_without_timm(monkeypatch: pytest.MonkeyPatch, dinov2_file: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    assert "torch-ganzoo[backbones]" in refusal(DINOv2(weights=str(dinov2_file), size="small"))
