"""The one command, `shadow`: stdout is data, stderr is logs, a user's mistake is one sentence."""

from __future__ import annotations

import signal
import sys

import click
import typer

from shadow.cli import demo, doctor, judge, roles, runs, up
from shadow.cli.exits import BROKEN, USAGE
from shadow.errors import BrokenEvidence, Refused, ShadowError, Unavailable, Usage

app = typer.Typer(
    name="shadow",
    help="Mirror live requests to a candidate model, grade both answers, promote or roll back on proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for commands in (demo, up, runs, judge, roles, doctor):
    commands.register(app)


def main() -> None:
    """Run the command line; turns Shadow's own errors into a sentence and an exit code."""
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 128 + signal.SIGINT
    except Usage as error:
        code = _say(error, USAGE)
    except (Unavailable, BrokenEvidence, Refused) as error:
        code = _say(error, BROKEN)
    except ShadowError as error:
        code = _say(error, USAGE)
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _say(error: ShadowError, code: int) -> int:
    sys.stderr.write(f"shadow: {error}\n" if "\n" not in str(error) else f"{error}\n")
    return code


if __name__ == "__main__":
    main()
