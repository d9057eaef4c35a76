"""An exported detector as an HTTP server: `python -m ppdet.deploy.serve`. Its packages are in the extra `serve`."""
