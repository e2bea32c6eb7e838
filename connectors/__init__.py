"""Connectors: one provider, one file.

To add a provider, write `connectors/<name>.py` with `create(options) -> Connector` as
`connectors/contract.py` says, and name it in `pyproject.toml` under
`[project.entry-points."everpost.connectors"]`. Nothing in `pipeline/` changes: EVERPOST_PROVIDERS says
which connector serves which channel, and EVERPOST_CONNECTOR_<NAME>_* are its options. A package of your
own can bring a connector by the same entry point. `webhook.py` was added in this way; it serves any channel,
so that a gateway in another language needs no connector at all:

    EVERPOST_PROVIDERS='{"sms": "webhook"}'
    EVERPOST_CONNECTOR_WEBHOOK_URL=https://sms.example.com/send
    EVERPOST_CONNECTOR_WEBHOOK_SECRETS=whsec_...

A provider that tells later what became of a message offers `create_receiver(options)` in the same file: it reads the
callback once its signature holds, and the stage `receipts` does the rest. `vonage.py` and `twilio.py` do so.

Then write `connectors/sandbox/<name>.py`, give it a rig in `tests/contract/rigs_b.py`, and let both pass
`pytest -m conformance`. A channel, other than a provider, belongs to the pipeline: preferences, templates and
topics know it by name.
"""
