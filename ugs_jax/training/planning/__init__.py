"""Plans: what training takes on accelerators that are not here."""
