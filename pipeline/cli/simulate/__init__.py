"""`everpost simulate`: what other rules would have made of a part of the log."""

from pipeline.cli.simulate.command import simulate

__all__ = ["simulate"]
