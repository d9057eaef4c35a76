"""What `ppdet init` does: a configuration for a data set and a machine, with the reason of every value.

`found_data` reads the annotations, `machine` looks at processors, memory and devices, `recipe` chooses, `fitting`
measures and makes the run fit its time, and `yaml_text` writes the choices.
"""
