"""ganzoo: a zoo of generative adversarial networks.

    import ganzoo
    run = ganzoo.train("dcgan-tutorial", "digits", epochs=5)
    run.sample(16).save("samples.png")

These names are public: the Python API, and the contract for authors of plugins. Each is imported when it is first used,
so that `import ganzoo` does not import torch. `__init__.pyi` has the same names for type checkers.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: module below ganzoo -> the public names that it defines
_HOMES = {
    "api.convert": "convert",
    "api.experiments": "benchmark speedrun",
    "api.hub": "pull push",
    "api.imports": "import_checkpoint",
    "api.interrupt": "TrainingInterrupted",
    "api.parts": "list show",
    "api.plots": "plot",
    "api.recipes": "plan",
    "api.recommend": "recommend",
    "api.report": "compare report",
    "api.runs": "runs",
    "api.train": "train",
    "api.merging": "merge",
    "api.tuning": "tune",
    "api.watch": "watch",
    "api.functions": "evaluate export load resume sample",
    "api.trained_run": "TrainedRun",
    "contract.choice": "Amount Choice",
    "contract.components": "Architecture Augmentation Dataset Evaluator Extractor Loss Observer Optimizer Origin Score "
    "SeparableLoss",
    "contract.errors": "GanzooError RefusedSpec UsageError",
    "contract.hooks": "API_VERSION Command Component Moment Pretrained TrainingProgress hookimpl",
    "contract.foreign": "ForeignFile ForeignWeights",
    "contract.images": "ImageSpec resize to_range to_uint8",
    "contract.launcher": "EndedJob Job LaunchRequest Launcher",
    "contract.paths": "cache_dir data_dir",
    "contract.recipe": "Recipe",
    "contract.round": "Round",
    "contract.run_view": "RunView",
    "contract.suited": "Suited",
    "server.pages": "explore serve",
    "storage.download": "Archive",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
# `from ganzoo import *` must not replace the builtin `list`
__all__ = sorted(_HOME_OF.keys() - {"list"})  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("torch-ganzoo")
    if name not in _HOME_OF:
        from ganzoo.contract.errors import did_you_mean

        raise AttributeError(f"module 'ganzoo' has no attribute {name!r}.{did_you_mean(name, _HOME_OF)}")
    value = getattr(import_module(f"ganzoo.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*_HOME_OF, "__version__"]
