"""The checks of the kit, one module per group. `check_registry.all_checks` imports every module of this package."""
