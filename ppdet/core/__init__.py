"""Registry, schema, configuration and injection: what turns a YAML file into objects.

Users of this package need `ppdet.core.workspace` (register, serializable, create, load_config,
merge_config) and `ppdet.core.config` (Config). This file imports nothing, so that tools answer
`--help` at once.
"""
