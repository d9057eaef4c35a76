"""Programs that kill, damage and attack for minutes, and what they share."""
