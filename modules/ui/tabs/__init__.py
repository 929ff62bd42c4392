"""One file a tab; each draws the components of its own kind of Task and returns them by field name.

A tab with tools that are no fields, such as an editor, returns these by other names, and has a `wire(engine,
parts)` that is called when all components of the page exist.
"""
