-- name: waiting
-- Outbox rows on their way to Kafka.
select count(*) from everpost.outbox

-- name: parked
-- Outbox rows that Kafka refuses.
select id::text as outbox_id, event_id, error from everpost.outbox_parked order by parked_at, id

-- name: reach
-- From where to where decisions are in the log, by partition of events and releases; what was written again
-- elsewhere needs none.
select source_topic, source_partition, source_topic = 'notification.released', min(source_offset),
       max(source_offset) + 1
from (
    select source_topic, source_partition, source_offset from everpost.decision_log
    union all
    select source_topic, source_partition, source_offset from everpost.driven
) known
group by 1, 2

-- name: driven
-- Events that were written again elsewhere.
select count(*) from everpost.driven where source_topic <> 'notification.released'

-- name: heads
-- The offset behind the last decision of these partitions, each by one step into the primary key, or behind
-- what was written again elsewhere.
select place.topic, place.partition, greatest(last.source_offset, driven.last) + 1
from unnest($1::text[], $2::integer[]) as place (topic, partition)
left join lateral (
    select source_offset from everpost.decision_log
    where source_topic = place.topic and source_partition = place.partition
    order by source_offset desc limit 1
) last on true
left join (
    select source_topic as topic, source_partition as partition, max(source_offset) as last
    from everpost.driven group by 1, 2
) driven using (topic, partition)
where last.source_offset is not null or driven.last is not null

-- name: decided
-- Events by verdict and reason of their latest decision.
select verdict, reason, count(*) as events from everpost.event_log group by verdict, reason

-- name: open
-- Events with a delivery that is not final; a partial index holds just these.
select count(distinct (planned_topic, planned_partition, planned_offset))
from everpost.delivery_log where state in ('planned', 'in_flight') and planned_topic is not null

-- name: incomplete
-- Events that lack the row of a planned delivery, and have none that is open.
select count(distinct (d.source_topic, d.source_partition, d.source_offset))
from everpost.decision_log d
cross join lateral jsonb_array_elements(d.deliveries) planned
where not exists (select from everpost.delivery_log l where l.delivery_id = planned ->> 'delivery_id')
  and not exists (
    select from everpost.delivery_log l
    where l.state in ('planned', 'in_flight') and l.planned_topic = d.source_topic
      and l.planned_partition = d.source_partition and l.planned_offset = d.source_offset
  )

-- name: missing_deliveries
-- Deliveries that a decision planned and that have no row.
select planned ->> 'delivery_id' as delivery_id, d.event_id
from everpost.decision_log d
cross join lateral jsonb_array_elements(d.deliveries) planned
where not exists (select from everpost.delivery_log l where l.delivery_id = planned ->> 'delivery_id')
limit $1

-- name: delivered
-- Deliveries by channel, state and the word of the last outcome.
select channel, state, outcome, count(*) as deliveries
from everpost.delivery_log group by channel, state, outcome

-- name: unplanned
-- Deliveries with an outcome and no decision yet.
select count(*) from everpost.delivery_log where planned_topic is null

-- name: withdrawn
-- Held events that were recalled since, by order; of several the first counts. With which words an event
-- will be rendered is open while it is held, so an order for one version says nothing yet.
select recall_id, at, count(*) as events
from (
    select distinct on (source_topic, source_partition, source_offset) r.recall_id, r.at
    from everpost.event_log e
    join everpost.decision_log d using (source_topic, source_partition, source_offset)
    join everpost.recall r on r.tenant = d.tenant and r.at >= d.decided_at and r.template_version is null
        and (r.event_id = d.event_id or r.collapse_key = d.collapse_key or r.type = d.type)
    where e.verdict = 'held'
    order by source_topic, source_partition, source_offset, r.at, r.recall_id
) orders
group by recall_id, at order by at

-- name: holes
-- Offsets of events and releases that were passed over, after the first that the log knows.
select source_topic as topic, source_partition as partition, before + 1 as first, source_offset - 1 as last
from (
    select source_topic, source_partition, source_offset,
           lag(source_offset) over (
               partition by source_topic, source_partition order by source_offset
           ) as before
    from (
        select source_topic, source_partition, source_offset from everpost.decision_log
        union all
        select source_topic, source_partition, source_offset from everpost.driven
    ) known
) steps
where source_offset > before + 1
order by 1, 2, 3
limit $1

-- name: repeats
-- Attempts beyond the first with the same number.
select coalesce(sum(times - 1), 0)::bigint from (
    select count(*) as times from everpost.attempt_log group by delivery_id, attempt having count(*) > 1
) repeated

-- name: duplicates
-- The latest events that were duplicates.
select source_topic as topic, source_partition as partition, source_offset as "offset", event_id
from everpost.event_log where verdict = 'duplicate'
order by decided_at desc, source_topic, source_partition, source_offset desc
limit $1
