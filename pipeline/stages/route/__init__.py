"""Decides each event exactly once, and writes the decision and its deliveries in one transaction."""
