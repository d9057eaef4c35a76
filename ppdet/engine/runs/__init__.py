"""The folder of a training run: taking it, describing it, and finding it again."""
