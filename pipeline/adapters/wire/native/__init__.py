"""What of this package is compiled, where a C compiler was when it was installed."""
