-- name: owner
-- Whose a delivery is.
select tenant, user_id, event_id, channel from everpost.delivery_log where delivery_id = $1

-- name: fate
-- What is told of a delivery; what is final counts more than what is not, and that it arrived most.
select facts ->> 'fate' from everpost.engagement_log
where delivery_id = $1 and facts ? 'fate'
order by facts ->> 'fate' = 'delivered' desc, facts ->> 'fate' = 'under_way', at desc
limit 1
