"""The one command, `shadow`: stdout is data, stderr is logs, a user's mistake is one sentence."""

from __future__ import annotations

import sys

import typer

from shadow.cli import demo, doctor, judge, roles, runs, up
from shadow.cli.exits import BROKEN, USAGE
from shadow.errors import BrokenEvidence, Refused, ShadowError, Unavailable

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
        app()
    except (Unavailable, BrokenEvidence, Refused) as error:
        sys.exit(_say(error, BROKEN))
    except ShadowError as error:
        sys.exit(_say(error, USAGE))


def _say(error: ShadowError, code: int) -> int:
    sys.stderr.write(f"shadow: {error}\n" if "\n" not in str(error) else f"{error}\n")
    return code


if __name__ == "__main__":
    main()
