"""The command line: read arguments, call one function, print. Results go to stdout, messages to stderr.

Exit status: 0 done, 1 failed, 2 wrong arguments, 129, 130 and 143 stopped by SIGHUP, Ctrl-C, SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from typing import Any

import click
from click.shell_completion import CompletionItem

from ganzoo.cli.help import HelpContext, grouped, short_help
from ganzoo.contract.errors import GanzooError, did_you_mean
from ganzoo.training.signals import Interrupted, ending_signals, leave_closed_terminal, signal_in_words

#: command -> module:attribute below this package. A module is imported when its command is run or listed by --help, so
#: none of them imports torch at its top
BUILT_IN = {
    "recommend": "recommend:recommend",
    "train": "train:train",
    "resume": "train:resume",
    "watch": "watch:watch",
    "runs": "runs:runs",
    "sample": "sample:sample",
    "plot": "plot:plot",
    "explore": "explore:explore",
    "serve": "serve:serve",
    "replay": "replay:replay",
    "evaluate": "evaluate:evaluate",
    "export": "export:export",
    "push": "hub:push",
    "pull": "hub:pull",
    "benchmark": "benchmark:benchmark",
    "merge": "merge:merge",
    "tune": "tune:tune",
    "report": "report:report",
    "compare": "compare:compare",
    "speedrun": "speedrun:speedrun",
    "list": "listing:list_parts",
    "show": "listing:show",
    "plugins": "plugins:plugins",
    "data": "data:data",
    "demo": "demo:demo",
    "import": "import_checkpoint:import_",
    "import-checkpoint": "import_checkpoint:import_checkpoint",
    "doctor": "doctor:doctor",
}


#: texts in torch's errors where memory is short: on a device, and on the CPU
_NO_MEMORY = ("out of memory", "can't allocate memory")


class _Terminated(BaseException):
    """SIGTERM or SIGHUP outside of training. A training run handles the signal itself: it saves and ends."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _terminate(number: int, frame: object) -> None:
    if number != signal.SIGTERM:
        leave_closed_terminal()
    raise _Terminated(number)


def _handle_signals() -> None:
    """Let SIGTERM, and SIGHUP of a closed terminal, end the command. Under `nohup`, SIGHUP stays ignored."""
    for number in ending_signals():
        if number != signal.SIGINT:
            signal.signal(number, _terminate)


class _Failure(click.ClickException):
    """An error that click prints as one sentence, with its own exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        """Print the message. It is empty where another process of a distributed run prints it."""
        if self.message:
            super().show(file)


class _Stop(_Failure):
    """A stop that the user asked for by a signal: its message is no error."""

    def show(self, file: Any = None) -> None:
        """Print the message on stderr. It is empty where another process of a distributed run prints it."""
        if self.message:
            click.echo(self.message, file=file, err=True)


class _Commands(click.Group):
    """Imports a command when it is run, and turns errors that a user can act on into one sentence.

    Commands of plugins are looked up only where the name is no built-in one, for --help, and for completion.
    """

    context_class = HelpContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(BUILT_IN)  # click imports what is listed here, so commands of plugins are not

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in BUILT_IN:
            module, _, attribute = BUILT_IN[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(f"ganzoo.cli.{module}"), attribute)
            command.short_help = short_help(cmd_name) or command.short_help
            return _prepared(command, cmd_name)
        from ganzoo.cli.plugin_commands import find_command, load_command, typed_name

        found = find_command(cmd_name, BUILT_IN)
        return _prepared(load_command(found), typed_name(found, BUILT_IN)) if found else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in BUILT_IN and not args[0].startswith("-"):
            from ganzoo.cli.plugin_commands import find_command, typed_names
            from ganzoo.registry.zoo import zoo

            if find_command(args[0], BUILT_IN) is None:
                hint = did_you_mean(args[0], [*BUILT_IN, *typed_names(BUILT_IN)])
                ctx.fail(f"No such command {args[0]!r}.{hint}{zoo().missing_plugins()}")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in groups, and then the options. Commands in a group are not imported for it."""
        from ganzoo.cli.plugin_commands import write_help

        width = max(map(len, BUILT_IN))
        for group, names in grouped(BUILT_IN):
            with formatter.section(group):
                formatter.write_dl([(name.ljust(width), short_help(name) or self._line(ctx, name)) for name in names])
        write_help(formatter, list(BUILT_IN))
        click.Command.format_options(self, ctx, formatter)

    def _line(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(80) if command else ""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from ganzoo.cli.plugin_commands import typed_names

        plugin_commands = typed_names(BUILT_IN).items()
        added = [CompletionItem(name, help=c.help) for name, c in plugin_commands if name.startswith(incomplete)]
        return [*super().shell_complete(ctx, incomplete), *added]

    def invoke(self, ctx: click.Context) -> Any:
        main = threading.current_thread() is threading.main_thread()
        if main:
            _handle_signals()
        debug = bool(os.environ.get("GANZOO_DEBUG"))
        try:
            return super().invoke(ctx)
        except GanzooError as error:
            if debug:
                raise
            if main:
                # torchrun sends SIGTERM to all processes when one has failed: this one still prints its error
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise (_Stop if isinstance(error, Interrupted) else _Failure)(str(error), error.exit_code) from error
        except _Terminated as stopped:
            raise _Stop(f"Stopped by {signal_in_words(stopped.number)}.", 128 + stopped.number) from None
        except KeyboardInterrupt:
            raise _Stop("Stopped by Ctrl-C.", 130) from None
        except MemoryError as error:
            raise _Failure(_out_of_memory(error), 1) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            if debug:
                raise
            raise _Failure(
                f"{error.strerror or error}{': ' + str(error.filename) if error.filename else ''}.", 1
            ) from error
        except RuntimeError as error:
            if any(text in str(error).lower() for text in _NO_MEMORY) and not debug:
                raise _Failure(_out_of_memory(error), 1) from error
            raise _with_plugin_named(error, debug) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            raise _with_plugin_named(error, debug) from error


def _prepared(command: click.Command, name: str) -> click.Command:
    """The command with the variables of its options, and with help pages that fit the terminal."""
    from ganzoo.cli.options import prepare

    prepare(command, f"GANZOO_{name}")
    return command


def _with_plugin_named(error: Exception, debug: bool) -> Exception:
    """A sentence that names the plugin in whose code an error arose; the error itself if it was in no plugin's."""
    loaded = sys.modules.get("ganzoo.registry.zoo")
    sentence = loaded.zoo().blame(error) if loaded and not debug else ""
    return _Failure(f"{sentence}. GANZOO_DEBUG=1 shows where.", 1) if sentence else error


def _out_of_memory(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or ["not enough memory"])[0]
    return f"Out of memory ({first[:120]}): lower --batch-size, the architecture's width, or the image size."


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "GANZOO",
        "color": False if os.environ.get("NO_COLOR") else None,
        "max_content_width": 100,
    },
    epilog="Exit status: 0 done, 1 failed, 2 wrong arguments, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM. "
    "GANZOO_DEBUG=1 shows tracebacks and calls of plugin hooks, GANZOO_DATA and GANZOO_CACHE move the folders, "
    "GANZOO_DISABLE=dist,... leaves plugins out, GANZOO_PICTURES=off writes no pictures to the terminal, "
    "NO_COLOR turns colour off.",
)
@click.version_option(package_name="torch-ganzoo", prog_name="ganzoo")
def cli() -> None:
    """A zoo of generative adversarial networks: one training loop, everything else a plugin.

    \b
      ganzoo train dcgan-tutorial mnist --epochs 50
      ganzoo sample runs/dcgan-tutorial-mnist
      ganzoo runs
      ganzoo list architectures
    """


def main() -> None:
    """The console script."""
    if "_GANZOO_COMPLETE" in os.environ:
        from ganzoo.cli.bash_completion import install

        install()
    sys.exit(cli())
