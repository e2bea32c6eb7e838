-- What the router's gates ask for: wider levels of preference, defaults of a tenant, quiet hours, and
-- addresses that nothing is sent to.

-- An empty category or channel is the wider level: every one of them. Both empty is profile.enabled.
alter table everpost.preference
    drop constraint preference_channel_check,
    add constraint preference_channel_check check (channel in ('apns', 'fcm', 'webpush', 'sms', 'email', '')),
    add constraint preference_level_check check (category <> '' or channel <> '');

-- The same levels, said by a tenant for all its users, below what they say themselves. A change raises
-- no profile's version (it would be all of them); the decision's evidence names the level.
create table everpost.tenant_default (
    tenant text not null,
    category text not null,
    channel text not null check (channel in ('apns', 'fcm', 'webpush', 'sms', 'email', '')),
    allowed boolean not null,
    primary key (tenant, category, channel),
    check (category <> '' or channel <> '')
);

-- Local times of the profile's time zone, [from, until), over midnight when from > until. Equal: never.
alter table everpost.profile
    add column quiet_from time,
    add column quiet_until time,
    add constraint profile_quiet_check check ((quiet_from is null) = (quiet_until is null));

-- Addresses that nothing is sent to any more, whoever has them: hard bounces, complaints, dead tokens.
create table everpost.suppression (
    tenant text not null,
    channel text not null check (channel in ('apns', 'fcm', 'webpush', 'sms', 'email')),
    -- as everpost.listed() writes it: personal data
    value text not null,
    reason text not null check (reason <> ''),
    at timestamptz not null,
    primary key (tenant, channel, value)
);

-- An address as the suppression list knows it: no mailbox in use tells Ann from ann.
create function everpost.listed(channel text, value text) returns text
    language sql immutable parallel safe
    return case when channel = 'email' then lower(value) else value end;
create index address_listed on everpost.address (tenant, channel, (everpost.listed(channel, value)));

-- An address that is suppressed or free again is a new version of every profile that has it.
create function everpost.touch_owners() returns trigger language plpgsql as $$
begin
    perform 1 from everpost.profile
        where (tenant, user_id) in (
            select a.tenant, a.user_id from everpost.address a
            join changed c on a.tenant = c.tenant and a.channel = c.channel
                and everpost.listed(a.channel, a.value) = c.value
        )
        order by tenant, user_id for update;
    update everpost.profile set version = version
        where (tenant, user_id) in (
            select a.tenant, a.user_id from everpost.address a
            join changed c on a.tenant = c.tenant and a.channel = c.channel
                and everpost.listed(a.channel, a.value) = c.value
        );
    return null;
end $$;
create trigger suppression_added after insert on everpost.suppression
    referencing new table as changed for each statement execute function everpost.touch_owners();
create trigger suppression_changed after update on everpost.suppression
    referencing new table as changed for each statement execute function everpost.touch_owners();
create trigger suppression_removed after delete on everpost.suppression
    referencing old table as changed for each statement execute function everpost.touch_owners();
