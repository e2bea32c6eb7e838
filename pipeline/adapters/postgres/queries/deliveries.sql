-- name: page
-- Deliveries with where they went and whether an attempt stayed without an answer, by id.
select d.delivery_id, d.event_id, d.user_id, d.channel, a.value as address, d.state,
       exists (
           select from everpost.attempt_log t
           where t.delivery_id = d.delivery_id and t.outcome = 'uncertain'
       ) as uncertain
from everpost.delivery_log d
left join everpost.address a on a.address_id::text = d.address_id
where d.tenant = $1 and d.delivery_id > $2
order by d.delivery_id
limit $3
