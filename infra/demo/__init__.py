"""The demo's input: real flights of one day, made-up passengers, and the plan of what is published."""
