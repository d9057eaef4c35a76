"""What drives the components: training, evaluation, prediction, export. Import its modules one by one; none is
imported here, so that `ppdet.engine.runtime` can prepare the process before paddle loads."""
