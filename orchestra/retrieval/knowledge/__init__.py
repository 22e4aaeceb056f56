"""3b. Local documents: read, cut into chunks, indexed in SQLite, found by words and by vectors."""
