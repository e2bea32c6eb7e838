-- What the watch over the ledger asks for, again and again: the decisions of the last hours, and the holds
-- that should have ended. Decisions come in the order of their time, so a range of blocks has one.
create index decision_at on everpost.decision_log using brin (decided_at) with (pages_per_range = 32);
create index decision_held on everpost.decision_log (due_at) where verdict = 'held';
