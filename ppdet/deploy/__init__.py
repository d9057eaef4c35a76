"""Running exported models. Nothing here imports training code; paddle is imported by its own backend only."""
