"""The contract: one .avsc per record, golden records in `examples/`, ids in `ids.json`."""
