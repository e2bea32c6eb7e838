-- name: add
-- Write an order.
insert into everpost.breaker_order (channel, provider, wish, why, at) values ($1, $2, $3, $4, $5)

-- name: all
-- The last order for each provider.
select distinct on (channel, provider) channel, provider, wish, why, at
from everpost.breaker_order order by channel, provider, seq desc
