"""The command line as a user sees it: output, exit status, and one sentence for each wrong request."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import Result
from helpers import forget_recipe, ganzoo
from PIL import Image

from ganzoo.cli import BUILT_IN, cli
from ganzoo.contract.choice import Choice
from ganzoo.contract.recipe import Recipe

TINY = ["-o", "width=4", "--batch-size", "8", "--steps", "4", "--tick-every", "2", "--samples-every", "2", "-q"]


def refused(result: Result, *words: str, status: int = 2) -> None:
    """Check for one sentence on stderr with these words, nothing on stdout, no traceback, and the exit status."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    for word in words:
        assert word in error
    assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained run."""
    out = tmp_path_factory.mktemp("runs") / "a"
    result = ganzoo("train", "dcgan-tutorial", "digits:size=8", "--out", out, *TINY)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    return out


@pytest.mark.parametrize("command", list(BUILT_IN))
def test_every_command_has_help(command: str) -> None:
    result = ganzoo(command, "--help")
    assert result.exit_code == 0
    assert "Usage: ganzoo" in result.stdout
    assert ganzoo(command, "-h").stdout == result.stdout


# --- train, resume, sample, evaluate ----------------------------------------------------------------------------------


def test_a_run_leaves_what_the_readme_says(run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= {
        "recipe.json",
        "environment.json",
        "stats.jsonl",
        "samples",
        "generators",
        "checkpoints",
    }
    assert not (run / "lock").exists()
    assert [path.name for path in sorted((run / "samples").iterdir())] == [
        "000000000.png",
        "000000016.png",
        "000000032.png",
    ]
    facts = json.loads((run / "environment.json").read_text())
    assert facts["parts"]["architecture"][0]["id"] == "torch-ganzoo/dcgan-tutorial"


def test_resume_moves_the_end(run: Path) -> None:
    refused(ganzoo("resume", run), "already trained for its 4 steps", "--steps 6")
    result = ganzoo("resume", run, "--steps", "6", "--json", "-q")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert (printed["step"], printed["images"]) == (printed["stats"]["step"], printed["stats"]["images"])
    assert printed["step"] == 6
    assert json.loads((run / "recipe.json").read_text())["length"] == "6 steps"


def test_sample_prints_the_file(run: Path, tmp_path: Path) -> None:
    for arguments, suffix in (([], ".png"), (["--gif"], ".gif"), (["--interpolate", "--grid", "2x5"], ".png")):
        result = ganzoo("sample", run, *arguments)
        assert result.exit_code == 0, result.output
        assert Path(result.stdout.strip()).suffix == suffix
        assert Path(result.stdout.strip()).stat().st_size > 100
    result = ganzoo("sample", run, "-n", "7", "-o", tmp_path / "x.npy", "--json")
    assert json.loads(result.stdout)["path"] == str(tmp_path / "x.npy")


def test_evaluate_prints_a_table_or_json(run: Path) -> None:
    result = ganzoo("evaluate", run, "--samples", "64", "--json")
    assert result.exit_code == 0, result.output
    (line,) = json.loads(result.stdout)["scores"]
    assert line["score"] == "fid-domain"
    assert line["value"] > 0
    assert line["card"]["measure"]["fakes"] == 64
    assert line["card"]["measure"]["reals"]["images"] == 1498


def test_the_number_of_fakes_of_a_score_has_one_name(run: Path, tmp_path: Path) -> None:
    planned = ganzoo("train", "dcgan-tutorial", "digits", "--samples", "64", "--dry-run", "--json")
    assert json.loads(planned.stdout)["recipe"]["score_samples"] == 64
    grid = ["-a", "dcgan-tutorial", "-d", "digits", "--samples", "64", "--steps", "1", "--seeds", "0", "--dry-run"]
    (pair,) = json.loads(ganzoo("benchmark", *grid, "--out", tmp_path, "--json").stdout)["pairs"]
    assert pair["recipe"]["score_samples"] == 64
    for command in ("train", "evaluate", "benchmark", "speedrun"):
        options = ganzoo(command, "--help").stdout
        assert "  --samples N" in options
        assert "--score-samples" not in options


def test_dry_run_prints_a_recipe_that_recipe_reads(tmp_path: Path) -> None:
    arguments = [
        "train",
        "dcgan-atienza",
        "digits",
        "-o",
        "dropout=0.1",
        "--loss",
        "hinge",
        "--turns",
        "D,G",
        "--seed",
        "3",
    ]
    text = ganzoo(*arguments, "--dry-run").stdout
    (tmp_path / "r.toml").write_text(text)
    again = ganzoo("train", "dcgan-atienza", "digits", "--recipe", tmp_path / "r.toml", "--dry-run")
    assert again.stdout == text
    recipe = Recipe.from_dict(json.loads(ganzoo(*arguments, "--dry-run", "--json").stdout)["recipe"])
    assert recipe.architecture is not None
    assert recipe.architecture.options["dropout"] == 0.1
    assert [loss.name for loss in recipe.losses] == ["hinge"]
    assert recipe.seed == 3
    assert not (tmp_path / "runs").exists()


def test_options_reach_their_owner() -> None:
    arguments = ["-o", "width=8", "-o", "dataset.size=32", "-o", "generator_optimizer.lr=0.5"]
    recipe = json.loads(ganzoo("train", "dcgan-tutorial", "digits", *arguments, "--dry-run", "--json").stdout)["recipe"]
    assert recipe["architecture"]["options"]["width"] == 8
    assert recipe["dataset"]["options"]["size"] == 32
    assert recipe["generator_optimizer"]["options"]["lr"] == 0.5
    assert recipe["discriminator_optimizer"]["options"]["lr"] == 1e-4


def test_a_location_works_where_a_name_does(tmp_path: Path) -> None:
    part = tmp_path / "my_gan.py"
    part.write_text(
        "import ganzoo\n"
        "class Mine(ganzoo.Loss):\n"
        "    '''Mine.'''\n"
        "    def __init__(self, *, margin: float = 1.0):\n"
        "        super().__init__()\n"
        "        self.margin = margin\n"
        "    def discriminator(self, round):\n"
        "        return (round.fake_logits - round.real_logits).mean() * self.margin\n"
        "    def generator(self, round):\n"
        "        return -round.fake_logits.mean()\n"
    )
    out = tmp_path / "run"
    result = ganzoo("train", "dcgan-tutorial", "digits:size=8", "--loss", f"{part}:Mine:margin=2", "--out", out, *TINY)
    assert result.exit_code == 0, result.output
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["losses"] == [{"name": f"{part}:Mine", "options": {"margin": 2.0}}]
    assert len(json.loads((out / "environment.json").read_text())["parts"]["losses"][0]["sha256"]) == 64


# --- list, show, doctor, data -----------------------------------------------------------------------------------------


def test_list_as_json() -> None:
    found = json.loads(ganzoo("list", "architectures", "dcgan*", "--json").stdout)["parts"]
    assert {part["name"] for part in found} >= {"dcgan-tutorial", "dcgan-atienza", "dcgan-atienza-book"}
    assert all(part["description"] for part in found)
    assert len(json.loads(ganzoo("list", "architectures", "atienza", "--json").stdout)["parts"]) == 2


def test_every_first_party_part_has_a_description() -> None:
    for kind in (
        "architectures",
        "datasets",
        "losses",
        "optimizers",
        "augmentations",
        "extractors",
        "evaluators",
        "observers",
    ):
        parts = json.loads(ganzoo("list", kind, "--json").stdout)["parts"]
        assert parts, kind
        assert not [part["name"] for part in parts if not part["description"]]


def test_show_counts_parameters() -> None:
    facts = json.loads(ganzoo("show", "dcgan-tutorial", "--json").stdout)
    assert [network["parameters"] for network in facts["networks"]] == [2_330_944, 212_865]
    assert {option["name"] for option in facts["options"]} == {"latent_dim", "width", "dropout"}
    assert ganzoo("show", "dcgan-tutorial").exit_code == 0
    assert "x>=1" in ganzoo("show", "dcgan-tutorial").stdout


def test_show_works_for_every_part() -> None:
    for plugin in json.loads(ganzoo("plugins", "--json").stdout)["plugins"]:
        for part in plugin["parts"]:
            result = ganzoo("show", part["name"], "--kind", part["kind"], "--json")
            assert result.exit_code == 0, result.output


def test_doctor_finds_nothing_wrong_here() -> None:
    result = ganzoo("doctor", "--json")
    assert not [
        row for row in json.loads(result.stdout)["findings"] if row["problem"] and row["topic"].startswith("plugin")
    ]
    assert result.exit_code in (0, 1)  # a full disk, or too many threads, is a problem of this machine


def test_doctor_says_what_a_training_on_a_cpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> dict[str, str]:
        return {row["topic"]: row["found"] for row in json.loads(ganzoo("doctor", "--json").stdout)["findings"]}

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    facts = found()
    assert "1 thread on 3 cores (OMP_NUM_THREADS keeps 2 idle)" in facts["cpu"]
    assert "jemalloc" in facts["allocator"] or platform.system() != "Linux"
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2")
    assert found()["allocator"] == "jemalloc"


def test_data_verify_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_OFFLINE", "")
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "made-by-the-first-download"))
    refused(ganzoo("data", "verify", "mnist"), "absent", "nothing is fetched here", status=1)
    assert not list(tmp_path.iterdir())
    assert json.loads(ganzoo("data", "verify", "digits", "--json").stdout)["splits"][0]["images"] == 1498


def test_the_numbers_of_named_classes_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    for name in ("10", "2", "dogs"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), number).save(tmp_path / "pictures" / name / f"{number}.png")
    dataset = f"image-folder:path={tmp_path}/pictures,size=8"
    assert "Classes: 0 = 2, 1 = 10, 2 = dogs\n" in ganzoo("data", "prepare", dataset, "--no-extractor").stderr
    rows = json.loads(ganzoo("data", "verify", dataset, "--json").stdout)["splits"]
    assert [row["class_names"] for row in rows] == [["2", "10", "dogs"]] * 2
    assert "Classes" not in ganzoo("data", "verify", "digits").stderr


def test_trainings_started_at_the_same_time_have_directories_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ganzoo", "train", "mlp-vanilla", "digits:size=8", "--steps", "1", "-q"]
    options = {"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([*command, "--seed", str(seed)], **options) for seed in range(3)]
    printed = {process.communicate(timeout=300)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert printed == {f"runs/mlp-vanilla-digits{number}" for number in ("", "-2", "-3")}


def test_a_training_that_does_not_begin_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(
        ganzoo("train", "mlp-vanilla", "digits:size=8", "--steps", "1", "--best-by", "x", "-e", "sliced-wasserstein")
    )
    assert not list(tmp_path.glob("runs/*"))


def test_data_prepare() -> None:
    rows = json.loads(ganzoo("data", "prepare", "digits", "--json").stdout)["splits"]
    assert [row["images"] for row in rows] == [1498, 299]
    assert ganzoo("data", "list").exit_code == 0
    (found,) = json.loads(ganzoo("data", "list", "digits", "--json").stdout)["parts"]
    assert found["name"] == "digits"


# --- wrong requests ---------------------------------------------------------------------------------------------------


def test_unknown_names() -> None:
    refused(ganzoo("train", "dcgan-tutoral", "digits"), "no architecture 'dcgan-tutoral'", "dcgan-tutorial")
    refused(ganzoo("train", "dcgan-tutorial", "minst"), "no dataset 'minst'", "'mnist'")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--loss", "hing"), "no loss 'hing'", "'hinge'")
    refused(ganzoo("show", "dcgan-tutorail"), "Did you mean 'dcgan-tutorial'")
    refused(ganzoo("train", "nobody/dcgan-tutorial", "digits"), "nobody/dcgan-tutorial")
    assert "Did you mean 'train'" in ganzoo("trian").stderr
    assert "--epochs" in ganzoo("train", "dcgan-tutorial", "digits", "--epoch", "3").stderr


def test_bad_options() -> None:
    refused(ganzoo("train", "dcgan-tutorial", "digits", "-o", "widht=3"), "no option 'widht'", "'width'")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "-o", "width=0"), "'width'", "x>=1")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "-o", "width=big"), "'width'", "integer")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "-o", "width"), "key=value")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "-o", "loss.x=1"), "loss.x")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--turns", "D"), "never trains the generator")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--epochs", "3", "--steps", "4"), "--epochs", "--steps")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--epochs", "0"), "at least 1")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--grid", "4"), "ROWSxCOLUMNS")
    refused(
        ganzoo("train", "dcgan-tutorial", "digits", "--recipe", "homework"), "no recipe 'homework'", "homework-mnist"
    )
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--recipe", "nowhere.toml"), "no recipe file")
    assert ganzoo("train", "dcgan-tutorial", "digits", "--batch-size", "0").exit_code == 2


def test_a_broken_recipe_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("batch_size = ")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--recipe", bad), "not a recipe file in TOML")
    bad.write_text("bacth_size = 3")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--recipe", bad), "'bacth_size'", "'batch_size'")
    bad.write_text('batch_size = "many"')
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--recipe", bad), "batch_size must be a whole number")


def test_an_architecture_refuses_a_size(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = ganzoo("train", "dcgan-tutorial", "digits:size=30", "--out", out, *TINY)
    refused(result, "30x30", "4")
    assert not out.exists()


def test_a_refusal_before_the_first_step_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    refused(ganzoo("train", "dcgan-tutorial", "digits:size=8", "--loss", "r1", "--out", out, *TINY), "generator")
    assert not out.exists()


def test_a_recipe_file_gives_options_to_the_parts_it_names(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(ganzoo("train", "dcgan-tutorial", "digits:size=8", "-o", "width=4", "--dry-run").stdout)
    recipe = json.loads(ganzoo("train", "dcgan-tutorial", "digits", "--recipe", file, "--dry-run", "--json").stdout)[
        "recipe"
    ]
    assert recipe["dataset"]["options"] == {"size": 8}
    assert recipe["architecture"]["options"]["width"] == 4
    other = json.loads(ganzoo("train", "mlp-vanilla", "digits", "--recipe", file, "--dry-run", "--json").stdout)[
        "recipe"
    ]
    assert other["architecture"]["name"] == "mlp-vanilla"
    assert other["turns"] == recipe["turns"]


def test_no_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "run"
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--device", "cuda", "--out", out), "no CUDA device", status=1)
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--device", "gpu", "--out", out), "'gpu'")
    assert not out.exists()


def test_out_directories(run: Path, tmp_path: Path) -> None:
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--out", run, *TINY), "holds a run already", "ganzoo resume")
    (tmp_path / "file").write_text("")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--out", tmp_path / "file", *TINY), "is a file")
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--out", tmp_path, *TINY), "not empty")


@pytest.mark.parametrize("command", ["resume", "sample", "evaluate"])
def test_a_run_that_does_not_exist(command: str, tmp_path: Path) -> None:
    refused(ganzoo(command, tmp_path / "nowhere"), "holds no run")


def test_a_run_whose_plugin_is_gone(run: Path, tmp_path: Path) -> None:
    import shutil

    orphan = tmp_path / "orphan"
    shutil.copytree(run, orphan)
    forget_recipe(orphan)
    recipe = json.loads((orphan / "recipe.json").read_text())
    recipe["architecture"]["name"] = "gone-gan"
    (orphan / "recipe.json").write_text(json.dumps(recipe))
    for command in ("resume", "sample", "evaluate"):
        refused(ganzoo(command, orphan), "no architecture 'gone-gan'")
    assert not (orphan / "lock").exists()


def test_sample_refuses(run: Path) -> None:
    refused(ganzoo("sample", run, "--class", "3"), "not conditional")
    refused(ganzoo("sample", run, "-o", "x.jpg"), ".png, .npy or .npz")
    refused(ganzoo("sample", run, "-o", "nowhere/x.png"), "no directory nowhere")
    refused(ganzoo("sample", run, "--at", "5"), "at 5 images", "it has them at", status=1)
    refused(ganzoo("sample", run, "--gif", "-n", "3"), "--interpolate")
    refused(ganzoo("sample", run, "-n", "10", "--grid", "2x2"), "2x2")
    assert ganzoo("sample", run, "--grid", "0x3").exit_code == 2


def test_a_dataset_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a mirror that does not exist stands for a machine without a network
    monkeypatch.setenv("GANZOO_MIRROR", str(tmp_path / "no-mirror"))
    out = tmp_path / "run"
    result = ganzoo("train", "dcgan-tutorial", "mnist", "--data-dir", tmp_path, "--out", out)
    refused(result, "train-images-idx3-ubyte.gz", "--data-dir", status=1)
    assert not out.exists()
    refused(ganzoo("train", "dcgan-tutorial", "digits", "--data-dir", tmp_path / "no"), "no directory")


def test_a_value_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_TRAIN_BATCH_SIZE", "12")
    recipe = json.loads(ganzoo("train", "dcgan-tutorial", "digits", "--dry-run", "--json").stdout)["recipe"]
    assert recipe["batch_size"] == 12


def test_disabling_a_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    from ganzoo.registry import zoo

    monkeypatch.setenv("GANZOO_DISABLE", "torch-ganzoo")
    zoo.zoo.cache_clear()
    try:
        (plugin,) = [
            p for p in json.loads(ganzoo("plugins", "--json").stdout)["plugins"] if p["distribution"] == "torch-ganzoo"
        ]
        assert plugin["disabled"]
        refused(ganzoo("train", "dcgan-tutorial", "digits"), "GANZOO_DISABLE")
    finally:
        zoo.zoo.cache_clear()


def test_every_option_is_set_by_the_variable_of_its_long_name() -> None:
    seen = set()

    def check(command: click.Command, prefix: str) -> None:
        for option in command.params:
            long = [text for text in option.opts if text.startswith("--")]
            if isinstance(option, click.Option) and long:
                own = option.envvar in ("GANZOO_DATA", "GANZOO_INCEPTION_WEIGHTS")
                assert own or option.envvar == f"{prefix}_{long[0][2:].replace('-', '_').upper()}"
                seen.add(option.envvar)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                check(inner, f"{prefix}_{name.replace('-', '_').upper()}")

    with click.Context(cli) as context:
        for name in BUILT_IN:
            command = cli.get_command(context, name)
            assert command is not None
            check(command, f"GANZOO_{name.replace('-', '_').upper()}")
    assert seen >= {"GANZOO_TRAIN_LOSS", "GANZOO_SAMPLE_CLASS", "GANZOO_DATA_PREPARE_JSON", "GANZOO_TRAIN_SAMPLES"}


def test_a_variable_sets_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_TRAIN_LOSS", "hinge r1:gamma=3")
    monkeypatch.setenv("GANZOO_TRAIN_JSON", "1")
    losses = json.loads(ganzoo("train", "mlp-vanilla", "digits", "--dry-run").stdout)["recipe"]["losses"]
    assert [Choice.parse(loss).name for loss in losses] == ["hinge", "r1"]


def test_doctor_does_not_count_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty" / "raw").mkdir(parents=True)
    (tmp_path / "full" / "raw").mkdir(parents=True)
    (tmp_path / "full" / "raw" / "x").write_text("")
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
    rows = json.loads(ganzoo("doctor", "--json").stdout)["findings"]
    assert [row["found"] for row in rows if row["topic"] == "datasets"] == ["full"]
