"""Avro by hand is Avro."""

import io
from typing import Any
from uuid import UUID, uuid5

import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import avro
from pipeline.model.delivery import delivery_id, delivery_ids, place


def by_library(schema: Any, value: Any) -> bytes:
    """The encoding of the library that writes the records."""
    buffer = io.BytesIO()
    schemaless_writer(buffer, schema, value)
    return buffer.getvalue()


@given(value=st.integers(-(2**63), 2**63 - 1), text=st.text(max_size=200))
def test_what_is_written_by_hand_is_what_the_library_writes(value: int, text: str) -> None:
    """Numbers, strings and unions, and both are read back."""
    assert avro.long(value) == by_library("long", value)
    assert avro.read_long(avro.long(value), 0) == (value, len(avro.long(value)))
    encoded = avro.text(text)
    assert encoded == by_library("string", text)
    assert avro.words(encoded) == text
    assert avro.end_of_text(encoded + b"rest", 0) == len(encoded)
    assert avro.some(encoded) == by_library(["null", "string"], text)


@pytest.mark.parametrize("damaged", [b"\x08abc", b"\x01", b"\xff" * 11, b"", b"\x80"])
def test_damage_is_told(damaged: bytes) -> None:
    """What ends too early, is too long or has less than no bytes is an error, not a string."""
    with pytest.raises((IndexError, ValueError)):
        avro.end_of_text(damaged, 0)


@given(parts=st.tuples(*[st.text(max_size=20)] * 4))
def test_a_delivery_id_is_a_uuid_of_version_five(parts: tuple[str, str, str, str]) -> None:
    """The identity that a replay finds again is the one of RFC 9562, for ever in the same namespace."""
    tenant, user, event, address = parts
    right = uuid5(
        UUID("6f1a3c52-6f0e-5c0e-9d0a-0b7e3f2d9a41"), "\x1f".join((tenant, user, event, "sms", address))
    )
    assert delivery_id(tenant, user, event, "sms", address) == str(right)
    assert delivery_ids(tenant, user, event, [place("sms", address)] * 2) == [str(right)] * 2
