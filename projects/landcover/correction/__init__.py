"""Label correction: candidates from several models, decisions of a person, a ledger of what was replaced."""
