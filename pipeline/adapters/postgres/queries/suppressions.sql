-- name: latest
-- The addresses of a tenant that were listed last.
select tenant, channel, value, reason, at from everpost.suppression
where tenant = $1 order by at desc, channel, value limit $2
