"""`python -m tests.faults NAME`: long runs that break things on purpose and count what came of it."""

import sys

import cyclopts

from tests.faults import mutants, router, senders
from tests.faults.whole import run as whole

app = cyclopts.App(name="python -m tests.faults", result_action="return_value")
app.command(router.main, name="router")
app.command(senders.main, name="senders")
app.command(whole.main, name="all")
app.command(mutants.main, name="mutants")

if __name__ == "__main__":
    sys.exit(app())
