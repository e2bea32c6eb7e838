"""Send: one message to one address through a connector, and what came of it.

One process a channel. `decide` is the rule, `words` makes the message, `records` writes down what
happened, `pause` stops a channel that is misconfigured, `facts` asks for profiles in batches, `attempt`
is one delivery from record to result, `step` is the loop around many of them.
"""
