"""`everpost`: every command, its help, and what an error looks like on a terminal.

Exit codes: 0 done, 1 the answer is no (a ledger that does not balance, a check that fails), 2 wrong
usage, 75 something is away (try again), 78 configuration (EX_TEMPFAIL and EX_CONFIG of sysexits.h).
"""

import contextlib
import logging
import sys

import cyclopts
from rich.console import Console
from rich.markup import escape

from pipeline.model.errors import EverpostError

app = cyclopts.App(
    name="everpost",
    help=(
        "A notification pipeline on Apache Kafka.\n\n"
        "Begin with `everpost demo`: real flights of one day become pushes, SMS and e-mails on this "
        "machine. Then `everpost up` runs the same pipeline for your own events, `everpost publish` "
        "sends one, and `everpost why` tells what became of it.\n\n"
        "Settings are environment variables; `everpost doctor` shows each with its value."
    ),
    version_flags=["--version"],
)
# By name: a command imports what it needs when it runs, so that a sender holds no other channel's library.
for _command in (
    "pipeline.cli.demo:demo",
    "pipeline.cli.up:up",
    "pipeline.cli.register:register",
    "pipeline.cli.user:user",
    "pipeline.cli.user:opt_out",
    "pipeline.cli.user:opt_in",
    "pipeline.cli.user:quiet_hours",
    "pipeline.cli.user:tenant_default",
    "pipeline.cli.suppression:suppression",
    "pipeline.cli.publish:publish",
    "pipeline.cli.recall:recall",
    "pipeline.cli.breaker:breaker",
    "pipeline.cli.outbox:outbox",
    "pipeline.cli.dead:dead",
    "pipeline.cli.inspect:why",
    "pipeline.cli.ledger:ledger",
    "pipeline.cli.simulate:simulate",
    "pipeline.cli.run:run",
    "pipeline.cli.contract:topics",
    "pipeline.cli.contract:schemas",
    "pipeline.cli.up:bootstrap",
    "pipeline.cli.doctor:doctor",
):
    app.command(_command)


def main() -> None:
    """Entry point: run the command, and tell an error in one line with what to do next."""
    # librdkafka tells of every try while a broker starts; what matters comes back as an error.
    # So does asyncpg's pool, with a traceback for every connection that it can't make yet.
    for name in ("everpost.librdkafka", "asyncpg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        for name in list(app):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                app[name]  # imports it: the list of commands shows the first line of each
    try:
        code = app(result_action="return_value")
    except EverpostError as error:
        _tell(str(error))
        sys.exit(75 if error.retriable else 78)
    except ImportError as error:
        if not isinstance(missing := error.__cause__, ModuleNotFoundError):
            raise
        _tell(f"{missing.name} is not installed; this needs: pip install 'everpost[embedded]'")
        sys.exit(78)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]everpost:[/] {escape(message)}", highlight=False)


if __name__ == "__main__":
    main()
