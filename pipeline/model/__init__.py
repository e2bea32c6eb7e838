"""What we talk about: records, catalogue, preferences, topics, retry ladder, errors.

Pure values. Nothing here imports a client, a clock, a logger or another part of everpost.
"""
