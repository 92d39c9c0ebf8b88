"""Prompts to texts: options, requests, sequences, what shapes the draw, the scheduler, streams.

May import: errors, extras, validate, folder, text, engine.
"""
