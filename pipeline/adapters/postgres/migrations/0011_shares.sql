-- Several relays at once: each works on shares of the table, and all rows of a user are in one share.
-- What Kafka will never take goes into a table of its own, so that this one holds nothing but what waits.

-- 16 shares, as pipeline/model/shares.py says.
alter table everpost.outbox
    add column share smallint not null generated always as ((hashtext(aggregateid) & 15)::smallint) stored;

create table everpost.outbox_parked (
    id uuid primary key,
    aggregatetype text not null,
    aggregateid text not null,
    event_id text not null,
    type text not null,
    payload bytea not null,
    headers jsonb not null,
    created_at timestamptz not null,
    -- why Kafka will never take it, in words for an operator
    error text not null,
    parked_at timestamptz not null default now()
);
insert into everpost.outbox_parked
    (id, aggregatetype, aggregateid, event_id, type, payload, headers, created_at, error, parked_at)
select id, aggregatetype, aggregateid, event_id, type, payload, headers, created_at, last_error, set_aside_at
from everpost.outbox where set_aside_at is not null;
delete from everpost.outbox where set_aside_at is not null;

-- With its index and its check.
alter table everpost.outbox drop column set_aside_at, drop column last_error;
create index outbox_waiting on everpost.outbox (share, seq);
