"""The one command, `shadow`: stdout is data, stderr is logs, a user's mistake is one sentence."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final

import typer

from shadow.cli.exits import BROKEN, USAGE
from shadow.errors import BrokenEvidence, Refused, ShadowError, Unavailable

MODULE_BY_COMMAND: Final = {
    "demo": "demo",
    "init": "judge",
    "check": "judge",
    "up": "up",
    "start": "runs",
    "runs": "runs",
    "status": "runs",
    "explain": "runs",
    "pairs": "pairs",
    "export": "export",
    "replay": "replay",
    "archive": "archive",
    "answers": "answers",
    "purge": "purge",
    "plan": "plan",
    "hold": "commands",
    "resume": "commands",
    "promote": "commands",
    "rollback": "commands",
    "extend": "commands",
    "evaluate": "judge",
    "doctor": "doctor",
    "offline": "offline",
    "suite": "suite",
    "off": "switch",
    "on": "switch",
    "proxy": "proxies",
    "ingest": "proxies",
    "worker": "roles",
    "comparator": "roles",
    "gate": "roles",
    "notifier": "notify",
}
"""Where each command lives. Only what is called is imported: a proxy needs no statistics to start."""


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The command line, with the called command, or, where none is recognised, with all of them."""
    app = typer.Typer(
        name="shadow",
        help="Mirror live requests to a candidate model, grade both answers, promote or roll back on proof.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_shadow)
    called = MODULE_BY_COMMAND.get(arguments[0]) if arguments else None
    for name in [called] if called is not None else dict.fromkeys(MODULE_BY_COMMAND.values()):
        importlib.import_module(f"shadow.cli.{name}").register(app)
    return app


def _shadow() -> None:
    """Mirror live requests to a candidate model, grade both answers, promote or roll back on proof."""


def main() -> None:
    """Run the command line; turns Shadow's own errors into a sentence and an exit code."""
    try:
        app_for(sys.argv[1:])()
    except (Unavailable, BrokenEvidence, Refused) as error:
        sys.exit(_say(error, BROKEN))
    except ShadowError as error:
        sys.exit(_say(error, USAGE))


def _say(error: ShadowError, code: int) -> int:
    sys.stderr.write(f"shadow: {error}\n" if "\n" not in str(error) else f"{error}\n")
    return code


if __name__ == "__main__":
    main()
