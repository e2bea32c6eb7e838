-- name: fetch
-- Profiles of many users with their active addresses, preferences and tenant's defaults, one row a user.
with defaults as materialized (
    select tenant, array_agg(category) as categories, array_agg(channel) as channels,
           array_agg(allowed) as allowed
    from everpost.tenant_default where tenant = any($1::text[]) group by tenant
)
select p.tenant, p.user_id, p.version, p.locale, p.timezone, p.enabled, p.quiet_from, p.quiet_until,
       a.ids, a.channels, a.values, a.registered, a.suppressed,
       w.categories, w.channels as on_channels, w.allowed,
       d.categories as default_categories, d.channels as default_channels, d.allowed as default_allowed
from unnest($1::text[], $2::text[]) as wanted (tenant, user_id)
join everpost.profile p using (tenant, user_id)
left join defaults d using (tenant)
cross join lateral (
    select array_agg(address_id::text) as ids, array_agg(channel) as channels,
           array_agg(value) as values, array_agg(registered_at) as registered,
           array_agg(suppressed) as suppressed
    from (
        select address_id, channel, value, registered_at,
               coalesce((
                   select s.reason from everpost.suppression s
                   where s.tenant = p.tenant and s.channel = address.channel
                       and s.value = everpost.listed(address.channel, address.value)
               ), '') as suppressed
        from everpost.address
        where tenant = p.tenant and user_id = p.user_id and active
        order by registered_at, address_id
    ) ordered
) a
cross join lateral (
    select array_agg(category) as categories, array_agg(channel) as channels, array_agg(allowed) as allowed
    from everpost.preference
    where tenant = p.tenant and user_id = p.user_id
) w

-- name: save
-- Insert or overwrite the profiles themselves.
insert into everpost.profile (tenant, user_id, locale, timezone, enabled, quiet_from, quiet_until)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::time[], $7::time[])
order by 1, 2
on conflict (tenant, user_id) do update
set locale = excluded.locale, timezone = excluded.timezone, enabled = excluded.enabled,
    quiet_from = excluded.quiet_from, quiet_until = excluded.quiet_until

-- name: add_addresses
-- Insert addresses; one that is there already is registered anew and becomes active again.
insert into everpost.address (address_id, tenant, user_id, channel, value, registered_at)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
on conflict (address_id) do update
set value = excluded.value, registered_at = excluded.registered_at,
    active = true, deactivated_reason = null, deactivated_at = null
where address.registered_at < excluded.registered_at or address.value <> excluded.value

-- name: set_preferences
-- Insert or change wishes; what already is so makes no new version.
insert into everpost.preference (tenant, user_id, category, channel, allowed)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
on conflict (tenant, user_id, category, channel) do update
set allowed = excluded.allowed
where preference.allowed <> excluded.allowed

-- name: opt_out
-- A user who is gone has nothing to opt out of.
insert into everpost.preference (tenant, user_id, category, channel, allowed)
select tenant, user_id, $3, $4, false from everpost.profile where tenant = $1 and user_id = $2
on conflict (tenant, user_id, category, channel) do update
set allowed = false
where preference.allowed

-- name: set_enabled
-- Turn the global switch of one user.
update everpost.profile set enabled = $3 where tenant = $1 and user_id = $2 and enabled <> $3

-- name: set_quiet_hours
-- The quiet hours of one user; null and null: none.
update everpost.profile set quiet_from = $3, quiet_until = $4
where tenant = $1 and user_id = $2 and (quiet_from, quiet_until) is distinct from ($3::time, $4::time)

-- name: set_tenant_default
-- What holds for all users of a tenant who say nothing themselves.
insert into everpost.tenant_default (tenant, category, channel, allowed) values ($1, $2, $3, $4)
on conflict (tenant, category, channel) do update set allowed = excluded.allowed

-- name: suppress
-- Put addresses on the suppression list; the first reason stays.
insert into everpost.suppression (tenant, channel, value, reason, at)
select tenant, channel, everpost.listed(channel, value), reason, at
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
    as bad (tenant, channel, value, reason, at)
order by 1, 2, 3
on conflict do nothing

-- name: unsuppress
-- Take an address off the suppression list.
delete from everpost.suppression where tenant = $1 and channel = $2 and value = everpost.listed($2, $3)

-- name: bounce
-- Put mailboxes that do not exist on the suppression list, whoever has them, unless they were registered again
-- after the provider spoke. Of one that several users have, the first word is kept.
insert into everpost.suppression (tenant, channel, value, reason, at)
select a.tenant, a.channel, everpost.listed(a.channel, a.value), 'hard_bounce', min(dead.at)
from unnest($1::uuid[], $2::timestamptz[]) as dead (address_id, at)
join everpost.address a using (address_id)
where a.channel = 'email' and a.active and a.registered_at < dead.at
group by 1, 2, 3
order by 1, 2, 3
on conflict do nothing

-- name: deactivate
-- Take dead addresses out of use, unless they were registered again after the provider spoke.
update everpost.address a
set active = false, deactivated_reason = dead.reason, deactivated_at = dead.at
from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as dead (address_id, reason, at)
where a.address_id = dead.address_id and a.active and a.registered_at < dead.at

-- name: changes
-- Whose profile was changed by a transaction that had not committed when snapshot $1 was taken, and the
-- snapshot to ask with the next time. A null: nobody, only the snapshot.
select pg_current_snapshot()::text as snapshot, pg_postmaster_start_time() as server_since,
       coalesce(array_agg(tenant) filter (where tenant is not null), '{}') as tenants,
       coalesce(array_agg(user_id) filter (where tenant is not null), '{}') as users
from (
    select distinct tenant, user_id from everpost.profile_change
    where xid >= pg_snapshot_xmin($1::text::pg_snapshot)
        and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
) changed

-- name: trim_changes
-- Forget changes that every reader has seen: none goes without a question for an hour and trusts its memory.
delete from everpost.profile_change where at < now() - interval '1 day'
