"""What drives the components: training, evaluation, prediction, export. Import its modules one by one; none is
imported here, so that `ppdet.engine.device_choice` can prepare the process before paddle loads."""
