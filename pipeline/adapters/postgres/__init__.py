"""PostgreSQL: profiles, the outbox, the notification log, the ledger and why; one port a file.

The statements stand in `queries/*.sql`, the tables in `migrations/*.sql`; all are in the schema `everpost`.
"""
