from collections.abc import Mapping

from pipeline.stages.route.express import Express
from pipeline.stages.route.patterns import Kind

class Rules:
    def __init__(self, kind: Kind) -> None: ...

class Short:
    def __init__(self, express: Express, rules: Mapping[bytes, object], head: bytes) -> None: ...
    def decide(self, at: int) -> bool: ...
