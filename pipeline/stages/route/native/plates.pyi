from pipeline.stages.route.patterns import Kind

class Rules:
    def __init__(self, kind: Kind) -> None: ...
