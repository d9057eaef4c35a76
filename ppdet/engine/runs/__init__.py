"""Training runs: the folder of a run, what happens to an earlier run in it, and using a finished run.

The folder output/NAME of a run has run.json (id of the run), config.yml (its complete configuration), train.log,
history.jsonl (losses and evaluations), and its checkpoints, see `ppdet.engine.checkpoints`.

    run_folder           RunFolder: run.json, and writing, finding and removing checkpoints
    start_point          StartPoint: what a run starts from: its folder, a checkpoint, or pretrained weights
    earlier_run          decides whether an earlier run in the folder is continued, moved aside to NAME.1, or removed
    run_start            begin_run: locks the folder, carries out that decision, writes config.yml, records train.log
    run_config           config.yml: writing it, and telling what changed since the run began
    trained              the configuration of a trained model, from its run's folder or from a YAML file
    setting_differences  settings that change what given weights detect, and how two configurations differ in them
    best_evaluation      which evaluation of a run is the best one
    analysis             AP by epoch and curves of finished runs
"""
