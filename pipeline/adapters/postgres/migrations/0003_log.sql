-- The notification log: what the topics of decisions and outcomes say, written by the account stage.

-- One row a decision, that is one a record of notification.events.*.
create table everpost.decision_log (
    source_topic text not null,
    source_partition integer not null,
    source_offset bigint not null,
    -- empty in these three: the record could not be read
    event_id text not null,
    user_id text not null,
    tenant text not null,
    verdict text not null,
    reason text not null,
    type text not null,
    lane text not null,
    category text not null,
    profile_version bigint,
    template_version integer,
    locale text not null,
    -- as in the record: lists of objects, and counters by category/channel
    gates jsonb not null,
    channels jsonb not null,
    deliveries jsonb not null,
    counters jsonb not null,
    decided_at timestamptz not null,
    primary key (source_topic, source_partition, source_offset)
);
create index decision_of_event on everpost.decision_log (event_id);
create index decision_of_user on everpost.decision_log (tenant, user_id, decided_at);

-- One row a delivery. Its plan comes from the decision, its state from the outcomes, in either order.
create table everpost.delivery_log (
    delivery_id text primary key,
    event_id text not null,
    user_id text not null,
    tenant text not null,
    channel text not null,
    address_id text not null,
    -- the event's place, null until the decision has come
    planned_topic text,
    planned_partition integer,
    planned_offset bigint,
    -- planned until the first outcome has come; then the state of the outcome that counts
    state text not null default 'planned' check (
        state in ('planned', 'in_flight', 'expired', 'recalled', 'suppressed', 'dead', 'delivered')
    ),
    -- which outcome counts: the greatest of (precedence, at, source), see pipeline/model/standing.py
    precedence bigint not null default 0,
    at timestamptz,
    source_topic text,
    source_partition integer,
    source_offset bigint,
    -- of the outcome that counts
    attempt integer not null default 0,
    outcome text not null default '',
    provider text not null default '',
    provider_id text not null default '',
    reason text not null default '',
    code text not null default '',
    not_before timestamptz,
    check ((state = 'planned') = (precedence = 0)),
    check ((planned_topic is null) = (planned_offset is null))
);
create index delivery_of_event on everpost.delivery_log (event_id);
create index delivery_open on everpost.delivery_log (planned_topic, planned_partition, planned_offset)
    where state in ('planned', 'in_flight');

-- One row an attempt. The same delivery record tried twice (its sender died before the commit) ended at
-- two times and is two rows: a repeat is counted, not hidden.
create table everpost.attempt_log (
    delivery_id text not null,
    attempt integer not null,
    source_topic text not null,
    source_partition integer not null,
    source_offset bigint not null,
    at timestamptz not null,
    outcome text not null,
    state text not null,
    provider text not null,
    provider_id text not null,
    reason text not null,
    code text not null,
    tier text not null,
    not_before timestamptz,
    latency_ms integer not null,
    primary key (delivery_id, attempt, source_topic, source_partition, source_offset, at)
);
