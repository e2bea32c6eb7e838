"""The compiled short way, where it could be compiled."""

from collections.abc import Mapping

from pipeline.stages.route.express import Decide, Express
from pipeline.stages.route.patterns import Kind

try:
    from pipeline.stages.route.native import core, plates
except ImportError:  # there was no C compiler when it was installed
    core = plates = None

COMPILED = core is not None


def rules(kinds: Mapping[bytes, Kind]) -> Mapping[bytes, object]:
    """What the compiled short way makes of the catalogue; nothing without it."""
    return {} if plates is None else {name: plates.Rules(kind) for name, kind in kinds.items()}


def decider(express: Express, rules: Mapping[bytes, object], head: bytes) -> Decide:
    """Decides about the ordinary events of the batch; `head`: the first five bytes of an event."""
    return express.decide if core is None else core.Short(express, rules, head).decide
