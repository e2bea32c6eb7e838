"""Connectors: one provider, one file.

To add a provider, write `connectors/<name>.py` with `create(options) -> Connector` as
`connectors/contract.py` says, and name it in `pyproject.toml` under
`[project.entry-points."everpost.connectors"]`. Nothing in `pipeline/` changes. Then let it pass
`tests/contract/test_connectors.py`.
"""
