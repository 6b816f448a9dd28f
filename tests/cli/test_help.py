"""Help pages: groups, sections, and what fits a terminal of 60, 80 and 200 columns, without colour, and in a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from terminal import ganzoo_in_terminal

from ganzoo.cli import BUILT_IN, cli
from ganzoo.cli.help import GROUPS, HelpContext, HelpFormatter, SectionedCommand, grouped, short_help
from ganzoo.cli.options import prepare


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every built-in command by the words that call it; `` is ganzoo itself."""
    yield " ".join(words), command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from commands(inner, (*words, name))


ALL = dict(commands(cli))


def page(words: str, columns: int) -> str:
    width = min(columns, 100) - 2  # as click computes it; its CliRunner has 80 columns
    shown = CliRunner().invoke(cli, [*words.split(), "--help"], prog_name="ganzoo", terminal_width=width)
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("words", ALL)
def test_every_page_fits(words: str, columns: int) -> None:
    text = page(words, columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "\x1b" not in text
    assert "\b" not in text


def test_the_page_in_a_terminal_is_that_of_a_pipe() -> None:
    status, text = ganzoo_in_terminal("--help", columns=60, NO_COLOR="1")
    assert status == 0
    assert text.replace("python -m ganzoo", "ganzoo").rstrip() == page("", 60).rstrip()


def test_commands_are_in_groups() -> None:
    text = page("", 80)
    places = [text.index(f"\n{group}:\n") for group in ("Train and look", "Compare", "Extend", "Look after")]
    assert places == sorted(places)
    assert text.index("ganzoo train dcgan-tutorial") < places[0]  # examples first
    assert places[-1] < text.index("\nOptions:\n")
    for name in BUILT_IN:
        assert len(re.findall(rf"^  {name} +\S", text, flags=re.MULTILINE)) == 1, name
    for _, lines in GROUPS.items():
        for name in set(lines) - set(BUILT_IN):  # not built in: not shown
            assert not re.search(rf"^  {name} ", text, flags=re.MULTILINE)


def test_a_command_in_no_group_is_shown_all_the_same() -> None:
    assert list(grouped(["train", "strange"])) == [("Train and look", ["train"]), ("More", ["strange"])]
    assert short_help("strange") is None


LONG = ("train", "resume", "evaluate", "benchmark", "sample")


@pytest.mark.parametrize("words", LONG)
def test_options_are_in_sections(words: str) -> None:
    command, text = ALL[words], page(words, 80)
    assert isinstance(command, SectionedCommand)
    assert "\nOptions:\n" not in text
    shown = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    listed = text[text.index(f"\n{next(iter(command.sections))}:\n") :]
    for option in shown:
        long = next(name for name in option.opts if name.startswith("--"))
        assert len(re.findall(rf"^  (-\w, )?{long}(?![\w-])", listed, flags=re.MULTILINE)) == 1, long
    for title in command.sections:
        assert f"\n{title}:\n" in text
    assert text.index("    ganzoo ") < text.index(f"\n{next(iter(command.sections))}:\n")


def test_an_option_without_a_section_is_in_the_last() -> None:
    option = click.Option(["--new"], help="of a plugin")
    command = SectionedCommand("x", params=[option], sections={"One": "--one", "Output": "--json"})
    assert command.section_of(option) == "Output"
    assert "Output:\n  --new" in command.get_help(HelpContext(command))


def test_examples_are_fitted_and_keep_values_with_their_options() -> None:
    formatter = HelpFormatter(width=40)
    block = "\b\n  ganzoo train dcgan mnist --epochs 50 --batch-size 8\n  ganzoo runs      lists what is here and there"
    formatter.write_text(f"Words.\n\n{block}")
    assert formatter.getvalue().splitlines() == [
        "Words.",
        "",
        "  ganzoo train dcgan mnist --epochs 50 \\",
        "    --batch-size 8",
        "  ganzoo runs",
        "      lists what is here and there",
    ]
    wide = HelpFormatter(width=80)
    wide.write_text(block)
    assert wide.getvalue() == block.removeprefix("\b\n") + "\n"


def test_options_of_plugin_commands_have_variables() -> None:
    @click.command()
    @click.option("--deep-size", "depth")
    @click.option("-x", "only_short")
    def sweep(depth: str, only_short: str) -> None:
        click.echo(depth)

    prepare(sweep, "GANZOO_my-plugin/sweep")
    assert {option.name: option.envvar for option in sweep.params if isinstance(option, click.Option)} == {
        "depth": "GANZOO_MY_PLUGIN_SWEEP_DEEP_SIZE",
        "only_short": None,
    }
    assert CliRunner(env={"GANZOO_MY_PLUGIN_SWEEP_DEEP_SIZE": "7"}).invoke(sweep).output == "7\n"
