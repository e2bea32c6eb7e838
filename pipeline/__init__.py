"""everpost: notification events in, messages to the right people out, once, with proof.

The way of one notification, stage by stage; stages meet only in Kafka topics:
relay   drains the outbox table into notification.events.<lane>
route   decides each event once and writes decisions and deliveries in one transaction
send    hands deliveries to providers through connectors, writes outcomes
retry   brings deliveries back when they are due
account writes the notification log in Postgres, from which ledger and why answer
model holds the words, ports what the stages need, adapters whom we talk to, wiring joins them.
"""
