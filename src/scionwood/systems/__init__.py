"""Everything that answers cases, behind one interface."""
