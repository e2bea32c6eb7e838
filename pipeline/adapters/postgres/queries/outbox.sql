-- name: enqueue
-- Write an event in the caller's transaction; no row comes back when it waits there already.
insert into everpost.outbox (id, aggregatetype, aggregateid, event_id, type, payload, headers)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do nothing
returning seq

-- name: join
-- Be one of those who drain this table, until the connection ends: by itself, or by the server when it has
-- heard nothing for so many milliseconds, or could not get rid of an answer for so long.
select set_config('idle_session_timeout', $3, false), set_config('tcp_user_timeout', $3, false),
    pg_advisory_lock_shared($1, $2)

-- name: members
-- Those who drain this table, by the process ids of their connections.
select pid, pid = pg_backend_pid() as me
from pg_locks
where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
  and classid = $1::integer and objid = $2::integer and objsubid = 2 and granted

-- name: take
-- Of these shares those that nobody else holds: they are ours until let go, or until the connection ends.
select share from unnest($2::integer[]) as wanted (share) where pg_try_advisory_lock($1, share)

-- name: let_go
-- Leave shares to somebody else.
select pg_advisory_unlock($1, share) from unnest($2::integer[]) as wanted (share)

-- name: claim
-- The oldest rows of each share that wait: at most $2 of each, and of no more than $3 bytes and one row. What
-- commits late with a smaller seq comes with the next claim.
select row.id, row.aggregatetype, row.aggregateid, row.payload, nullif(row.headers, '{}')
from unnest($1::smallint[]) as held (share)
cross join lateral (
    select id, aggregatetype, aggregateid, payload, headers,
        sum(octet_length(payload)) over (order by seq) - octet_length(payload) as before
    from everpost.outbox
    where share = held.share
    order by seq
    limit $2
) row
where row.before < $3

-- name: settle
-- Forget rows that Kafka has acknowledged.
delete from everpost.outbox where id = any($1::uuid[])

-- name: set_aside
-- Park a row that Kafka will never take.
with gone as (delete from everpost.outbox where id = $1::uuid returning *)
insert into everpost.outbox_parked
    (id, aggregatetype, aggregateid, event_id, type, payload, headers, created_at, error)
select id, aggregatetype, aggregateid, event_id, type, payload, headers, created_at, $2 from gone
on conflict (id) do update set error = excluded.error, parked_at = excluded.parked_at,
    aggregatetype = excluded.aggregatetype, payload = excluded.payload, headers = excluded.headers

-- name: release
-- Let parked rows wait again, behind the others, after their cause is mended.
with gone as (delete from everpost.outbox_parked where $1::uuid[] is null or id = any($1::uuid[]) returning *)
insert into everpost.outbox (id, aggregatetype, aggregateid, event_id, type, payload, headers, created_at)
select id, aggregatetype, aggregateid, event_id, type, payload, headers, created_at from gone order by parked_at
on conflict (id) do nothing

-- name: parked
-- What is parked, the latest first.
select id::text as outbox_id, event_id, aggregateid as key, type, aggregatetype as topic, length(payload) as bytes,
    error, parked_at
from everpost.outbox_parked order by parked_at desc, id limit $1

-- name: state
-- How much waits and since when, how much is parked, and who holds how many shares.
select (select count(*) from everpost.outbox) as waiting,
    (select min(created_at) from everpost.outbox) as oldest,
    (select count(*) from everpost.outbox_parked) as parked,
    array(
        select count(*) filter (where objid <> $2::integer)
        from pg_locks
        where locktype = 'advisory' and classid = $1::integer and objsubid = 2 and granted
          and database = (select oid from pg_database where datname = current_database())
        group by pid order by 1 desc
    ) as shares

-- name: here
-- How far PostgreSQL's log has come.
select pg_current_wal_insert_lsn()::text

-- name: passed
-- Whether the reader of a slot has confirmed the log up to a place; no row when there is no such slot.
select coalesce(confirmed_flush_lsn >= $2::text::pg_lsn, false)
from pg_replication_slots where slot_name = $1 and slot_type = 'logical'

-- name: prune
-- All that this transaction sees.
delete from everpost.outbox
