"""HTTP from outside: the door that providers call."""
