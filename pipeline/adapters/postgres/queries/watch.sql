-- name: lead
-- Become the one that watches, until the connection ends.
select pg_try_advisory_lock($1)

-- name: deliveries
-- Deliveries without a final outcome that should have moved before $1, those that stand for longest first;
-- `total`: how many there are beyond the limit too. The partial index `delivery_open` holds just these.
select l.delivery_id, l.event_id, l.tenant, l.channel, d.lane, l.attempt,
       coalesce((
           select a.tier from everpost.attempt_log a
           where a.delivery_id = l.delivery_id order by a.attempt desc, a.at desc limit 1
       ), '') as tier,
       coalesce(l.at, d.decided_at) as at, s.since, count(*) over () as total
from everpost.delivery_log l
join everpost.decision_log d
  on d.source_topic = l.planned_topic and d.source_partition = l.planned_partition
 and d.source_offset = l.planned_offset
cross join lateral (select coalesce(l.not_before, l.at, d.decided_at) as since) s
where l.state in ('planned', 'in_flight') and l.planned_topic is not null and s.since < $1
order by s.since, l.delivery_id limit $2

-- name: still_open
-- Of these deliveries, as they were seen (attempt), those that have not moved since.
select l.delivery_id from everpost.delivery_log l
join unnest($1::text[], $2::integer[]) as seen (delivery_id, attempt) using (delivery_id)
where l.state in ('planned', 'in_flight') and l.attempt = seen.attempt

-- name: held
-- Events whose hold should have ended before $1; `timer`: the hold stage still has it.
select e.source_topic as topic, e.source_partition as partition, e.source_offset as "offset",
       e.event_id, e.tenant, e.decided_at as at, e.due_at,
       exists (
           select from everpost.timer t
           where (t.source_topic, t.source_partition, t.source_offset)
               = (e.source_topic, e.source_partition, e.source_offset)
       ) as timer
from everpost.event_log e where e.verdict = 'held' and e.due_at < $1
order by e.due_at, 1, 2, 3 limit $2

-- name: outbox
-- Rows that wait for a relay since before $1.
select id::text as outbox_id, event_id, split_part(aggregateid, '/', 1) as tenant, created_at as since
from everpost.outbox where created_at < $1
order by seq limit $2

-- name: hours
-- Events by tenant and hour, since $1. Final and in flight are counted apart, so that they can fail to add up:
-- an event is final when every delivery that its decision planned has a row, and none of these is open.
with decided as (
    select e.tenant, date_trunc('hour', e.decided_at) as hour, e.verdict = 'held' as held,
           jsonb_array_length(e.deliveries) as planned, coalesce(l.known, 0) as known, coalesce(l.open, 0) as open
    from everpost.event_log e
    left join lateral (
        select count(*) as known, count(*) filter (where o.state in ('planned', 'in_flight')) as open
        from jsonb_array_elements(e.deliveries) p
        join everpost.delivery_log o on o.delivery_id = p ->> 'delivery_id'
    ) l on jsonb_array_length(e.deliveries) > 0
    where e.decided_at >= $1
), all_events as (
    select tenant, hour, 1 as accepted,
           (not held and open = 0 and known = planned)::integer as final, (held or open > 0)::integer as in_flight
    from decided
    union all
    select split_part(aggregateid, '/', 1), date_trunc('hour', created_at), 1, 0, 1
    from everpost.outbox where created_at >= $1
    union all
    select split_part(aggregateid, '/', 1), date_trunc('hour', created_at), 1, 0, 1
    from everpost.outbox_parked where created_at >= $1
)
select tenant, hour, sum(accepted) as accepted, sum(final) as final, sum(in_flight) as in_flight
from all_events group by tenant, hour order by hour, tenant

-- name: attempts
-- What the log knows of these deliveries' attempts.
select distinct delivery_id, attempt from everpost.attempt_log where delivery_id = any($1::text[])
