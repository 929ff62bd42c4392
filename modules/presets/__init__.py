"""The data files of presets/ that a person chooses from on the page become values here."""
