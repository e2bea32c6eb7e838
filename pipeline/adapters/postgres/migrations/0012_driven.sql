-- What nobody has decided and a run has written again counts where it stands now, and no longer where it stood.

alter table everpost.replay_run
    -- nothing that it has taken is unsent: it is done, or aborted and has given the rest back
    add column settled boolean not null default false;

update everpost.replay_run set
    settled = status = 'done',
    selection = selection - 'deliveries' || jsonb_build_object('named', selection -> 'deliveries');

-- The places of events and releases that were written again; a claim by place begins with the topic.
create view everpost.driven as
select p.source_topic, p.source_partition, p.source_offset
from everpost.replay_letter c
join everpost.replay_run r using (run)
cross join lateral (
    select split_part(c.key, '/', 1) as source_topic, split_part(c.key, '/', 2)::integer as source_partition,
           c."offset" as source_offset
) p
where r.settled and r.kind = 'replay' and c.key ~ '^notification\.(events\.[a-z]+|released)/\d{1,9}/\d+$'
  and not exists (
    select from everpost.decision_log d
    where (d.source_topic, d.source_partition, d.source_offset)
        = (p.source_topic, p.source_partition, p.source_offset)
  );
