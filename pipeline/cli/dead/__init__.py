"""`everpost dead`: what was given up, and what an operator does about it."""

import cyclopts

dead = cyclopts.App(
    name="dead",
    help=(
        "Look at dead letters, send them again, or decide that they stay dead.\n\n"
        "Begin with `everpost dead stats`; then `everpost dead replay --dry-run` with conditions says what "
        "would become of each letter and sends nothing, and `everpost dead resume RUN` sends just those."
    ),
)
for _command in (
    "pipeline.cli.dead.look:ls",
    "pipeline.cli.dead.look:show",
    "pipeline.cli.dead.look:stats",
    "pipeline.cli.dead.replay:replay",
    "pipeline.cli.dead.replay:resume",
    "pipeline.cli.dead.replay:discard",
    "pipeline.cli.dead.runs:pause",
    "pipeline.cli.dead.runs:abort",
    "pipeline.cli.dead.runs:runs",
):
    dead.command(_command)
