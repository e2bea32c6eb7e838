"""`everpost ledger`: whether everything that was accepted is accounted for, and what stands still."""

import cyclopts

from pipeline.cli.ledger.redrive import redrive
from pipeline.cli.ledger.show import show

ledger = cyclopts.App(name="ledger")
ledger.default(show)
ledger.command(redrive)
