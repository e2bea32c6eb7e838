"""What everpost runs on: the embedded services, the demo, and files for operators."""
