from collections.abc import Mapping

from pipeline.stages.route.express import Express

class Short:
    def __init__(self, express: Express, rules: Mapping[bytes, object], head: bytes) -> None: ...
    def decide(self, at: int) -> bool: ...
