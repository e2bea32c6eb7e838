-- Events that wait for their time, what operators have withdrawn, and how the log knows a release.

-- One row a hold, from the commit of its record in notification.holds until it is released.
create table everpost.timer (
    -- the record that was held: an event, or a release that was held again
    source_topic text not null,
    source_partition integer not null,
    source_offset bigint not null,
    -- when it is released: due, or expired if that comes sooner
    wake_at timestamptz not null,
    -- key and value of the record, produced as they are
    key bytea not null,
    value bytea not null,
    primary key (source_topic, source_partition, source_offset)
);
-- Every row is still to be released, so the index needs no condition.
create index timer_wake on everpost.timer (wake_at);

-- A morning releases a night's holds at once: clean up after each 5,000, or min(wake_at) wades through them.
alter table everpost.timer set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);

-- One row an order to stop, kept for good: it says who was not told, and why.
create table everpost.recall (
    recall_id text primary key,
    tenant text not null,
    -- exactly one of the three
    event_id text,
    collapse_key text,
    type text,
    -- with a type: only this version of its templates
    template_version integer,
    -- events that were created later are not meant
    at timestamptz not null,
    -- the operator's words
    why text not null check (why <> ''),
    check (num_nonnulls(event_id, collapse_key, type) = 1),
    check (template_version is null or type is not null)
);
create index recall_at on everpost.recall (at);

-- The decision of a release names the record that was held; null in the decision of an event, and of what
-- nobody could read among the releases.
alter table everpost.decision_log
    add column released boolean not null default false,
    add column held_topic text,
    add column held_partition integer,
    add column held_offset bigint,
    -- until when it is held
    add column due_at timestamptz,
    add check (num_nonnulls(held_topic, held_partition, held_offset) = any (array[0, 3])),
    add check (released or held_topic is null);
create index decision_of_hold on everpost.decision_log (held_topic, held_partition, held_offset, source_offset)
    where held_topic is not null;

-- One row an event: its latest decision. An event that was held counts by the decision of its release.
-- A release may come more than once; the first is the one that was decided, the others are repeats.
create view everpost.event_log as
select d.* from everpost.decision_log d
where not (d.verdict = 'held' and exists (
        select from everpost.decision_log release
        where (release.held_topic, release.held_partition, release.held_offset)
            = (d.source_topic, d.source_partition, d.source_offset)
    ))
  and not (d.released and (d.held_topic is null or exists (
        select from everpost.decision_log earlier
        where (earlier.held_topic, earlier.held_partition, earlier.held_offset)
            = (d.held_topic, d.held_partition, d.held_offset)
          and earlier.source_offset < d.source_offset
    )));
