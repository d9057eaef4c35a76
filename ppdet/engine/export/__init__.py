"""From a trained model to files that inference engines run."""
