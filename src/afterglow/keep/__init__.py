"""The trace store: entries that fade unless they are used."""
