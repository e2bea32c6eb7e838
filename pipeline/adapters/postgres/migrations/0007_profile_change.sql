-- Whose profile has changed, for readers that keep profiles in memory (decision page 0006).
--
-- LISTEN/NOTIFY would say the same, but a transaction that notifies holds one lock for the whole database
-- until it has committed: registrations would queue up behind one another.

create table everpost.profile_change (
    xid xid8 not null default pg_current_xact_id(),
    tenant text not null,
    -- empty: everybody of the tenant
    user_id text not null,
    at timestamptz not null default clock_timestamp()
);
create index profile_change_xid on everpost.profile_change (xid);
create index profile_change_at on everpost.profile_change (at);

create function everpost.note_profiles() returns trigger language plpgsql as $$
begin
    insert into everpost.profile_change (tenant, user_id) select distinct tenant, user_id from changed;
    return null;
end $$;
create trigger profile_added after insert on everpost.profile
    referencing new table as changed for each statement execute function everpost.note_profiles();
create trigger profile_changed after update on everpost.profile
    referencing new table as changed for each statement execute function everpost.note_profiles();
create trigger profile_removed after delete on everpost.profile
    referencing old table as changed for each statement execute function everpost.note_profiles();

create function everpost.note_tenants() returns trigger language plpgsql as $$
begin
    insert into everpost.profile_change (tenant, user_id) select distinct tenant, '' from changed;
    return null;
end $$;
create trigger default_added after insert on everpost.tenant_default
    referencing new table as changed for each statement execute function everpost.note_tenants();
create trigger default_changed after update on everpost.tenant_default
    referencing new table as changed for each statement execute function everpost.note_tenants();
create trigger default_removed after delete on everpost.tenant_default
    referencing old table as changed for each statement execute function everpost.note_tenants();
