"""`python -m tests.faults all`: the whole pipeline on three brokers, under load and faults, and what came of it.

schedule  which fault when: a decision of the seed
stand     everything up: three brokers, the database, the local providers, every stage
load      publishes through every door, and writes down what was accepted
witness   reads what the router writes, committed, all the time
inject    the faults themselves
gather    what was received, and what the log says, read again from the beginning
books     the comparison: pure
report    one table and one line
"""
