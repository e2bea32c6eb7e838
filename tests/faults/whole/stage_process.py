"""A stage of the product in a process whose time of day can jump: `STAGE FILE`.

FILE holds the seconds by which the process's clock is wrong; it may be written at any time.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast
from unittest import mock

from pipeline import settings, wiring
from pipeline.wiring import Stage


def main() -> int:
    """Run the stage as `everpost run` does, until it is told to stop."""
    stage, file = sys.argv[1], Path(sys.argv[2])
    right = wiring.clock

    def wrong() -> datetime:
        try:
            return right() + timedelta(seconds=float(file.read_text(encoding="ascii")))
        except (FileNotFoundError, ValueError):  # never written, or being written this moment
            return right()

    # Before the stage's own module is imported, which takes the clock by its name.
    with mock.patch.object(wiring, "clock", wrong):
        return wiring.run_stage(cast("Stage", stage), settings.load())


if __name__ == "__main__":
    sys.exit(main())
