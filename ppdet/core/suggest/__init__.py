"""What a user may have meant by a name that does not exist here."""
