"""Hold: events that wait for their time, as durable timers; released to the router, which decides again."""
