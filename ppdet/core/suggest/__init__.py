"""What a user may have meant by a name that this project does not have."""
