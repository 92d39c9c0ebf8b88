"""Texts that grow: a session with its cache, saved and restored, and a chat on one.

May import: errors, extras, validate, folder, text, engine, generation.
"""
