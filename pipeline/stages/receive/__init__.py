"""Receive: what providers tell later of a message, from their callback to `notification.engagement`.

`decide` makes the record, `step` is one callback from its bytes to its answer.
"""
