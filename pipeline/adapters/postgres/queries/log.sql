-- name: decisions
-- One row a decision; the same again changes nothing.
insert into everpost.decision_log (
    source_topic, source_partition, source_offset, event_id, user_id, tenant, verdict, reason, type, lane,
    category, profile_version, template_version, locale, released, held_topic, held_partition, held_offset,
    due_at, collapse_key, gates, channels, deliveries, counters, decided_at
)
select * from unnest(
    $1::text[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::bigint[], $13::integer[], $14::text[], $15::boolean[],
    $16::text[], $17::integer[], $18::bigint[], $19::timestamptz[], $20::text[], $21::jsonb[], $22::jsonb[],
    $23::jsonb[], $24::jsonb[], $25::timestamptz[]
)
on conflict do nothing

-- name: plans
-- The deliveries of decisions. The state stays what the outcomes made it. Of two plans for one delivery
-- (an event id used again after the window) the first in the log counts.
insert into everpost.delivery_log as d (
    delivery_id, event_id, user_id, tenant, channel, address_id, planned_topic, planned_partition, planned_offset
)
select * from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::bigint[]
)
on conflict (delivery_id) do update
set address_id = excluded.address_id, planned_topic = excluded.planned_topic, planned_partition = excluded.planned_partition,
    planned_offset = excluded.planned_offset
where d.planned_topic is null
   or (d.planned_topic, d.planned_partition, d.planned_offset)
    > (excluded.planned_topic, excluded.planned_partition, excluded.planned_offset)

-- name: states
-- What the outcomes make of their deliveries; older news changes nothing.
insert into everpost.delivery_log as d (
    delivery_id, event_id, user_id, tenant, channel, address_id, state, precedence, at,
    source_topic, source_partition, source_offset, attempt, outcome, provider, provider_id, reason, code, not_before
)
select * from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
    $9::timestamptz[], $10::text[], $11::integer[], $12::bigint[], $13::integer[], $14::text[], $15::text[],
    $16::text[], $17::text[], $18::text[], $19::timestamptz[]
)
on conflict (delivery_id) do update
set state = excluded.state, precedence = excluded.precedence, at = excluded.at,
    source_topic = excluded.source_topic, source_partition = excluded.source_partition,
    source_offset = excluded.source_offset, attempt = excluded.attempt, outcome = excluded.outcome,
    provider = excluded.provider, provider_id = excluded.provider_id, reason = excluded.reason,
    code = excluded.code, not_before = excluded.not_before
where (excluded.precedence, excluded.at, excluded.source_topic, excluded.source_partition, excluded.source_offset)
    > (d.precedence, d.at, d.source_topic, d.source_partition, d.source_offset)

-- name: attempts
-- One row an attempt; the same again changes nothing.
insert into everpost.attempt_log (
    delivery_id, attempt, source_topic, source_partition, source_offset, at, outcome, state, provider,
    provider_id, reason, code, tier, not_before, latency_ms
)
select * from unnest(
    $1::text[], $2::integer[], $3::text[], $4::integer[], $5::bigint[], $6::timestamptz[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::integer[]
)
on conflict do nothing

-- name: engagements
-- One row a fact; the same again changes nothing.
insert into everpost.engagement_log (engagement_id, delivery_id, kind, facts, verdict, reason, at)
select * from unnest(
    $1::text[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::timestamptz[]
)
on conflict do nothing
returning engagement_id

-- name: bounced
-- The addresses of deliveries, each once with the last word: it is about the address as it was when it was sent to.
select distinct on (d.address_id) d.address_id, told.reason, least(told.at, d.at) as at
from unnest($1::text[], $2::text[], $3::timestamptz[]) as told (delivery_id, reason, at)
join everpost.delivery_log d using (delivery_id)
order by d.address_id, least(told.at, d.at) desc

-- name: suppress
-- Put the addresses of deliveries on their tenant's suppression list; the first reason stays.
insert into everpost.suppression (tenant, channel, value, reason, at)
select a.tenant, a.channel, everpost.listed(a.channel, a.value), (array_agg(told.reason order by told.at))[1], min(told.at)
from unnest($1::text[], $2::text[], $3::timestamptz[]) as told (delivery_id, reason, at)
join everpost.delivery_log d using (delivery_id)
join everpost.address a on a.address_id::text = d.address_id and a.tenant = d.tenant
group by 1, 2, 3
order by 1, 2, 3
on conflict do nothing
