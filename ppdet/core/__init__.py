"""From a YAML file to objects: components, global settings, configurations, and building the components that they name.

Most users need only `ppdet.core.workspace` (register, load_config, merge_config, create). This file imports nothing,
so that commands can answer `--help` at once.
"""
