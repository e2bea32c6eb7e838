-- name: add
-- A new run, and the first line of its record.
with made as (
    insert into everpost.replay_run (run_id, kind, who, why, at, ranges, selection, pace, terms, status)
    values ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8::jsonb, $9::jsonb, 'frozen')
    returning run
)
insert into everpost.replay_action (run, at, who, status, why) select run, $5, $3, 'frozen', $4 from made

-- name: get
-- One run.
select run, run_id, kind, who, why, at, ranges, selection, pace, terms, status, counts
from everpost.replay_run where run_id = $1

-- name: latest
-- The latest runs.
select run, run_id, kind, who, why, at, ranges, selection, pace, terms, status, counts
from everpost.replay_run order by at desc limit $1

-- name: actions
-- What was done to a run.
select a.at, a.who, a.status, a.why
from everpost.replay_action a join everpost.replay_run r using (run) where r.run_id = $1 order by a.seq

-- name: move
-- Another status, if the present one allows it; and a line of the record.
with moved as (
    update everpost.replay_run set status = $2, settled = settled or $2 = 'done'
    where run_id = $1 and status = any($3::text[]) returning run
)
insert into everpost.replay_action (run, at, who, status, why) select run, $4, $5, $2, $6 from moved
returning run

-- name: exclude
-- Wait for the round of the retry stage that is under way: whoever comes later sees the run.
select pg_advisory_xact_lock($1)

-- name: taken
-- What a run has taken from these offsets of its ranges on.
select c.range, c."offset"
from everpost.replay_letter c join everpost.replay_run r using (run),
     unnest($2::integer[], $3::bigint[]) as at (range, "offset")
where r.run_id = $1 and c.range = at.range and c."offset" >= at."offset"
order by 1, 2

-- name: save
-- The counts as of now; gives the status.
update everpost.replay_run set counts = $2::jsonb where run_id = $1 returning status

-- name: deliveries
-- Of these deliveries those that arrived, or that have come further than the attempt that failed.
select asked.n::integer - 1 as n, l.state = 'delivered' as delivered, l.attempt
from unnest(string_to_array($1, chr(31)), string_to_array($2, ' ')::integer[])
    with ordinality as asked (key, attempt, n)
join everpost.delivery_log l on l.delivery_id = asked.key
where l.state = 'delivered' or l.attempt > asked.attempt

-- name: claims
-- What earlier runs have taken of these deliveries.
select c.key, c.attempt, r.run_id, r.kind = 'discard' as discarded, c.range, c."offset"
from everpost.replay_letter c join everpost.replay_run r using (run)
where c.key = any(string_to_array($1, chr(31)))

-- name: claim
-- Take letters for a run that is still wanted; the lock holds off an abort until they are taken.
insert into everpost.replay_letter (key, attempt, run, range, "offset")
select asked.*
from (
    select run from everpost.replay_run where run_id = $1 and status in ('running', 'pausing') for share
) wanted
cross join lateral (
    select key, attempt, wanted.run, range, "offset"
    from unnest(
        string_to_array($2, chr(31)), string_to_array($3, ' ')::integer[], string_to_array($4, ' ')::integer[],
        string_to_array($5, ' ')::bigint[]
    ) as a (key, attempt, range, "offset")
) asked
on conflict do nothing

-- name: release
-- Give back what a run has taken and not sent: from these offsets of its ranges on.
with settled as (update everpost.replay_run set settled = true where run_id = $1)
delete from everpost.replay_letter c
using everpost.replay_run r, unnest($2::integer[], $3::bigint[]) as at (range, "offset")
where r.run_id = $1 and c.run = r.run and c.range = at.range and c."offset" >= at."offset"

-- name: answers
-- How many of these attempts have ended, and how many of them badly.
select count(*) as answered, count(*) filter (where failed) as failed
from unnest($1::text[], $2::integer[]) as asked (key, attempt)
cross join lateral (
    select bool_and(t.outcome not in ('delivered', 'suppressed', 'expired', 'recalled')) as failed
    from everpost.attempt_log t where t.delivery_id = asked.key and t.attempt = asked.attempt
    having count(*) > 0
) ended

-- name: results
-- What has become of the letters that a run has sent, as far as the log knows. What went to the router has
-- a place for a key, and is decided under another one.
select case when l.attempt > c.attempt or l.state = 'delivered' then l.state
            when c.key ~ '^notification\.(events\.|released/|holds/)' then 'for the router'
            else 'waiting' end as state,
       count(*) as letters
from everpost.replay_letter c
join everpost.replay_run r using (run)
left join everpost.delivery_log l on l.delivery_id = c.key
where r.run_id = $1 and r.kind = 'replay' group by 1
