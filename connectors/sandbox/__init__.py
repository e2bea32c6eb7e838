"""Local providers that speak the real protocols, write down what they got, and fail on request.

    python -m connectors.sandbox --dir DIR [--seed-faults FILE]

They serve the demo, the tests and the benchmarks. To add one, write `start(desk, port) -> Running` as
`desk.py` says and name it in `serve.py`.
"""
