"""Whom we talk to: Kafka, Postgres, Avro, Liquid, files. Adapters never import each other."""
