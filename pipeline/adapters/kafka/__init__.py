"""Kafka: aiokafka for the asyncio stages, confluent-kafka where transactions and bulk are needed."""
