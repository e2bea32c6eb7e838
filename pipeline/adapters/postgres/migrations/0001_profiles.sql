-- Who the users are, where they can be reached, and what they want.

create table everpost.profile (
    tenant text not null,
    user_id text not null,
    -- grows by one or more with every change of profile, address or preference; kept by triggers
    version bigint not null default 1,
    locale text not null default 'en',
    timezone text not null default 'UTC',
    -- the global switch
    enabled boolean not null default true,
    primary key (tenant, user_id)
);

create table everpost.address (
    address_id uuid primary key,
    tenant text not null,
    user_id text not null,
    channel text not null check (channel in ('apns', 'fcm', 'webpush', 'sms', 'email')),
    -- token, phone, mailbox or subscription: personal data
    value text not null,
    registered_at timestamptz not null,
    active boolean not null default true,
    deactivated_reason text,
    deactivated_at timestamptz,
    foreign key (tenant, user_id) references everpost.profile on delete cascade,
    -- an inactive address says why and since when
    check (active = (deactivated_reason is null) and active = (deactivated_at is null))
);
-- In the order of the lookup, so that it sorts nothing.
create index address_of_user on everpost.address (tenant, user_id, registered_at, address_id) where active;

create table everpost.preference (
    tenant text not null,
    user_id text not null,
    category text not null,
    channel text not null check (channel in ('apns', 'fcm', 'webpush', 'sms', 'email')),
    allowed boolean not null,
    primary key (tenant, user_id, category, channel),
    foreign key (tenant, user_id) references everpost.profile on delete cascade
);

-- Every update of a profile is a new version, whoever makes it.
create function everpost.next_version() returns trigger language plpgsql as $$
begin
    new.version := old.version + 1;
    return new;
end $$;
create trigger next_version before update on everpost.profile
    for each row execute function everpost.next_version();

-- A change of addresses or preferences touches the profiles of `changed`, once each and in key order
-- (two bulk changes at once do not deadlock).
create function everpost.touch_profiles() returns trigger language plpgsql as $$
begin
    perform 1 from everpost.profile
        where (tenant, user_id) in (select tenant, user_id from changed)
        order by tenant, user_id for update;
    update everpost.profile set version = version
        where (tenant, user_id) in (select tenant, user_id from changed);
    return null;
end $$;
create trigger address_added after insert on everpost.address
    referencing new table as changed for each statement execute function everpost.touch_profiles();
create trigger address_changed after update on everpost.address
    referencing new table as changed for each statement execute function everpost.touch_profiles();
create trigger address_removed after delete on everpost.address
    referencing old table as changed for each statement execute function everpost.touch_profiles();
create trigger preference_added after insert on everpost.preference
    referencing new table as changed for each statement execute function everpost.touch_profiles();
create trigger preference_changed after update on everpost.preference
    referencing new table as changed for each statement execute function everpost.touch_profiles();
create trigger preference_removed after delete on everpost.preference
    referencing old table as changed for each statement execute function everpost.touch_profiles();
