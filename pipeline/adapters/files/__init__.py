"""Files of the operator: the catalogue of event types and their templates."""
