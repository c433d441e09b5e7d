"""The parts of the page Compare: its columns, what differs between them, the table, an opened case, what is done from there."""
