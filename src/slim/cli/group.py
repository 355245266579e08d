"""The command ``slim``: its help, and how errors and warnings are shown."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import click

from slim import processes
from slim.cli.failure import EXIT_CODE, reported
from slim.cli.options import FOLDER, Command
from slim.errors import SlimError, SlimWarning
from slim.files import VERSION
from slim.progress import quiet
from slim.stages import STAGES


class Group(click.Group):
    """Shows every error as one line; lists commands in the order of the method.

    Exit codes: 1 for an error that the user can fix, 70 for one of SLIM itself, whose traceback goes into a file; 130
    after Ctrl-C, and 143 after SIGTERM, which schedulers send and which stops a command in the same orderly way.
    """

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        first, last = ["demo", "data", "run", "status", "compare", *STAGES], ["export", "import", "doctor"]
        return [*first, *(name for name in self.commands if name not in first + last), *last]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _stopped_by_sigterm():
                return super().invoke(ctx)
        except (SlimError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output has closed it, which click handles silently
            click.echo(f"slim: {_message(error)}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt as error:
            click.echo("slim: Stopped. The same command continues from here.", err=True)
            ctx.exit(128 + (signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # click shows them
        except Exception as error:
            if _out_of_memory(error):
                click.echo(f"slim: {_message(error)}", err=True)
                ctx.exit(1)
            click.echo(f"slim: {reported(error, ctx.meta.get(FOLDER))}", err=True)
            ctx.exit(EXIT_CODE)


class _Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Within the block, SIGTERM stops the command in an orderly way; threads cannot handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _out_of_memory(error: Exception) -> bool:
    """Whether a device has no memory left; without torch, there was no device."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _message(error: Exception) -> str:
    """An error as one line: what must hold, what SLIM got, what to do."""
    if isinstance(error, SlimError):
        return str(error)
    if isinstance(error, OSError):
        files = " to ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        reason = f"{error.strerror or error}{f': {files}' if files else ''}"
        return f"Files must be readable and writable. Got: {reason}. Fix this; the same command then continues."
    return (
        "A batch must fit into memory. Got one that does not. Halve the --batch-size; the same command then continues."
    )


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Show a warning that is meant for the user as one line, others as Python does."""
    if issubclass(category, SlimWarning):
        plain = False if "NO_COLOR" in os.environ else None  # None: colours where there is a terminal
        click.echo(f"{click.style('warning:', fg='yellow')} {message}", err=True, color=plain)
    else:
        _shown_as_usual(message, category, *place)


_shown_as_usual = warnings.showwarning


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="slim")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Find and remove the shortcuts of an image classifier, with a few dozen human judgements.

    \b
    slim demo                                try it: nothing else is needed
    slim run runs/birds --data birds         all stages on your own images
    slim status runs/birds                   which stages are done

    A run folder keeps everything, so that the same command continues where it stopped. Each stage is also a command of
    its own. Results go to stdout, progress to stderr.
    """
    _work_together(ctx)
    ctx.with_resource(warnings.catch_warnings())
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # takes the place as *place
    warnings.simplefilter("always" if processes.first() else "ignore", SlimWarning)


def _work_together(ctx: click.Context) -> None:
    """Connect the processes that torchrun has started; only the first of them speaks, errors apart."""
    if processes.started() > 1 and ctx.invoked_subcommand not in ("run", *STAGES):
        raise click.UsageError(
            f"Several processes can do run, {', '.join(STAGES)}. Got {ctx.invoked_subcommand}. Start it without "
            "torchrun."
        )
    ctx.with_resource(processes.connected())
    if not processes.first():
        ctx.with_resource(quiet())
        ctx.with_resource(redirect_stdout(StringIO()))
