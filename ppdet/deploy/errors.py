"""What is raised when a model folder, or an engine to run it, cannot be used."""

from ppdet.utils.errors import UserError


class DeployError(UserError, ValueError):
    """A model folder or an engine that cannot be used; the message says why and what to do."""
