"""Relay: from the outbox table into `notification.events.*`, in order per user, at least once."""
