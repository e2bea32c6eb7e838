-- name: add
-- Write an order; the same again changes nothing.
insert into everpost.recall (recall_id, tenant, at, event_id, collapse_key, type, template_version, why)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict do nothing

-- name: all
-- The orders of a year.
select recall_id, tenant, at, event_id, collapse_key, type, template_version
from everpost.recall where at > now() - interval '1 year'

-- name: reach_event
-- What an order by event id comes too late for, and what it still stops.
select count(*) filter (where l.state = 'delivered') as delivered,
    count(*) filter (where l.state in ('planned', 'in_flight')) as open,
    (
        select count(*) from everpost.event_log
        where tenant = $1 and decided_at <= $2 and event_id = $3 and verdict = 'held'
    ) as held
from everpost.decision_log d
cross join lateral jsonb_array_elements(d.deliveries) planned
join everpost.delivery_log l on l.delivery_id = planned ->> 'delivery_id'
where d.tenant = $1 and d.decided_at <= $2 and d.event_id = $3

-- name: reach_type
-- The same for an order by type. Which template a held event will be rendered with is open, so it counts.
select count(*) filter (where l.state = 'delivered') as delivered,
    count(*) filter (where l.state in ('planned', 'in_flight')) as open,
    (
        select count(*) from everpost.event_log
        where tenant = $1 and decided_at <= $2 and type = $3 and verdict = 'held'
    ) as held
from everpost.decision_log d
cross join lateral jsonb_array_elements(d.deliveries) planned
join everpost.delivery_log l on l.delivery_id = planned ->> 'delivery_id'
where d.tenant = $1 and d.decided_at <= $2 and d.type = $3
  and ($4::integer is null or d.template_version = $4)
