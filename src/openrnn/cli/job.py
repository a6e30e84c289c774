"""How commands are run, and how their errors are told: one line on stderr."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from openrnn.errors import OpenRNNError

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


class OneLineErrors(click.Group):
    """A group whose errors are one line on stderr, without usage or traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added."""
        return list(self.commands)

    def main(  # type: ignore[override]  # click's own has overloads that add nothing here
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run the command line, as `click.Group.main` does."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "openrnn"
            message = error.format_message()
            if not isinstance(error, JobError):
                message = f"{message.rstrip('.')}; see {command} --help"
            _say_error(command, message)
            sys.exit(BAD_INPUT)
        except (click.Abort, KeyboardInterrupt):
            _say_error("openrnn", "stopped; nothing was written")
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


class JobError(click.UsageError):
    """An error of a job, which says by itself what to do."""


class Job(click.Command):
    """A command whose expected failures are errors of the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, and keep what was given, to tell the user what to repeat."""
        ctx.meta["openrnn.arguments"] = [*ctx.command_path.split(), *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OpenRNNError as error:
            raise JobError(str(error), ctx) from error
        except BrokenPipeError:
            raise  # click's matter
        except OSError as error:
            where = f" '{error.filename}'" if error.filename else ""
            reason = error.strerror or str(error)
            raise JobError(f"cannot read or write{where}: {reason}", ctx) from error
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
                raise
            raise JobError("not enough memory for such sizes; give smaller ones", ctx) from error
        except KeyboardInterrupt as error:
            if sys.stderr.isatty():
                click.echo(err=True)  # below the ^C that the terminal shows
            _say_error(ctx.command_path, str(error) or "stopped; nothing was written")
            raise click.exceptions.Exit(INTERRUPTED) from None


def _say_error(command: str, message: str) -> None:
    click.echo(f"{command}: {' '.join(message.split())}", err=True)
