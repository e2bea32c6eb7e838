"""Retry: deliveries wait in their tier's topic until they are due, then go to their channel again."""
