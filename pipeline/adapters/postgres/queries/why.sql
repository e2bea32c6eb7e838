-- name: decisions_of_event
-- Every decision about an event id, newest first.
select * from everpost.decision_log where event_id = $1 order by decided_at desc, source_offset desc limit $2

-- name: decisions_of_user
-- The latest decisions about a user, newest first.
select * from everpost.decision_log where tenant = $1 and user_id = $2
order by decided_at desc, source_offset desc limit $3

-- name: orders
-- Which orders withdraw these decided records, given by their places; first one that means every version.
select d.source_topic || '/' || d.source_partition || '/' || d.source_offset as place,
    r.recall_id, r.tenant, r.at, r.event_id, r.collapse_key, r.type, r.template_version
from unnest($1::text[], $2::integer[], $3::bigint[]) as held (source_topic, source_partition, source_offset)
join everpost.decision_log d using (source_topic, source_partition, source_offset)
join everpost.recall r on r.tenant = d.tenant and r.at >= d.decided_at
    and (r.event_id = d.event_id or r.collapse_key = d.collapse_key or r.type = d.type)
order by r.template_version nulls first, r.at

-- name: courses
-- Deliveries by id.
select delivery_id, channel, address_id, state, outcome, reason, not_before
from everpost.delivery_log where delivery_id = any($1::text[])

-- name: attempts
-- All attempts of these deliveries, in order.
select delivery_id, attempt, outcome, state, provider, reason, code, tier, not_before, latency_ms, at
from everpost.attempt_log where delivery_id = any($1::text[])
order by delivery_id, attempt, at

-- name: told
-- What came back after these deliveries, in order.
select delivery_id, kind, coalesce(facts ->> 'fate', '') as fate, coalesce(facts ->> 'code', '') as code,
    coalesce(facts ->> 'category', '') as category, at
from everpost.engagement_log where delivery_id = any($1::text[])
order by delivery_id, at, engagement_id

-- name: waiting_event
-- An event in the outbox, or parked.
select outbox_id, event_id, topic, created_at, error
from (
    select id::text as outbox_id, event_id, aggregatetype as topic, created_at, null as error, seq
    from everpost.outbox where event_id = $1
    union all
    select id::text, event_id, aggregatetype, created_at, error, null from everpost.outbox_parked where event_id = $1
) waiting
order by created_at, seq limit $2

-- name: waiting_user
-- A user's events in the outbox, and those that are parked.
select outbox_id, event_id, topic, created_at, error
from (
    select id::text as outbox_id, event_id, aggregatetype as topic, created_at, null as error, seq
    from everpost.outbox where aggregateid = $1 || '/' || $2
    union all
    select id::text, event_id, aggregatetype, created_at, error, null
    from everpost.outbox_parked where aggregateid = $1 || '/' || $2
) waiting
order by created_at, seq limit $3
