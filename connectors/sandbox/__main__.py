"""`python -m connectors.sandbox --dir DIR [--seed-faults FILE]`: all local providers in one process."""

import argparse
import asyncio
import sys
from pathlib import Path

from connectors.sandbox.faults import BadFaults, Fault, from_json
from connectors.sandbox.serve import serve


def main() -> int:
    """Serve until SIGTERM or SIGINT; 2 when the arguments are wrong."""
    parser = argparse.ArgumentParser(prog="python -m connectors.sandbox", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="keys, ports and what was received")
    parser.add_argument("--seed-faults", type=Path, help="a JSON list of faults, in force from the start")
    arguments = parser.parse_args()
    faults: list[Fault] = []
    if arguments.seed_faults is not None:
        try:
            faults = from_json(arguments.seed_faults.read_bytes())
        except (OSError, BadFaults) as error:
            parser.error(f"--seed-faults {arguments.seed_faults}: {error}")
    asyncio.run(serve(arguments.dir, faults))
    return 0


if __name__ == "__main__":
    sys.exit(main())
