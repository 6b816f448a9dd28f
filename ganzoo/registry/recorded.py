"""The parts that a run was trained with: its short names mean the distributions that environment.json has recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Dataset, class_names
from ganzoo.contract.errors import GanzooError, sentence
from ganzoo.contract.hooks import KINDS, Component
from ganzoo.contract.recipe import KIND_OF_FIELD
from ganzoo.contract.run_view import RunView
from ganzoo.registry.zoo import Zoo


def recorded_zoo(run: RunView, zoo: Zoo) -> Zoo:
    """The zoo in which a name of the run's recipe is the part that the run was trained with.

    Another distribution that has a part of the same short name is not used. Classes that `zoo` has loaded are shared.
    """
    return _RecordedZoo(run, zoo)


def as_recorded(loaded: type[Any], choice: Choice) -> Choice:
    """A part of a run's recipe with what its missing options meant when the run was recorded.

    A run records all options: those that it does not have were added to the part later.
    """
    return Choice(choice.name, {**getattr(loaded, "former_options", {}), **choice.options})


class _RecordedZoo(Zoo):
    """A zoo that finds a name of one run's recipe by its recorded id, and keeps the recorded numbers of the classes."""

    def __init__(self, run: RunView, zoo: Zoo) -> None:
        vars(self).update(vars(zoo))  # the same registry and loaded classes
        self._run = run
        environment = run.environment
        #: provenance of the recorded parts, by kind and name in the recipe
        self._recorded = {(kind, choice.name): part for kind, choice, part in _recorded_parts(run)}
        self._class_names = [str(name) for name in environment.get("class_names", ())]

    def find(self, kind: str, name: str) -> Component:
        """The recorded part of that name; without one, as in any zoo. Raises GanzooError where it is not installed."""
        recorded = self._recorded.get((kind, name))
        if recorded is None:
            return super().find(kind, name)
        found = [component for component in self.components(kind) if component.id == recorded["id"]]
        if not found:
            raise GanzooError(self._not_installed(kind, recorded))
        return found[0]

    def _options(self, kind: str, choice: Choice, loaded: type[Any]) -> dict[str, Any]:
        return super()._options(kind, as_recorded(loaded, choice), loaded)

    def _not_installed(self, kind: str, recorded: Mapping[str, Any]) -> str:
        """One sentence: which part is missing, and the command that installs it."""
        distribution, version = recorded["id"].partition("/")[0], str(recorded.get("version") or "")
        text = f"{self._run.path} was trained with the {KINDS[kind].lower()} {recorded['id']} {version}".rstrip()
        plugin = self.plugins.get(distribution)
        if plugin is not None and plugin.disabled:
            return f"{text}, and GANZOO_DISABLE leaves {distribution} out: take it out of that variable."
        if plugin is not None and plugin.errors:
            return f"{text}, and {distribution} {plugin.version} failed to load: {sentence(plugin.errors[0])}"
        if not version:
            return f"{text}, which was registered while the program ran: register it again."
        what = f"{distribution} {plugin.version} does not have it" if plugin else "it is not installed"
        return f"{text}, and {what}: pip install {distribution}=={version}"

    def build(self, kind: str, choice: Choice, **reserved: Any) -> Any:
        """A new object of a part. The labels of the run's dataset have the numbers that the run recorded."""
        part = super().build(kind, choice, **reserved)
        recipe = self._run.recipe
        if kind == "datasets" and recipe.dataset is not None and choice.name == recipe.dataset.name:
            return with_class_order(part, self._class_names)
        return part


def _recorded_parts(run: RunView) -> Iterator[tuple[str, Choice, Mapping[str, Any]]]:
    """Kind, choice and provenance of every part that the recipe names and environment.json has recorded by its id."""
    recorded = run.environment.get("parts", {})
    for field, kind in KIND_OF_FIELD.items():
        value = getattr(run.recipe, field)
        choices = value if isinstance(value, tuple) else (value,) if value else ()
        for choice, part in zip(choices, recorded.get(field, ()), strict=False):
            identity = part.get("id")
            # another short name: the recipe was changed by hand, or the part was given a new name
            if isinstance(identity, str) and identity.rpartition("/")[2] == short_name(choice):
                yield kind, choice, part


def with_class_order(dataset: Dataset, names: list[str]) -> Dataset:
    """The dataset with its classes numbered in the order of `names`; unchanged if it has other names than these."""
    now = list(class_names(dataset))
    if now == names or sorted(now) != sorted(names) or len(set(names)) != len(names):
        return dataset
    return _Renumbered(dataset, names)


class _Renumbered(Dataset):
    """A dataset whose classes have other numbers; everything else is that of the dataset."""

    def __init__(self, dataset: Dataset, names: list[str]) -> None:
        self._dataset = dataset
        self.spec = dataset.spec
        self._numbers = torch.tensor([names.index(name) for name in class_names(dataset)])
        self.class_names = tuple(names)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = self._dataset.read(indices)
        return images, self._numbers[labels]

    def verify(self) -> str:
        return self._dataset.verify()
