"""The command `everpost`: parse, call, print. No rule of the product lives here."""
