"""The command line: read arguments, call one function, print. Facts go to stdout, talk to stderr.

Exit status: 0 done, 1 failed, 2 asked wrongly, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from typing import Any

import click

from ganzoo.contract.errors import GanzooError, did_you_mean

#: command -> module:attribute; a module is imported when its command is named or the help lists it; none imports torch
_COMMANDS = {
    "train": "train:train",
    "resume": "train:resume",
    "sample": "sample:sample",
    "replay": "replay:replay",
    "evaluate": "evaluate:evaluate",
    "benchmark": "benchmark:benchmark",
    "speedrun": "speedrun:speedrun",
    "list": "listing:list_parts",
    "show": "listing:show",
    "plugins": "plugins:plugins",
    "data": "data:data",
    "demo": "demo:demo",
    "import-checkpoint": "import_checkpoint:import_checkpoint",
    "doctor": "doctor:doctor",
}


#: what torch says where there is no memory: on a device, and on the CPU
_NO_MEMORY = ("out of memory", "can't allocate memory")


class _Terminated(BaseException):
    """SIGTERM outside a training, which has a way of its own to end."""


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


class _Failure(click.ClickException):
    """A GanzooError in click's voice, with its own exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        """Print it, unless another process of the training does."""
        if self.message:
            super().show(file)


class _Commands(click.Group):
    """Imports a command when it is asked for, and turns errors that a person can act on into one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"ganzoo.cli.{module}"), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}.{did_you_mean(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        main = threading.current_thread() is threading.main_thread()
        if main:
            signal.signal(signal.SIGTERM, _terminate)
        debug = bool(os.environ.get("GANZOO_DEBUG"))
        try:
            return super().invoke(ctx)
        except GanzooError as error:
            if debug:
                raise
            if main:
                # it ends anyhow, and has something to say: torchrun ends all processes when one of them has failed
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise _Failure(str(error), error.exit_code) from error
        except _Terminated:
            raise _Failure("Stopped by SIGTERM.", 143) from None
        except KeyboardInterrupt:
            raise _Failure("Stopped by Ctrl-C.", 130) from None
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
            if any(words in str(error).lower() for words in _NO_MEMORY) and not debug:
                raise _Failure(_out_of_memory(error), 1) from error
            raise _blamed(error, debug) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            raise _blamed(error, debug) from error


def _blamed(error: Exception, debug: bool) -> Exception:
    """A sentence that names the plugin in whose code an error arose; the error itself if it is nobody's."""
    loaded = sys.modules.get("ganzoo.registry.zoo")
    words = loaded.zoo().blame(error) if loaded and not debug else ""
    return _Failure(f"{words}. GANZOO_DEBUG=1 shows where.", 1) if words else error


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
    epilog="Exit status: 0 done, 1 failed, 2 asked wrongly, 130 Ctrl-C, 143 SIGTERM. "
    "GANZOO_DEBUG=1 shows tracebacks, GANZOO_DATA and GANZOO_CACHE move the folders, "
    "GANZOO_DISABLE=dist,... leaves plugins out, NO_COLOR turns colour off.",
)
@click.version_option(package_name="torch-ganzoo", prog_name="ganzoo")
def cli() -> None:
    """A zoo of generative adversarial networks: one training loop, everything else a plugin.

    \b
      ganzoo train dcgan-tutorial mnist --epochs 50
      ganzoo list architectures
    """


def main() -> None:
    """The console script."""
    sys.exit(cli())
