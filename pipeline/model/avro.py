"""Single values in Avro's binary encoding (Avro 1.12, "Binary Encoding"), for bytes that are put together by hand."""

_LONGEST = 10  # bytes of a long
_ONE = tuple(bytes((number,)) for number in range(128))


def long(value: int) -> bytes:
    """An int or long: zig-zag, then 7 bits a byte, the lowest first."""
    rest = value << 1 ^ value >> 63
    if rest < 128:
        return _ONE[rest]
    encoded = bytearray()
    while rest >= 128:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def text(value: str) -> bytes:
    """A string: its length in bytes as a long, then UTF-8."""
    encoded = value.encode()
    return long(len(encoded)) + encoded


def some(encoded: bytes) -> bytes:
    """The second branch of a union ["null", …]."""
    return b"\x02" + encoded


def read_long(value: bytes, at: int) -> tuple[int, int]:
    """The long that begins here, and where it ends. Raises IndexError, ValueError."""
    byte = value[at]
    rest, shift = byte & 127, 7
    while byte & 128:
        at += 1
        byte = value[at]
        rest |= (byte & 127) << shift
        shift += 7
        if shift > 7 * _LONGEST:
            raise ValueError("no long has more than 10 bytes")
    return rest >> 1 ^ -(rest & 1), at + 1


def end_of_text(value: bytes, at: int) -> int:
    """Where the string that begins here ends. Raises IndexError, ValueError."""
    size = value[at]
    if size < 128 and not size & 1:  # most are shorter than 64 bytes
        end = at + 1 + (size >> 1)
    else:
        length, begin = read_long(value, at)
        end = begin + length
        if length < 0:
            raise ValueError("no string has less than no bytes")
    if end > len(value):
        raise ValueError("the string is longer than what is left")
    return end


def words(value: bytes) -> str:
    """What an encoded string says. Raises IndexError, ValueError."""
    return value[1 if value[0] < 128 else read_long(value, 0)[1] :].decode()
