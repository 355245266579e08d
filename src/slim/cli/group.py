"""The command ``slim``: its help, and how errors and warnings are shown."""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Any

import click

from slim.cli.failure import EXIT_CODE, reported
from slim.cli.options import FOLDER, Command
from slim.errors import SlimError, SlimWarning
from slim.files import VERSION
from slim.stages import STAGES


class Group(click.Group):
    """Shows every error as one line; lists commands in the order of the method.

    The exit code is 1 for an error that the user can fix, and 70 for one of SLIM itself, whose traceback goes into a
    file.
    """

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["demo", "data", "run", "status", "compare", *STAGES, "explain", "compose", "export", "import", "doctor"]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SlimError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output has closed it, which click handles silently
            click.echo(f"slim: {_message(error)}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("slim: Stopped. The same command continues from here.", err=True)
            ctx.exit(130)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # click shows them
        except Exception as error:
            if _out_of_memory(error):
                click.echo(f"slim: {_message(error)}", err=True)
                ctx.exit(1)
            click.echo(f"slim: {reported(error, ctx.meta.get(FOLDER))}", err=True)
            ctx.exit(EXIT_CODE)


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
        click.echo(f"{click.style('warning:', fg='yellow')} {message}", err=True)
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
    ctx.with_resource(warnings.catch_warnings())
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # takes the place as *place
    warnings.simplefilter("always", SlimWarning)
