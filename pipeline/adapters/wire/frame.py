"""What stands before every record (the Confluent wire format), and what reading damaged ones raises."""

import struct

MAGIC = 0
HEAD = struct.Struct(">BI")  # the magic byte, the schema's id
# What fastavro raises on damaged bytes, found by feeding it some: never a bug of the caller.
DAMAGE = (EOFError, IndexError, ValueError, KeyError, TypeError, OverflowError, MemoryError, StopIteration)
