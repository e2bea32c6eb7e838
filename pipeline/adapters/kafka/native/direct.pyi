from collections.abc import Callable

from confluent_kafka import Producer

FOUND: bool

class Direct:
    def __init__(self, make: Callable[[], Producer]) -> None: ...
    @property
    def made(self) -> Producer: ...
    def produce(self, topic: str, packed: bytearray) -> int: ...
