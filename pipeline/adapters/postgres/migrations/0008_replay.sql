-- What operators do with dead letters: each run with who and why, what was done to it, and which letters it took.

create table everpost.replay_run (
    run integer primary key generated always as identity,
    run_id text not null unique,
    -- replay: sent again; discard: decided to stay dead
    kind text not null check (kind in ('replay', 'discard')),
    who text not null check (who <> ''),
    why text not null check (why <> ''),
    at timestamptz not null,
    -- frozen when the run is made: which records of which partitions, and which of them
    ranges jsonb not null,
    selection jsonb not null,
    pace jsonb not null,
    terms jsonb not null,
    status text not null check (
        status in ('frozen', 'running', 'pausing', 'paused', 'stopped', 'aborted', 'done')
    ),
    -- letters by fate, as of the last second; the truth is in Kafka, with the run's offsets
    counts jsonb not null default '{}'
);
create index replay_run_at on everpost.replay_run (at);

-- One row an order to a run, and one for each of its ends, in order.
create table everpost.replay_action (
    run integer not null references everpost.replay_run,
    seq bigint generated always as identity,
    at timestamptz not null,
    who text not null,
    status text not null,
    why text not null,
    primary key (run, seq)
);

-- One row a letter that a run has taken: written before it is sent, so that no other run sends it too.
create table everpost.replay_letter (
    -- id of the delivery and number of the attempt that failed; topic/partition/offset and 0 for what is no delivery
    key text collate "C" not null,
    attempt integer not null,
    run integer not null,
    -- the letter's place: which of the run's ranges, and the offset
    range integer not null,
    "offset" bigint not null,
    primary key (key, attempt)
);
