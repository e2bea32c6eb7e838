"""A supervisor in a process of its own, to be killed: `python supervise.py DIRECTORY`.

It keeps a service and a stage (with a child of its own), whose notes go to DIRECTORY/notes, until it is
interrupted.
"""

import contextlib
import signal
import sys
from pathlib import Path

from infra.embedded.supervisor import Program, Supervisor


def main() -> None:
    """Keep both until interrupted."""
    directory = Path(sys.argv[1])
    script = str(Path(__file__).with_name("stage.py"))
    with contextlib.suppress(KeyboardInterrupt), Supervisor(directory / "logs") as supervisor:
        for name, ways in (("service", ()), ("stage", ("brood",))):
            argv = (sys.executable, script, str(directory / "notes"), name, *ways)
            supervisor.run(Program(name=name, argv=argv, service=name == "service"))
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
