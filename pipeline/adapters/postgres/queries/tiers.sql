-- name: enter
-- Hold off runs over the tiers that are about to begin, until what leaves now is written and committed.
select pg_advisory_lock_shared($1)

-- name: leave
select pg_advisory_unlock_shared($1)

-- name: runs
-- Every part of a tier that a run is or was about. `ended`: it takes no more letters. A tier keeps its
-- records for fourteen days.
select r.run, r.status in ('done', 'aborted') as ended,
       part ->> 'topic' as topic, (part ->> 'partition')::integer as partition,
       (part ->> 'first')::bigint as first, (part ->> 'end')::bigint as "end"
from everpost.replay_run r cross join lateral jsonb_array_elements(r.ranges) part
where r.status <> 'frozen' and r.at > now() - interval '15 days' and part ->> 'topic' = any($1::text[])

-- name: claim
-- What leaves by itself, so that no run sends it too. Run 0 is the retry stage.
insert into everpost.replay_letter (key, attempt, run, range, "offset")
select key, attempt, 0, -1, "offset" from unnest($1::text[], $2::integer[], $3::bigint[]) as a (key, attempt, "offset")
on conflict do nothing

-- name: takers
-- Who has these letters.
select key, attempt, run from everpost.replay_letter where key = any($1::text[])
