"""A model in one file: the format read (`reading`) and written (`writing`), and what goes into it
and into a smaller folder (`copying`). `folder/packaging.py` is the verb, docs/packages.md the
format's description.
"""
