"""Bundled profiles (package data)."""
