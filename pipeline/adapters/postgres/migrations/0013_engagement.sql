-- What came back after a delivery, as notification.engagement tells it, written by the account stage. A row for
-- each fact: the audit of what a receipt, a bounce or a complaint has changed.
create table everpost.engagement_log (
    engagement_id text primary key,
    delivery_id text not null,
    kind text not null,
    facts jsonb not null,
    verdict text not null,
    reason text not null,
    at timestamptz not null
);
create index engagement_of_delivery on everpost.engagement_log (delivery_id);
