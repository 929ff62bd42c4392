"""One file a tab; each draws the components of its own kind of Task and returns them by field name."""
