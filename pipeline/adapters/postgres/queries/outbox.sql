-- name: enqueue
-- Write an event in the caller's transaction; no row comes back when it waits there already.
insert into everpost.outbox (id, aggregatetype, aggregateid, event_id, type, payload, headers)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do nothing
returning seq

-- name: lead
-- Become the one relay that drains this table, until the connection ends.
select pg_try_advisory_lock($1)

-- name: claim
-- The oldest rows that wait. What commits late with a smaller seq comes with the next claim.
select id::text as id, aggregatetype as topic, aggregateid as key, payload as value, headers
from everpost.outbox
where set_aside_at is null
order by seq
limit $1

-- name: settle
-- Forget rows that Kafka has acknowledged.
delete from everpost.outbox where id = any($1::uuid[])

-- name: set_aside
-- Park a row that Kafka will never take.
update everpost.outbox
set set_aside_at = now(), last_error = $2
where id = $1::uuid

-- name: release
-- Let parked rows try again, after their cause is mended.
update everpost.outbox set set_aside_at = null, last_error = null
where set_aside_at is not null and ($1::uuid[] is null or id = any($1::uuid[]))
