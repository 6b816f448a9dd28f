"""ganzoo: a zoo of generative adversarial networks. This is the door for plugin authors: all they need is here.

Names are resolved when first used, so that `import ganzoo` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.contract.choice import Amount as Amount
    from ganzoo.contract.choice import Choice as Choice
    from ganzoo.contract.components import Architecture as Architecture
    from ganzoo.contract.components import Augmentation as Augmentation
    from ganzoo.contract.components import Dataset as Dataset
    from ganzoo.contract.components import Evaluator as Evaluator
    from ganzoo.contract.components import Extractor as Extractor
    from ganzoo.contract.components import Loss as Loss
    from ganzoo.contract.components import Observer as Observer
    from ganzoo.contract.components import Optimizer as Optimizer
    from ganzoo.contract.components import Origin as Origin
    from ganzoo.contract.components import Score as Score
    from ganzoo.contract.components import SeparableLoss as SeparableLoss
    from ganzoo.contract.errors import GanzooError as GanzooError
    from ganzoo.contract.errors import RefusedSpec as RefusedSpec
    from ganzoo.contract.errors import UsageError as UsageError
    from ganzoo.contract.hooks import API_VERSION as API_VERSION
    from ganzoo.contract.hooks import Command as Command
    from ganzoo.contract.hooks import Component as Component
    from ganzoo.contract.hooks import Moment as Moment
    from ganzoo.contract.hooks import TrainingProgress as TrainingProgress
    from ganzoo.contract.hooks import hookimpl as hookimpl
    from ganzoo.contract.images import ImageSpec as ImageSpec
    from ganzoo.contract.images import resize as resize
    from ganzoo.contract.images import to_range as to_range
    from ganzoo.contract.images import to_uint8 as to_uint8
    from ganzoo.contract.paths import cache_dir as cache_dir
    from ganzoo.contract.paths import data_dir as data_dir
    from ganzoo.contract.recipe import Recipe as Recipe
    from ganzoo.contract.round import Round as Round
    from ganzoo.contract.run_view import RunView as RunView
    from ganzoo.storage.download import Archive as Archive

#: module of ganzoo -> the names it defines
_HOMES = {
    "contract.choice": "Amount Choice",
    "contract.components": "Architecture Augmentation Dataset Evaluator Extractor Loss Observer Optimizer Origin Score "
    "SeparableLoss",
    "contract.errors": "GanzooError RefusedSpec UsageError",
    "contract.hooks": "API_VERSION Command Component Moment TrainingProgress hookimpl",
    "contract.images": "ImageSpec resize to_range to_uint8",
    "contract.paths": "cache_dir data_dir",
    "contract.recipe": "Recipe",
    "contract.round": "Round",
    "contract.run_view": "RunView",
    "storage.download": "Archive",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("torch-ganzoo")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ganzoo' has no attribute {name!r}")
    value = getattr(import_module(f"ganzoo.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
