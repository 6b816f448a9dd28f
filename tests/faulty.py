"""Broken plugins, each with one fault, and the text that the message for the user must contain.

Each is a distribution `faulty-NAME` with one module, `faulty_NAME.py`. The comment `WHERE` marks the line that the
message must name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Fault:
    """One broken distribution."""

    name: str
    #: the kind of its entry point; "" for a module with hooks
    group: str
    #: the source of its module
    text: str
    #: text that must be on stderr, beside distribution, version, part, and the line marked WHERE
    expected: Sequence[str]
    #: exit status of the command that uses it
    status: int = 1
    #: the name in its entry point
    attribute: str = "Part"
    #: more lines of entry_points.txt
    more: str = ""
    #: whether the module exists
    written: bool = True

    @property
    def distribution(self) -> str:
        return f"faulty-{self.name}"

    @property
    def module(self) -> str:
        return f"faulty_{self.name.replace('-', '_')}"

    def line(self) -> int:
        """The number of the marked line; 0 without one."""
        return next((n for n, line in enumerate(self.text.splitlines(), 1) if "WHERE" in line), 0)

    def install(self, folder: Path) -> None:
        """Write its files as a package manager does."""
        info = folder / f"{self.module}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.distribution}\nVersion: 1.2.3\n")
        group = f"ganzoo.{self.group}" if self.group else "ganzoo"
        target = f"{self.module}:{self.attribute}" if self.group else self.module
        (info / "entry_points.txt").write_text(f"[{group}]\n{self.name} = {target}\n{self.more}")
        if self.written:
            (folder / f"{self.module}.py").write_text(self.text)


LOSS = """import ganzoo
import torch
{top}

class Part(ganzoo.Loss):
    '''A loss.'''
{init}
    def discriminator(self, round):
        return {cost}

    def generator(self, round):
        return round.fake_logits.mean()
"""


def loss(
    name: str,
    expected: Sequence[str],
    top: str = "",
    init: str = "",
    cost: str = "round.real_logits.mean()",
    status: int = 1,
    more: str = "",
) -> Fault:
    init = "".join(f"    {line}\n" for line in init.splitlines())
    return Fault(name, "losses", LOSS.format(top=top, init=init, cost=cost), expected, status, more=more)


NETWORKS = """import ganzoo
import torch
from torch import nn

class Part(ganzoo.Architecture):
    '''Two layers.'''

    def networks(self, images):
        return Generator(images), Discriminator(images)

    def latents(self, count, generator):
        return torch.randn(count, 4, generator=generator, device=generator.device){latents}


class Generator(nn.Module):
    def __init__(self, images):
        super().__init__()
        self.shape = (images.channels, images.height, images.width)
        self.layer = nn.Linear(4, images.pixels)

    def forward(self, latents, labels):
        images = self.layer(latents).tanh().view(-1, *self.shape)
        return {images}


class Discriminator(nn.Module):
    def __init__(self, images):
        super().__init__()
        self.layer = nn.Linear(images.pixels, 1)

    def forward(self, images, labels):
        logits = self.layer(images.flatten(1))
        return {logits}
"""


def networks(
    name: str,
    expected: Sequence[str],
    images: str = "images",
    logits: str = "logits",
    latents: str = "",
    status: int = 1,
) -> Fault:
    text = NETWORKS.format(images=images, logits=logits, latents=latents)
    return Fault(name, "architectures", text, expected, status)


DATASET = """import ganzoo
import torch

class Part(ganzoo.Dataset):
    '''Noise.'''

    spec = ganzoo.ImageSpec(channels=1, height=8, width=8, classes=2)

    def __init__(self, *, split: str = "train"):
        pass

    def __len__(self):
        return 40

    def read(self, indices):
        images = torch.randint(256, (len(indices), 1, 8, 8), dtype=torch.uint8)
        return {read}
"""


def dataset(name: str, expected: Sequence[str], read: str) -> Fault:
    return Fault(name, "datasets", DATASET.format(read=read), expected)


OBSERVER = """import ganzoo
import torch

class Part(ganzoo.Observer):
    '''Does nothing.'''

    @ganzoo.hookimpl
    def {hook}(self, {arguments}):
        {body}
"""

HOOKS = {
    "on_run_start": "run",
    "on_tick": "run, progress, scalars",
    "on_samples": "run, progress, path",
    "on_checkpoint": "run, progress, path",
    "on_score": "run, progress, scores",
    "on_run_end": "run, error",
}


def observer(name: str, expected: Sequence[str], hook: str, body: str, status: int = 1, arguments: str = "") -> Fault:
    text = OBSERVER.format(hook=hook, arguments=arguments or HOOKS.get(hook, "run"), body=body)
    return Fault(name, "observers", text, expected, status)


EXTRACTOR = """import ganzoo
import torch

class Part(ganzoo.Extractor):
    '''Pixels.'''

    layers = {{"pixels": 64}}
    digest = "pixels"

    def forward(self, images):
        return {features}
"""

EVALUATOR = """import ganzoo
import torch

class Part(ganzoo.Evaluator):
    '''Counts.'''

    extractor = "plain-pixels"
    layer = "pixels"
    scores = {{"count": ganzoo.Score("higher")}}

    def reset(self, dimensions, device):
        self.count = 0

    def update(self, features, labels, origin):
        self.count += len(features)

    def compute(self):
        return {scores}
"""


def evaluator(name: str, expected: Sequence[str], scores: str) -> Fault:
    return Fault(name, "evaluators", EVALUATOR.format(scores=scores), expected)


def extractor(name: str, expected: Sequence[str], features: str) -> Fault:
    return Fault(name, "extractors", EXTRACTOR.format(features=features), expected)


PUT_BACK = "that was put back"

IMPORTS = [
    loss("import-error", ["cannot be loaded: ModuleNotFoundError: No module named 'no_such_library'"],
         top="import no_such_library  # WHERE"),
    loss("syntax-error", ["SyntaxError:"], top="def f(:  # WHERE"),
    loss("system-exit", ["cannot be loaded: SystemExit: 3"], top="raise SystemExit(3)  # WHERE"),
    loss("base-exception", ["cannot be loaded: GeneratorExit"], top="raise GeneratorExit  # WHERE"),
    loss("other-api", ["written for version 99 of the contract", "install a newer release of torch-ganzoo"],
         top="ganzoo_api = 99"),
    Fault("missing-module", "losses", "", ["No module named 'faulty_missing_module'"], written=False),
    Fault("missing-attribute", "losses", LOSS.format(top="", init="", cost="0"), ["has no attribute 'Gone'"],
          attribute="Gone"),
    Fault("wrong-base", "losses", "class Part:  # WHERE\n    '''A loss.'''\n", ["is not a ganzoo.Loss"]),
    Fault("no-class", "losses", "def Part():  # WHERE\n    pass\n", ["is not a ganzoo.Loss"]),
    Fault("incomplete", "losses",
          "import ganzoo\nclass Part(ganzoo.Loss):  # WHERE\n    def discriminator(self, round): return 0\n",
          ["is not complete: it does not define generator"]),
]  # fmt: skip

CHANGES = [
    loss("slow", ["CPU time to import"],
         top="import time; end = time.thread_time() + 0.4\nwhile time.thread_time() < end: pass", status=0),
    loss("prints", ["prints when it is imported: '{\"not\": \"facts\"}'"],
         top="print('{\"not\": \"facts\"}')", status=0),
    loss("default-dtype", ["torch's default dtype from torch.float32 to torch.float64", PUT_BACK],
         top="torch.set_default_dtype(torch.float64)", status=0),
    loss("default-device", ["torch's default device from cpu to meta", PUT_BACK],
         top="torch.set_default_device('meta')", status=0),
    loss("random-state", ["torch's random state", "Python's random state", "NumPy's random state", PUT_BACK],
         top="import random, numpy; torch.manual_seed(7); random.seed(7); numpy.random.seed(7)", status=0),
    loss("threads", ["torch's number of threads from", PUT_BACK],
         top="torch.set_num_threads(torch.get_num_threads() + 1)", status=0),
    loss("gradients-off", ["torch's gradient mode from True to False", PUT_BACK],
         top="torch.set_grad_enabled(False)", status=0),
    loss("deterministic", ["torch's deterministic mode", "cudnn.benchmark", PUT_BACK],
         top="torch.use_deterministic_algorithms(True); torch.backends.cudnn.benchmark = True", status=0),
    loss("signals", ["the handler of SIGTERM", "the handler of SIGINT", PUT_BACK],
         top="import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGINT)]", status=0),
    loss("directory", ["the working directory from", PUT_BACK], top="import os; os.chdir('/')", status=0),
    loss("environment", ["the environment (GANZOO_DATA, GANZOO_FOO, PATH)", PUT_BACK],
         top="import os; os.environ.update(GANZOO_DATA='/x', GANZOO_FOO='1', PATH='/x')", status=0),
    loss("constructor-settings", ["torch's default dtype", PUT_BACK],
         init="def __init__(self):\n    super().__init__()\n    torch.set_default_dtype(torch.float64)", status=0),
    observer("hook-settings", ["torch's number of threads", PUT_BACK], "on_run_start",
             "torch.set_num_threads(torch.get_num_threads() + 1)", status=0),
]  # fmt: skip

SIGNATURES = [
    loss("positional", ["breaks the contract: Part: 'gamma' must be keyword-only"],
         init="def __init__(self, gamma: float = 1.0):\n    super().__init__()"),
    loss("untyped", ["breaks the contract: Part: 'gamma' has no type"],
         init="def __init__(self, *, gamma=1.0):\n    super().__init__()"),
    loss("no-default", ["breaks the contract: Part: 'gamma' must be keyword-only and have a default"],
         init="def __init__(self, *, gamma: float):\n    super().__init__()"),
    loss("odd-type", ["breaks the contract: Part: option 'gamma' must be an int, float, str, bool or Literal"],
         init="def __init__(self, *, gamma: list = ()):\n    super().__init__()"),
    loss("constructor", ["cannot be made: ZeroDivisionError: division by zero"],
         init="def __init__(self):\n    1 / 0  # WHERE"),
    observer("unknown-hook", ["unknown hook 'on_tik'", "Did you mean 'on_tick'"], "on_tik", "pass"),
    observer("unknown-argument", ["'game'"], "on_tick", "pass", arguments="run, game"),
]  # fmt: skip

HOOK_FAULTS = [
    observer(f"raises-{hook.replace('_', '-')}", [f"failed in {hook}: ZeroDivisionError: division by zero"], hook,
             "1 / 0  # WHERE")
    for hook in HOOKS
] + [observer("exits", ["failed in on_tick: SystemExit: 0"], "on_tick", "raise SystemExit(0)  # WHERE")]  # fmt: skip

BREAKS = "breaks the contract: "
FIRST_STEP = [
    networks("images-shape", [f"{BREAKS}its generator's images are (4, 1, 7, 8), not (4, 1, 8, 8)"],
             images="images[:, :, 1:]"),
    networks("images-infinite", [f"{BREAKS}its generator's images are not finite"], images="images / 0"),
    networks("images-dtype", [f"{BREAKS}its generator's images are torch.int32, not floating"], images="images.int()"),
    networks("images-device", [f"{BREAKS}its generator's images are on the device meta, not cpu"],
             images="images.to('meta')"),
    networks("pinned", ["failed in its generator: RuntimeError"],
             images="images + torch.ones(2, device='meta')  # WHERE"),
    networks("logits-shape", [f"{BREAKS}its discriminator's logits are (), not (4, ...)"], logits="logits.mean()"),
    networks("logits-batch", [f"{BREAKS}its discriminator's logits are (3, 1), not (4, ...)"], logits="logits[1:]"),
    networks("logits-tuple", [f"{BREAKS}its discriminator's logits are tuple, not a tensor"], logits="logits, logits"),
    networks("latents-count", [f"{BREAKS}its latents are (3, 4), not (4, ...)"], latents="[1:]"),
    networks("latents-shape", ["failed in its generator: RuntimeError: "], latents="[:, 1:]"),
    loss("loss-nan", [f"{BREAKS}discriminator gives nan for the first round"],
         cost="round.real_logits.mean() * float('nan')"),
    loss("loss-vector", [f"{BREAKS}discriminator gives torch.float32 (4, 1), not a scalar tensor"],
         cost="round.real_logits"),
    loss("loss-number", [f"{BREAKS}discriminator gives float, not a scalar tensor"], cost="3.0"),
    loss("loss-raises", ["failed in discriminator: ZeroDivisionError: division by zero"], cost="1 / 0  # WHERE"),
    Fault("augmentation-shape", "augmentations",
          "import ganzoo\nclass Part(ganzoo.Augmentation):\n    '''Crops.'''\n"
          "    def forward(self, images): return images[:, :, 1:]\n", [f"{BREAKS}its images are (4, 1, 7, 8)"]),
    Fault("optimizer-number", "optimizers",
          "import ganzoo, torch\nclass Part(ganzoo.Optimizer):\n    '''Adam.'''\n"
          "    def build(self, parameters): return torch.optim.Adam(parameters, lr=0.1)\n"
          "    def learning_rate(self, images_seen): return 0.1\n",
          [f"{BREAKS}the learning rate of the optimizer it builds is a number"]),
]  # fmt: skip

DATA = [
    dataset("data-float", [f"{BREAKS}it reads images of torch.float32"], "images / 255, indices % 2"),
    dataset("data-labels", [f"{BREAKS}it reads the label 2; its labels are 0..1"], "images, indices % 3"),
    dataset("data-label-type", [f"{BREAKS}it reads labels of torch.float32"], "images, (indices % 2).float()"),
    dataset("data-shape", [f"{BREAKS}it reads images of torch.uint8 (16, 1, 7, 8)"], "images[:, :, 1:], indices % 2"),
    dataset("data-count", [f"{BREAKS}it reads images of torch.uint8 (15, 1, 8, 8)"], "images[1:], indices[1:] % 2"),
    Fault(
        "data-empty",
        "datasets",
        DATASET.format(read="images, indices % 2").replace("return 40", "return 0"),
        [f"{BREAKS}it has no images"],
    ),
    Fault(
        "data-no-spec",
        "datasets",
        DATASET.format(read="images, indices % 2").replace("    spec =", "    shape ="),
        ["failed in spec and __len__: AttributeError: "],
    ),
    dataset("data-raises", ["failed in read: ZeroDivisionError: division by zero"], "1 / 0  # WHERE"),
]

SCORES = [
    evaluator("score-text", ["computed count = 'many'"], "{'count': 'many'}"),
    evaluator("score-nan", ["computed count = nan"], "{'count': float('nan')}"),
    evaluator("score-unknown", ["returned the scores counts, and declares count"], "{'counts': 1.0}"),
    evaluator("score-bounds", ["computed count = -1.0"], "{'count': -1.0}"),
    evaluator("score-raises", ["ZeroDivisionError: division by zero"], "{'count': 1 / 0}  # WHERE"),
    extractor(
        "features-dimensions",
        ["returned features (500, 63)", "declares 64 numbers an image"],
        "{'pixels': images.flatten(1)[:, 1:].float()}",
    ),
    extractor("features-layer", ["returned nothing for the layer 'pixels'"], "{'pixel': images.flatten(1).float()}"),
    extractor("features-nan", ["not finite"], "{'pixels': images.flatten(1).float() / 0}"),
]

#: prints, which is allowed: the text goes to stderr
TALKS = observer("hook-prints", [], "on_tick", "print('said by a hook')", status=0)

#: modules with hooks, which are imported whenever parts are listed, and wrong entry points
MODULES = [
    Fault("module-error", "", "import no_such_library  # WHERE\n", ["No module named 'no_such_library'"]),
    Fault("module-exit", "", "raise SystemExit(3)  # WHERE\n", ["SystemExit: 3"]),
    Fault("module-hook", "", "import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_component(): return []\n",
          ["unknown hook 'ganzoo_component'"]),
    Fault("module-api", "", "ganzoo_api = 99\nraise RuntimeError('imported')\n", ["written for version 99"]),
    Fault("module-kind", "",
          "import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_components(): return [ganzoo.Component('loses', 'x', 'y:Z')]\n",
          ["kind 'loses' is unknown. Did you mean 'losses'"]),
    loss("name-twice", ["losses: the name 'name-twice' is offered twice"],
         more="name-twice = faulty_name_twice:Other\n"),
    loss("odd-name", ["the name 'Odd_Name' is not made of a-z, 0-9 and single dashes"], more="Odd_Name = x:Y\n"),
    loss("odd-kind", ["the kind 'loses' is unknown"], more="[ganzoo.loses]\nx = y:Z\n"),
]  # fmt: skip

#: faults of parts that are used by name
NAMED = [*IMPORTS, *CHANGES, *SIGNATURES, *HOOK_FAULTS, *FIRST_STEP, *DATA, *SCORES]
ALL = [*NAMED, *MODULES]

#: a correct extractor and evaluator, with which the faulty ones are combined
PLAIN = Fault(
    "plain-pixels",
    "extractors",
    EXTRACTOR.format(features="{'pixels': images.flatten(1).float()}"),
    [],
    more="[ganzoo.evaluators]\nplain-count = faulty_plain_evaluator:Part\n",
)
