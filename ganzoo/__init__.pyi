"""The public names of ganzoo, for type checkers. `__init__.py` imports each of them when it is first used."""

import builtins

from ganzoo.api.convert import convert as convert
from ganzoo.api.experiments import benchmark as benchmark
from ganzoo.api.experiments import speedrun as speedrun
from ganzoo.api.functions import evaluate as evaluate
from ganzoo.api.functions import export as export
from ganzoo.api.functions import load as load
from ganzoo.api.functions import resume as resume
from ganzoo.api.functions import sample as sample
from ganzoo.api.hub import pull as pull
from ganzoo.api.hub import push as push
from ganzoo.api.imports import import_checkpoint as import_checkpoint
from ganzoo.api.interrupt import TrainingInterrupted as TrainingInterrupted
from ganzoo.api.merging import merge as merge
from ganzoo.api.parts import list as list
from ganzoo.api.parts import show as show
from ganzoo.api.plots import plot as plot
from ganzoo.api.recipes import plan as plan
from ganzoo.api.recommend import recommend as recommend
from ganzoo.api.report import compare as compare
from ganzoo.api.report import report as report
from ganzoo.api.runs import runs as runs
from ganzoo.api.train import train as train
from ganzoo.api.trained_run import TrainedRun as TrainedRun
from ganzoo.api.tuning import tune as tune
from ganzoo.api.watch import watch as watch
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
from ganzoo.contract.foreign import ForeignFile as ForeignFile
from ganzoo.contract.foreign import ForeignWeights as ForeignWeights
from ganzoo.contract.hooks import API_VERSION as API_VERSION
from ganzoo.contract.hooks import Command as Command
from ganzoo.contract.hooks import Component as Component
from ganzoo.contract.hooks import Moment as Moment
from ganzoo.contract.hooks import Pretrained as Pretrained
from ganzoo.contract.hooks import TrainingProgress as TrainingProgress
from ganzoo.contract.hooks import hookimpl as hookimpl
from ganzoo.contract.images import ImageSpec as ImageSpec
from ganzoo.contract.images import resize as resize
from ganzoo.contract.images import to_range as to_range
from ganzoo.contract.images import to_uint8 as to_uint8
from ganzoo.contract.launcher import EndedJob as EndedJob
from ganzoo.contract.launcher import Job as Job
from ganzoo.contract.launcher import Launcher as Launcher
from ganzoo.contract.launcher import LaunchRequest as LaunchRequest
from ganzoo.contract.paths import cache_dir as cache_dir
from ganzoo.contract.paths import data_dir as data_dir
from ganzoo.contract.recipe import Recipe as Recipe
from ganzoo.contract.round import Round as Round
from ganzoo.contract.run_view import RunView as RunView
from ganzoo.contract.suited import Suited as Suited
from ganzoo.server.pages import explore as explore
from ganzoo.server.pages import serve as serve
from ganzoo.storage.download import Archive as Archive

__version__: str
__all__: builtins.list[str]

def __dir__() -> builtins.list[str]: ...
