"""Replay: an operator sends dead letters again, or decides that they stay dead; nothing goes out twice."""
