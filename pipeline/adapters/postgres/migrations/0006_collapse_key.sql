-- The log knows a decision by its collapse key, so that a recall by one says how far it reaches.
alter table everpost.decision_log add column collapse_key text;
