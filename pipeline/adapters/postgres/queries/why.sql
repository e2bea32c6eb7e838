-- name: decisions_of_event
-- Every decision about an event id, newest first.
select * from everpost.decision_log where event_id = $1 order by decided_at desc, source_offset desc limit $2

-- name: decisions_of_user
-- The latest decisions about a user, newest first.
select * from everpost.decision_log where tenant = $1 and user_id = $2
order by decided_at desc, source_offset desc limit $3

-- name: courses
-- Deliveries by id.
select delivery_id, channel, address_id, state, outcome, reason, not_before
from everpost.delivery_log where delivery_id = any($1::text[])

-- name: attempts
-- All attempts of these deliveries, in order.
select delivery_id, attempt, outcome, state, provider, reason, code, tier, not_before, latency_ms, at
from everpost.attempt_log where delivery_id = any($1::text[])
order by delivery_id, attempt, at

-- name: waiting_event
-- An event in the outbox.
select id::text as outbox_id, event_id, aggregatetype as topic, created_at, last_error as error
from everpost.outbox where event_id = $1 order by seq limit $2

-- name: waiting_user
-- A user's events in the outbox.
select id::text as outbox_id, event_id, aggregatetype as topic, created_at, last_error as error
from everpost.outbox where aggregateid = $1 || '/' || $2 order by seq limit $3
