"""What we do: one package a stage, each with `decide.py` (pure) and `step.py` (gather, decide, hand back)."""
