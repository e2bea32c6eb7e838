"""`python -m tests.faults NAME`: long runs that break things on purpose and count what came of it."""

import sys

import cyclopts

from tests.faults import router

app = cyclopts.App(name="python -m tests.faults", result_action="return_value")
app.command(router.main, name="router")

if __name__ == "__main__":
    sys.exit(app())
