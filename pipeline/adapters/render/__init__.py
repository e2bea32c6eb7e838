"""Liquid: templates and variables to words."""
