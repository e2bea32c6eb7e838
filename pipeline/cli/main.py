"""`everpost`: every command, its help, and what an error looks like on a terminal.

Exit codes: 0 done, 1 the answer is no (a ledger that does not balance, a check that fails), 2 wrong
usage, 75 something is away (try again), 78 configuration (EX_TEMPFAIL and EX_CONFIG of sysexits.h).
"""

import logging
import sys

import cyclopts
from rich.console import Console

from pipeline.cli import contract, doctor, inspect, publish, register, run, up
from pipeline.cli.demo import demo
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
app.command(demo)
app.command(up.up)
app.command(run.run)
app.command(register.register)
app.command(publish.publish)
app.command(inspect.ledger)
app.command(inspect.why)
app.command(contract.topics)
app.command(up.bootstrap)
app.command(doctor.doctor)


def main() -> None:
    """Entry point: run the command, and tell an error in one line with what to do next."""
    # librdkafka tells of every try while a broker starts; what matters comes back as an error.
    logging.getLogger("everpost.librdkafka").setLevel(logging.CRITICAL)
    try:
        code = app(result_action="return_value")
    except EverpostError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]everpost:[/] {error}", highlight=False)
        sys.exit(75 if error.retriable else 78)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
