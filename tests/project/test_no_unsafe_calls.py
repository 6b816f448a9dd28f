"""Nothing here unpickles, evaluates, asks a shell or fetches in the clear: a rule of our own for what ruff's S misses.

ruff does not see torch.load, numpy.load(allow_pickle=True), torch.jit.load and torch.hub.load; bandit sees the first.
Every place where the rule is broken on purpose is named below, with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("ganzoo", "plugins", "benchmarks", "examples")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

#: (file, what) -> why it may be there
ALLOWED = {
    ("ganzoo/storage/foreign.py", "torch.load"): "the importer itself: weights_only=True, in a process with limits",
    ("ganzoo/storage/foreign_pickle.py", "pickle._Unpickler"): (
        "it knows the names of a table only, calls nothing else, and runs in the importer's process with limits"
    ),
    ("plugins/ganzoo_plugins/extractors/inception.py", "torch.load"): (
        "the published Inception weights are a .pth, whose sha256 is checked; another file the user names is read with "
        "weights_only=True too"
    ),
    ("plugins/ganzoo_plugins/extractors/backbones.py", "torch.load"): (
        "weights that the user names, with weights_only=True; their sha256 is part of the digest of the features"
    ),
    ("ganzoo/results/export/formats.py", "torch.export.load"): (
        "only a file whose sha256 this machine has kept when it wrote it, or with --accept-changed-code"
    ),
    ("ganzoo/server/running.py", "http://"): "the address of the server on this machine",
    ("plugins/ganzoo_plugins/observers/mlflow.py", "http://"): "an example in the help of an option",
    ("ganzoo/testing/two_processes.py", "pickle.loads"): "between a test and the process that it started itself",
    ("ganzoo/api/experiments.py", "compile"): "the name of a keyword",
    ("ganzoo/api/keywords.py", "compile"): "the name of a keyword",
}

#: what reads code, runs code, or trusts what it reads, by its full name; a star stands for every name behind it
NEVER = {
    *(
        "torch.load",
        "torch.jit.load",
        "torch.export.load",
        "torch.hub.*",
        "torch.package.*",
        "torch.distributed.checkpoint.*",
    ),
    *("torch.utils.model_zoo.*", "torch.serialization.add_safe_globals", "torch.serialization.safe_globals"),
    *(
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "pickle._Unpickler",
        "_pickle.*",
        "dill.*",
        "cloudpickle.*",
        "joblib.*",
        "shelve.*",
    ),
    *("marshal.load", "marshal.loads", "pandas.read_pickle", "numpy.lib.format.read_array"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
    *("eval", "exec", "compile", "__import__", "runpy.*", "code.*"),
    *("os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.execl", "os.execlp", "os.spawnl", "os.spawnv"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn", "tempfile.mktemp"),
    *("urllib.request.urlopen", "urllib.request.urlretrieve", "ssl._create_unverified_context"),
    *("torchvision.datasets.utils.*", "torch.distributed.broadcast_object_list", "torch.distributed.all_gather_object"),
    *("torch.distributed.gather_object", "torch.distributed.scatter_object_list"),
}
#: keywords of any call: name -> the values that are fine
KEYWORDS = {"weights_only": (True,), "allow_pickle": (False,), "shell": (False,), "verify": (True,)}
_CLEAR = re.compile(r"http://(?!localhost\b|127\.|\[::1\])[\w{\[]")


def findings(source: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong there) of a program."""
    tree = ast.parse(source)
    names, own = _imported(tree), _own(tree)
    for node in ast.walk(tree):
        if node in own:
            continue
        if isinstance(node, ast.Name | ast.Attribute) and _is_never(full := _full_name(node, names)):
            yield node.lineno, full
        if isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, full) for full in whole if _is_never(full))
        if isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in _call(node, names))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _CLEAR.search(node.value):
            yield node.lineno, "http://"
        if isinstance(node, ast.JoinedStr) and "http://{" in ast.unparse(node):
            yield node.lineno, "http://"


def _own(tree: ast.AST) -> set[ast.AST]:
    """Names that are parameters of the function they stand in, and so not builtins; unless they are called."""
    found: set[ast.AST] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            given = function.args
            parameters = {each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
            inside = [node for part in function.body for node in ast.walk(part)]
            called = {node.func for node in inside if isinstance(node, ast.Call)}
            found |= {node for node in inside if isinstance(node, ast.Name) and node.id in parameters} - called
    return found


def _is_never(full: str) -> bool:
    return full in NEVER or any(full.startswith(name[:-1]) for name in NEVER if name.endswith("*"))


def _call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    given = {word.arg: word.value for word in node.keywords if word.arg}
    for keyword, fine in KEYWORDS.items():
        if keyword in given and not (isinstance(given[keyword], ast.Constant) and given[keyword].value in fine):
            yield f"{keyword}="
    full = _full_name(node.func, names)
    if full in ("numpy.load", "numpy.save") and "allow_pickle" not in given:
        yield f"{full} without allow_pickle=False"
    methods = {"extractall", "unpack_archive"} | ({"extract"} if {"tarfile", "zipfile"} & names.keys() else set())
    if isinstance(node.func, ast.Attribute) and node.func.attr in methods and _text(given.get("filter")) != "data":
        yield "unpacks without filter='data'"


def _text(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _imported(tree: ast.AST) -> dict[str, str]:
    """Local name -> full name, for all that is imported anywhere in the program."""
    names = {}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else []:
            if isinstance(node, ast.ImportFrom):
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif alias.asname:
                names[alias.asname] = alias.name
            else:
                names |= {alias.name.partition(".")[0]: alias.name.partition(".")[0]}
    return names


def _full_name(node: ast.expr, names: dict[str, str]) -> str:
    """`np.load` as numpy.load; a name that is not imported is a builtin, or nobody's."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _full_name(node.value, names)
        known = owner.partition(".")[0] in {name.partition(".")[0] for name in names.values()}
        return f"{owner}.{node.attr}" if known else ""
    return ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unsafe_is_called(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = [f"{name}:{line}: {what}" for line, what in findings(path.read_text()) if (name, what) not in ALLOWED]
    assert not found, found


@pytest.mark.parametrize(("name", "what"), ALLOWED)
def test_every_exception_is_still_needed(name: str, what: str) -> None:
    if not (ROOT / name).exists():
        pytest.skip(f"{name} is not there")
    assert what in [found for _, found in findings((ROOT / name).read_text())]
    assert len(ALLOWED[name, what]) > 20


def test_torch_load_is_always_told_weights_only() -> None:
    """Said in the call itself: the default can be switched off by an environment variable."""
    for name in [file for file, what in ALLOWED if what == "torch.load"]:
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in [ast.unparse(keyword) for keyword in node.keywords]


#: one bad program for each line of the rule
BAD = [
    "import torch; torch.load('a.pt')",
    "def f(compile): return compile('a', 'b', 'exec')",
    "import torch as t; t.load('a.pt', weights_only=True)",
    "from torch import load; load('a.pt')",
    "import torch; read = torch.load",
    "import torch; torch.load(f, weights_only=False)",
    "import torch; torch.jit.load('a')",
    "from torch import jit; jit.load('a')",
    "import torch; torch.hub.load('a', 'b')",
    "from torch.hub import load_state_dict_from_url",
    "import torch.distributed.checkpoint as dcp; dcp.load({})",
    "from torch.distributed import checkpoint; checkpoint.load({})",
    "import torch; torch.serialization.add_safe_globals([x])",
    "import torch; torch.distributed.all_gather_object(a, b)",
    "import numpy as np; np.load('a.npy', allow_pickle=True)",
    "import numpy as np; np.load('a.npy', allow_pickle=careless)",
    "import numpy as np; np.load('a.npy')",
    "from numpy import load; load('a.npy')",
    "import pickle; pickle.loads(b'')",
    "from pickle import load; load(file)",
    "import pickle as p; p.Unpickler(file).load()",
    "import joblib; joblib.load('a')",
    "import shelve; shelve.open('a')",
    "import marshal; marshal.loads(b'')",
    "import dill; dill.loads(b'')",
    "import yaml; yaml.load(text)",
    "eval('1')",
    "exec(text)",
    "compile(text, 'a', 'exec')",
    "__import__(name)",
    "import os; os.system('ls')",
    "from os import popen; popen('ls')",
    "import subprocess; subprocess.run('ls', shell=True)",
    "import subprocess; subprocess.Popen('ls', shell=really)",
    "import subprocess; subprocess.getoutput('ls')",
    "import tarfile; tarfile.open('a').extractall('b')",
    "import tarfile; tarfile.open('a').extractall('b', filter='fully_trusted')",
    "import zipfile; zipfile.ZipFile('a').extract('b')",
    "import shutil; shutil.unpack_archive('a', 'b')",
    "import tempfile; tempfile.mktemp()",
    "url = 'http://example.com/a.gz'",
    "url = f'http://{host}/a.gz'",
    "import urllib.request; urllib.request.urlopen(url)",
    "import urllib.request as r; r.urlretrieve(url, 'a')",
    "import requests; requests.get(url, verify=False)",
    "from torchvision.datasets.utils import download_url",
]
GOOD = [
    "def f(compile): return {'compile': compile}",
    "import re; re.compile('a')",
    "network.eval()",
    "safetensors.torch.load(data)",
    "import numpy as np; np.load('a.npy', allow_pickle=False)",
    "import pickle\ntry: f()\nexcept pickle.UnpicklingError: pass",
    "import subprocess; subprocess.run(['ls'])",
    "import tarfile; tarfile.open('a').extractall('b', filter='data')",
    "import tarfile; tarfile.open('a').extractfile('b')",
    "url = 'https://example.com'; here = 'http://127.0.0.1:80/'; other = 'http://localhost/'",
    "import json; json.load(file)",
]


@pytest.mark.parametrize("program", BAD)
def test_the_rule_sees(program: str) -> None:
    assert list(findings(program))


def test_the_rule_sees_every_name_it_has() -> None:
    for name in sorted(NEVER):
        used = name.replace("*", "anything")
        program = f"import {used.partition('.')[0]}; {used}" if "." in used else used
        assert list(findings(program)), name


@pytest.mark.parametrize("program", GOOD)
def test_the_rule_lets_pass(program: str) -> None:
    assert not list(findings(program))
