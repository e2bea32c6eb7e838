"""Avro on the wire: bytes to records and back, in the Confluent wire format."""
