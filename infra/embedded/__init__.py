"""Apache Kafka, PostgreSQL and, for tests, Apicurio Registry on one machine, from packages alone."""
