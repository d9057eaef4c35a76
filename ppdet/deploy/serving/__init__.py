"""An exported detector over HTTP: `python -m ppdet.deploy.serve`. What it needs is in the extra `serve`."""
