"""From merged YAML to objects: merging, validating, looking up and building."""
