-- name: add
-- Write an order; the same again changes nothing.
insert into everpost.recall (recall_id, tenant, at, event_id, collapse_key, type, template_version, why)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict do nothing

-- name: all
-- The orders of a year.
select recall_id, tenant, at, event_id, collapse_key, type, template_version
from everpost.recall where at > now() - interval '1 year'

-- name: reach
-- What an order comes too late for, and what it still stops. With which words a held event will be
-- rendered is open, so it counts for every version.
with meant as (
    select * from everpost.decision_log
    where tenant = $1 and decided_at <= $2 and (event_id = $3 or collapse_key = $4 or type = $5)
      and ($6::integer is null or template_version = $6 or verdict = 'held')
)
select count(*) filter (where l.state = 'delivered') as delivered,
    count(*) filter (where l.state in ('planned', 'in_flight')) as open,
    (
        select count(*)
        from meant join everpost.event_log e using (source_topic, source_partition, source_offset)
        where e.verdict = 'held'
    ) as held,
    exists (select from meant) or exists (
        select from everpost.outbox where event_id = $3 and starts_with(aggregateid, $1 || '/')
    ) or exists (
        select from everpost.outbox_parked where event_id = $3 and starts_with(aggregateid, $1 || '/')
    ) as known
from meant
cross join lateral jsonb_array_elements(meant.deliveries) planned
join everpost.delivery_log l on l.delivery_id = planned ->> 'delivery_id'
