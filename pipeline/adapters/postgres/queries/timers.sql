-- name: store
-- Holds as timers; the same again changes nothing.
insert into everpost.timer (source_topic, source_partition, source_offset, wake_at, key, value)
select * from unnest($1::text[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::bytea[], $6::bytea[])
on conflict do nothing

-- name: take
-- The earliest timers that are due and in no other process's hands, deleted if the transaction commits.
with due as (
    select source_topic, source_partition, source_offset
    from everpost.timer where wake_at <= $1
    order by wake_at limit $2
    for update skip locked
)
delete from everpost.timer t using due
where (t.source_topic, t.source_partition, t.source_offset)
    = (due.source_topic, due.source_partition, due.source_offset)
returning t.source_topic as topic, t.source_partition as partition, t.source_offset as "offset",
    t.wake_at, t.key, t.value

-- name: next
-- When the next timer wakes.
select min(wake_at) from everpost.timer
