"""Checkpoints: writing them so that a killed process loses none, and reading them without running code from them.

A checkpoint is a group of files that share a prefix, such as output/NAME/3 (epoch 3, counted from 0):

    3.pdparams   the weights that evaluation reads: the averaged ones where the run averages its weights (EMA)
    3.pdema      the trained weights, only where 3.pdparams has the averaged ones
    3.pdopt      the optimizer's state: momentum and step counts, under the names of the model's parameters
    3.pdranks    each rank's own running statistics of batch norms, only within an epoch of a run on several ranks
    3.pdhooks    the states of hooks, only where a hook has one
    3.json       the manifest: `TrainingState`, class names, the run's id, size and SHA-256 of each file, its own hash

With `weights_format: safetensors` the first two are 3.safetensors and 3.trained.safetensors. Prefixes are the number
of an epoch, snapshot_<step> within an epoch, and model_final. best_model has weights and class names, but no training
state: no run resumes from it.

They are written in that order, each under a temporary name first, flushed to disk and then renamed (`atomic_path`).
The manifest comes last, so a checkpoint exists when its manifest does; it is intact when the hashes agree. A checkpoint
is removed in the opposite order. Older checkpoints are removed only when the new one is complete, and the newest two
always stay: a process that is killed at any moment leaves at least one intact checkpoint, and `--resume auto` passes
over damaged ones.

    manifest     names of the files, the manifest, and verifying a checkpoint against it
    weights      reading, converting, loading and writing weights files
    pickles      reading Paddle's pickles without running code
    state        a checkpoint's content into model, optimizer and averages
    class_names  the names of the classes in a checkpoint, and mapping data sets to their order
"""
