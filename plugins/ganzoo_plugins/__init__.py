"""The parts of torch-ganzoo itself, registered in the same way as those of any plugin.

Nothing here imports torch: a target is the name of a class, whose module is imported when the part is first used. To
write a plugin of your own, copy this file, and name it in pyproject.toml:

    [project.entry-points.ganzoo]
    my-plugin = "my_package"
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import ganzoo

#: kind of part -> name of each part -> module below this package, and class
_PARTS = {
    "architectures": {
        "dcgan-tutorial": "architectures.dcgan_tutorial:DCGANTutorial",
        "dcgan-pytorch": "architectures.dcgan_pytorch:DCGANPyTorch",
        "dcgan-atienza": "architectures.dcgan_atienza:DCGANAtienza",
        "dcgan-atienza-book": "architectures.dcgan_atienza_book:DCGANAtienzaBook",
        "mlp-keras-gan": "architectures.mlp_keras_gan:MLPKerasGAN",
        "mlp-vanilla": "architectures.mlp_vanilla:MLPVanilla",
        "dcgan": "architectures.dcgan:DCGAN",
        "infogan-nets": "architectures.infogan_nets:InfoGANNets",
        "biggan": "architectures.biggan:BigGAN",
        "sngan": "architectures.sngan:SNGAN",
        "sngan-projection": "architectures.sngan_projection:SNGANProjection",
        "wgan-gp": "architectures.wgan_gp:WGANGP",
        "r3gan": "architectures.r3gan:R3GAN",
        "stylegan2": "architectures.stylegan2:StyleGAN2",
        "cgan": "architectures.cgan:CGAN",
        "began": "architectures.began:BEGAN",
    },
    "datasets": {
        "mnist": "datasets.torchvision_sets:MNIST",
        "fashion-mnist": "datasets.torchvision_sets:FashionMNIST",
        "kmnist": "datasets.torchvision_sets:KMNIST",
        "cifar10": "datasets.torchvision_sets:CIFAR10",
        "digits": "datasets.digits:Digits",
        "image-folder": "datasets.image_folder:ImageFolder",
        "npy": "datasets.npy:Npy",
        "shards": "datasets.shards:Shards",
        "huggingface": "datasets.huggingface:HuggingFace",
        "stacked-mnist": "datasets.stacked_mnist:StackedMNIST",
    },
    "losses": {
        "nonsaturating": "losses.nonsaturating:NonSaturating",
        "minimax": "losses.minimax:Minimax",
        "hinge": "losses.hinge:Hinge",
        "least-squares": "losses.least_squares:LeastSquares",
        "wasserstein": "losses.wasserstein:Wasserstein",
        "relativistic": "losses.relativistic:Relativistic",
        "r1": "penalties.zero_centred:R1",
        "r2": "penalties.zero_centred:R2",
        "gradient-penalty": "penalties.gradient_penalty:GradientPenalty",
        "dragan": "penalties.dragan:DRAGAN",
        "path-length": "penalties.path_length:PathLength",
        "lecam": "penalties.lecam:LeCam",
        "cr": "penalties.consistency:CR",
        "bcr": "penalties.consistency:BCR",
        "zcr": "penalties.consistency:ZCR",
        "boundary-equilibrium": "losses.boundary_equilibrium:BoundaryEquilibrium",
    },
    "optimizers": {
        "adam": "optimizers.adam:Adam",
        "keras-adam": "optimizers.keras:KerasAdam",
        "keras-rmsprop": "optimizers.keras:KerasRMSprop",
        "rmsprop": "optimizers.rmsprop:RMSprop",
    },
    "augmentations": {
        "diffaugment": "augmentations.diffaugment:DiffAugment",
        "ada": "augmentations.ada:ADA",
    },
    "extractors": {
        "domain": "extractors.domain:Domain",
        "inception": "extractors.inception:Inception",
        "pixels": "extractors.pixels:Pixels",
        "dinov2": "extractors.backbones:DINOv2",
        "clip": "extractors.backbones:CLIP",
        "swav": "extractors.backbones:SwAV",
    },
    "evaluators": {
        "fid": "evaluators.frechet:FID",
        "fid-domain": "evaluators.frechet:FIDDomain",
        "fd-dinov2": "evaluators.frechet:FDDINOv2",
        "fd-clip": "evaluators.frechet:FDCLIP",
        "fd-swav": "evaluators.frechet:FDSwAV",
        "kid": "evaluators.kernel:KID",
        "kid-domain": "evaluators.kernel:KIDDomain",
        "inception-score": "evaluators.inception_score:InceptionScore",
        "inception-score-domain": "evaluators.inception_score:InceptionScoreDomain",
        "precision-recall": "evaluators.precision_recall:PrecisionRecall",
        "density-coverage": "evaluators.density_coverage:DensityCoverage",
        "mode-coverage": "evaluators.mode_coverage:ModeCoverage",
        "class-accuracy": "evaluators.class_accuracy:ClassAccuracy",
        "memorisation": "evaluators.memorisation:Memorisation",
        "diversity": "evaluators.diversity:Diversity",
        "sliced-wasserstein": "evaluators.sliced_wasserstein:SlicedWasserstein",
    },
    "observers": {
        "csv": "observers.csv:CSV",
        "jsonl": "observers.jsonl:JSONL",
        "tensorboard": "observers.tensorboard:TensorBoard",
        "wandb": "observers.wandb:WandB",
        "mlflow": "observers.mlflow:MLflow",
    },
    "launchers": {
        "local": "launchers.local:Local",
        "ray": "launchers.ray:Ray",
        "slurm": "launchers.slurm:Slurm",
    },
}


@ganzoo.hookimpl
def ganzoo_components() -> Iterator[ganzoo.Component]:
    """Every part of this package, with its kind, its name and its class."""
    for kind, parts in _PARTS.items():
        for name, target in parts.items():
            yield ganzoo.Component(kind, name, f"{__name__}.{target}")


@ganzoo.hookimpl
def ganzoo_pretrained() -> Iterator[ganzoo.Pretrained]:
    """Every trained generator in the folder `pretrained`: NAME/DATASET/card.json and its weights."""
    for name in files(__name__).joinpath("pretrained").iterdir():
        for dataset in name.iterdir() if name.is_dir() else ():
            if dataset.joinpath("card.json").is_file():
                path = f"{name.name}/{dataset.name}"
                yield ganzoo.Pretrained(path, f"{__name__}:pretrained/{path}")
