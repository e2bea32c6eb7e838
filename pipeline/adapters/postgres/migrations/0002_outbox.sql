-- Events that services have written in their own transactions, until Kafka has acknowledged them.
-- The first five columns have the names that Debezium's EventRouter expects by default, so that who
-- runs Kafka Connect may let it read this table in place of our relay.

create table everpost.outbox (
    -- derived from tenant, user and event id: the same event again is one row
    id uuid primary key,
    -- the topic
    aggregatetype text not null,
    -- the record key, <tenant>/<user_id>
    aggregateid text not null,
    -- the event's id, by which why finds it
    event_id text not null,
    -- the event's type
    type text not null,
    -- the final bytes, in the wire format; the relay encodes nothing
    payload bytea not null,
    headers jsonb not null default '{}',
    -- order of insertion. Not of commit: a cursor over it would skip whoever commits late
    seq bigint generated always as identity,
    created_at timestamptz not null default now(),
    last_error text,
    -- parked, because Kafka will never take it; an operator looks at last_error
    set_aside_at timestamptz,
    check (set_aside_at is null or last_error is not null)
);
create index outbox_waiting on everpost.outbox (seq) where set_aside_at is null;

-- Rows live for milliseconds: clean up after so many dead ones, whatever the table's size.
alter table everpost.outbox set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000
);

-- Wake the relay at commit. One a transaction, however many rows: PostgreSQL drops repeats.
create function everpost.wake_relay() returns trigger language plpgsql as $$
begin
    notify everpost_outbox;
    return null;
end $$;
create trigger wake_relay after insert on everpost.outbox
    for each statement execute function everpost.wake_relay();
