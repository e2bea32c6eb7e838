-- What operators want of the breaker to a provider, in order; of each provider of a channel the last one holds.

create table everpost.breaker_order (
    seq bigint primary key generated always as identity,
    channel text not null,
    provider text not null,
    -- open: nothing goes; close: all goes; auto: as the breaker itself finds
    wish text not null check (wish in ('open', 'close', 'auto')),
    why text not null check (why <> ''),
    at timestamptz not null
);
create index breaker_order_last on everpost.breaker_order (channel, provider, seq);
